"""Which measure can be trusted here: τ with gap and error, and each measure against the gap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hpogen.analysis.correlation import FEWEST, halves
from hpogen.analysis.correlation import Part as Half
from hpogen.analysis.trials import FinishedTrials, finished_trials
from hpogen.analysis.trust import MOST, Trust, flips, trust
from hpogen.errors import UserError
from hpogen.report.html.blocks import Figure, Missing, Part, section, single
from hpogen.report.html.drawing import (
    INK,
    MUTED,
    Picture,
    arm_colour,
    cut,
    picture,
    points,
    thinned,
)
from hpogen.report.html.material import ArmOfTask, TaskMaterial
from hpogen.report.text import count, words
from hpogen.study.read import Folder
from hpogen.tasks.errors import is_share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Which measure can be trusted"
GAP_TITLE = "Measure against gap"
TARGETS = {
    "audit_error": "τ with the {audit}",
    "audit_gap_error": "τ with the generalization gap ({audit} − training {error})",
}
MARKS = {"all": "o", "top": "^", "bottom": "v"}
NOT_A_MEASURE = "train_loss_online"
MOST_MEASURES = 12  # drawn against the gap
NEEDS = (
    "needs trials with audit figures ({}) and the same figures of training: "
    "train_loss and train_accuracy, say"
)


def measures(task: TaskMaterial) -> list[Part]:
    """Both sections, of the arm whose trials are a sample of the space, or of the first one."""
    arm = next((a for a in task.arms if a.sampled), task.arms[0])
    found = [(study, trials) for study in arm.studies if (trials := _trials(study)) is not None]
    if not found:
        needs = NEEDS.format(task.audit_key)
        return [Missing(TITLE, needs), Missing(GAP_TITLE, needs)]
    searches = [trials for _, trials in found]
    keys = [[arm.key(study, number) for number in trials.numbers] for study, trials in found]
    return [_forest(arm, searches), _against_gap(arm, searches, keys)]


def _trials(study: Folder) -> FinishedTrials | None:
    try:
        return finished_trials(study)
    except UserError:
        return None


def _forest(arm: ArmOfTask, searches: Sequence[FinishedTrials]) -> Part:
    found = trust(searches)
    figures = []
    error = searches[0].error
    for target, text in TARGETS.items():
        label = text.format(audit=error.on("audit"), error=error.text)
        if rows := [one for one in found if one.target == target]:
            turned = {name for name, of in flips(found) if of == target}
            svg = _forest_picture(rows, turned, label)
            figures.append(single(svg, _forest_caption(arm, searches, turned), label))
    note = (
        f"{arm.first.spec.searcher.name} chose these trials by earlier results: the coefficients "
        "describe them and say nothing of the space."
    )
    return section(
        "measures",
        TITLE,
        "Does a measure order trials as the audit does, in both halves too? The halves are by "
        "training error. +1: it rises with error or gap, −1: it falls, 0: it tells nothing.",
        figures,
        [note] if not arm.sampled else [],
        remedy="needs three finished trials with different figures",
    )


def _forest_picture(rows: Sequence[Trust], turned: set[str], label: str) -> Picture:
    of_all = {one.measure: one.tau for one in rows if one.part == "all"}
    names = sorted(of_all, key=lambda name: abs(of_all[name]))

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=MUTED, linewidth=1)
        for one in rows:
            if one.measure not in of_all:
                continue
            shift = {"all": 0.0, "top": 0.24, "bottom": -0.24}[one.part]
            y = names.index(one.measure) + shift
            whole = one.part == "all"
            if one.interval is not None:
                axes.plot([one.interval.low, one.interval.high], [y, y], color=INK, linewidth=1.4
                          if whole else 0.7)  # fmt: skip
            axes.plot([one.tau], [y], MARKS[one.part], color=INK, markersize=6 if whole else 5,
                      markerfacecolor=INK if whole else "none", markeredgewidth=0.9)  # fmt: skip
        labels = [f"{words(name)}{' ⇄' if name in turned else ''}" for name in names]
        axes.set_yticks(range(len(names)), labels)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlim(-1.05, 1.05)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("Kendall's τ-b")

    return picture(draw, label, (4.6, 0.9 + 0.32 * len(names)))


def _forest_caption(
    arm: ArmOfTask, searches: Sequence[FinishedTrials], turned: set[str]
) -> list[str]:
    n = len(searches)
    kind = "95 % bootstrap intervals over trials"
    if n > 1:
        kind = f"means over {n} search seeds, "
        kind += "95 % bootstrap intervals over them" if n >= 5 else "too few for intervals"
    elif len(searches[0]) > MOST:
        kind = f"no intervals: of more than {MOST} trials they are small"
    return [
        f"{count(sum(map(len, searches)), 'trial')} of {arm.label}",
        "● all trials, △ the better-fitted half, ▽ the worse-fitted half",
        kind,
        "⇄ the sign is not the same in all three" if turned else "",
    ]


Keys = Sequence[Sequence[str]]  # of the trials of each search


def _against_gap(arm: ArmOfTask, searches: Sequence[FinishedTrials], keys: Keys) -> Part:
    """The gradient-norm paper's Figure 3, of each measure but the losses' own figures."""
    first = arm.first.spec.objective.shown_first
    error = searches[0].error
    own = {NOT_A_MEASURE, f"train_{error.metric}"}
    names = [
        name
        for name in sorted(searches[0].metrics, key=lambda name: name not in first)
        if not name.startswith(("val_", "gap_")) and name not in own
        if all(name in trials.metrics for trials in searches)
    ]
    drawn = names[:MOST_MEASURES] if sum(map(len, searches)) >= FEWEST else []
    more = len(names) - len(drawn)
    return section(
        "gap",
        GAP_TITLE,
        "Does a measure rise with the generalization gap, among trials that fit well and among "
        "those that do not?",
        [_gap_figure(arm, searches, keys, name) for name in drawn],
        [f"{more} more measures are not drawn."] if more > 0 else [],
        remedy="needs three finished trials with a measure (task.measures)",
    )


def _gap_figure(
    arm: ArmOfTask, searches: Sequence[FinishedTrials], keys: Keys, name: str
) -> Figure:
    own = [(trials, halves(trials)[0]) for trials in searches]
    values = np.concatenate([trials.metrics[name] for trials in searches])
    limits, text = cut(values), searches[0].error.text
    scale, unit = (100, "points") if is_share(text) else (1, text)

    def draw(axes: Axes) -> None:
        if limits is not None:
            axes.set_xlim(*limits)
        colours: dict[Half, str] = {"bottom": MUTED, "top": arm_colour(arm.number)}
        for part, colour in colours.items():
            x = np.concatenate([t.metrics[name][parts[part]] for t, parts in own])
            y = [t.target("audit_gap_error")[parts[part]] for t, parts in own]
            of = [k[i] for (_, parts), k in zip(own, keys, strict=True) for i in parts[part]]
            points(axes, x, scale * np.concatenate(y), colour, of)
        axes.set_xlabel(words(name))
        axes.set_ylabel(f"generalization gap ({unit})")

    beyond = 0 if limits is None else int((values > limits[1]).sum())
    caption = [
        f"{count(len(values), 'trial')} of {arm.label}",
        "coloured: the better-fitted half by training error; grey: the other",
        f"{count(beyond, 'trial')} of larger values lie to the right" if beyond else "",
        thinned(len(values) // 2, "of each half"),
        "axes begin where the data do",
    ]
    return single(picture(draw, f"{words(name)} against the gap"), caption, words(name))
