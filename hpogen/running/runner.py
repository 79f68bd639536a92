"""Drives one study or many on one executor to their end: dispatch, record, retry.

With `drive.py` what knows both studies and executors; `run` and `run_all` are for users, too.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence

from hpogen.executors.base import Executor, ExecutorLost, Job
from hpogen.plugins.interrupts import interrupts
from hpogen.running.drive import Drive, Result
from hpogen.running.keeping import discard
from hpogen.running.observer import Observer
from hpogen.running.reuse import Sharing
from hpogen.running.signals import StopRequest
from hpogen.study.study import Study
from hpogen.tasks.base import trials_together
from hpogen.trial import Outcome, Progress

log = logging.getLogger("hpogen.runner")

WAIT_SECONDS = 0.1


def run(
    study: Study,
    executor: Executor | None = None,
    *,
    seconds: float | None = None,
    observer: Observer | None = None,
) -> Result:
    """Run, or go on with, a study until it ends, is asked to stop, or `seconds` have passed.

    Failed trials are outcomes; the study stops itself after `limits.max_consecutive_errors` errors
    of user code in a row, when a trial loses its worker a fourth time, or when the executor has
    gone ("cluster"). Running trials that can be resumed keep a checkpoint; the executor stays open.
    """
    observers = [observer] if observer else []
    return run_all([study], executor, seconds=seconds, observers=observers)[0]


def run_all(
    studies: Sequence[Study],
    executor: Executor | None = None,
    *,
    seconds: float | None = None,
    observers: Sequence[Observer] = (),
) -> list[Result]:
    """Run many studies in one pool; how each ended. `observers` are theirs, in the same order.

    A free slot goes to the study that is least far, unless that one waits for its own trials. A
    trial that another of the studies has trained, or trains, is not trained again. A study that
    stops itself does not stop the others.
    """
    if executor is None:
        from hpogen.executors.inline import InlineExecutor

        tasks = [study.spec.task for study in studies]
        executor = InlineExecutor(together=trials_together(tasks))
    with (
        interrupts(),
        StopRequest() as stop,
        contextlib.closing(_Pool(studies, executor, observers)) as pool,
    ):
        try:
            pool.loop(stop, None if seconds is None else time.monotonic() + seconds)
        except ExecutorLost as error:
            pool.give_up(str(error))
        for drive in pool.drives:
            drive.check()
            drive.weights.tidy(over=drive.end == "finished")
        return [drive.result for drive in pool.drives]


class _Pool:
    """One run: which job is whose."""

    def __init__(
        self, studies: Sequence[Study], executor: Executor, observers: Sequence[Observer]
    ) -> None:
        self._executor = executor
        lookers: Sequence[Observer | None] = observers or [None] * len(studies)
        shares = len(studies) > 1
        self.drives = [Drive(s, o, shares) for s, o in zip(studies, lookers, strict=True)]
        self._sharing = Sharing(studies, executor.device_type) if shares else None
        self._jobs: dict[Job, Drive] = {}
        self._ending: set[Job] = set()  # those of them whose trial has been told meanwhile

    def close(self) -> None:
        self._executor.cancel()
        for job in self._ending:
            discard(self._jobs[job].study, job.trial)

    def loop(self, stop: StopRequest, deadline: float | None) -> None:
        while True:
            late = deadline is not None and time.monotonic() >= deadline
            if stop.requested or late:
                for drive in self._active():
                    drive.end = "interrupted" if stop.requested else "time"
                return
            self._dispatch()
            if not any(self._active()):
                return
            for job, event in self._executor.wait(WAIT_SECONDS):
                if job in self._ending:
                    self._gone(job, event)
                elif isinstance(event, Progress):
                    if self._jobs[job].progressed(job, event):
                        self._end(self._jobs[job], job.trial.id)
                elif event is not None:
                    self._ended(job, event)
            for drive in self.drives:
                drive.tick(stop.requested)

    def give_up(self, text: str) -> None:
        """The executor has gone; the trials that run are untold, and go on another time."""
        log.error("executor=lost text=%r", text)
        for drive in self._active():
            drive.stop_itself("cluster", text)

    def _active(self) -> Iterator[Drive]:
        return (drive for drive in self.drives if drive.end is None)

    def _dispatch(self) -> None:
        while len(self._jobs) < self._executor.slots:
            for drive in sorted(self._active(), key=Drive.share):
                if (job := self._next(drive)) is not None:
                    self._submit(drive, job)
                    break
            else:
                return

    def _next(self, drive: Drive) -> Job | None:
        """The next training of a study. None: it waits, or has ended."""
        with drive.guarded():
            while not drive.left and (trial := drive.next()) is not None:
                if self._sharing is None or not self._sharing.serves(drive.study, trial):
                    drive.left.add(trial.id)
            return drive.job(*drive.left.pop()) if drive.left else None
        return None

    def _submit(self, drive: Drive, job: Job) -> None:
        self._jobs[job] = drive
        self._executor.submit(job)

    def _end(self, drive: Drive, trial: int) -> None:
        """The trial was told before its jobs have ended: nothing more of them counts."""
        drive.left.drop(trial)
        for job, whose in self._jobs.items():
            if whose is drive and job.trial.id == trial:
                self._ending.add(job)
                self._executor.end(job)

    def _gone(self, job: Job, event: Outcome | Progress | None) -> None:
        """What comes of a job after its trial was told: at last it has gone."""
        if not isinstance(event, Progress):
            self._ending.remove(job)
            discard(self._jobs.pop(job).study, job.trial)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        """Record an outcome, or try the trial again."""
        drive = self._jobs.pop(job)
        with drive.guarded():
            again = drive.retried(job, outcome)
            if again is not None:
                self._submit(drive, again)
                return
            if not drive.ended(job, outcome):
                return
            self._end(drive, job.trial.id)
        if self._sharing is not None:
            trial = drive.study.history.records[job.trial.id].trial
            for claim in self._sharing.ended(drive.study, trial):
                owner = next(d for d in self.drives if d.study is claim.study)
                owner.left.add(claim.trial.id)
                self._submit(owner, owner.job(*owner.left.pop()))
            for other in self._active():
                other.waits = False
        drive.weights.tidy()  # now that the trials which waited for this one have their copies
