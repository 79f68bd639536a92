"""The programs that a study can be shown in: what `tracking.py` asks of each.

A file per program keeps the promise: `mlflow_runs.py`, `wandb_runs.py`, `event_files.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Protocol

from hpogen.export.rows import shown
from hpogen.record.history import Record
from hpogen.spec.tracking import Track
from hpogen.study.read import Folder

Rows = Sequence[Mapping[str, Any]]


class Shown(Protocol):
    """A study in a program. Every call may raise whatever the program's library does.

    Each may come again, also after an end by SIGKILL: what is there already is not written twice.
    """

    @property
    def ended(self) -> Set[int]:
        """The trials that were there to their end when the study was opened."""
        ...

    def show(self, record: Record, rows: Rows) -> None:
        """Bring a trial to these epochs, as `folder.read_curve` gives them: all of them so far."""
        ...

    def end(self, record: Record) -> None:
        """The trial was told: its score, or its failure."""
        ...

    def answer(self, record: Record) -> None:
        """The verdict so far: the trial that is the study's answer."""
        ...

    def close(self) -> None: ...


OPENERS = {
    "mlflow": "hpogen.export.mlflow_runs",
    "wandb": "hpogen.export.wandb_runs",
    "tensorboard": "hpogen.export.event_files",
}
"""By the name in `track`: the module whose `opened` begins with a study, or goes on."""


def opener(name: str) -> Callable[[Track, Folder], Shown]:
    """Imported when it is used: a tracker's library may be heavy, or missing."""
    found: Callable[[Track, Folder], Shown] = importlib.import_module(OPENERS[name]).opened
    return found


def place(name: str, directory: Path, track: Track) -> str:
    """Where that is, for a message."""
    if name == "mlflow":
        return shown(track.mlflow or "")
    return f"project {track.wandb}" if name == "wandb" else str(directory / "tensorboard")
