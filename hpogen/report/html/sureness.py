"""How sure the answer is: its error with an interval, who has looked, the race, and more data."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from hpogen.analysis.outlook import Outlook, Seen, outlook
from hpogen.report import race
from hpogen.report.figure import by_text, figure_text, looks_text, optimism_text, value_text
from hpogen.report.html.blocks import Figure, Missing, Part, Section, render, single
from hpogen.report.html.drawing import INK, MUTED, arm_colour, log_axis, picture, points
from hpogen.report.html.material import ArmOfTask, TaskMaterial
from hpogen.report.outlook import name, predicted, sentences
from hpogen.report.text import count, share
from hpogen.study.finalists import begun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "How sure is the answer?"
SEVERAL = (
    "Of each arm's lowest search seed: what the others' answers are worth stands in the cards."
)
Line = tuple[str, str]


def sureness(task: TaskMaterial) -> Part:
    """What can be said of each arm's answer beside its mean, and a picture of more data."""
    found = [(arm, outlook(arm.first)) for arm in task.panels if arm.answer(arm.first)]
    if not found:
        return Missing(TITLE, "needs a finished trial of the largest budget")
    told = [
        {"label": arm.label, "colour": arm.number, "lines": [*_lines(arm, seen)]}
        for arm, seen in found
    ]
    several = any(len(arm.studies) > 1 for arm, _ in found)
    notes = [SEVERAL if several else "", task.unpaneled]
    return Section(
        "sureness",
        TITLE,
        "How far may the answer's figure be off, and does the answer stay the best on more data?",
        tuple(_picture(arm, seen) for arm, seen in found if seen and not seen.lacking),
        render("sureness.html.j2", arms_told=told),
        tuple(filter(None, notes)),
    )


def _lines(arm: ArmOfTask, seen: Outlook | None) -> Iterator[Line]:
    study, answer = arm.first, arm.answer(arm.first)
    if answer is not None and not isinstance(answer.figure, str):
        worth = answer.figure
        yield worth.what, f"{value_text(worth)}, by {by_text(worth)}"
        if worth.validation is not None:
            yield "optimism", optimism_text(worth)
        if worth.lacking:
            yield "lacking", worth.lacking
    elif answer is not None:
        yield "error", figure_text(answer.figure)
    if looks := study.history.looks:
        said = looks_text(looks) or f"audit figures have been looked at {count(looks, 'time')}"
        yield "looks", said
    if (final := begun(study)) is not None:
        yield "race", " ".join(f"{text}." for text in race.sentences(final))
    if seen is not None:
        yield "more data", " ".join([*_outcomes(seen), *sentences(seen)])


def _outcomes(seen: Outlook) -> Iterator[str]:
    for one in seen.seen:
        if one.prediction:
            yield (
                f"At {share(seen.data)} of the training set {name(one)} is predicted a validation "
                f"loss of {predicted(one.prediction)}."
            )


def _picture(arm: ArmOfTask, seen: Outlook) -> Figure:
    """The losses of the first two against the share of the data, and where they are predicted."""
    drawn = [*zip(seen.seen[:2], (arm_colour(arm.number), INK), ("-", "--"), strict=False)]
    ticks = [*seen.sizes, seen.data]

    def draw(axes: Axes) -> None:
        for (one, colour, style), shift in zip(drawn, (0.97, 1.03), strict=False):
            _draw(axes, arm, one, colour, style, seen.data * shift)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{100 * x:.3g}" for x in ticks], minor=False)
        axes.set_xticks([], minor=True)
        log_axis(axes, "y", *axes.get_ylim())
        axes.set_xlabel("% of the training set")
        axes.set_ylabel("validation loss")

    styles = ("solid", "dashed")
    who = [f"{style} {name(one)}" for (one, _, _), style in zip(drawn, styles, strict=False)]
    caption = [
        f"{' and '.join(who)}: a point per training, lines through their means".capitalize(),
        f"bars: the predicted loss with its 95 % interval, from {count(seen.curves, 'curve')}",
        "both axes are logarithmic",
    ]
    svg = picture(draw, f"validation loss against the training set of {arm.label}")
    return single(svg, caption, arm.label, arm.number)


def _draw(axes: Axes, arm: ArmOfTask, one: Seen, colour: str, style: str, at: float) -> None:
    losses = {x: own for x in one.sized.runs if (own := one.sized.losses(x))}
    pairs = [(x, loss) for x, own in losses.items() for loss in own]
    x, y = (np.array(column, float) for column in zip(*pairs, strict=True))
    points(axes, x, y, colour, [arm.key(arm.first, one.sized.trial)] * len(x))
    axes.plot([*losses], [fmean(own) for own in losses.values()], style, color=colour, linewidth=1)
    if one.prediction is not None:
        low, high = one.prediction.interval.low, one.prediction.interval.high
        axes.plot([at, at], [low, high], color=colour, linewidth=4, alpha=0.35)
        axes.plot([at], [one.prediction.loss], "_", color=colour, markersize=12)
        ends = [max(losses), at], [fmean(losses[max(losses)]), one.prediction.loss]
        axes.plot(*ends, ":", color=MUTED, linewidth=1)
