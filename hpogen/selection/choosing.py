"""Which finished trial is the answer: one figure per trial and selection, the least is chosen.

The border (`spec/`) and the study read a selection's row for what it needs and keeps for the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hpogen.objective import Location, Objective, rank
from hpogen.record.history import History, Record
from hpogen.selection.evidence import REPEATS, TOP, Evidence, Losses, gather
from hpogen.selection.front import front, knee
from hpogen.selection.shrinking import shrunk
from hpogen.selection.sweep import separable, swept
from hpogen.trial import Rung

SelectionName = Literal[
    "score", "knee", "val_loss", "val_accuracy", "one_se_margin", "shrunk", "noise_cut"
]
Figures = Callable[[Evidence, Objective], list[float]]

MARGIN = "margin_q50"  # the median margin of the measure `margin`


@dataclass(frozen=True)
class Selection:
    """A rule that chooses among the finished trials of one rung, or those of its Pareto front."""

    name: SelectionName
    rule: Figures  # as `figures`, of trials that are all on the front
    needs: frozenset[str] = frozenset()  # metrics of every trial, besides the objective's
    alone: bool = False  # see `alone`, which also asks the objective
    per_sample: bool = False  # see `per_sample`
    reserve: int = 0  # trials of the highest rung that a study keeps of `stop` for its end

    def figures(self, evidence: Evidence, objective: Objective) -> list[float]:
        """A figure per trial, lower is better; infinity for a trial that it cannot choose."""
        if not objective.pareto:
            return self.rule(evidence, objective)
        there = front(vectors(evidence, objective))
        own = self.rule(evidence.only(there), objective) if there else []
        found = dict(zip(there, own, strict=True))
        return [found.get(i, math.inf) for i in range(len(evidence.metrics))]

    def choose(self, evidence: Evidence, objective: Objective) -> int | None:
        """The number of the trial with the least figure; the earliest of equals."""
        found = self.figures(evidence, objective)
        least = min(range(len(found)), key=found.__getitem__)
        return least if found[least] < math.inf else None


def candidates(history: History, rung: Rung, among: Iterable[Record] | None = None) -> list[Record]:
    """The finished trials of that rung that have metrics, are no duplicates and no repeats.

    Without those that do not satisfy the study's constraints: none of them is ever the answer.
    They are `among` these, None: all.
    """
    return [
        record
        for record in (history.records if among is None else among)
        if record.state == "told"
        and record.failure is None
        and record.feasible
        and record.trial.rung == rung
        and record.twin is None
        and not record.repeat
    ]


def table(
    history: History, rung: Rung, names: Sequence[str]
) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
    """The candidates (n,) by number, and of each these metrics (n, k): NaN where it has not one.

    With an index only the trials that were told since are read.
    """
    known = history.table
    if known is not None and not (known.rung == rung and known.metrics.keys() >= {*names}):
        known = None
    new = [history.records[trial] for trial in history.order[history.settled :]] if known else None
    records = candidates(history, rung, new)
    metrics = [record.outcome.metrics if record.outcome else {} for record in records]
    rows = [[own.get(name, math.nan) for name in names] for own in metrics]
    values = np.array(rows, dtype=np.float64).reshape(-1, len(names))
    trials = np.array([record.trial.id for record in records], dtype=np.uint64)
    if known is not None:
        before = np.array([known.metrics[name] for name in names], dtype=np.float64)
        values = np.concatenate([before.reshape(len(names), -1).T, values])
        trials = np.concatenate([np.array(known.trials, dtype=np.uint64), trials])
    order = np.argsort(trials)
    return trials[order], values[order]


def rescore(
    records: Sequence[Record],
    objective: Objective,
    locations: Mapping[Rung, Mapping[str, Location]],
) -> list[float]:
    """The scores of trials of one rung on one scale; `rank` ranks among all of them.

    Raises ValueError where a term is not defined.
    """
    metrics = [record.outcome.metrics if record.outcome else {} for record in records]
    rungs = [record.trial.rung for record in records]
    return [
        objective.score(own, rung.epochs, locations.get(rung), ranks, rung.data)
        for own, rung, ranks in zip(metrics, rungs, _ranks(metrics, objective), strict=True)
    ]


def choose(
    history: History,
    objective: Objective,
    selection: SelectionName,
    rung: Rung,
    directory: Path,
    among: Iterable[Record] | None = None,
) -> Record | None:
    """The answer among the finished trials of the highest rung; the earliest of equals.

    `directory` is the study's folder, from which some selections read curves or losses; `among` are
    the trials that it may be, None: all. None while no trial can be chosen. Raises UserError where
    a file that the selection needs is missing.
    """
    records = candidates(history, rung, among)
    if not records:
        return None
    evidence = gather(history, records, rung, directory)
    found = SELECTIONS[selection].choose(evidence, objective)
    return None if found is None else records[found]


def best_first(
    history: History,
    records: Sequence[Record],
    objective: Objective,
    selection: SelectionName,
    directory: Path,
) -> list[Record]:
    """Finished trials of one rung as the selection would choose them, one after the other.

    Those that it cannot choose come last, by their validation loss. Raises UserError as `choose`.
    """
    if not records:
        return []
    evidence = gather(history, records, records[0].trial.rung, directory)
    figures = SELECTIONS[selection].figures(evidence, objective)
    losses = evidence.metric("val_loss")
    order = sorted(range(len(records)), key=lambda i: (figures[i], losses[i]))
    return [records[i] for i in order]


def scores(evidence: Evidence, objective: Objective) -> list[float]:
    """As `rescore`, but infinity where a term, or as yet a frozen scale, is not defined.

    With the α that `settled` finds, where it is swept.
    """
    if objective.swept:
        objective = settled(evidence, objective)
    if not {*objective.standardized()} <= evidence.locations.keys():
        return [math.inf] * len(evidence.metrics)
    found = []
    for own, ranks in zip(evidence.metrics, _ranks(evidence.metrics, objective), strict=True):
        try:
            epochs, data = evidence.rung
            found.append(objective.score(own, epochs, evidence.locations, ranks, data))
        except ValueError:
            found.append(math.inf)
    return found


def vectors(evidence: Evidence, objective: Objective) -> list[tuple[float, ...]]:
    """The scores of a Pareto objective by trial; infinity where one of them is not defined."""
    found = []
    for own in evidence.metrics:
        try:
            found.append(objective.scores(own, *evidence.rung))
        except ValueError:
            found.append((math.inf,) * len(objective.terms))
    return found


def settled(evidence: Evidence, objective: Objective) -> Objective:
    """The objective with the α that is found from the trials, as far as that is known.

    Raises UserError where the losses that a swept one needs are missing.
    """
    if objective.swept:
        plain = objective.weighing(1.0)
        values = scores(evidence, replace(plain, terms=plain.terms[:1]))
        return objective.weighing(swept(values, evidence.losses()))
    if objective.part is None or not {*objective.standardized()} <= evidence.locations.keys():
        return objective
    return objective.weighing(objective.alpha(evidence.locations))


def alone(selection: SelectionName, objective: Objective) -> bool:
    """Whether a trial's figure is the same whatever the others are."""
    weighs = selection == "score" and (objective.uses("rank") or objective.swept)
    return SELECTIONS[selection].alone and not weighs and not objective.pareto


def per_sample(selection: SelectionName, objective: Objective) -> bool:
    """Whether the choice reads the loss of each validation sample."""
    return SELECTIONS[selection].per_sample or (selection == "score" and objective.swept)


def _ranks(metrics: Sequence[Mapping[str, float]], objective: Objective) -> list[dict[str, float]]:
    """Of each trial, the ranks of the metrics that a `rank` term ranks."""
    named = [term.metric for term in objective.terms if term.scale == "rank"]
    ranks = {name: rank([own.get(name, math.inf) for own in metrics]) for name in named}
    return [{name: ranks[name][i] for name in named} for i in range(len(metrics))]


def _accuracy(evidence: Evidence, _: Objective) -> list[float]:
    return [-x if x < math.inf else x for x in evidence.metric("val_accuracy")]


def one_se_margin(margins: Sequence[float], losses: Losses) -> list[float]:
    """Minus the median margin of the trials that are not separable from the best; infinity else.

    The best has the least mean of `losses` (n, N), per validation sample. Another trial is
    separable from it when the mean of their paired differences exceeds one standard error,
    sd(d) / √N: the one-standard-error rule (Breiman et al. 1984, §3.4.3) on paired differences.
    """
    best = losses[int(losses.mean(axis=1, dtype=np.float64).argmin())].astype(np.float64)
    return [
        -margin if margin < math.inf and not separable(own - best) else math.inf
        for margin, own in zip(margins, losses, strict=True)
    ]


LOSS = frozenset({"val_loss"})
ROWS = (
    Selection("score", scores, alone=True),
    Selection("knee", lambda evidence, objective: knee(vectors(evidence, objective))),
    Selection("val_loss", lambda evidence, _: evidence.metric("val_loss"), LOSS, alone=True),
    Selection("val_accuracy", _accuracy, frozenset({"val_accuracy"}), alone=True),
    Selection(
        "one_se_margin",
        lambda evidence, _: one_se_margin(evidence.metric(MARGIN), evidence.losses()),
        LOSS | {MARGIN},
        per_sample=True,
    ),
    Selection(
        "shrunk",
        lambda evidence, _: shrunk(evidence.metrics, evidence.losses()).tolist(),
        LOSS,
        per_sample=True,
    ),
    Selection("noise_cut", lambda evidence, _: evidence.late(), LOSS, reserve=TOP * REPEATS),
)
SELECTIONS: Mapping[SelectionName, Selection] = {row.name: row for row in ROWS}
