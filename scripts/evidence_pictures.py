"""The pictures of the evidence: `primary.png`, task by task, and `arms.png`, by number of labels.

`evidence.py` calls it. Of both, points of test error; below 0 the first arm is better.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from evidence_verdict import ORACLE, REFERENCE, ROPE, Answers, Contrasts

from hpogen.analysis.contrasts import Contrast, contrast

matplotlib.use("Agg")
from matplotlib import pyplot


def draw_tasks(
    answers: Answers, again: Answers, primary: tuple[str, str], at: str, out: Path
) -> None:
    """The primary contrast task by task, with 95 % intervals: a disc, the second block a square."""
    found = _by_task(answers, primary, at)
    later = _by_task(again, primary, at)
    order = sorted(found, key=lambda task: found[task].difference)
    figure, axes = pyplot.subplots(figsize=(7, 0.35 * len(found) + 1.2), layout="constrained")
    for y, task in enumerate(order):
        color = "grey" if answers.kin[task] else "black"
        shift = 0.15 if task in later else 0.0
        _mark(axes, y + shift, found[task], "o", color)
        if task in later:
            _mark(axes, y - shift, later[task], "s", "tab:red")
    axes.axvline(0, color="black", lw=0.5)
    axes.axvspan(-ROPE, ROPE, color="lightgrey", alpha=0.5, lw=0)
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel(f"{primary[0]} − {primary[1]}, {at} labels: points of test error")
    figure.savefig(out / "primary.png", dpi=120)


def _by_task(answers: Answers, primary: tuple[str, str], at: str) -> dict[str, Contrast]:
    first, second = (answers.of(arm, at, alone=False) for arm in primary)
    each = {task: contrast(primary, {task: first[task]}, {task: second[task]}) for task in first}
    return {task: one for task, one in each.items() if one}


def _mark(axes: Any, y: float, one: Contrast, marker: str, color: str) -> None:
    if one.interval:
        axes.plot((one.interval.low, one.interval.high), (y, y), color=color, lw=1)
    axes.plot(one.difference, y, marker, color=color, ms=4)


def draw_arms(answers: Answers, against: Contrasts, out: Path) -> None:
    """Each arm's difference from the reference, by labels, with 95 % intervals."""
    labels = answers.labels()
    arms = [*dict.fromkeys(arm for arm, _ in against)][::-1]
    figure, panels = pyplot.subplots(
        1,
        len(labels),
        sharex=True,
        sharey=True,
        squeeze=False,
        figsize=(2.4 * len(labels) + 2, 0.3 * len(arms) + 1.2),
        layout="constrained",
    )
    for axes, n in zip(panels[0], labels, strict=True):
        for y, arm in enumerate(arms):
            if (one := against.get((arm, n))) is None:
                continue
            if one.interval:
                axes.plot((one.interval.low, one.interval.high), (y, y), color="black", lw=1)
            fill = "white" if arm == ORACLE else "black"
            axes.plot(one.difference, y, "o", mfc=fill, color="black", ms=5)
        axes.axvline(0, color="black", lw=0.5)
        axes.axvspan(-ROPE, ROPE, color="lightgrey", alpha=0.5, lw=0)
        axes.set_title(f"{n} labels", fontsize=10)
    panels[0][0].set_yticks(range(len(arms)), arms)
    figure.supxlabel(f"points of test error beside {REFERENCE}", fontsize=10)
    figure.savefig(out / "arms.png", dpi=120)
