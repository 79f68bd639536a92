"""How trials train and what measuring costs: learning curves, and seconds per epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hpogen.analysis.answers import seconds
from hpogen.report.html.blocks import Figure, Part, section, single
from hpogen.report.html.coinciding import coinciding
from hpogen.report.html.drawing import (
    INK,
    MEASURES,
    PAPER,
    TRAINING,
    VALIDATION,
    arm_colour,
    log_axis,
    picture,
)
from hpogen.report.html.material import ArmOfTask, TaskMaterial
from hpogen.report.text import number
from hpogen.study.standing import standing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PHASES = {"train": TRAINING, "validation": VALIDATION, "measures": MEASURES}
NAMES = ("training", "validation", "measures")
LOSSES = ((("train_loss", "train_loss_online"), "solid"), (("val_loss",), "dashed"))
SMALLEST = 0.07  # share of the longest bar that a number fits into

Rows = Sequence[Mapping[str, Any]]


def curves(task: TaskMaterial) -> Part:
    """Does it train well?"""
    return section(
        "curves",
        "Learning curves",
        "Does what was chosen train well: does it still gain at the end, and does its held-out "
        "loss rise again?",
        map(_curves, task.panels),
        [task.unpaneled],
        remedy="needs an answer that was trained for more than one epoch",
    )


def _curves(arm: ArmOfTask) -> Figure | None:
    study = next((s for s in arm.studies if arm.answer(s) is not None), None)
    answer = arm.answer(study) if study is not None else None
    if study is None or answer is None:
        return None
    chosen = study.curve(answer.trial)
    if len(chosen) < 2:
        return None
    beside = standing(study).baselines
    name, baseline = next(iter(beside.items()), ("", None))
    rows = study.curve(baseline.trial.id) if baseline is not None else []
    if baseline is not None and baseline.trial.id == answer.trial:
        rows = []

    def draw(axes: Axes) -> None:
        _loss(axes, rows, INK, 1.1)
        _loss(axes, chosen, arm_colour(arm.number), 1.8)
        log_axis(axes, "y", *_range([*chosen, *rows]))
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss (log)")

    caption = [
        f"Search seed {study.seed}",
        f"coloured, thick: the chosen trial {answer.trial}",
        f"thin: the baseline {name!r}" if rows else "",
        "solid: training loss, dashed: validation loss",
        *_coinciding(chosen, rows),
        "n = 1, no interval",
        "y begins where the data do",
    ]
    return single(picture(draw, f"learning curves of {arm.label}"), caption, arm.label, arm.number)


def _coinciding(chosen: Rows, baseline: Rows) -> Iterator[str]:
    """Which of the solid lines, and of the dashed ones, lie on one another."""
    for names, look in LOSSES:
        lines = []
        for which, rows in (("the chosen one", chosen), ("the baseline", baseline)):
            if xy := [(epoch, y) for epoch, y in _points(rows, names) if y > 0]:
                x, y = np.array(xy, dtype=np.float64).T
                lines.append((which, x, y))
        if text := coinciding(lines, "epochs", scale="log"):
            yield f"{look}: {text}"


def _points(rows: Rows, names: Sequence[str]) -> list[tuple[int, float]]:
    """Epochs and values of the first of these metrics that there is."""
    known = [(row["epoch"], row["metrics"]) for row in rows]
    name = next((n for n in names if any(n in metrics for _, metrics in known)), "")
    return [(epoch, metrics[name]) for epoch, metrics in known if name in metrics]


def _loss(axes: Axes, rows: Rows, colour: str, width: float) -> None:
    for (names, _), style in zip(LOSSES, ("-", "--"), strict=True):
        if xy := _points(rows, names):
            axes.plot(*zip(*xy, strict=True), style, color=colour, linewidth=width)


def _range(rows: Rows) -> tuple[float, float]:
    """Of the positive losses."""
    names = ("train_loss", "train_loss_online", "val_loss")
    values = [row["metrics"].get(name, 0.0) for row in rows for name in names]
    positive = [x for x in values if x > 0] or [1.0]
    return min(positive), max(positive)


def time(task: TaskMaterial) -> Part:
    """What do the measures cost?"""
    found = {arm.label: _per_epoch(task, arm) for arm in task.arms}
    known = {label: times for label, times in found.items() if math.fsum(times.values())}
    return section(
        "time",
        "What measuring costs",
        "What part of an epoch do measures take?",
        [_bars(task, known) if known else None],
        remedy="needs a trained trial whose task says what took its time: images do",
    )


def _bars(task: TaskMaterial, known: Mapping[str, Mapping[str, float]]) -> Figure:
    """Of the seconds of an epoch by arm and phase."""
    labels = [*known][::-1]
    longest = max(math.fsum(times.values()) for times in known.values())
    scale, unit = (1.0, "seconds") if longest >= 1 else (1000.0, "milliseconds")

    def draw(axes: Axes) -> None:
        for y, label in enumerate(labels):
            left = 0.0
            for phase, colour in PHASES.items():
                width = scale * known[label].get(phase, 0.0)
                axes.barh(y, width, left=left, color=colour, height=0.62)
                if width > SMALLEST * scale * longest:
                    ink = INK if phase == "validation" else PAPER
                    axes.text(left + width / 2, y, number(width), ha="center", va="center",
                              color=ink, fontsize=8.5)  # fmt: skip
                left += width
        axes.set_yticks(range(len(labels)), labels)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{unit} per epoch")
        handles = [axes.barh(0, 0, color=colour) for colour in PHASES.values()]
        axes.legend(handles, NAMES, ncols=3, loc="lower left", bbox_to_anchor=(0, 1),
                    fontsize=8.5, borderaxespad=0, handlelength=1)  # fmt: skip

    n = sum(len(study.order) for arm in task.arms for study in arm.studies)
    caption = [
        f"Seconds of all trained epochs of {n:,} trials, divided by their number: no interval",
        "what trials of sibling studies took where their results were reused",
    ]
    svg = picture(draw, "seconds per epoch by arm", (5.0, 1.1 + 0.42 * len(labels)))
    return single(svg, caption, wide=True)


def _per_epoch(task: TaskMaterial, arm: ArmOfTask) -> dict[str, float]:
    sums: dict[str, float] = {}
    epochs = 0.0
    for study in arm.studies:
        for trial, times in seconds(study, task.siblings).items():
            record = study.history.records[trial]
            if times and record.outcome is not None:
                rung, trained = record.trial.rung, record.outcome.epochs or 0
                own = study.history.epochs(rung._replace(epochs=trained))
                epochs += float(study.history.cost(rung) if record.reused else own)
                for phase in PHASES:
                    sums[phase] = sums.get(phase, 0.0) + times.get(phase, 0.0)
    return {phase: total / epochs for phase, total in sums.items()} if epochs else {}
