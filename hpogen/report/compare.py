"""The text of `compare`: verdict, a table per task, contrasts, searches, validity; and its data.

The command line prints the lines or the JSON of what `analysis.comparison.compare` found.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpogen.analysis.comparison import Comparison
from hpogen.analysis.contrasts import FEWEST_TASKS, Contrast
from hpogen.analysis.tables import Row, TaskTable
from hpogen.report.compare_crossed import crossed_lines
from hpogen.report.compare_evidence import (
    answer_lines,
    contrast_lines,
    critical_lines,
    front_lines,
    search_lines,
    transfer_lines,
    validity_lines,
)
from hpogen.report.compare_figures import LOSS, mean_text
from hpogen.report.compare_verdict import verdict
from hpogen.report.figure import looks_text
from hpogen.report.table import grid
from hpogen.report.text import BLANK, count, next_lines, number, paragraph, percent
from hpogen.report.verdict import command

SEVERAL = 3  # folders named in a line
MOST = 3  # tasks of which the page says how their searches went and which rule is valid


def compare_page(found: Comparison, width: int, program: str = "hpogen") -> list[str]:
    """All lines: what a tired person can act on first, then the evidence, then what to type."""
    lines = ["", *paragraph(verdict(found), width)]
    for task in found.tasks:
        lines += ["", *_task_lines(found, task, width)]
    for table in found.crossed[:MOST]:
        lines += ["", *crossed_lines(table, str(found.judged_by), width)]
    if found.contrasts:
        lines += ["", *contrast_lines(found, width)]
    if found.critical_difference:
        lines += ["", *critical_lines(found.critical_difference, width)]
    for task in found.tasks[:MOST]:
        lines += [*answer_lines(task, width), *search_lines(found, task, width)]
        lines += validity_lines(found, task, width)
        lines += transfer_lines(task, width)
        lines += front_lines(task, width)
    if notes := [*_notes(found)]:
        lines += ["", *(line for note in notes for line in paragraph(note, width))]
    return [*lines, "", *_next(found, program)]


def comparison_data(found: Comparison) -> dict[str, Any]:
    """The same as data that goes through JSON: null for what is not known."""
    data: dict[str, Any] = _plain(found)
    return {"verdict": verdict(found), **data}


def _plain(x: Any) -> Any:
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        names = [field.name for field in dataclasses.fields(x)]
        extra = {"separable": x.separable} if isinstance(x, Contrast) else {}
        return {name: _plain(getattr(x, name)) for name in names} | extra
    if isinstance(x, Mapping):
        return {str(key): _plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(value) for value in x]
    if isinstance(x, float) and not math.isfinite(x):
        return None
    return str(x) if isinstance(x, Path) else x


def _task_lines(found: Comparison, task: TaskTable, width: int) -> list[str]:
    """A row for each arm, then the yardsticks: they have a held-out figure and nothing else."""
    heading = f" {task.task}: means over search seeds ± standard deviation"
    if not task.rows:
        return [heading, f" {BLANK} no answer yet"]
    optional = ["val loss", "epochs charged", "trained", "seconds", "measures"]
    return [heading, *grid(task_rows(found, task), width, optional)]


def task_rows(found: Comparison, task: TaskTable) -> list[dict[str, str]]:
    """The cells of a task's table by column: its arms, then the yardsticks."""
    tested = found.test if any(row.test is not None for row in task.rows) else ""
    rows = [_row(row, found.audit, tested) for row in task.rows]
    for yardstick in task.yardsticks:
        n = str(yardstick.truth.n) if yardstick.truth else BLANK
        mean = mean_text(yardstick.truth, found.audit)
        rows.append({"arm": yardstick.label, "n": n, found.audit: mean})
    return rows


def _row(row: Row, truth: str, tested: str) -> dict[str, str]:
    return {
        "arm": row.arm,
        "n": str(len(row.answers)),
        truth: mean_text(row.truth, truth),
        **({tested: mean_text(row.test, tested)} if tested else {}),
        "val loss": mean_text(row.val_loss, LOSS),
        "epochs charged": f"{row.charged.mean:,.0f}" if row.charged else BLANK,
        "trained": f"{row.trained.mean:,.0f}" if row.trained else BLANK,
        "seconds": number(row.seconds.mean) if row.seconds else BLANK,
        "measures": BLANK if row.measures_share is None else percent(row.measures_share),
    }


def _notes(found: Comparison) -> Iterator[str]:
    for directory in found.unanswered:
        yield f"{directory}: no trial has finished at the largest budget: left out"
    if found.unfinished:
        yield (
            f"{len(found.unfinished)} of {count(len(found.studies), 'study')} go on or were "
            f"stopped ({_several(found.unfinished)}): these are the figures so far"
        )
    lacking = [
        given.study
        for given in found.answers
        if (given.test_error if found.by_test else given.truth) is None
    ]
    if lacking and found.judged_by is not None:
        yield f"no {found.judged_by} of {_several(lacking)}: left out of the contrasts"
    yield from found.notes
    if said := looks_text(found.looks):
        yield said
    if (more := len(found.tasks) - MOST) > 0:
        yield f"how the searches on {count(more, 'more task')} went, and which rules: --json"
    if 1 < len(found.tasks) < FEWEST_TASKS:
        yield f"below {FEWEST_TASKS} tasks there are no rank statistics over tasks"
    labels = [y for task in found.tasks for y in task.yardsticks]
    short = [y.label for y in labels if y.kind == "restarts" and y.truth is None]
    if short:
        yield f"{', '.join(dict.fromkeys(short))}: needs that many search seeds"
    if found.judged_by is None or found.by_test:
        yield f"there are no audit figures: {found.audit_key} gives a task such"


def _several(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:SEVERAL])) + (", …" if len(paths) > SEVERAL else "")


def _next(found: Comparison, program: str) -> list[str]:
    """What is missing for a verdict first; the same as pictures last."""
    more = command(program, "report", *map(str, found.given))
    return next_lines([*missing(found, found.unanswered, program), more])


def missing(found: Comparison, stopped: Sequence[Path], program: str) -> list[str]:
    """What is missing for a verdict, as commands: `stopped` studies go on, nets are retrained."""
    wanted = {"resume": stopped, "retrain": found.not_retrained}
    return [
        command(program, verb, str(found.folder_of(studies[0])))
        for verb, studies in wanted.items()
        if studies
    ]
