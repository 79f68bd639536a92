"""The picture of a matrix: a line for each of its studies, from their folders or while they run.

`status`, the live table and the last lines of `run` draw it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from hpogen.analysis.truth import held_out, truth_in
from hpogen.record.history import Record
from hpogen.report.picture import BAR, over, used_up
from hpogen.report.table import Column, table
from hpogen.report.text import (
    BLANK,
    bar,
    count,
    error_text,
    folder_and_next,
    number,
    paragraph,
    tally,
)
from hpogen.report.verdict import command
from hpogen.spec import StudySpec
from hpogen.study.read import AnyStudy, Folder
from hpogen.study.standing import Standing, commonest, standing
from hpogen.study.status import ended, state
from hpogen.study.status import status as of_one

MOST = 3  # studies whose failure is told


@dataclass(frozen=True)
class Row:
    """One study: how far it is, and its answer so far."""

    study: AnyStudy
    state: str  # running, stopped, finished, or why it stopped itself


def overview(
    name: str, rows: Sequence[Row], width: int, note: str = "", left: str | None = None
) -> Text:
    """All lines: how far all of them are, then the table.

    `left` is the time that a running pool will take; None: it is not running, and columns in which
    nothing stands are left out.
    """
    unit = _unit(rows)
    now = [standing(row.study) for row in rows]
    columns = [
        Column("study", max(len(row.study.spec.name) for row in rows)),
        Column(f"{unit}s", max(len(_share(row, unit)) for row in rows)),
        Column("running", 4),
        Column("failed", 4, optional=True),
        Column("best", 4),
        Column("score", 6),
        Column("val loss", 6, optional=True),
        Column(_judged(rows, now), 6, optional=True),
        Column("", max(len(row.state) for row in rows), optional=True),
    ]
    filled = [_cells(row, each, unit) for row, each in zip(rows, now, strict=True)]
    fixed = left is not None  # nothing jumps about
    used = [i for i in range(len(columns)) if fixed or {row[i] for row in filled} - {BLANK}]
    shown = [[row[i] for i in used] for row in filled]
    titles, *cells = table([columns[i] for i in used], shown, width - 1)
    lines = [Text(_header(name, rows, left), "bold")]
    lines += [Text(f" {title}", "dim") for title in titles.splitlines()]
    lines += [Text(f" {cell}") for cell in cells]
    return Text("\n").join([*lines, Text(f" {note}")] if note else lines)


def _header(name: str, rows: Sequence[Row], left: str | None) -> str:
    finished = sum(row.state == "finished" for row in rows)
    line = f" {name} · {finished} of {count(len(rows), 'study')} finished"
    if left is None:
        return line
    share = sum(used_up(row.study.history)[0] for row in rows) / len(rows)
    return f"{line}   {bar(share, BAR)} {100 * share:3.0f} %   {left}".rstrip()


def _judged(rows: Sequence[Row], now: Sequence[Standing]) -> str:
    """What the error on the audit is called, of studies whose tasks have the same."""
    pairs = zip(rows, now, strict=True)
    found = {truth_in(row.study.spec, each.best) for row, each in pairs if each.best}
    names = {truth.on("audit") for truth in found if truth}
    return names.pop() if len(names) == 1 else "audit error"


def _unit(rows: Sequence[Row]) -> str:
    units = {used_up(row.study.history)[1].removesuffix("s") for row in rows}
    return "epoch" if "epoch" in units else "trial"


def _share(row: Row, unit: str) -> str:
    history = row.study.history
    done, limit = over(history)[f"{unit}s"], history.stop[f"{unit}s"]
    return tally(done) if limit is None else f"{tally(done)}/{limit:,}"


def _cells(row: Row, now: Standing, unit: str) -> list[str]:
    running = len(row.study.history.running)
    failed = sum(now.failures.values())
    return [
        row.study.spec.name,
        _share(row, unit),
        str(running or BLANK),
        str(failed or BLANK),
        *_best(row.study.spec, now.best),
        row.state,
    ]


def _best(spec: StudySpec, best: Record | None) -> list[str]:
    if best is None or best.outcome is None:
        return [BLANK] * 4
    metrics, truth = best.outcome.metrics, truth_in(spec, best)
    error = held_out(best, truth)
    loss = number(metrics["val_loss"]) if "val_loss" in metrics else BLANK
    shown = BLANK if truth is None or error is None else error_text(error, truth.text)
    return [str(best.trial.id), number(best.score), loss, shown]


def status_page(
    name: str, studies: Sequence[Folder], width: int, program: str
) -> tuple[Text, bool]:
    """The table of the studies in a folder and what to do next; whether one of them runs."""
    rows = [Row(study, state(study)) for study in studies]
    process = next(filter(None, (study.process for study in studies)), None)
    return overview(name, rows, width, _note(rows, process, program)), process is not None


def endings(
    home: Path,
    studies: Sequence[AnyStudy],
    texts: Sequence[str],
    finished: bool,
    width: int,
    program: str,
) -> list[str]:
    """The last lines of a run: the table, what stopped whom, the folder, what to type next."""
    rows = [Row(study, ended(study)) for study in studies]
    lines = ["", *overview(home.absolute().name, rows, width).plain.splitlines(), ""]
    found = [(study, commonest(study.history)) for study in studies]
    failed = [(study, reason) for study, reason in found if reason is not None and reason.every]
    more = [f"{study.spec.name}: {reason}" for study, reason in failed[:MOST]]
    lines += [line for text in [*texts, *more] for line in paragraph(text, width)]
    words = ["compare" if finished else "resume", str(home)]
    if finished and len(failed) == len(studies):
        study, reason = failed[0]
        words = ["show", str(study.directory), str(reason.trial)]
    return lines + folder_and_next(home, [command(program, *words)])


def _note(rows: Sequence[Row], process: str | None, program: str) -> str:
    if process is not None:
        return f"running: {process}"
    home = str(rows[0].study.directory.parent)
    if all(row.state == "finished" for row in rows):
        return f"finished; side by side: {command(program, 'compare', home)}"
    return f"stopped; go on with: {command(program, 'resume', home)}"


def status(name: str, studies: Sequence[Folder]) -> dict[str, Any]:
    """The same as data: `studies` as `status` tells of one."""
    return {"name": name, "studies": [*map(of_one, studies)]}
