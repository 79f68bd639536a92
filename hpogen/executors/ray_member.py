"""A worker of the pool as the driver knows it, and what its death means for its trial.

`RayExecutor` keeps them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hpogen.executors.base import Job
from hpogen.executors.ray_worker import Place, append_tails
from hpogen.trial import Failure, FailureKind, Outcome, Progress

HUNG_SECONDS = 10.0  # beyond a limit that a worker has not kept itself, it is killed
AHEAD = 2  # calls that wait at a worker, so that it never waits for the driver
LOW_MEMORY = ("running low on memory", "OutOfMemory")  # Ray's own watch kills the largest process

Device = tuple[str, str]  # a node and a device of it


@dataclass(eq=False)
class Member:
    """A worker of the pool: its actor, where it is (None: not started yet), what it does."""

    actor: Any
    place: Place | None = None
    job: Job | None = None
    ending: bool = False  # the job was asked to end, and has not yet
    began: float = 0.0
    reported: float = 0.0  # the last epoch
    waiting: int = 0  # calls
    known: set[str] = field(default_factory=set)  # plug-ins and data sets that it has

    def overtime(self) -> str:
        """What limit of its job it has passed by far; mostly nothing."""
        if self.job is None:
            return ""
        for name, since in (("trial_seconds", self.began), ("epoch_seconds", self.reported)):
            limit, taken = self.job.limits.get(name), time.monotonic() - since
            if limit is not None and taken > limit + HUNG_SECONDS:
                return f"no end after {taken:.0f} s, limits.{name} is {limit:g}"
        return ""

    @property
    def ahead(self) -> int:
        """How many calls are to wait at it."""
        return 0 if self.job is None or self.ending else 1 if self.job.watched else AHEAD

    def noted(self, event: Outcome | Progress, several: bool) -> Outcome | Progress:
        """What happened to its job; with `several` nodes an epoch's device has the host's name."""
        if isinstance(event, Outcome):
            self.job, self.ending = None, False
            return event
        self.reported = time.monotonic()
        host = f" {self.place.host}" if several and self.place else ""
        return replace(event, device=event.device + host)

    @property
    def device(self) -> Device | None:
        return (self.place.node, self.place.device) if self.place else None


def end_jobs(members: Sequence[Member]) -> None:
    """End their jobs, each with a checkpoint where it can have one; the dead keep theirs."""
    import ray

    stopping = {m.actor.stop.remote(): (m, m.job) for m in members if m.job}
    while stopping:
        for call in ray.wait([*stopping])[0]:
            member, job = stopping.pop(call)
            with contextlib.suppress(ray.exceptions.RayError):
                append_tails(job, ray.get(call))
                member.job, member.ending = None, False


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
