"""The first section of a task: a card per arm with what it chose and what that is worth."""

from __future__ import annotations

from hpogen.analysis.statistics import Summary
from hpogen.analysis.yardsticks import Yardstick
from hpogen.report.compare_crossed import MARKED, crossed_rows
from hpogen.report.compare_figures import LOSS, mean_text
from hpogen.report.figure import figure_text
from hpogen.report.html.blocks import Missing, Part, Section, render
from hpogen.report.html.material import ArmOfTask, TaskMaterial
from hpogen.report.text import configuration, count, duration, percent

Line = tuple[str, str, str]  # what it is, the figure, how it was had


def cards(task: TaskMaterial) -> Section:
    """What was chosen, how good is it, what did it cost."""
    found = [
        {
            "label": arm.label,
            "colour": arm.number,
            "lines": _lines(task, arm),
            "chosen": _chosen(arm),
        }
        for arm in task.arms
    ]
    answered = any(arm.row for arm in task.arms)
    notes = (NO_AUDIT.format(task.audit_key),) if answered and task.truth is None else ()
    return Section(
        "cards",
        "What was chosen",
        "What did each arm choose, how good is it, and what did it cost? Figures are means over "
        "search seeds ± standard deviation (n − 1).",
        body=render("cards.html.j2", cards=found, yardsticks=_yardsticks(task)),
        notes=notes,
    )


def crossing(task: TaskMaterial) -> Part:
    """Which objective goes with which searcher?"""
    if task.crossed is None:
        return Missing(CROSSED, "needs arms of several objectives and several searchers")
    of = task.of
    rows = crossed_rows(task.crossed, of)
    return Section(
        "crossed",
        CROSSED,
        f"Which objective is good with which searcher? The {of} of the answers, means over search "
        f"seeds ± standard deviation (n: search seeds). {MARKED}.",
        body=render("crossed.html.j2", titles=[*rows[0]], rows=[[*row.values()] for row in rows]),
    )


CROSSED = "Objective × searcher"
NO_AUDIT = (
    "There are no audit figures: {} gives a task such. Until then hpogen retrain gives test "
    "errors, where the task can be retrained."
)


def _lines(task: TaskMaterial, arm: ArmOfTask) -> list[Line]:
    row = arm.row
    if row is None:
        told = sum(len(study.history.told()) for study in arm.studies)
        text = f"{count(told, 'trial')} told, none of the largest budget has finished"
        return [("answer", "none yet", text)]
    lines: list[Line] = []
    if row.truth is not None and task.truth is not None:
        lines.append((task.of, *_summary(row.truth, task.of)))
    if row.test is not None:
        runs = sum(len(given.test) for given in row.answers)
        test = f"test {row.answers[0].tested or 'error'}"
        mean, of = _summary(row.test, test)
        lines.append((test, mean, f"{of}, {count(runs, 'retraining')}"))
    if row.val_loss is not None:
        lines.append(("val loss", *_summary(row.val_loss, LOSS)))
    if row.charged is not None and row.trained is not None:
        text = f"{row.trained.mean:,.0f} trained; the rest was shared or failed"
        same = row.trained.mean == row.charged.mean
        lines.append(("epochs charged", f"{row.charged.mean:,.0f}", "" if same else text))
    if row.seconds is not None:
        share = row.measures_share
        text = f"{percent(share)} of them for measures" if share else ""
        lines.append(("training time", duration(row.seconds.mean), text))
    return lines


def _summary(found: Summary, of: str) -> tuple[str, str]:
    return mean_text(found, of), f"n = {found.n}"


def _chosen(arm: ArmOfTask) -> list[dict[str, str]]:
    """Each search seed's answer, and what it is worth."""
    answers = arm.row.answers if arm.row else ()
    return [
        {
            "seed": str(given.seed),
            "trial": str(given.trial),
            "config": configuration(given.config),
            "worth": figure_text(given.figure),
        }
        for given in answers
    ]


def _yardsticks(task: TaskMaterial) -> list[Line]:
    """What stands beside the arms."""
    return [(y.label, task.said(y.truth.mean), _known(y)) for y in task.table.yardsticks if y.truth]


def _known(yardstick: Yardstick) -> str:
    n = yardstick.truth.n if yardstick.truth else 0
    return f"n = {n}" + (", nobody can choose so" if yardstick.kind == "oracle" else "")
