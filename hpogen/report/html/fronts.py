"""The Pareto front: which trials no other dominates, and how large the front became."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hpogen.analysis.fronts import volumes
from hpogen.analysis.truth import held_out
from hpogen.objective import score_name
from hpogen.report.html.blocks import Figure, Part, section, single
from hpogen.report.html.drawing import MUTED, arm_colour, arm_mark, label_ends, picture, ring
from hpogen.report.html.material import ArmOfTask, TaskMaterial
from hpogen.report.text import count, number
from hpogen.selection import candidates
from hpogen.study.standing import front_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEIGHT = 3.2  # inches


def fronts(task: TaskMaterial) -> list[Part]:
    """Of each arm with several scores its trials; of all of them the hypervolume."""
    searched = [arm for arm in task.panels if arm.first.spec.objective.pareto]
    if not searched:
        return []
    found = section(
        "front",
        "Which trials does no other dominate?",
        "The scores are not added up: what does a better one cost in the other, and is the error "
        "on what no search has seen small somewhere on the front?",
        [*(_front(task, arm) for arm in searched), _volumes(task)],
        [task.unpaneled],
        remedy="no trial has finished yet",
    )
    return [found]


def _front(task: TaskMaterial, arm: ArmOfTask) -> Figure | None:
    """The first two scores of the first search seed's trials, the error as colour."""
    study = arm.first
    records = candidates(study.history, study.spec.ladder[-1])
    if not records:
        return None
    names = [score_name(term) for term in study.spec.objective.terms]
    there = {record.trial.id for record in front_of(study)}
    x, y = np.array([record.scores[:2] for record in records]).T
    truth = [task.shown(held_out(record, task.truth)) for record in records]
    on = np.array([record.trial.id in there for record in records])
    given = arm.answer(study)

    def draw(axes: Axes) -> None:
        known = np.array(truth, dtype=np.float64)
        judged = np.isfinite(known).any()
        colours: Any = {"c": known, "cmap": "viridis"} if judged else {"color": MUTED}
        drawn = axes.scatter(x, y, s=np.where(on, 34, 12), alpha=0.85, **colours)
        steps = np.argsort(x[on])
        if len(names) == 2:
            axes.plot(x[on][steps], y[on][steps], drawstyle="steps-post", color=MUTED, linewidth=1)
        for record, *at in zip(records, x, y, strict=True):
            if given is not None and record.trial.id == given.trial:
                ring(axes, *at)
        if judged:
            axes.figure.colorbar(drawn, ax=axes, label=f"{task.of}{task.unit}")
        axes.set_xlabel(f"{names[0]} (lower is better)")
        axes.set_ylabel(f"{names[1]} (lower is better)")

    caption = [
        f"{count(len(records), 'trial')} of search seed {study.seed}",
        f"large: the {count(int(on.sum()), 'trial')} of the front",
        f"the colour is the {task.of}" if np.isfinite(truth).any() else "",
        f"of {len(names)} scores the first two are drawn" if len(names) > 2 else "",
        "ringed: chosen",
    ]
    about = f"{names[1]} against {names[0]} of the trials of {arm.label}"
    return single(picture(draw, about), caption, arm.label, arm.number)


def _volumes(task: TaskMaterial) -> Figure | None:
    if not task.table.volumes:
        return None
    reference = task.table.volumes[0].reference
    walks = {arm.number: (arm, volumes(arm.first, reference)) for arm in task.panels}

    def draw(axes: Axes) -> None:
        ends = []
        for arm, walk in walks.values():
            x, y = np.array([*walk, (float(arm.first.history.charged), walk[-1][1])]).T
            axes.plot(x, y, drawstyle="steps-post", color=arm_colour(arm.number))
            label = f"{arm_mark(arm.number)[1]} {arm.label}"
            ends.append((float(y[-1]), label, arm_colour(arm.number)))
        axes.margins(x=0)
        label_ends(axes, ends, HEIGHT)
        axes.set_xlabel("epochs charged")
        axes.set_ylabel("hypervolume of the front")

    point = ", ".join(map(number, reference))
    caption = ["First search seed of each arm", f"up to the reference point ({point})"]
    return single(picture(draw, "hypervolume against epochs"), caption, "Hypervolume", wide=True)
