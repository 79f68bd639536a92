"""What a worker must have before a job: plug-in files and data; packed here, unpacked there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpogen import plugins
from hpogen.executors.base import Job
from hpogen.training.task import ImageClassification

if TYPE_CHECKING:
    from hpogen.training.data import ImageData
    from hpogen.training.forms.dataset import Dataset


@dataclass(frozen=True)
class Luggage:
    """Plug-in files by path, and the data set's name."""

    plugins: Mapping[str, bytes]
    dataset: Dataset | None = None


class Packed:
    """The luggage of each kind of job: files are read once, data put once in the object store."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Luggage, Any]] = {}

    def of(self, job: Job) -> tuple[str, Luggage, Any]:
        """A name for it, the luggage, and a reference to the data (None: none are needed)."""
        import ray

        task = job.task
        dataset = task.dataset if isinstance(task, ImageClassification) else None
        key = f"{job.plugins} {dataset}"
        if key not in self._known:
            files = {str(path): Path(path).read_bytes() for path in job.plugins}
            data = None
            if dataset is not None:
                from hpogen.training.data import load

                data = ray.put(load(dataset))
            self._known[key] = (Luggage(files, dataset), data)
        return key, *self._known[key]


def unpack(luggage: Luggage, data: ImageData | None) -> None:
    """Register the plug-ins and hand out the data in this process."""
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
