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
Errors = Mapping[str, Summary | None]  # by arm
Contrasts = Sequence[Contrast]


def crossed(
    table: TaskTable, arms: Sequence[Arm], contrasts: Contrasts, error: Error
) -> Crossed | None:
    """None where there are not several of both, or two arms differ in neither."""
    rows = {row.arm: row for row in table.rows}
    own = {arm.label: _first(arm) for arm in arms if arm.label in rows}
    searchers = _searcher_labels(own)
    at = {(own[label].spec.objective.label, s): label for label, s in searchers.items()}
    columns = [*dict.fromkeys(searchers.values())]
    objectives = [*dict.fromkeys(objective for objective, _ in at)]
    if len(columns) < 2 or len(objectives) < 2 or len(at) < len(rows):
        return None
    errors = {label: error(row) for label, row in rows.items()}

    def cell(objective: str, column: str) -> Cell | None:
        if (label := at.get((objective, column))) is None:
            return None
        in_row = [other for (o, _), other in at.items() if o == objective]
        in_column = [other for (_, c), other in at.items() if c == column]
        best = (_is_best(label, others, errors, contrasts) for others in (in_row, in_column))
        return Cell(label, errors[label], *best)

    cells = {o: tuple(cell(o, c) for c in columns) for o in objectives}
    return Crossed(table.task, tuple(columns), cells)


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


def _is_best(label: str, among: Iterable[str], errors: Errors, contrasts: Contrasts) -> bool:
    others = [other for other in among if other != label]
    return bool(others) and all(_better(label, other, errors, contrasts) for other in others)


def _better(label: str, other: str, errors: Errors, contrasts: Contrasts) -> bool:
    """Here and, by the contrast over all tasks, separably so."""
    ours, theirs = errors[label], errors[other]
    if ours is None or theirs is None or not ours.mean < theirs.mean:
        return False
    for c in contrasts:
        if {c.first, c.second} == {label, other}:
            return c.separable and (c.difference < 0) == (c.first == label)
    return False
