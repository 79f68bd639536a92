"""What scores are worth: against the audit error of every trial, and from rung to rung."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hpogen.analysis.statistics import Array
from hpogen.analysis.truth import held_out
from hpogen.analysis.validity import TOP, RuleValidity
from hpogen.record.history import Record
from hpogen.report.compare_figures import average_text, correlation_text, found_text
from hpogen.report.compare_figures import points as counted_in
from hpogen.report.html.blocks import Figure, Part, section, single
from hpogen.report.html.drawing import (
    MUTED,
    arm_colour,
    cut,
    picture,
    points,
    ring,
    thinned,
)
from hpogen.report.html.material import ArmOfTask, TaskMaterial
from hpogen.report.text import WARM, count, rung_cell
from hpogen.report.text import rung as rung_text
from hpogen.selection import candidates, rescore
from hpogen.study.read import Folder
from hpogen.trial import Rung, canonical

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Ranks = dict[str, dict[Rung, float]]  # by configuration


@dataclass(frozen=True)
class Cloud:
    """The n audited trials of an arm: scores and held-out figures as axes have them."""

    scores: Array  # (n,)
    truths: Array  # (n,)
    budgets: Array  # (n,), epochs charged
    keys: NDArray[np.str_]  # (n,), see `ArmOfTask.key`
    chosen: tuple[tuple[float, float], ...]  # by search seed


def scores(task: TaskMaterial) -> Part:
    """Is the proxy worth optimising?"""
    return section(
        "scores",
        "Does the score mean anything",
        "Is the score worth optimising: does a lower one mean a lower error on what no "
        "search has seen?",
        [_figure(task, arm) for arm in task.panels],
        [task.unpaneled],
        remedy=f"needs finished trials with audit figures ({task.audit_key})",
    )


def scored(study: Folder, records: Sequence[Record]) -> list[float]:
    """The study's own scores of trials of one budget on one scale; where not defined, the told."""
    try:
        return rescore(records, study.spec.objective, study.history.locations)
    except (ValueError, KeyError):
        return [record.score for record in records]


def cloud(task: TaskMaterial, arm: ArmOfTask) -> Cloud:
    """Of all budgets and search seeds."""
    rows: list[tuple[float, float, float]] = []
    keys: list[str] = []
    chosen: list[tuple[float, float]] = []
    for study in arm.studies:
        given = arm.answer(study)
        for rung in study.spec.ladder:
            records = candidates(study.history, rung)
            for record, score in zip(records, scored(study, records), strict=True):
                truth = held_out(record, task.truth)
                if truth is None or not np.isfinite(score):
                    continue
                rows.append((score, task.shown(truth), float(study.spec.cost(rung))))
                keys.append(arm.key(study, record.trial.id))
                if given is not None and given.trial == record.trial.id:
                    chosen.append((score, task.shown(truth)))
    columns = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return Cloud(columns[0], columns[1], columns[2], np.array(keys, dtype=np.str_), tuple(chosen))


def _figure(task: TaskMaterial, arm: ArmOfTask) -> Figure | None:
    found = cloud(task, arm)
    if not len(found.scores):
        return None
    label = arm.first.spec.objective.score_label
    limits = cut(found.scores)

    def draw(axes: Axes) -> None:
        if limits is not None:
            axes.set_xlim(*limits)
        largest = found.budgets == found.budgets.max()
        for of, hollow in ((~largest, True), (largest, False)):
            keys = found.keys[of].tolist()
            points(axes, found.scores[of], found.truths[of], arm_colour(arm.number), keys,
                   hollow=hollow)  # fmt: skip
        for x, y in found.chosen:
            ring(axes, x, y)
        axes.set_xlabel(f"score, {label} (lower is better)")
        axes.set_ylabel(f"{task.of}{task.unit}")

    about = f"score against {task.of} of the trials of {arm.label}"
    caption = _caption(task, arm, found, limits and limits[1])
    return single(picture(draw, about), caption, arm.label, arm.number)


def _caption(task: TaskMaterial, arm: ArmOfTask, found: Cloud, right: float | None) -> list[str]:
    n = len(found.scores)
    beyond = 0 if right is None else int((found.scores > right).sum())
    costs = {float(arm.first.spec.cost(rung)): rung_text(rung) for rung in arm.first.spec.ladder}
    rungs = [costs[budget] for budget in sorted({*found.budgets.tolist()})]
    smaller = f"hollow: of the smaller budgets ({', '.join(rungs[:-1])}), whose "
    smaller += "scores are not to be compared with the others"
    return [
        f"{count(n, 'trial')} of {arm.over}",
        "ringed: chosen",
        smaller if len(rungs) > 1 else "",
        _validity(task, arm),
        thinned(n),
        f"{count(beyond, 'trial')} of higher scores lie to the right" if beyond else "",
        "axes begin where the data do",
    ]


def _validity(task: TaskMaterial, arm: ArmOfTask) -> str:
    """The objective's own row of the table of rules, on the trials of this arm."""
    rules: Mapping[str, Sequence[RuleValidity]] = task.table.validity_by_arm
    label = arm.first.spec.objective.score_label
    rule = next((r for r in rules.get(arm.label, ()) if r.rule == label), None)
    if rule is None:
        return ""
    parts = [f"Spearman ρ {correlation_text(rule.spearman)}"]
    shares = {k: found_text(rule, k, "chance ") for k in TOP}
    parts += [f"of the best {k} its first {k} have {text}" for k, text in shares.items() if text]
    parts.append(f"regret {average_text(rule.regret, task.of)}{counted_in(task.of)}")
    n = rule.regret.n if rule.regret else 0
    if n > 1:
        kind = ", 95 % bootstrap intervals" if n >= 5 else ", too few for an interval"
        parts.append(f"means over {n} search seeds{kind}")
    return ", ".join(parts)


def rungs(task: TaskMaterial) -> Part:
    """Only of studies with several budgets."""
    return section(
        "rungs",
        "Who was promoted",
        "Was the right one promoted: do configurations keep their rank when they train longer?",
        map(_rungs, task.panels),
        [task.unpaneled],
        remedy="one budget, no rungs: a searcher with budgets (asha, hyperband, bohb) has them",
    )


def ranks(study: Folder) -> Ranks:
    """Each configuration's rank by score among the trials of a rung, 0 the best and 1 the worst.

    Failed trials have none.
    """
    found: Ranks = {}
    for rung in study.spec.ladder:
        records = candidates(study.history, rung)
        order = stats.rankdata(scored(study, records), method="average") if records else []
        for record, rank in zip(records, order, strict=True):
            share = (float(rank) - 1) / max(len(records) - 1, 1)
            found.setdefault(canonical(record.trial.config), {})[rung] = share
    return found


def _rungs(arm: ArmOfTask) -> Figure | None:
    study = arm.first
    ladder = study.spec.ladder
    found = ranks(study)
    if len(ladder) < 2 or not any(len(own) > 1 for own in found.values()):
        return None

    def draw(axes: Axes) -> None:
        for own in found.values():
            colour = arm_colour(arm.number) if len(own) > 1 else MUTED
            at = [ladder.index(rung) for rung in own]
            axes.plot(at, [*own.values()], ".-", color=colour, linewidth=1.1, markersize=5)
        axes.set_xticks(range(len(ladder)), [rung_cell(rung) for rung in ladder])
        axes.set_yticks([0, 0.5, 1], ["best", "middle", "worst"])
        axes.set_ylim(1.05, -0.05)
        axes.set_xlabel("rung (epochs)")
        axes.set_ylabel("rank within the rung")

    promoted = sum(len(own) > 1 for own in found.values())
    caption = [
        f"Search seed {study.seed}: {count(len(found), 'configuration')}, {promoted} of them "
        "promoted (lines); dots alone were not",
        "ranks by score among all that reached the rung; no interval",
        WARM if study.spec.warm else "",
    ]
    return single(picture(draw, f"ranks by rung, {arm.label}"), caption, arm.label, arm.number)
