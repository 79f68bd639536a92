"""Whether a rule picks what is good: every objective and metric against the same trials' audit.

"Selection validity" of a rule: rank correlation with the held-out error, how many of the best k it
finds, and the regret of its first choice. `tables.py` asks for each study and averages; and whether
the order on the subset is that of the nets that `hpogen retrain` trained on all of the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hpogen.analysis.correlation import FEWEST
from hpogen.analysis.statistics import Array, Average, average
from hpogen.analysis.truth import held_out
from hpogen.errors import UserError
from hpogen.objective import Location, Objective
from hpogen.record.history import Record
from hpogen.selection import gather, rescore, settled
from hpogen.study.read import Folder
from hpogen.study.retrained import retrained
from hpogen.tasks.errors import Error
from hpogen.trial import canonical

TOP = (5, 10)

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Validity:
    """One rule on the n trials of one study.

    The correlations are None where the rule or the truth is constant. `overlap` is, by k < n, the
    share of the k best by audit among the k lowest by the rule; `chance` is what k trials drawn at
    random have of them in the mean (hypergeometric: k / n). `regret` is the audit error of the
    lowest minus the smallest. The `_highest` are of the rule turned round: the sign of a measure
    is nobody's to presume.
    """

    n: int
    spearman: float | None
    kendall: float | None  # τ-b
    overlap: Mapping[int, float]
    chance: Mapping[int, float]
    regret: float
    overlap_highest: Mapping[int, float]
    regret_highest: float


def validity(rule: Array, truth: Array) -> Validity | None:
    """Of a rule's values and the held-out errors of n trials; None for fewer than three."""
    n = len(truth)
    if n < FEWEST:
        return None
    constant = np.ptp(rule) == 0 or np.ptp(truth) == 0
    spearman = None if constant else float(stats.spearmanr(rule, truth).statistic)
    kendall = None if constant else float(stats.kendalltau(rule, truth).statistic)
    best = np.argsort(truth, kind="stable")
    lowest, highest = np.argsort(rule, kind="stable"), np.argsort(-rule, kind="stable")
    ks = [k for k in TOP if k < n]
    return Validity(
        n=n,
        spearman=spearman,
        kendall=kendall,
        overlap={k: _overlap(lowest[:k], best[:k]) for k in ks},
        chance={k: float(stats.hypergeom(n, k, k).mean()) / k for k in ks},
        regret=float(truth[lowest[0]] - truth[best[0]]),
        overlap_highest={k: _overlap(highest[:k], best[:k]) for k in ks},
        regret_highest=float(truth[highest[0]] - truth[best[0]]),
    )


def _overlap(chosen: Indices, best: Indices) -> float:
    return len({*chosen.tolist()} & {*best.tolist()}) / len(best)


def of_study(study: Folder, objectives: Sequence[Objective], truth: Error) -> dict[str, Validity]:
    """Every objective and every metric on a study's audited trials at the largest budget.

    Left out is what these trials lack: an objective whose metrics they do not have, a metric that
    not all of them have.
    """
    records = [record for record in study.finished if held_out(record, truth) is not None]
    errors = np.array([held_out(record, truth) for record in records], dtype=np.float64)
    rules = {o.label: scores for o in objectives if (scores := _scores(study, records, o))}
    for name in sorted({name for r in records if r.outcome for name in r.outcome.metrics}):
        values = [r.outcome.metrics.get(name) for r in records if r.outcome]
        if name not in rules and None not in values:
            rules[name] = [float(x) for x in values if x is not None]
    found = {name: validity(np.array(values), errors) for name, values in rules.items()}
    return {name: result for name, result in found.items() if result is not None}


def _scores(study: Folder, records: Sequence[Record], objective: Objective) -> list[float] | None:
    """An objective's scores of these trials on one scale: the study's own, else their own.

    None where they are not defined, and of an objective of several scores.
    """
    if objective.pareto:
        return None
    metrics = [record.outcome.metrics for record in records if record.outcome]
    if not metrics or any(objective.metrics - found.keys() for found in metrics):
        return None
    rung = study.spec.ladder[-1]
    frozen: Mapping[str, Location] = study.history.locations.get(rung, {})
    own = objective.locations(metrics, *rung)
    scale = {name: frozen.get(name, found) for name, found in own.items()}
    try:
        if objective.swept:
            evidence = gather(study.history, records, rung, study.directory)
            objective = settled(evidence, objective)
        return rescore(records, objective, {rung: scale})
    except (ValueError, UserError):  # the logarithm of a negative number; losses are missing
        return None


@dataclass(frozen=True)
class RuleValidity:
    """A rule's validity, averaged over search seeds. `overlap` and `chance` are by k."""

    rule: str
    objective: bool  # or a metric
    spearman: Average | None
    kendall: Average | None
    overlap: Mapping[int, Average | None]
    chance: Mapping[int, Average | None]
    regret: Average | None
    overlap_highest: Mapping[int, Average | None]
    regret_highest: Average | None


def averaged(rule: str, objective: bool, by_seed: Mapping[int, Sequence[Validity]]) -> RuleValidity:
    """Over search seeds; first over the studies of one seed, whose trials may be the same."""

    def over(name: str, k: int | None = None) -> Average | None:
        means = []
        for results in by_seed.values():
            values = [getattr(r, name) if k is None else getattr(r, name).get(k) for r in results]
            known = [x for x in values if x is not None]
            means.append(float(np.mean(known)) if known else None)
        return average(means)

    return RuleValidity(
        rule=rule,
        objective=objective,
        spearman=over("spearman"),
        kendall=over("kendall"),
        overlap={k: over("overlap", k) for k in TOP},
        chance={k: over("chance", k) for k in TOP},
        regret=over("regret"),
        overlap_highest={k: over("overlap_highest", k) for k in TOP},
        regret_highest=over("regret_highest"),
    )


@dataclass(frozen=True)
class Transfer:
    """n retrained configurations: their figures on the subset against their test errors.

    `by` has the validation loss (`val_loss`) and the audit error or loss, where all of them have
    it. A configuration of several searches counts once, with its means.
    """

    n: int
    by: Mapping[str, Validity]


def transfer(studies: Sequence[Folder], truth: Error | None) -> Transfer | None:
    """Of all retrained configurations of a task's studies; None for fewer than three of them."""
    figures: dict[str, list[Mapping[str, float]]] = {}
    for study in studies:
        for config, found in _retrained(study, truth):
            figures.setdefault(config, []).append(found)
    names = {"val_loss", *([truth.on("audit")] if truth else [])}
    shared = [n for n in sorted(names) if all(n in f for fs in figures.values() for f in fs)]
    tests = _means(figures, "test error")
    by = {name: validity(_means(figures, name), tests) for name in shared}
    known = {name: found for name, found in by.items() if found is not None}
    return Transfer(len(figures), known) if known else None


def _means(figures: Mapping[str, Sequence[Mapping[str, float]]], name: str) -> Array:
    return np.array([np.mean([found[name] for found in of]) for of in figures.values()])


def _retrained(study: Folder, truth: Error | None) -> Iterator[tuple[str, dict[str, float]]]:
    """Each retrained configuration that has finished on the subset, with its figures."""
    records = {canonical(r.trial.config): r for r in reversed(study.finished)}
    for found in retrained(study):
        config = canonical(found.choice.config)
        tested = found.mean(lambda run: run.error)
        record = records.get(config)
        if tested is None or record is None or record.outcome is None:
            continue
        figures = {"test error": tested}
        if "val_loss" in record.outcome.metrics:
            figures["val_loss"] = record.outcome.metrics["val_loss"]
        if truth is not None and (error := held_out(record, truth)) is not None:
            figures[truth.on("audit")] = error
        yield config, figures
