"""Which finished trial is the answer: one figure per trial and selection, the least is chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hpogen.objective import Location, Objective, rank
from hpogen.record.history import History, Record
from hpogen.selection.evidence import Evidence, Losses, gather
from hpogen.selection.names import MARGIN, Selection
from hpogen.selection.shrinking import shrunk


def candidates(history: History, budget: int) -> list[Record]:
    """The finished trials at that budget that have metrics, are no duplicates and no repeats."""
    return [
        record
        for record in history.records
        if record.state == "told"
        and record.failure is None
        and record.trial.budget == budget
        and record.twin is None
        and not record.repeat
    ]


def rescore(
    records: Sequence[Record],
    objective: Objective,
    locations: Mapping[int, Mapping[str, Location]],
) -> list[float]:
    """The scores of trials of one budget on one scale; `rank` ranks among all of them.

    Raises ValueError where a term is not defined.
    """
    metrics = [record.outcome.metrics if record.outcome else {} for record in records]
    budgets = [record.trial.budget for record in records]
    return [
        objective.score(own, budget, locations.get(budget), ranks)
        for own, budget, ranks in zip(metrics, budgets, _ranks(metrics, objective), strict=True)
    ]


def choose(
    history: History, objective: Objective, selection: Selection, budget: int, directory: Path
) -> Record | None:
    """The answer among the finished trials at the largest budget; the earliest of equals.

    `directory` is the study's folder, from which some selections read curves or losses. None while
    no trial can be chosen. Raises UserError where a file that the selection needs is missing.
    """
    records = candidates(history, budget)
    if not records:
        return None
    evidence = gather(history, records, budget, directory)
    found = figures(selection, evidence, objective, history.locations.get(budget, {}))
    least = min(range(len(records)), key=found.__getitem__)
    return records[least] if found[least] < math.inf else None


def figures(
    selection: Selection,
    evidence: Evidence,
    objective: Objective,
    locations: Mapping[str, Location],
) -> list[float]:
    """What the selection compares, lower is better; infinity for a trial that it cannot choose."""
    if selection == "score":
        return scores(evidence, objective, locations)
    if selection == "val_accuracy":
        return [-x if x < math.inf else x for x in evidence.metric("val_accuracy")]
    if selection == "one_se_margin":
        return one_se_margin(evidence.metric(MARGIN), evidence.losses())
    if selection == "shrunk":
        return [float(x) for x in shrunk(evidence.metrics, evidence.losses())]
    if selection == "noise_cut":
        return evidence.late()
    return evidence.metric("val_loss")


def scores(
    evidence: Evidence, objective: Objective, locations: Mapping[str, Location]
) -> list[float]:
    """The same of evidence; infinity where a term, or as yet a `standard` scale, is not defined."""
    if not {*objective.standardized()} <= locations.keys():
        return [math.inf] * len(evidence.metrics)
    found = []
    for own, ranks in zip(evidence.metrics, _ranks(evidence.metrics, objective), strict=True):
        try:
            found.append(objective.score(own, evidence.budget, locations, ranks))
        except ValueError:
            found.append(math.inf)
    return found


def _ranks(metrics: Sequence[Mapping[str, float]], objective: Objective) -> list[dict[str, float]]:
    """Of each trial, the ranks of the metrics that a `rank` term ranks."""
    named = [term.metric for term in objective.terms if term.scale == "rank"]
    ranks = {name: rank([own.get(name, math.inf) for own in metrics]) for name in named}
    return [{name: ranks[name][i] for name in named} for i in range(len(metrics))]


def one_se_margin(margins: Sequence[float], losses: Losses) -> list[float]:
    """Minus the median margin of the trials that are not separable from the best; infinity else.

    The best has the least mean of `losses` (n, N), per validation sample. Another trial is
    separable from it when the mean of their paired differences exceeds one standard error,
    sd(d) / √N: the one-standard-error rule (Breiman et al. 1984, §3.4.3) on paired differences.
    """
    best = losses[int(losses.mean(axis=1, dtype=np.float64).argmin())].astype(np.float64)
    return [
        -margin if margin < math.inf and not _separable(own - best) else math.inf
        for margin, own in zip(margins, losses, strict=True)
    ]


def _separable(differences: Losses) -> bool:
    n = len(differences)
    return n > 1 and bool(differences.mean() > differences.std(ddof=1) / math.sqrt(n))
