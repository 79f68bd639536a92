"""What matters in the search space: importances, slices, parallel coordinates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hpogen.analysis.importance import FOLDS, Importance, importance
from hpogen.analysis.statistics import Array
from hpogen.report.html.blocks import Figure, Part, section, single
from hpogen.report.html.drawing import (
    GRID,
    INK,
    MUTED,
    arm_colour,
    cut,
    log_axis,
    picture,
    pictures,
    points,
    ring,
    thinned,
)
from hpogen.report.html.material import ArmOfTask, TaskMaterial
from hpogen.report.html.scores import scored
from hpogen.report.text import count, percent, value, words
from hpogen.space import Space
from hpogen.space.parameters import Choice, Number, height
from hpogen.trial import Config

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE = "Which hyper-parameters matter"
PARALLEL = "The best fifth"
MOST_LINES = 240
TOO_LITTLE = 0.1  # of the variance
MOST_SLICES = 8  # parameters of an arm

Scored = tuple[list[Config], list[float], list[str]]  # with the trials' keys


def hyperparameters(task: TaskMaterial) -> list[Part]:
    """Importances with slices, then parallel coordinates."""
    slices: list[Figure | None] = []
    lines: list[Figure] = []
    for arm in task.panels:
        searches = _searches(arm)
        configs = [config for own, _, _ in searches for config in own]
        scores = np.array([x for _, own, _ in searches for x in own], dtype=np.float64)
        keys = [key for _, _, own in searches for key in own]
        if len(configs) < 3:
            continue
        space = arm.first.spec.space
        known = importance(space, [(own, found) for own, found, _ in searches])
        slices += [_bars(arm, known), _slices(arm, configs, scores, keys)]
        lines.append(_parallel(arm, space, configs, scores))
    needs = "needs three finished trials of the largest budget"
    of_space = "What matters for the score, and where is it low?"
    of_best = "Which values do the best trials have in common?"
    notes = [task.unpaneled]
    return [
        section("space", TITLE, of_space, slices, notes, remedy=needs),
        section("parallel", PARALLEL, of_best, lines, notes, remedy=needs),
    ]


def _searches(arm: ArmOfTask) -> list[Scored]:
    """Configurations, finite scores and keys of the largest budget, by search seed."""
    found = []
    for study in arm.studies:
        records = study.finished
        trials = [
            (record.trial.config, score, arm.key(study, record.trial.id))
            for record, score in zip(records, scored(study, records), strict=True)
            if np.isfinite(score)
        ]
        found.append(
            ([c for c, _, _ in trials], [s for _, s, _ in trials], [k for *_, k in trials])
        )
    return found


def _bars(arm: ArmOfTask, found: Importance | None) -> Figure | None:
    if found is None:
        return None
    rows = found.parameters[::-1]

    def draw(axes: Axes) -> None:
        means, sds = [one.mean for one in rows], [one.sd for one in rows]
        axes.barh(range(len(rows)), means, color=arm_colour(arm.number), height=0.55)
        axes.errorbar(means, range(len(rows)), xerr=sds, fmt="none", ecolor=INK, elinewidth=1)
        axes.set_yticks(range(len(rows)), [words(one.parameter) for one in rows])
        axes.set_xlim(left=min(0.0, *means))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("R² lost when its values are shuffled")

    caption = [
        f"Permutation importance of a random forest (scikit-learn) that predicts the rank of "
        f"the score from {count(found.trials, 'trial')} of {arm.over}",
        f"mean ± sd over {FOLDS} folds",
        f"the forest explains {percent(max(found.r2, 0.0))} of the variance of unseen trials"
        + ("" if found.r2 >= TOO_LITTLE else ": too little to say what matters"),
        "" if arm.sampled else "the searcher chose these trials: they are no sample of the space",
    ]
    svg = picture(draw, f"importances of {arm.label}", (4.6, 0.85 + 0.34 * len(rows)))
    return single(svg, caption, arm.label, arm.number)


def _slices(arm: ArmOfTask, configs: list[Config], scores: Array, keys: list[str]) -> Figure:
    space = arm.first.spec.space
    names = [name for name in space.names if any(name in config for config in configs)]
    limits = cut(scores)
    top = limits and limits[1]
    chosen = [given.config for given in (arm.row.answers if arm.row else ())]
    draws: list[Callable[[Axes], None]] = [
        partial(
            _slice,
            arm=arm,
            name=name,
            configs=configs,
            scores=scores,
            keys=keys,
            top=top,
            chosen=chosen,
        )
        for name in names[:MOST_SLICES]
    ]
    rows = -(-len(draws) // 2)
    svg = pictures(draws, f"slices of {arm.label}", (4.6, 1.75 * rows + 0.2), 2, sharey=True)
    beyond = 0 if top is None else int((scores > top).sum())
    caption = [
        f"Each of {count(len(scores), 'trial')} of {arm.over}: parameter against score, "
        f"{arm.first.spec.objective.score_label} (lower is better)",
        "ringed: chosen",
        thinned(len(scores)),
        f"{count(beyond, 'trial')} of higher scores lie above" if beyond else "",
    ]
    return single(svg, caption, f"{arm.label}: slices", arm.number)


def _slice(
    axes: Axes,
    *,
    arm: ArmOfTask,
    name: str,
    configs: list[Config],
    scores: Array,
    keys: list[str],
    top: float | None,
    chosen: list[Config],
) -> None:
    parameter = arm.first.spec.space.parameters[name]
    known = [i for i, config in enumerate(configs) if name in config]
    x: Any = [configs[i][name] for i in known]
    y = scores[known]
    of = [keys[i] for i in known]
    least = float(scores.min())
    high = float(scores.max()) if top is None else top
    room = 0.05 * (high - least) or 0.5
    axes.set_ylim(least - room, high + room)
    if isinstance(parameter, Number):
        points(axes, np.asarray(x, dtype=np.float64), y, arm_colour(arm.number), of, size=2.6)
        if parameter.log:
            log_axis(axes, "x", parameter.low, parameter.high)
        for config in chosen:
            if ours := [i for i in known if configs[i] == config]:
                ring(axes, x[known.index(ours[0])], float(scores[ours].min()), 6.5)
    else:
        ordered = isinstance(parameter, Choice) and parameter.ordered
        seen = sorted(x, key=partial(height, parameter)) if ordered else x
        values = list(dict.fromkeys(map(value, seen)))
        at = np.array([values.index(value(v)) for v in x], dtype=np.float64)
        jitter = np.random.default_rng(0).uniform(-0.2, 0.2, len(at))
        points(axes, at + jitter, y, arm_colour(arm.number), of, size=2.6)
        axes.set_xticks(range(len(values)), values)
    axes.set_xlabel(words(name))


def _parallel(arm: ArmOfTask, space: Space, configs: list[Config], scores: Array) -> Figure:
    names = [name for name in space.names if all(name in config for config in configs)]
    left_out = ", ".join(words(name) for name in space.names if name not in names)
    order = np.argsort(scores, kind="stable")
    best = order[: max(1, len(order) // 5)]
    rest = order[len(best) :]
    shown = min(len(best), MOST_LINES // 3), min(len(rest), MOST_LINES - MOST_LINES // 3)
    if len(rest) > shown[1]:
        rest = np.random.default_rng(0).choice(rest, shown[1], replace=False)

    def draw(axes: Axes) -> None:
        for i in rest:
            axes.plot(_heights(space, names, configs[i]), color=GRID, linewidth=0.8)
        for i in best[: shown[0]][::-1]:
            heights = _heights(space, names, configs[i])
            axes.plot(heights, color=arm_colour(arm.number), linewidth=0.9, alpha=0.7)
        axes.plot(_heights(space, names, configs[best[0]]), color=INK, linewidth=1.8)
        for x in range(len(names)):
            axes.axvline(x, color=MUTED, linewidth=0.8)
        axes.set_xticks(range(len(names)), [_ends(space, name) for name in names], fontsize=8.5)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.margins(x=0.06)

    caption = [
        f"{sum(shown):,} of {count(len(configs), 'trial')} of {arm.over}; coloured: the best "
        "fifth by score, black: the best, grey: the others",
        "each axis is a parameter's range, bottom to top, logarithmic where the space is",
        f"left out, as not all trials have them: {left_out}" if left_out else "",
    ]
    svg = picture(draw, f"parallel coordinates of {arm.label}")
    return single(svg, caption, arm.label, arm.number)


def _heights(space: Space, names: list[str], config: Config) -> list[float]:
    """Of a configuration on each parameter's axis, from 0 to 1."""
    return [height(space.parameters[name], config[name]) for name in names]


def _ends(space: Space, name: str) -> str:
    parameter = space.parameters[name]
    if isinstance(parameter, Number):
        return f"{words(name)}\n{value(parameter.low)} –\n{value(parameter.high)}"
    return words(name)
