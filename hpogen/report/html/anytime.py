"""The anytime curves: how good an arm's answer is after so many epochs or seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hpogen.analysis.trajectory import Axis, Curve
from hpogen.report.html.blocks import Figure, Part, section, sentences
from hpogen.report.html.coinciding import coinciding
from hpogen.report.html.drawing import (
    INK,
    MARKS,
    Picture,
    arm_colour,
    arm_mark,
    broken,
    label_ends,
    picture,
)
from hpogen.report.html.material import ArmOfTask, TaskMaterial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (5.0, 3.4)
LINE, BASELINE_LINES = 0.21, 4  # inches that a line of a label at the right needs
LABELS = {"epochs": "epochs charged", "seconds": "seconds of training, one trial after another"}

Drawn = tuple[ArmOfTask, Curve]


def anytime(task: TaskMaterial) -> Part:
    """Which arm is better, from when on?"""
    return section(
        "anytime",
        "From when on",
        "Which arm is better, and from when on?",
        [_figure(task)],
        [task.unpaneled],
        remedy=f"needs a finished trial with audit figures ({task.audit_key})",
    )


def _figure(task: TaskMaterial) -> Figure | None:
    """A pane against epochs, and one against seconds where they are known."""
    panes: list[tuple[str, Picture]] = []
    seeds: set[int] = set()
    for axis in LABELS:
        curves = [(arm, c) for arm in task.panels if (c := _curve(arm, axis)) is not None]
        if curves:
            panes.append((axis, _picture(task, curves, axis)))
            seeds |= {c.seeds for _, c in curves}
    if not panes:
        return None
    n = " to ".join(map(str, sorted({min(seeds), max(seeds)})))
    drawn = [(arm, c) for arm in task.panels if (c := _curve(arm, panes[0][0])) is not None]
    caption = [
        f"Lines: median {task.of} of the answer so far, over search seeds (n = {n})",
        "shaded: quartiles over them" if max(seeds) > 1 else "one search seed: no interval",
        "dashed: the best of all trials so far, which nobody can choose",
        "dotted: the baseline",
        *_coinciding(drawn, LABELS[panes[0][0]]),
        "y begins where the data do, and errors of the first answers may lie above",
    ]
    return Figure(tuple(panes), sentences(caption), wide=True)


def _coinciding(curves: Sequence[Drawn], unit: str) -> Iterator[str]:
    """Which arms' lines, and which of the dashed ones, lie on one another."""
    end = max(c.x[-1] for _, c in curves)
    for name in ("median", "oracle"):
        lines = []
        for arm, c in curves:
            y = getattr(c, name)
            x, ys = np.array([*c.x, end]), np.array([*y, y[-1]])
            lines.append((arm.label, x, ys))
        text = coinciding(lines, unit, _height(curves))
        yield f"the dashed lines of {text}" if text and name == "oracle" else text


def _height(curves: Sequence[Drawn]) -> float:
    lines = sum(len(broken(arm.label)) for arm, _ in curves) + BASELINE_LINES
    return max(SIZE[1], LINE * lines)


def _curve(arm: ArmOfTask, axis: Axis | str) -> Curve | None:
    curves = arm.row.curves if arm.row else ()
    return next((c for c in curves if c.axis == axis and c.x), None)


def _picture(task: TaskMaterial, curves: Sequence[Drawn], axis: str) -> Picture:
    end = max(c.x[-1] for _, c in curves)
    size = (SIZE[0], _height(curves))

    def draw(axes: Axes) -> None:
        for arm, c in curves:
            _draw_arm(task, axes, c, arm.number, end)
        axes.set_ylim(*_limits(task, curves))
        axes.margins(x=0)
        ends = [
            (task.shown(c.median[-1]), f"{arm_mark(a.number)[1]} {a.label}", arm_colour(a.number))
            for a, c in curves
        ]
        label_ends(axes, ends + _draw_baselines(task, axes), size[1])
        axes.set_xlabel(LABELS[axis])
        axes.set_ylabel(f"{task.of} of the answer{task.unit}")

    return picture(draw, f"{task.of} of the answer so far against {LABELS[axis]}", size)


def _draw_arm(task: TaskMaterial, axes: Axes, c: Curve, number: int, end: float) -> None:
    colour, marker = arm_colour(number), arm_mark(number)[0]
    at = (0.02 + 0.03 * (number % len(MARKS)), 0.3)  # of the axes' diagonal: marks apart
    x = [*c.x, end]  # a search that has ended keeps its answer
    median, low, high, oracle = (
        [*map(task.shown, values), task.shown(values[-1])]
        for values in (c.median, c.low, c.high, c.oracle)
    )
    axes.plot(x, median, drawstyle="steps-post", color=colour, marker=marker, markevery=at,
              markersize=5)  # fmt: skip
    axes.plot(x, oracle, drawstyle="steps-post", color=colour, linewidth=0.9, linestyle=(0, (4, 3)))
    if c.seeds > 1:
        axes.fill_between(x, low, high, step="post", color=colour, alpha=0.14, linewidth=0)


def _limits(task: TaskMaterial, curves: Sequence[Drawn]) -> tuple[float, float]:
    """Of y: of all that is drawn after the first quarter of the searches."""
    low = min(task.shown(min(min(c.low), min(c.oracle))) for _, c in curves)
    late = [
        task.shown(high)
        for _, c in curves
        for x, high in zip(c.x, c.high, strict=True)
        if x >= c.x[-1] / 4
    ]
    room = 0.06 * (max(late) - low) or 0.05 * abs(low) or 0.5
    return low - room, max(late) + room


def _draw_baselines(task: TaskMaterial, axes: Axes) -> list[tuple[float, str, str]]:
    """As lines across, where they are inside; the labels of their ends."""
    found = [
        (y.label, y.truth.mean)
        for y in task.table.yardsticks
        if y.kind == "baseline" and y.truth is not None
    ]
    low, high = axes.get_ylim()
    above = [f"{label}: {task.said(x)}" for label, x in found if task.shown(x) > high]
    if above:
        axes.text(0.99, 0.985, f"above: {', '.join(above)}", transform=axes.transAxes, ha="right",
                  va="top", fontsize=8.5)  # fmt: skip
    inside = [(task.shown(x), label, INK) for label, x in found if low <= task.shown(x) <= high]
    for value, _, colour in inside:
        axes.axhline(value, color=colour, linewidth=1, linestyle=":")
    return inside
