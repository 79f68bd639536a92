"""One trial at a time in this process, advanced a step per `wait`: no threads, no Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpogen.errors import UserError, quoted
from hpogen.executors.base import Event, Job
from hpogen.executors.worker import run_job
from hpogen.trial import Outcome, Progress

NVIDIA = Path("/proc/driver/nvidia")  # without a driver there is no need to ask torch


class InlineExecutor:
    """Runs in the calling process on `device`: "auto", "cpu" or "cuda:K".

    `gpus` are how many a trial has there; None: as many as its task asks for.
    """

    slots = 1

    def __init__(self, device: str = "auto", gpus: int | None = None) -> None:
        self._gpus = gpus
        self.device = resolve_device(device)
        self._job: Job | None = None
        self._steps: Iterator[Progress | Outcome | None] | None = None
        self._ended: list[Event] = []

    @property
    def device_type(self) -> str:
        return self.device.partition(":")[0]

    def submit(self, job: Job) -> None:
        if self._steps is not None:
            raise RuntimeError("the inline executor runs one trial at a time")
        self._job, self._steps = job, run_job(job, self.device, self._gpus)

    def wait(self, timeout: float) -> list[Event]:
        events, self._ended = self._ended, []
        deadline = time.monotonic() + timeout
        while self._job and self._steps is not None:
            step = next(self._steps)
            if step is not None:
                events.append((self._job, step))
            if isinstance(step, Outcome):
                self.cancel()
            watched = self._job and self._job.watched and step is not None
            if watched or time.monotonic() > deadline:
                break
        return events

    def end(self, job: Job) -> None:
        if job is self._job:
            self.cancel()
            self._ended.append((job, None))

    def cancel(self) -> None:
        steps: Any = self._steps
        self._job = self._steps = None
        if steps is not None:
            steps.close()

    def stop(self) -> None:
        self.cancel()


def resolve_device(device: str) -> str:
    """The torch name of a device. Raises UserError for one that is not there."""
    if device == "cpu" or (device == "auto" and not NVIDIA.exists()):
        return "cpu"
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda:0" if count else "cpu"
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index or "0").isdigit():
        raise UserError(f"--device: got {quoted(device)}, expected auto, cpu or cuda:K")
    if int(index or 0) >= count:
        raise UserError(f"--device: {device} is not there: torch finds {count} CUDA devices")
    return f"cuda:{int(index or 0)}"
