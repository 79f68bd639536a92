"""What a page is drawn from: the comparison, and the studies of each task by arm.

`page.py` reads it once; the sections look at it and at the studies' folders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpogen.analysis.answers import Answer, Siblings, siblings_of
from hpogen.analysis.arms import arrange
from hpogen.analysis.comparison import Comparison, compare_studies
from hpogen.analysis.crossed import Crossed
from hpogen.analysis.tables import Row, TaskTable
from hpogen.analysis.trials import NOT_ADAPTIVE
from hpogen.analysis.truth import truth_of
from hpogen.report.compare_figures import shown, unit
from hpogen.report.text import count, error_text
from hpogen.study.read import Folder, read_all
from hpogen.tasks.errors import Error, audit_key

MOST_ARMS = 8  # with panels of their own


@dataclass(frozen=True)
class ArmOfTask:
    """An arm's studies on a task, which has a number, too.

    `number` is the arm's colour, `row` None before its first answer.
    """

    label: str
    number: int
    studies: tuple[Folder, ...]
    row: Row | None
    task: int = 0

    def key(self, study: Folder, trial: int) -> str:
        """Names a trial of one of the arm's studies in the page: no other has the same."""
        return f"{self.task}.{self.number}.{study.seed}.{trial}"

    def answer(self, study: Folder) -> Answer | None:
        answers = self.row.answers if self.row else ()
        return next((given for given in answers if given.study == study.directory), None)

    @property
    def sampled(self) -> bool:
        """Whether its trials are a sample of the space; a searcher that learns chose others."""
        return self.first.spec.searcher.name in NOT_ADAPTIVE

    @property
    def first(self) -> Folder:
        """The study that stands for the arm where one is shown: of its lowest search seed."""
        return self.studies[0]

    @property
    def over(self) -> str:
        """`3 search seeds`."""
        return count(len(self.studies), "search seed")


@dataclass(frozen=True)
class TaskMaterial:
    """One task's arms. `table` holds what `compare` found, `primary` are the arms it is about.

    `crossed` are the arms by objective and searcher, where they differ in both.
    """

    table: TaskTable
    arms: tuple[ArmOfTask, ...]
    truth: Error | None
    siblings: Siblings
    judged_by: str = ""
    primary: Sequence[str] = ()
    crossed: Crossed | None = None

    @property
    def panels(self) -> Sequence[ArmOfTask]:
        """The arms that have panels of their own: of a great many the primary ones, then others."""
        ranked = sorted(self.arms, key=lambda arm: arm.label not in self.primary)
        chosen = {arm.label for arm in ranked[:MOST_ARMS]}
        return [arm for arm in self.arms if arm.label in chosen]

    @property
    def unpaneled(self) -> str:
        """What a section says when arms are left out."""
        more = len(self.arms) - MOST_ARMS
        return f"Drawn are {MOST_ARMS} arms; {more} more are not." if more > 0 else ""

    @property
    def of(self) -> str:
        """What the held-out figure is called: `audit error`."""
        return self.truth.on("audit") if self.truth else self.judged_by

    @property
    def audit_key(self) -> str:
        """What gives its trials audit figures."""
        return audit_key(self.arms[0].studies[0].spec.task.name)

    @property
    def unit(self) -> str:
        """Of the held-out figure, on an axis."""
        return unit(self.of)

    def shown(self, x: float | None) -> float:
        """A held-out figure as axes have it: an error in percent."""
        return shown(x, self.of)

    def said(self, x: float) -> str:
        """A held-out figure in a text."""
        return error_text(x, self.of)


@dataclass(frozen=True)
class Material:
    """All of it."""

    comparison: Comparison
    studies: tuple[Folder, ...]
    truth: Error | None
    siblings: Siblings

    def tasks(self) -> Iterator[TaskMaterial]:
        design = arrange(self.studies)
        for number, table in enumerate(self.comparison.tasks):
            rows = {row.arm: row for row in table.rows}
            arms = [
                ArmOfTask(
                    arm.label,
                    i,
                    tuple(arm.studies[table.task].values()),
                    rows.get(arm.label),
                    number,
                )
                for i, arm in enumerate(design.arms)
                if arm.studies.get(table.task)
            ]
            primary = self.comparison.primary or ()
            both = next((c for c in self.comparison.crossed if c.task == table.task), None)
            yield TaskMaterial(
                table,
                tuple(arms),
                self.truth,
                self.siblings,
                self.comparison.judged_by or "",
                primary,
                both,
            )


def read_material(directories: Sequence[Path], primary: str | None) -> Material:
    """Of studies that have ended or go on. Raises UserError as `compare` does."""
    studies = tuple(read_all(directories))
    siblings = siblings_of(studies)
    found = compare_studies(studies, siblings, directories, primary)
    return Material(found, studies, truth_of(studies), siblings)
