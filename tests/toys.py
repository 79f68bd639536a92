"""Closed-form toy studies for the tests: a task, the YAML around it, and an unordered executor."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpogen.cli import main
from hpogen.executors.base import Event, Job
from hpogen.executors.worker import run_job
from hpogen.record.history import History
from hpogen.spec import StudySpec
from hpogen.study.read import Folder
from hpogen.trial import Outcome, Progress

TASK = '''
"""A bowl whose bottom is at x = 0.3, y = 10; `mood` says what becomes of some trials."""
import math
import time
from hpogen.plugins import task

METRICS = ("val_loss", "agn", "gap_loss")

@task("bowl", metrics=METRICS, sums=("agn",))
def bowl(trial, *, mood: str = "good", pause: float = 0.0):
    x, y = trial.config["x"], trial.config["y"]
    for epoch in range(trial.start_epoch, trial.budget):
        if mood == "nan" and trial.id % 3 == 2:
            yield {"val_loss": math.nan, "agn": 1.0, "gap_loss": 0.0}
        if mood == "raises" and trial.id % 3 == 2:
            raise RuntimeError(f"trial {trial.id} is not\\nin the mood")
        if mood == "always raises":
            raise RuntimeError("never in the mood")
        if mood == "memory" and trial.id % 3 == 2:
            raise MemoryError("the bowl is full")
        time.sleep(pause)
        loss = (x - 0.3) ** 2 + (math.log10(y) - 1) ** 2 + 1 / (epoch + 1)
        yield {"val_loss": loss, "agn": (epoch + 1) * (1 + x), "gap_loss": x - 0.5}
'''

SPACE = {
    "x": {"float": [0.0, 1.0], "default": 0.5},
    "y": {"int": [1, 1000], "log": True, "default": 30},
}


def study_file(directory: Path, **keys: Any) -> Path:
    """Write `bowl.py` and `study.yaml`, whose keys may be replaced; the path of the YAML."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "bowl.py").write_text(TASK)
    spec: dict[str, Any] = {
        "task": {"name": "bowl", "epochs": 2},
        "search_space": SPACE,
        "searcher": {"name": "random"},
        "stop": {"trials": 12},
        "plugins": ["bowl.py"],
    }
    path = directory / "study.yaml"
    path.write_text(json.dumps({**spec, **keys}))  # JSON is YAML
    return path


def as_read(spec: StudySpec, history: History, directory: Path = Path()) -> Folder:
    """A study of that history, as if its folder had been read."""
    return Folder(directory, spec, history)


def typed(*words: object) -> int:
    """Call the command line in this process; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["hpogen", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
    return int(end.value.code or 0)


class ShuffledExecutor:
    """Four real workers' worth of slots in one process, advanced and finished in random order."""

    device_type = "cpu"

    def __init__(self, seed: int, slots: int = 4) -> None:
        self.slots = slots
        self._random = random.Random(seed)
        self._running: dict[Job, Iterator[Progress | Outcome | None]] = {}
        self._ended: list[Event] = []

    def submit(self, job: Job) -> None:
        assert len(self._running) < self.slots
        self._running[job] = run_job(job, "cpu")

    def wait(self, timeout: float) -> list[Event]:
        events, self._ended = self._ended, []
        for _ in range(self._random.randrange(1, 6)):
            if not self._running:
                break
            job = self._random.choice(list(self._running))
            step = next(self._running[job])
            if step is not None:
                events.append((job, step))
            if isinstance(step, Outcome):
                del self._running[job]
            if step is not None and job.watched:
                break
        return events

    def end(self, job: Job) -> None:
        if job in self._running:  # else its outcome is on the way
            self._running.pop(job).close()  # type: ignore[attr-defined]
            self._ended.append((job, None))

    def cancel(self) -> None:
        for steps in self._running.values():
            steps.close()  # type: ignore[attr-defined]
        self._running.clear()

    stop = cancel


class StopsAfter:
    """An observer that asks the run to stop, as Ctrl-C does, after so many epochs."""

    def __init__(self, epochs: int) -> None:
        self._left = epochs

    def progressed(self, progress: object) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    def started(self, trial: object) -> None: ...

    def finished(self, record: object) -> None: ...

    def tick(self, stopping: bool) -> None: ...


OTHERWISE = {"seconds", "seq", "crc", "id"}  # what two runs of one study do not have in common
RECOVERY = {"lost", "extended"}


def essence(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What must be equal between an interrupted study and an undisturbed one."""
    return [
        {key: value for key, value in event.items() if key not in OTHERWISE}
        for event in events
        if event["kind"] not in RECOVERY
    ]


def replay(events: list[dict[str, Any]]) -> History:
    """The state of a study after the events, unchecked."""
    history = History()
    for event in events:
        history.apply(event)
    return history


def by_trial(events: list[dict[str, Any]], kind: str) -> dict[int, dict[str, Any]]:
    """The events of a kind by trial; fails when a trial has two."""
    found = [event for event in essence(events) if event["kind"] == kind]
    result = {event["trial"]: event for event in found}
    assert len(result) == len(found), "a trial was recorded twice"
    return result
