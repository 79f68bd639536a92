"""Whose the files of a study's folder are, where the ledger that knew them has gone.

The Study asks when it opens a folder, and so does `hpogen retrain`. Curves, kept files and
checkpoints carry the study's id themselves; logs and what a task keeps do not.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from hpogen.errors import shortened
from hpogen.record.folder import LOG, TRIALS
from hpogen.record.ledger import TORN

MARK = "study"  # a file that holds the id, in `trials/` and `retrain/`
LEFT = (TRIALS, "retrain", "tensorboard", LOG, TORN)  # by a study whose ledger has gone

log = logging.getLogger("hpogen.study")


def begin(directory: Path, study: str) -> None:
    """Make `trials/` for a new study of that id. What an earlier one left is moved aside."""
    left = [name for name in LEFT if _holds_something(directory / name)]
    if left:
        _set_aside(directory, left)
    (directory / TRIALS).mkdir(exist_ok=True)
    (directory / TRIALS / MARK).write_text(study)


def own(folder: Path, study: str) -> None:
    """Make a folder the study's. One that is known to be another study's is moved aside."""
    if not belongs(folder, study):
        _set_aside(folder.parent, [folder.name])
    folder.mkdir(exist_ok=True)
    if study and not _mark(folder):
        (folder / MARK).write_text(study)


def belongs(folder: Path, study: str) -> bool:
    """Whether it is not known to be another's: before there were ids, folders had no mark."""
    return _mark(folder) in ("", study)


def _mark(folder: Path) -> str:
    try:
        return (folder / MARK).read_text(errors="replace")
    except OSError:
        return ""


def _holds_something(path: Path) -> bool:
    if path.is_dir():
        return any(inner.name != MARK for inner in path.iterdir())
    return path.exists()


def _set_aside(directory: Path, names: Sequence[str]) -> None:
    numbers = iter(range(1, 10**6))
    aside = next(p for n in numbers if not (p := directory / f"earlier-{n}").exists())
    aside.mkdir()
    for name in names:
        (directory / name).rename(aside / name)
    log.warning("files of an earlier study were here, they are in %s now", shortened(aside))
