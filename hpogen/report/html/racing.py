"""Whether the order of the best trials holds on more data, and how their race went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from hpogen.report.html.blocks import Figure, Missing, Part, section, single
from hpogen.report.html.drawing import INK, MUTED, arm_colour, picture, points, ring
from hpogen.report.html.material import ArmOfTask, TaskMaterial
from hpogen.report.race import fault, sentences
from hpogen.report.text import rung
from hpogen.study.finalists import Final, final
from hpogen.study.read import Folder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Does the order hold on more data?"
Race = tuple[Folder, Final]


def racing(task: TaskMaterial) -> Part:
    """Of each arm with finalists rank against rank, and the race of its first search seed."""
    if not any(arm.first.spec.finalists for arm in task.arms):
        return Missing(
            TITLE, "needs studies with finalists (finalists: {}), trained again at their end"
        )
    found = [(arm, _races(arm)) for arm in task.panels]
    figures = [make(arm, races) for arm, races in found for make in (_ranks, _race) if races]
    return section(
        "finalists",
        TITLE,
        "The best trials of the search were trained again: is the best of them still the best?",
        figures,
        [task.unpaneled],
        remedy="no race of finalists has come to the end of its first round",
    )


def _races(arm: ArmOfTask) -> list[Race]:
    """Those of its search seeds that have begun, with something to be drawn."""
    found = [(study, final(study)) for study in arm.studies]
    return [(study, race) for study, race in found if race is not None and race.order()]


def _ranks(arm: ArmOfTask, races: Sequence[Race]) -> Figure:
    before: list[int] = []
    after: list[int] = []
    keys: list[str] = []
    won: list[tuple[int, int]] = []
    correlations = []
    for study, race in races:
        numbered = [(i, f) for i, f in enumerate(race.finalists, 1) if f in race.order()]
        means = [f.mean or 0.0 for _, f in numbered]
        ranks = stats.rankdata(means, method="ordinal").tolist()
        before += [i for i, _ in numbered]
        after += ranks
        keys += [arm.key(study, f.record.trial.id) for _, f in numbered]
        won += [(i, r) for (i, f), r in zip(numbered, ranks, strict=True) if f is race.leader]
        if len(ranks) > 2:
            correlations.append(float(stats.kendalltau([i for i, _ in numbered], ranks).statistic))

    def draw(axes: Axes) -> None:
        points(axes, np.array(before, float), np.array(after, float), arm_colour(arm.number), keys)
        for x, y in won:
            ring(axes, x, y)
        ends = [1, max(*before, *after)]
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=":")
        axes.set_xticks(range(1, ends[1] + 1))
        axes.set_yticks(range(1, ends[1] + 1))
        axes.set_xlabel("rank in the search (1 is best)")
        axes.set_ylabel("rank of the mean as finalist")

    caption = [
        f"Finalists of {arm.over}",
        f"trained again: {rung(arm.first.spec.final_rung)}",
        "ringed: leads or has won",
        "dotted: the order holds",
        f"Kendall's τ {np.mean(correlations):.2f} on average" if correlations else "",
        "those that failed or did worse on more data are not drawn",
    ]
    svg = picture(draw, f"rank in the search against rank as finalist of {arm.label}")
    return single(svg, caption, arm.label, arm.number)


def _race(arm: ArmOfTask, races: Sequence[Race]) -> Figure:
    study, race = races[0]
    order = race.order()
    names = [f"trial {finalist.record.trial.id}" for finalist in order]
    colour = arm_colour(arm.number)
    gaps = {**race.standing.behind, **race.standing.out} if race.standing else {}
    by_finalist = {id(race.finalists[i]): gap for i, gap in gaps.items() if gap}
    leader = race.leader.mean if race.leader else None

    def draw(axes: Axes) -> None:
        for row, finalist in enumerate(order):
            outcomes = [run.outcome for run in finalist.runs if run.outcome]
            losses = np.array([outcome.metrics["val_loss"] for outcome in outcomes])
            keys = [arm.key(study, run.trial.id) for run in finalist.runs]
            gap = by_finalist.get(id(finalist))
            if gap is not None and leader is not None:
                ends = [leader + gap.low, leader + gap.high]
                axes.plot(ends, [row, row], color=colour, linewidth=5, alpha=0.25)
            axes.plot([finalist.mean or 0.0], [row], "|", color=INK, markersize=14)
            points(axes, losses, np.full(len(losses), float(row)), colour, keys)
        if leader is not None:
            axes.axvline(leader, color=MUTED, linewidth=1, linestyle=":")
        axes.set_yticks(range(len(order)), names)
        axes.set_ylim(len(order) - 0.5, -0.5)
        axes.set_xlabel("validation loss as finalist")

    out = [f"trial {f.record.trial.id} {fault(f)}" for f in race.finalists if f.fault]
    caption = [
        f"Search seed {study.seed}: a point per seed, a stroke at the mean, dotted the leader's",
        "bands: where the mean would lie by the interval of its difference from the leader's; one "
        "that touches the dotted line is not separable from it",
        *out,
        next(sentences(race), ""),
    ]
    return single(
        picture(draw, f"the race of the finalists of {arm.label}"), caption, arm.label, arm.number
    )
