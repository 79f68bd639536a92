"""The actor that trains in a process of its own, a slice of time per call.

`RayExecutor` keeps a pool of them, on one machine or many, and packs what they must have before a
job: plug-in files and data.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpogen import plugins
from hpogen.executors.base import Job
from hpogen.executors.inline import InlineExecutor
from hpogen.executors.ray_functions import Pickled, packed, unpickled
from hpogen.plugins import File
from hpogen.tasks import guard
from hpogen.tasks.base import Cargo
from hpogen.trial import Outcome, Progress

log = logging.getLogger("hpogen.executors")

LOG_BYTES = 64 * 1024


@dataclass(frozen=True)
class Place:
    """Where a worker lives: Ray's name of the node, the host's, and the device as people say it."""

    node: str
    host: str
    device: str  # "cpu" or "cuda:K", K being the node's own number
    process: int


@dataclass(frozen=True)
class Tail:
    """The end of a trial's log whose folder is not the driver's: LOG_BYTES at most."""

    text: bytes


@dataclass(frozen=True)
class Luggage:
    """Plug-in files and functions, and what the task's trials read, with its name.

    Data may be of a class that a plug-in defines: so what travels is a reference to them.
    """

    plugins: Sequence[File | Pickled]
    cargo: Cargo | None = None
    data: Any = None  # in Ray's object store


class Packed:
    """The luggage of each kind of job: files are read once, data put once in the object store."""

    def __init__(self) -> None:
        self._known: dict[str, Luggage] = {}

    def of(self, job: Job) -> tuple[str, Luggage]:
        """A name for it, and the luggage."""
        import ray

        cargo = job.task.cargo
        key = f"{job.plugins} {cargo}"
        if key not in self._known:
            files = [packed(name, plugins.FILES[name]) for name in job.plugins]
            data = None if cargo is None else ray.put(cargo.load())
            self._known[key] = Luggage(files, cargo, data)
        return key, self._known[key]


class Worker:
    """Runs jobs on `gpu_share` of a GPU, or on the CPU where that is 0; one at a time."""

    def __init__(self, directory: str, gpu_share: float) -> None:
        # nobody else ends a trial whose raylet was killed: it would write beside its next attempt
        guard.prctl(guard.SET_DEATH_SIGNAL, signal.SIGKILL)
        if os.path.isdir(directory):
            os.chdir(directory)  # commands and plug-ins may name files relative to it
        plugins.load_installed()
        self._share = min(gpu_share, 1.0)
        self._log: Path | None = None  # of the running job, where its folder is not the driver's
        self._device = place().device
        self._executor = InlineExecutor("cuda:0" if gpu_share else "cpu", gpus())

    def place(self) -> Place:
        return place()

    def advance(
        self, job: Job | None, seconds: float, luggage: Luggage | None
    ) -> list[Outcome | Progress | Tail]:
        """Begin `job` if there is one, train for about so many seconds, say what happened."""
        if luggage is not None:
            unpack(luggage)
        if job is not None:
            os.environ["OMP_NUM_THREADS"] = str(job.task.threads)
            self._limit_memory(job.alone)
            self._executor.submit(self._logged(job))
        events = [event for _, event in self._executor.wait(seconds) if event is not None]
        ended = any(isinstance(event, Outcome) for event in events)
        if self._share and ended:
            _free_memory()
        found = [
            replace(event, device=self._device) if isinstance(event, Progress) else event
            for event in events
        ]
        return [*(self._tails() if ended else []), *found]

    def stop(self) -> list[Tail]:
        """End the running job, which keeps a checkpoint."""
        self._executor.stop()
        if self._share:
            _free_memory()
        return self._tails()

    def _logged(self, job: Job) -> Job:
        """The job with a log that can be written, be the study's folder shared or not."""
        self._log = None
        if job.mark is None or _reads(job.mark[0]) != job.mark[1]:
            self._log = Path(tempfile.mkdtemp(prefix="hpogen-")) / job.log.name
        return replace(job, log=self._log or job.log)

    def _tails(self) -> list[Tail]:
        """The end of a log that the driver cannot see, once."""
        if self._log is None:
            return []
        path, self._log = self._log, None
        text = path.read_bytes()[-LOG_BYTES:] if path.exists() else b""
        shutil.rmtree(path.parent)
        return [Tail(text)] if text else []

    def _limit_memory(self, alone: bool) -> None:
        """A trial gets its share of the GPU's memory; one that is alone there gets all of it."""
        if self._share:
            import torch

            torch.cuda.set_per_process_memory_fraction(1.0 if alone else self._share)


def unpack(luggage: Luggage) -> None:
    """Register the plug-ins and hand out the data in this process."""
    import ray

    for file in luggage.plugins:
        if isinstance(file, Pickled):
            plugins.give(file.name, unpickled(file))
        else:
            plugins.bind_file(_unpacked(file.path, file.source))
    if luggage.cargo is not None:
        luggage.cargo.give(ray.get(luggage.data))


def _unpacked(path: Path, source: bytes) -> Path:
    """The plug-in file itself where this node has it, else a copy of what came with the job."""
    if path.is_file() and os.access(path, os.R_OK) and path.read_bytes() == source:
        return path
    copy = Path(tempfile.mkdtemp(prefix="hpogen-")) / path.name  # a folder that is ours alone
    copy.write_bytes(source)
    return copy


def place() -> Place:
    """Where this process runs."""
    import ray

    context = ray.get_runtime_context()
    mine = context.get_accelerator_ids().get("GPU", [])
    device = f"cuda:{mine[0]}" if mine else "cpu"
    return Place(context.get_node_id(), os.uname().nodename, device, os.getpid())


def gpus() -> int:
    """How many GPUs this worker has, a share of one being one; Ray hides the others."""
    import ray

    return len(ray.get_runtime_context().get_accelerator_ids().get("GPU", []))


def append_tails(job: Job, found: Sequence[Outcome | Progress | Tail]) -> None:
    """Add what came of a job's log to its file, in the driver."""
    for tail in found:
        if isinstance(tail, Tail):
            try:
                with open(job.log, "ab") as file:
                    file.write(tail.text)
            except OSError as error:
                log.warning("trial=%d log=%s error=%r", job.trial.id, job.log, error.strerror)


def _reads(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _free_memory() -> None:
    """Give what torch keeps for later back to the GPU's other processes."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
