"""How sensitive the choice is: to α, and to the number of validation labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hpogen.analysis.rescoring import Rescoring, rescore
from hpogen.analysis.statistics import Array
from hpogen.errors import UserError
from hpogen.report.html.blocks import Figure, Missing, Part, section, single
from hpogen.report.html.coinciding import Line, coinciding
from hpogen.report.html.drawing import INK, MUTED, arm_colour, log_axis, log_ticks, picture
from hpogen.report.html.material import ArmOfTask, TaskMaterial
from hpogen.study.read import Folder
from hpogen.study.standing import alpha

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALPHA, LABELS = "How sensitive to α", "With fewer labels"
SIZES = (25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000)  # validation images
WORK = 60_000_000  # losses looked at for a size, over all of its sub-samples
LEAST, MOST = 5, 100  # sub-samples

ADAPTIVE = (
    "Only the selection is compared: a searcher that learns proposed these trials for its own "
    "objective."
)


def choosing(task: TaskMaterial) -> list[Part]:
    """Both sections, from one `rescore` of every study."""
    if task.truth is None:
        needs = f"needs a finished trial with audit figures ({task.audit_key})"
        return [Missing(ALPHA, needs), Missing(LABELS, needs)]
    found = {arm.label: [*filter(None, map(_rescored, arm.studies))] for arm in task.panels}
    adaptive = any(one.adaptive for several in found.values() for one in several)
    notes = [task.unpaneled, ADAPTIVE if adaptive else ""]
    return [
        section(
            "alpha",
            ALPHA,
            "How sensitive is the choice to the weight of the measure?",
            [_alpha(task, arm, found[arm.label]) for arm in task.panels],
            notes,
            remedy="no arm's objective has a measure: hpogen rescore DIR --objective agn+val",
        ),
        section(
            "labels",
            LABELS,
            "From how few validation labels on does a measure pay?",
            [_labels(task, arm, found[arm.label]) for arm in task.panels],
            notes,
            remedy="needs an arm that looks at more than the validation loss, and per-sample "
            "validation losses, which hpogen run keeps of each trial",
        ),
    ]


def _rescored(study: Folder) -> Rescoring | None:
    """With as many sub-samples of labels as a report can wait for."""
    try:
        plain = rescore(study)
        images = plain.validation_images or 0
        affordable = WORK // (plain.trials * max(images, 200))
        sizes = [size for size in SIZES if size < images / 1.5] + ([images] if images else [])
        if not sizes or plain.validation == plain.own:
            return plain
        subsamples = min(max(affordable, LEAST), MOST)
        return rescore(study, validation=sizes, subsamples=subsamples)
    except UserError:
        return None


def _alpha(task: TaskMaterial, arm: ArmOfTask, found: Sequence[Rescoring]) -> Figure | None:
    known = [one for one in found if one.alphas and one.judged_by]
    if not known:
        return None
    alphas = [at.alpha for at in known[0].alphas if at.alpha > 0]
    truths = np.array(
        [[task.shown(at.choice.held_out) for at in one.alphas if at.alpha > 0] for one in known]
    )
    alone = [task.shown(one.validation.held_out) for one in known if one.validation]
    own = _own_alpha(arm.first)
    colour = arm_colour(arm.number)

    def draw(axes: Axes) -> None:
        axes.plot(alphas, np.median(truths, 0), ".-", color=colour)
        if len(known) > 1:
            low, high = np.quantile(truths, [0.25, 0.75], axis=0)
            axes.fill_between(alphas, low, high, color=colour, alpha=0.14, linewidth=0)
        if alone:
            axes.axhline(float(np.median(alone)), color=INK, linewidth=1, linestyle="--")
            axes.annotate("validation loss alone", (0.01, float(np.median(alone))),
                          xycoords=("axes fraction", "data"), xytext=(0, 3),
                          textcoords="offset points", fontsize=8.5)  # fmt: skip
        if own:
            axes.axvline(own, color=MUTED, linewidth=1, linestyle=":")
        log_axis(axes, "x", alphas[0], alphas[-1])
        axes.set_xlabel(f"α of {known[0].weighed.partition(' (')[0]}")
        axes.set_ylabel(f"{task.of} of the choice{task.unit}")

    n = len(known)
    caption = [
        f"Of {'one search' if n == 1 else f'{n} search seeds: median and quartiles'}",
        "dotted: the study's own α" if own else "",
        "dashed: what validation loss alone would have chosen (median)" if alone else "",
        coinciding(_beside(alphas, truths, alone), "α"),
        "y begins where the data do",
    ]
    return single(picture(draw, f"α against {task.of}"), caption, arm.label, arm.number)


def _beside(alphas: Sequence[float], truths: Array, alone: Sequence[float]) -> list[Line]:
    """The line of the choices, and the one across."""
    lines = [("the line", np.array(alphas), np.median(truths, 0))]
    if alone:
        lines.append(("the dashed one", np.array(alphas), np.full(len(alphas), np.median(alone))))
    return lines


def _own_alpha(study: Folder) -> float:
    objective = study.spec.record()["objective"]
    given = objective.get("alpha")
    return (alpha(study) if isinstance(given, str) else given) or 0.0


def _labels(task: TaskMaterial, arm: ArmOfTask, found: Sequence[Rescoring]) -> Figure | None:
    known = [one for one in found if one.labels and one.judged_by and one.validation]
    known = [one for one in known if {row.rule for row in one.labels} >= {one.own.rule}]
    if not known:
        return None
    sizes = sorted(set.intersection(*({row.images for row in one.labels} for one in known)))
    lines = {"own": arm_colour(arm.number), "validation": INK}

    def draw(axes: Axes) -> None:
        for line, colour in lines.items():
            rows = np.array([_row(task, one, line, sizes) for one in known])  # (n, 3, sizes)
            middle, low, high = rows.mean(0)
            style = "-" if line == "own" else "--"
            axes.plot(sizes, middle, marker=".", linestyle=style, color=colour)
            axes.fill_between(sizes, low, high, color=colour, alpha=0.10, linewidth=0)
        log_ticks(axes, sizes)
        axes.set_xlabel("validation labels")
        axes.set_ylabel(f"{task.of} of the choice{task.unit}")

    means = np.array([[_row(task, one, line, sizes)[0] for one in known] for line in lines])
    both = [
        (name, np.array(sizes, float), y)
        for name, y in zip(("solid", "dashed"), means.mean(1), strict=True)
    ]
    most = max(row.subsamples for one in known for row in one.labels)
    n = len(known)
    caption = [
        f"Solid: {arm.first.spec.objective.label}, dashed: validation loss alone",
        f"means over {most} random sub-samples of the labels"
        + (f" and {n} search seeds" if n > 1 else ""),
        "shaded: the middle 95 % of the sub-samples",
        coinciding(both, "labels"),
        "y begins where the data do",
    ]
    svg = picture(draw, f"validation labels against {task.of}")
    return single(svg, caption, arm.label, arm.number)


def _row(task: TaskMaterial, one: Rescoring, line: str, sizes: Sequence[int]) -> list[list[float]]:
    """Means, lower and upper bounds of a rule by size."""
    rule = one.own.rule if line == "own" else one.validation.rule if one.validation else ""
    rows = {row.images: row for row in one.labels if row.rule == rule}
    bounds = [rows[size].interval for size in sizes]
    return [
        [task.shown(rows[size].held_out) for size in sizes],
        [task.shown(b.low if b else None) for b in bounds],
        [task.shown(b.high if b else None) for b in bounds],
    ]
