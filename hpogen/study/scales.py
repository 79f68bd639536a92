"""When a `standard` scale, or α, is frozen and from what, and the ranks within a cohort.

Functions of a study's history alone, so that the order in which outcomes arrive changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpogen.objective import Location, Objective, rank
from hpogen.record.history import History, Record
from hpogen.trial import Outcome, Rung

Locations = Mapping[str, Location]


def must_wait(objective: Objective, history: History, rung: Rung) -> bool:
    """Whether an outcome of that rung cannot be scored yet."""
    unknown = bool(objective.standardized()) and rung not in history.locations
    return objective.uses("rank") or unknown


def frozen(objective: Objective, history: History, rung: Rung) -> Locations | None:
    """The scale from the rung's first finite outcomes in trial order, once all of them are there.

    None while an earlier trial runs, or there are too few.
    """
    if not objective.standardized() or rung in history.locations:
        return None
    finite: list[Outcome] = []
    for record in history.records:
        if record.trial.rung != rung:
            continue
        if record.outcome is None:
            return None
        if record.failure is None:
            finite.append(record.outcome)
        if len(finite) == objective.standard_after:
            return _locations(objective, rung, finite)
    return None


def served(objective: Objective, history: History, rung: Rung, held: Sequence[Record]) -> Locations:
    """The scale when the searcher cannot wait: the nearest lower rung's, else of what is held."""
    lower = [known for known in history.locations if history.cost(known) < history.cost(rung)]
    if lower:
        return history.locations[max(lower, key=history.cost)]
    return _locations(objective, rung, [record.outcome for record in held if record.outcome])


def cohort_ranks(
    objective: Objective, history: History, records: Sequence[Record]
) -> dict[int, dict[str, float]]:
    """Per trial, the ranks of its metrics among all trials of its cohort that have them."""
    ranks: dict[int, dict[str, float]] = {}
    metrics = [term.metric for term in objective.terms if term.scale == "rank"]
    for cohort in {(record.trial.cohort, record.trial.rung) for record in records if metrics}:
        members = (history.records[trial] for trial in history.cohorts[cohort])
        outcomes = [r.outcome for r in members if r.outcome and r.outcome.metrics]
        for metric in metrics:
            positions = rank([outcome.metrics[metric] for outcome in outcomes])
            for outcome, position in zip(outcomes, positions, strict=True):
                ranks.setdefault(outcome.trial, {})[metric] = position
    return ranks


def _locations(
    objective: Objective, rung: Rung, outcomes: Sequence[Outcome]
) -> dict[str, Location]:
    return objective.locations([outcome.metrics for outcome in outcomes], *rung)
