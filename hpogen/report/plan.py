"""What a study will do, before it does anything: how many configurations, trials and epochs.

`hpogen check` prints it. The searcher is asked and told made-up scores; nothing is trained.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from hpogen import plugins
from hpogen.selection import reserve
from hpogen.selection.names import REPEATS, TOP
from hpogen.spec import StudySpec
from hpogen.trial import Proposal, canonical


def plan(spec: StudySpec) -> dict[str, Any]:
    """The plan and the effective spec, as data that goes through JSON.

    `configurations` are those proposed anew, `evaluations` all trials. `brackets` are the rungs of
    each, null for a searcher without them. How long it takes is not known: null.
    """
    proposals = _rehearse(spec)
    charged = sum(proposal.budget for proposal in proposals)
    return {
        "name": spec.name,
        "configurations": sum(p.parent is None and p.replicate == 0 for p in proposals),
        "evaluations": len(proposals),
        "epochs_charged": charged,
        "epochs_trained": charged - _continued(spec, proposals),
        "brackets": _brackets(spec),
        "estimated_seconds": None,
        "study": spec.record(),
    }


def _rehearse(spec: StudySpec) -> list[Proposal]:
    """The proposals of the whole study, one trial at a time, on random scores."""
    searcher = spec.make_searcher()
    score = random.Random(0).random
    proposals: list[Proposal] = []
    charged = 0
    kept = reserve(spec.selection)
    while spec.stop.trials is None or len(proposals) + kept < spec.stop.trials:
        proposal = searcher.ask()
        if proposal is None:
            break
        charged += proposal.budget
        if spec.stop.epochs is not None and charged + kept * spec.budgets[-1] > spec.stop.epochs:
            break
        searcher.tell(len(proposals), score())
        proposals.append(proposal)
    return proposals + _repeats(spec, proposals)


def _repeats(spec: StudySpec, proposals: list[Proposal]) -> list[Proposal]:
    """What the study asks at its end on its own account: which configurations, it does not know."""
    budget = spec.budgets[-1]
    configs = {canonical(p.config): p.config for p in proposals if p.budget == budget}
    some = list(configs.values())[:TOP] if reserve(spec.selection) else []
    return [Proposal(config, budget, replicate=r + 1) for r in range(REPEATS) for config in some]


def _continued(spec: StudySpec, proposals: list[Proposal]) -> int:
    """The epochs that need no training because a trial goes on from its parent's checkpoint."""
    if spec.rungs != "continue":
        return 0
    return sum(proposals[p.parent].budget for p in proposals if p.parent is not None)


def _brackets(spec: StudySpec) -> list[list[dict[str, int]]] | None:
    """What a searcher that goes by brackets declares by its `plan(budgets, **options)`."""
    declared = getattr(plugins.searchers.get(spec.searcher.name), "plan", None)
    if declared is None:
        return None
    brackets = declared(spec.budgets, **spec.searcher.options).brackets
    return [[dataclasses.asdict(rung) for rung in bracket] for bracket in brackets]


def missing_data(spec: StudySpec) -> str | None:
    """Which data are not on disk yet, or None; tasks of other kinds have nothing to look for."""
    look = getattr(spec.task, "missing", None)
    found = look() if look is not None else None
    return f"{spec.where('task.dataset')}: {found}" if found else None
