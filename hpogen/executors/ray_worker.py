"""The actor that trains in a process of its own, a slice of time per call.

`RayExecutor` keeps a pool of them, on one machine or many.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpogen import plugins
from hpogen.executors.base import Job
from hpogen.executors.inline import InlineExecutor
from hpogen.trial import Outcome, Progress

if TYPE_CHECKING:
    from hpogen.training.data import ImageData
    from hpogen.training.dataset import Dataset


@dataclass(frozen=True)
class Place:
    """Where a worker lives: Ray's name of the node, the host's, and the device as people say it."""

    node: str
    host: str
    device: str  # "cpu" or "cuda:K", K being the node's own number
    process: int


@dataclass(frozen=True)
class Luggage:
    """What a worker must have before a job: plug-in files by path, and the data set's name."""

    plugins: Mapping[str, bytes]
    dataset: Dataset | None = None


class Worker:
    """Runs jobs on `gpu_share` of a GPU, or on the CPU where that is 0; one at a time."""

    def __init__(self, directory: str, gpu_share: float) -> None:
        if os.path.isdir(directory):
            os.chdir(directory)  # commands and plug-ins may name files relative to it
        plugins.load_installed()
        self._share = min(gpu_share, 1.0)
        self._device = place().device
        self._executor = InlineExecutor("cuda:0" if gpu_share else "cpu")  # Ray hides the others

    def place(self) -> Place:
        return place()

    def advance(
        self, job: Job | None, seconds: float, luggage: Luggage | None, data: ImageData | None
    ) -> list[Outcome | Progress]:
        """Begin `job` if there is one, train for about so many seconds, say what happened."""
        if luggage is not None:
            _unpack(luggage, data)
        if job is not None:
            os.environ["OMP_NUM_THREADS"] = str(job.task.threads)
            self._limit_memory(job.alone)
            self._executor.submit(job)
        events = [event for _, event in self._executor.wait(seconds)]
        if self._share and any(isinstance(event, Outcome) for event in events):
            _free_memory()
        return [
            replace(event, device=self._device) if isinstance(event, Progress) else event
            for event in events
        ]

    def stop(self) -> None:
        """End the running job, which keeps a checkpoint."""
        self._executor.stop()

    def _limit_memory(self, alone: bool) -> None:
        """A trial gets its share of the GPU's memory; one that is alone there gets all of it."""
        if self._share:
            import torch

            torch.cuda.set_per_process_memory_fraction(1.0 if alone else self._share)


def place() -> Place:
    """Where this process runs."""
    import ray

    context = ray.get_runtime_context()
    gpus = context.get_accelerator_ids().get("GPU", [])
    device = f"cuda:{gpus[0]}" if gpus else "cpu"
    return Place(context.get_node_id(), os.uname().nodename, device, os.getpid())


def _unpack(luggage: Luggage, data: ImageData | None) -> None:
    for path, source in luggage.plugins.items():
        plugins.load_file(_unpacked(Path(path), source))
    if luggage.dataset is not None and data is not None:
        from hpogen.training.data import give

        give(luggage.dataset, data)


def _unpacked(path: Path, source: bytes) -> Path:
    """The plug-in file itself where this node has it, else a copy of what came with the job."""
    if path.is_file() and os.access(path, os.R_OK) and path.read_bytes() == source:
        return path
    copy = Path(tempfile.mkdtemp(prefix="hpogen-")) / path.name  # a folder that is ours alone
    copy.write_bytes(source)
    return copy


def _free_memory() -> None:
    """Give what torch keeps for later back to the GPU's other processes."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
