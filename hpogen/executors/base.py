"""The contract between the runner and whatever runs trials: slots, submit, wait, cancel, stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hpogen.plugins import Scope
from hpogen.tasks.base import Task
from hpogen.trial import Outcome, Progress, RunningTrial


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that a worker needs to run one trial; it travels between processes.

    A job is equal to itself alone: two studies may have a trial of the same number.
    """

    trial: RunningTrial  # but for its device, which the worker knows
    task: Task
    wanted: frozenset[str]  # the metrics that each epoch must have
    log: Path  # the trial's log file
    mark: tuple[Path, str] | None = None  # a file, and what a worker reads there if it has `log`
    received: Mapping[str, float] = field(default_factory=dict)  # the metrics at `start_epoch`
    audited: Mapping[str, float] = field(default_factory=dict)  # and the audit, if it had one
    parent: RunningTrial | None = None  # the trial that is continued
    plugins: Scope = ()  # the study's files, to be imported where the job runs
    sources: str = ""  # digest of their contents
    limits: Mapping[str, float] = field(default_factory=dict)  # trial_seconds, epoch_seconds
    alone: bool = False  # on its device: it ran out of memory beside others
    watched: bool = False  # after each epoch somebody decides whether it goes on


Event = tuple[Job, Outcome | Progress | None]
"""What has happened to a job; None: it has ended as `end` asked."""


class ExecutorLost(Exception):
    """Nothing can run any more, through no fault of a trial's; one line says what has gone."""


class Executor(Protocol):
    """Runs jobs in `slots` places. A trial's failure is an Outcome, never an exception.

    `submit` and `wait` raise ExecutorLost where all of them have gone for good.
    """

    @property
    def slots(self) -> int: ...

    @property
    def device_type(self) -> str:
        """ "cpu" or "cuda": what it trains on."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job; never called with more than `slots` under way."""
        ...

    def wait(self, timeout: float) -> list[Event]:
        """What has happened to which job; returns within about `timeout` seconds, maybe empty.

        A `watched` job is at most one epoch ahead of what has been told of it.
        """
        ...

    def end(self, job: Job) -> None:
        """Let a job end soon, cleanly. `wait` tells of it once more: None, or an Outcome."""
        ...

    def cancel(self) -> None:
        """End the running jobs cleanly (resumable ones keep a checkpoint); others may follow."""
        ...

    def stop(self) -> None:
        """The same, and free everything; no job follows."""
        ...
