"""What `hpogen retrain` found: test accuracy of the answer and the baselines.

`cli/drive.py` prints it when a run ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path

from hpogen.record.history import Record
from hpogen.report.table import grid
from hpogen.report.text import (
    BLANK,
    configuration,
    folder_and_next,
    next_lines,
    number,
    paragraph,
)
from hpogen.report.verdict import command
from hpogen.study.read import RETRAIN, Folder
from hpogen.study.retrained import Retrained, Run

CAPTION = (
    "n seeds of training each, ± their standard deviation. They do not tell how much the search "
    "itself owes to luck: that takes more searches."
)


def page(directory: Path, found: Sequence[Retrained], width: int) -> list[str]:
    """A row per configuration: who it is, n, test accuracy and loss, mean ± sd; then what it is."""
    rows = [
        {
            "": name(one),
            "n": f"{one.n}/{one.asked}" if one.n < one.asked else str(one.n),
            "test accuracy": _spread(
                one, lambda run: 100 * run.accuracy, lambda x: f"{x:.2f}", " %"
            ),
            "test loss": _spread(one, attrgetter("loss"), number),
            "failed": ", ".join(
                f"{n} {kind}" for kind, n in Counter(one.failures.values()).items()
            ),
        }
        for one in found
    ]
    lines = [f"{directory}: trained on the full training set, tested on the standard test set"]
    lines += grid(rows, width, ["test loss", "failed"], json=False)
    lines.append("")
    for one in found:
        lines += paragraph(f"{name(one)}: {configuration(one.choice.config)}", width)
    return ["", *lines, "", *paragraph(CAPTION, width)]


def name(one: Retrained) -> str:
    """`the answer, baseline practice`, or `trial-9, not the answer now`."""
    baselines = [f"baseline {name}" for name in one.choice.baselines]
    names = [*(["the answer"] if one.choice.is_answer else []), *baselines]
    return ", ".join(names) or f"{one.choice.label}, not the answer now"


def _spread(
    one: Retrained, value: Callable[[Run], float], text: Callable[[float], str], unit: str = ""
) -> str:
    """`97.31 ± 0.24 %`, both with the mean's digits; of one run without ±."""
    mean, sd = one.mean(value), one.sd(value)
    if mean is None:
        return BLANK
    shown = text(mean)
    if sd is None:
        return shown + unit
    places = len(shown.partition(".")[2])
    return f"{shown} ± {number(sd) if 'e' in shown else f'{sd:.{places}f}'}{unit}"


def last_lines(directory: Path, stopped: Sequence[str], program: str, width: int) -> list[str]:
    """What stopped whom, the folder, and what to type next."""
    lines = [line for why in stopped for line in paragraph(why, width)]
    verb = "retrain" if stopped else "compare"
    goes_on = command(program, verb, str(directory))
    return ["", *lines, *folder_and_next(directory / RETRAIN, [goes_on])]


def again_lines(
    study: Folder, records: Sequence[Record], trial: int, ended: Sequence[str], program: str
) -> list[str]:
    """Whether a trial that was trained once more has come out the same, and what to type next."""
    directory, before = str(study.directory), study.history.records[trial].outcome
    now = records[0].outcome if records else None
    if now is None or not now.metrics:
        goes_on = command(program, "retrain", directory, "--trial", str(trial), "--subset")
        return ["", *(f" {line}" for line in ended), *next_lines([goes_on])]
    metrics = before.metrics if before else {}
    other = [
        name
        for name in sorted(now.metrics)
        if metrics.get(name, now.metrics[name]) != now.metrics[name]
    ]
    same = f"other numbers: {', '.join(other)}" if other else "the same numbers"
    predict = command(program, "predict", directory, "IMAGES", "--trial", str(trial))
    return ["", f" trial {trial} was trained once more, with {same}", *next_lines([predict])]
