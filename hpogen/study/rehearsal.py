"""What a study will do, before it does anything: how many configurations, trials and epochs.

`hpogen check` prints it. Nothing is trained.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from hpogen import plugins
from hpogen.spec import StudySpec
from hpogen.study.cost import Cost, cost, declared

BOUND = 0.5  # seconds of processor time that the rehearsals of one plan take, all together
COSTS = ("configurations", "evaluations", "epochs_charged", "epochs_trained")


def plan(spec: StudySpec) -> dict[str, Any]:
    """The plan and the effective spec, as data that goes through JSON.

    `configurations` are those proposed anew, `evaluations` all trials. They and the epochs are
    null where that is known only once the searcher has been asked, and asking took too long;
    `at_least` has then how far it came, and is null otherwise. `brackets` are the rungs of each,
    null for a searcher without them. How long it takes is not known: null.
    """
    return plans([spec])[0]


def plans(specs: Sequence[StudySpec]) -> list[dict[str, Any]]:
    """The plans of many studies, in the time of one: those that must cost the same are one."""
    known: dict[str, tuple[dict[str, Any], Any]] = {}
    left, found = BOUND, []
    for i, spec in enumerate(specs):
        key = _decisive(spec)
        if key not in known:
            begin = time.process_time()
            counted = cost(spec, left / (len(specs) - i))
            left -= time.process_time() - begin
            known[key] = _numbers(spec, counted), _brackets(spec)
        numbers, brackets = known[key]
        rest = {"brackets": brackets, "estimated_seconds": None, "study": spec.record()}
        found.append({"name": spec.name, **numbers, **rest})
    return found


def _decisive(spec: StudySpec) -> str:
    """What decides how much a study asks for, as JSON; another's searcher may look at its seed."""
    record = spec.record()
    keys = ["search_space", "searcher", "enqueue", "budgets", "rungs", "selection", "stop"]
    if not plugins.searchers.is_builtin(spec.searcher.name):
        keys.append("seed")
    return json.dumps([spec.budgets, *(record[key] for key in keys)])


def _numbers(spec: StudySpec, counted: Cost) -> dict[str, Any]:
    continued = counted.continued if spec.rungs == "continue" else 0
    trained = counted.charged - continued
    values = (counted.configurations, counted.evaluations, counted.charged, trained)
    numbers = dict(zip(COSTS, values, strict=True))
    if counted.whole:
        return {**numbers, "at_least": None}
    return {**dict.fromkeys(COSTS), "at_least": numbers}


def _brackets(spec: StudySpec) -> list[list[dict[str, int]]] | None:
    plan = declared(spec)
    if plan is None:
        return None
    return [[dict(vars(rung)) for rung in bracket] for bracket in plan]


def missing_data(spec: StudySpec) -> str | None:
    """Which data are not on disk yet, or None."""
    found = spec.task.missing()
    return f"{spec.where('task.dataset')}: {found}" if found else None
