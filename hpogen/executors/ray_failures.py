"""What the death of a Ray worker means for its trial, and which GPUs a task cannot use.

`RayExecutor` asks here.
"""

from __future__ import annotations

import math
from typing import Any

from hpogen.errors import UserError
from hpogen.executors import ray_cluster
from hpogen.executors.base import Job
from hpogen.tasks.base import Task
from hpogen.trial import Failure, FailureKind, Outcome

LOW_MEMORY = ("running low on memory", "OutOfMemory")  # Ray's own watch kills the largest process


def failed(job: Job, kind: FailureKind, text: str) -> Outcome:
    return Outcome(job.trial.id, {}, epochs=0, failure=Failure(kind, " ".join(text.split())))


def kind_of(text: str) -> FailureKind:
    """`oom` where Ray killed the worker for memory, else `lost`."""
    return "oom" if any(words in text for words in LOW_MEMORY) else "lost"


def told_by(error: Any) -> str:
    """The line of Ray's many that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "creation task" in str(error):  # it raised while it started: the exception stands last
        return lines[-1][:300]
    reasons = [line for line in lines if "reason" in line.lower() or "low on memory" in line]
    return (reasons or lines or [type(error).__name__])[0][:300]


def refuse_many_gpus(task: Task, gpus_per_trial: float) -> None:
    """Raise UserError where a trial would leave GPUs unused."""
    if gpus_per_trial > 1 and task.one_gpu:
        raise UserError(
            f"--gpus-per-trial: got {gpus_per_trial:g}, but a trial of task {task.name!r} trains "
            "on one GPU at most; several GPUs train several trials: --workers"
        )


def equal_share(workers: int | None) -> float:
    """The part of a GPU that each of so many workers can have; 1 at most, 0 without GPUs."""
    gpus = ray_cluster.gpus()
    if not gpus:
        return 0.0
    return 1.0 if workers is None else 1 / max(1, math.ceil(workers / gpus))
