"""Which finished trial is the answer: the told scores steer the search, the selection decides."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from hpogen.history import History, Record
from hpogen.objective import Location, Objective, rank

Selection = Literal["score", "val_loss", "val_accuracy"]
SELECTIONS: tuple[str, ...] = get_args(Selection)


def candidates(history: History, budget: int) -> list[Record]:
    """The finished trials at that budget that have metrics and are no duplicates."""
    return [
        record
        for record in history.records
        if record.state == "told"
        and record.failure is None
        and record.trial.budget == budget
        and record.twin is None
    ]


def rescore(
    records: Sequence[Record],
    objective: Objective,
    locations: Mapping[int, Mapping[str, Location]],
) -> list[float]:
    """The scores of trials of one budget on one scale; `rank` ranks among all of them."""
    ranks = {
        term.metric: rank([_metrics(record)[term.metric] for record in records])
        for term in objective.terms
        if term.scale == "rank"
    }
    return [
        objective.score(
            _metrics(record),
            record.trial.budget,
            locations.get(record.trial.budget),
            {metric: ranks[metric][i] for metric in ranks},
        )
        for i, record in enumerate(records)
    ]


def choose(
    history: History, objective: Objective, selection: Selection, budget: int
) -> Record | None:
    """The answer among the finished trials at the largest budget; the earliest of equals."""
    records = candidates(history, budget)
    if selection == "score":
        if objective.standardized() and budget not in history.locations:
            return None
        return _least(zip(rescore(records, objective, history.locations), records, strict=True))
    sign = -1 if selection == "val_accuracy" else 1
    return _least(
        (sign * _metrics(record)[selection], record)
        for record in records
        if selection in _metrics(record)
    )


def _least(scored: Iterable[tuple[float, Record]]) -> Record | None:
    return min(scored, key=lambda pair: pair[0], default=(math.inf, None))[1]


def _metrics(record: Record) -> Mapping[str, float]:
    return record.outcome.metrics if record.outcome else {}
