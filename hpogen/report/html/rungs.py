"""Who was promoted, and rightly? The ranks of configurations from rung to rung."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scipy import stats

from hpogen.report.html.blocks import Figure, Part, section, single
from hpogen.report.html.drawing import MUTED, arm_colour, log_ticks, picture
from hpogen.report.html.material import ArmOfTask, TaskMaterial
from hpogen.report.html.scores import scored
from hpogen.report.text import count
from hpogen.selection import candidates
from hpogen.study.read import Folder
from hpogen.trial import canonical

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Ranks = dict[str, dict[int, float]]  # by configuration and budget


def rungs(task: TaskMaterial) -> Part:
    """Only of studies with several budgets."""
    return section(
        "rungs",
        "Who was promoted",
        "Was the right one promoted: do configurations keep their rank when they train longer?",
        map(_figure, task.panels),
        [task.unpaneled],
        remedy="one budget, no rungs: a searcher with budgets (asha, hyperband, bohb) has them",
    )


def ranks(study: Folder) -> Ranks:
    """Each configuration's rank by score among the trials of a budget, 0 the best and 1 the worst.

    Failed trials have none.
    """
    found: Ranks = {}
    for budget in study.spec.budgets:
        records = candidates(study.history, budget)
        order = stats.rankdata(scored(study, records), method="average") if records else []
        for record, rank in zip(records, order, strict=True):
            share = (float(rank) - 1) / max(len(records) - 1, 1)
            found.setdefault(canonical(record.trial.config), {})[budget] = share
    return found


def _figure(arm: ArmOfTask) -> Figure | None:
    study = arm.first
    budgets = list(study.spec.budgets)
    found = ranks(study)
    if len(budgets) < 2 or not any(len(own) > 1 for own in found.values()):
        return None

    def draw(axes: Axes) -> None:
        for own in found.values():
            colour = arm_colour(arm.number) if len(own) > 1 else MUTED
            axes.plot([*own], [*own.values()], ".-", color=colour, linewidth=1.1, markersize=5)
        log_ticks(axes, budgets)
        axes.set_yticks([0, 0.5, 1], ["best", "middle", "worst"])
        axes.set_ylim(1.05, -0.05)
        axes.set_xlabel("budget (epochs)")
        axes.set_ylabel("rank within the budget")

    promoted = sum(len(own) > 1 for own in found.values())
    caption = [
        f"Search seed {study.seed}: {count(len(found), 'configuration')}, {promoted} of them "
        "promoted (lines); dots alone were not",
        "ranks by score among all that reached the budget; no interval",
    ]
    return single(picture(draw, f"ranks by budget, {arm.label}"), caption, arm.label, arm.number)
