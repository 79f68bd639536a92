"""Arms compared: what each chose, how good it is, and whether a difference is more than luck.

`compare` reads study folders, of finished studies or running ones; `report/compare.py` prints what
it returns. The search seed is the unit of replication: retrainings are averaged, never counted.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hpogen.analysis.answers import Answer, Siblings, siblings_of
from hpogen.analysis.arms import arrange
from hpogen.analysis.cautions import cautions
from hpogen.analysis.contrasts import (
    FEWEST_TASKS,
    Contrast,
    CriticalDifference,
    Errors,
    critical_difference,
    pairwise,
    primary_of,
)
from hpogen.analysis.crossed import Crossed, crossed
from hpogen.analysis.statistics import Summary
from hpogen.analysis.tables import Row, TaskTable, task_table
from hpogen.analysis.truth import truth_of
from hpogen.study.read import Folder, read_all
from hpogen.study.standing import is_complete
from hpogen.tasks.errors import audit_key


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    `judged_by` is what the contrasts are about: `audit error`, `audit RMSE`, …, `test error` where
    there is no audit, None where there is neither. `error` is what the tasks' error is called:
    `error`, a share, or `RMSE`, `loss`, …. `primary` is the contrast that was declared, or
    the only one; it stands first among the contrasts. `unanswered` are the studies in which no
    trial has finished at the largest budget, `unfinished` those that go on, `not_retrained` those
    that `hpogen retrain` could give a test error. `crossed` are tables of objectives by searchers,
    of the tasks whose arms differ in both. `audited` are the studies with audit figures,
    `looks` how often, this time included, those that were looked at most have been. `given` are the
    folders as they were named.
    """

    judged_by: str | None
    error: str
    arms: tuple[str, ...]
    tasks: tuple[TaskTable, ...]
    primary: tuple[str, str] | None
    contrasts: tuple[Contrast, ...]
    critical_difference: CriticalDifference | None
    crossed: tuple[Crossed, ...]
    given: tuple[Path, ...]
    studies: tuple[Path, ...]
    unanswered: tuple[Path, ...]
    unfinished: tuple[Path, ...]
    not_retrained: tuple[Path, ...]
    audited: tuple[Path, ...]
    audit_key: str  # what gives the trials of such a task audit figures
    looks: int
    notes: tuple[str, ...]

    def folder_of(self, study: Path) -> Path:
        """The folder that was named: the study's own, or its matrix's."""
        return next(path for path in self.given if path in (study, study.parent))

    @property
    def by_test(self) -> bool:
        """Whether the arms are judged by the test set, for want of an audit."""
        return self.judged_by == self.test

    @property
    def audit(self) -> str:
        """What the error on the audit is called."""
        return f"audit {self.error}"

    @property
    def test(self) -> str:
        """What the error on the test set is called."""
        return f"test {self.error}"

    @property
    def answers(self) -> list[Answer]:
        return [one for task in self.tasks for one in task.answers]


def compare(directories: Sequence[Path], primary: str | None = None) -> Comparison:
    """Everything that can be said of the studies in folders, a study's or a matrix's each.

    `primary` is a contrast `A - B` by the arms' labels, in the place of the one that the studies
    declare. Raises UserError for a folder that holds no study, a contrast of unknown arms, the same
    search twice, and studies that have nothing in common.
    """
    studies = read_all(directories)
    return compare_studies(studies, siblings_of(studies), directories, primary)


def compare_studies(
    studies: Sequence[Folder], siblings: Siblings, given: Sequence[Path], primary: str | None
) -> Comparison:
    """The same of studies that have been read, from the folders `given`."""
    design = arrange(studies)
    labels = [arm.label for arm in design.arms]
    declared = {study.spec.primary for study in studies}
    if primary is None and len(declared) == 1:
        primary = declared.pop()
    pair = primary_of(primary, labels) if primary else _only(labels)
    truth = truth_of(studies)
    tasks = [task_table(task, design.arms, truth, siblings) for task in design.tasks]
    answers = [one for task in tasks for one in task.answers]
    tested = next((one.tested for one in answers if one.test), None)
    error = truth.text if truth else tested or "error"
    judged_by = f"audit {error}" if truth else f"test {error}" if tested else None
    by_test = truth is None
    errors = _errors(labels, tasks, by_test)
    contrasts = tuple(pairwise(errors, pair))
    tables = (crossed(task, design.arms, contrasts, partial(_judged, by_test)) for task in tasks)
    answered = {one.study for one in answers}
    retrainable = {s.directory for s in studies if s.spec.task.retrains}
    return Comparison(
        judged_by=judged_by,
        error=error,
        arms=tuple(labels),
        tasks=tuple(tasks),
        primary=pair,
        contrasts=contrasts,
        critical_difference=_over_tasks(errors),
        crossed=tuple(filter(None, tables)) if judged_by else (),
        given=tuple(given),
        studies=tuple(study.directory for study in studies),
        unanswered=tuple(s.directory for s in studies if s.directory not in answered),
        unfinished=tuple(s.directory for s in studies if not is_complete(s)),
        not_retrained=tuple(
            one.study for one in answers if not one.test and one.study in retrainable
        ),
        audited=tuple(s.directory for s in studies if s.audited),
        audit_key=audit_key(studies[0].spec.task.name),
        looks=max((s.history.looks + 1 for s in studies if s.audited), default=0),
        notes=(*design.notes, *cautions(studies), *_unpaired(errors, pair)),
    )


def _judged(by_test: bool, row: Row) -> Summary | None:
    return row.test if by_test else row.truth


def _only(labels: Sequence[str]) -> tuple[str, str] | None:
    return (labels[0], labels[1]) if len(labels) == 2 else None


def _errors(
    labels: Sequence[str], tasks: Sequence[TaskTable], by_test: bool
) -> Mapping[str, Errors]:
    """Each arm's errors by task and search seed."""
    found: dict[str, dict[str, dict[int, float]]] = {label: {} for label in labels}
    for task in tasks:
        for row in task.rows:
            values = {g.seed: g.test_error if by_test else g.truth for g in row.answers}
            known = {seed: value for seed, value in values.items() if value is not None}
            if known:
                found[row.arm][task.task] = known
    return found


def _over_tasks(errors: Mapping[str, Errors]) -> CriticalDifference | None:
    """Over the tasks that all arms have, from ten of them on."""
    shared = [
        task for task in next(iter(errors.values())) if all(task in e for e in errors.values())
    ]
    if len(shared) < FEWEST_TASKS:
        return None
    return critical_difference(
        {
            arm: [statistics.fmean(by_task[task].values()) for task in shared]
            for arm, by_task in errors.items()
        }
    )


def _unpaired(errors: Mapping[str, Errors], pair: tuple[str, str] | None) -> Iterator[str]:
    """Which search seeds of the primary contrast have no partner."""
    if pair is None:
        return
    first, second = ({(t, s) for t, seeds in errors[arm].items() for s in seeds} for arm in pair)
    if not first & second:
        yield f"{pair[0]} and {pair[1]} share no search seed with figures: nothing can be paired"
    elif first ^ second:
        alone = len(first ^ second)
        yield f"searches of the primary contrast without a partner, left out: {alone}"
