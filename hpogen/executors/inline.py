"""Trials in this process, one at a time or in turns, which `wait` advances: no threads, no Ray."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpogen.errors import UserError, quoted
from hpogen.executors.base import Event, Job
from hpogen.executors.worker import run_job
from hpogen.trial import Outcome, Progress

Steps = Iterator[Progress | Outcome | None]
NVIDIA = Path("/proc/driver/nvidia")  # without a driver there is no need to ask torch


class InlineExecutor:
    """Runs in the calling process on `device`: "auto", "cpu" or "cuda:K".

    `gpus` are how many a trial has there; None: as many as its task asks for. On a CPU it runs
    `together` trials at a time, each until it has something to tell or waits for the others.
    """

    def __init__(self, device: str = "auto", gpus: int | None = None, together: int = 1) -> None:
        self._gpus = gpus
        self.device = resolve_device(device)
        self.slots = together if self.device == "cpu" else 1
        self._running: dict[Job, Steps] = {}
        self._ended: list[Event] = []

    @property
    def device_type(self) -> str:
        return self.device.partition(":")[0]

    def submit(self, job: Job) -> None:
        if len(self._running) >= self.slots:
            raise RuntimeError(f"this inline executor runs {self.slots} trials at a time")
        self._running[job] = run_job(job, self.device, self._gpus)

    def wait(self, timeout: float) -> list[Event]:
        events, self._ended = self._ended, []
        deadline = time.monotonic() + timeout
        while self._running:
            told = [(job, step) for job in [*self._running] if (step := self._advance(job))]
            events += told
            asks = any(job.watched or isinstance(step, Outcome) for job, step in told)
            if asks or time.monotonic() > deadline:
                break
        return events

    def end(self, job: Job) -> None:
        if job in self._running:
            self._close(job)
            self._ended.append((job, None))

    def cancel(self) -> None:
        for job in [*self._running]:
            self._close(job)

    def stop(self) -> None:
        self.cancel()

    def _advance(self, job: Job) -> Progress | Outcome | None:
        step = next(self._running[job])
        if isinstance(step, Outcome):
            self._close(job)
        return step

    def _close(self, job: Job) -> None:
        steps: Any = self._running.pop(job)
        steps.close()


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
