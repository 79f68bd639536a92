"""What a study makes of an outcome before it writes it down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import replace

from hpogen.study.read import AnyStudy
from hpogen.trial import Failure, Outcome, Trial


def checked(outcome: Outcome, trial: Trial, wanted: Set[str]) -> Outcome:
    """The outcome of a trial, of plain numbers; a failure where one of them is not finite.

    Raises ValueError where a metric that is wanted is missing.
    """
    if outcome.failure is not None:
        return replace(outcome, epochs=outcome.epochs or 0)
    missing = sorted(wanted - set(outcome.metrics))
    if missing:
        raise ValueError(f"trial {trial.id}: metric {missing[0]!r} is missing in its outcome")
    outcome = replace(
        outcome,
        metrics={name: float(value) for name, value in outcome.metrics.items()},
        audit={name: float(value) for name, value in outcome.audit.items()},
    )
    for name, value in {**outcome.metrics, **outcome.audit}.items():
        if not math.isfinite(value):
            failure = Failure("diverged", f"{name} is {value}")
            return Outcome(trial.id, {}, seconds=outcome.seconds, epochs=0, failure=failure)
    return outcome if outcome.epochs is not None else replace(outcome, epochs=trial.budget)


def copied(outcome: Outcome, trial: int) -> Outcome:
    """A duplicate's outcome: the same numbers, nothing trained."""
    return replace(outcome, trial=trial, epochs=0, seconds={}, files={})


def scored(
    study: AnyStudy, outcome: Outcome, ranks: Mapping[str, float] | None
) -> tuple[Outcome, tuple[float, ...]]:
    """The outcome with its score, or those of a Pareto objective; a pruned trial's is its last.

    None after another failure, and a failure where a score is not defined.
    """
    if outcome.failure is not None and outcome.failure.kind != "pruned":
        return outcome, ()
    trial = study.history.records[outcome.trial].trial
    epochs = trial.budget if study.history.parts.number > 1 else trial.budget - outcome.spared
    epochs = epochs if outcome.failure else trial.budget
    locations, objective = study.history.locations.get(trial.rung), study.spec.objective
    try:
        if objective.pareto:
            scores = objective.scores(outcome.metrics, epochs, trial.data)
        else:
            own = outcome.metrics, epochs, locations, ranks, trial.data
            scores = (objective.score(*own),)
        if not all(map(math.isfinite, scores)):
            raise ValueError(f"the score is {', '.join(map(str, scores))}")
    except ValueError as error:
        return replace(outcome, failure=Failure("error", str(error))), ()
    return outcome, scores
