"""What a worker must have before a job: plug-in files and data; packed here, unpacked there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpogen import plugins
from hpogen.executors.base import Job
from hpogen.plugins import File
from hpogen.tasks.base import Cargo


@dataclass(frozen=True)
class Luggage:
    """Plug-in files, and the name of what the task's trials read."""

    plugins: Sequence[File]
    cargo: Cargo | None = None


class Packed:
    """The luggage of each kind of job: files are read once, data put once in the object store."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Luggage, Any]] = {}

    def of(self, job: Job) -> tuple[str, Luggage, Any]:
        """A name for it, the luggage, and a reference to the data (None: none are needed)."""
        import ray

        cargo = job.task.cargo
        key = f"{job.plugins} {cargo}"
        if key not in self._known:
            files = [plugins.FILES[name] for name in job.plugins]
            data = None if cargo is None else ray.put(cargo.load())
            self._known[key] = (Luggage(files, cargo), data)
        return key, *self._known[key]


def unpack(luggage: Luggage, data: Any) -> None:
    """Register the plug-ins and hand out the data in this process."""
    for file in luggage.plugins:
        plugins.bind_file(_unpacked(file.path, file.source))
    if luggage.cargo is not None:
        luggage.cargo.give(data)


def _unpacked(path: Path, source: bytes) -> Path:
    """The plug-in file itself where this node has it, else a copy of what came with the job."""
    if path.is_file() and os.access(path, os.R_OK) and path.read_bytes() == source:
        return path
    copy = Path(tempfile.mkdtemp(prefix="hpogen-")) / path.name  # a folder that is ours alone
    copy.write_bytes(source)
    return copy
