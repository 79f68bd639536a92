"""A task's arms as a table: a row for each objective, a column for each searcher.

`comparison.py` makes one where arms differ in both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpogen.analysis.arms import Arm
from hpogen.analysis.contrasts import Contrast
from hpogen.analysis.labels import named
from hpogen.analysis.statistics import Summary
from hpogen.analysis.tables import Row, TaskTable
from hpogen.study.read import Folder


@dataclass(frozen=True)
class Cell:
    """An arm's error over its search seeds, None where it has none.

    `best_of_row` and `best_of_column`: it is the smallest there, and every contrast with the
    others is separable.
    """

    arm: str
    error: Summary | None
    best_of_row: bool = False
    best_of_column: bool = False


@dataclass(frozen=True)
class Crossed:
    """The cells of each objective in the order of the searchers; None where there is no arm."""

    task: str
    searchers: tuple[str, ...]
    rows: Mapping[str, tuple[Cell | None, ...]]


Error = Callable[[Row], Summary | None]


def crossed(
    table: TaskTable, arms: Sequence[Arm], contrasts: Sequence[Contrast], error: Error
) -> Crossed | None:
    """None where there are not several of both, or two arms differ in neither."""
    rows = {row.arm: row for row in table.rows}
    own = {arm.label: _first(arm) for arm in arms if arm.label in rows}
    searchers = _searcher_labels(own)
    places = {label: (study.spec.objective.label, searchers[label]) for label, study in own.items()}
    columns = [*dict.fromkeys(searchers.values())]
    objectives = [*dict.fromkeys(objective for objective, _ in places.values())]
    if len(columns) < 2 or len(objectives) < 2 or len({*places.values()}) < len(places):
        return None
    at = {place: Cell(label, error(rows[label])) for label, place in places.items()}
    by_row = {o: [cell for c in columns if (cell := at.get((o, c)))] for o in objectives}
    by_column = {c: [cell for o in objectives if (cell := at.get((o, c)))] for c in columns}
    marked = {
        (o, c): Cell(
            cell.arm,
            cell.error,
            best_of_row=_is_best(cell, by_row[o], contrasts),
            best_of_column=_is_best(cell, by_column[c], contrasts),
        )
        for (o, c), cell in at.items()
    }
    return Crossed(
        table.task,
        tuple(columns),
        {o: tuple(marked.get((o, c)) for c in columns) for o in objectives},
    )


def _first(arm: Arm) -> Folder:
    return next(study for seeds in arm.studies.values() for study in seeds.values())


def _searcher_labels(studies: Mapping[str, Folder]) -> dict[str, str]:
    """By arm: the name, and what differs between searchers of one name."""
    records = {arm: study.spec.record()["searcher"] for arm, study in studies.items()}
    found = {}
    for arm, record in records.items():
        alike = [other for other in records.values() if other["name"] == record["name"]]
        keys = sorted({key for other in alike for key in other})
        differing = [key for key in keys if len({json.dumps(x.get(key)) for x in alike}) > 1]
        found[arm] = " ".join([record["name"], *(named(k, record.get(k)) for k in differing)])
    return found


def _is_best(cell: Cell, among: Iterable[Cell], contrasts: Sequence[Contrast]) -> bool:
    others = [other for other in among if other.arm != cell.arm]
    return bool(others) and all(_better(cell, other, contrasts) for other in others)


def _better(one: Cell, other: Cell, contrasts: Sequence[Contrast]) -> bool:
    """Here and, by the contrast over all tasks, separably so."""
    if one.error is None or other.error is None or not one.error.mean < other.error.mean:
        return False
    for c in contrasts:
        if (c.first, c.second) == (one.arm, other.arm):
            return c.separable and c.difference < 0
        if (c.first, c.second) == (other.arm, one.arm):
            return c.separable and c.difference > 0
    return False
