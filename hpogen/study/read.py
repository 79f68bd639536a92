"""A study's folder, read once: what every command that looks at one is given.

Nothing is written, no lock is taken and no plug-in is imported; `open.py` opens a study to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from hpogen.errors import UserError, explained
from hpogen.record import folder, history, ledger
from hpogen.record.history import History, Record
from hpogen.record.ledger import LEDGER
from hpogen.selection import candidates
from hpogen.spec import StudySpec
from hpogen.spec.recorded import recorded

RUNS = Path("runs")  # where they lie by default
RETRAIN = "retrain"  # the folder in the study's own; in it a study per configuration
AGAIN = "subset-trial-"  # in it, too: a study per trial that was trained again as it was
AT = "at-"  # and one per configuration and fraction of the training set: `at-0.05-trial-9`


class AnyStudy(Protocol):
    """A study that is open (`Study`), or as its folder had it (`Folder`)."""

    @property
    def directory(self) -> Path: ...

    @property
    def spec(self) -> StudySpec: ...

    @property
    def history(self) -> History: ...


@dataclass(frozen=True)
class Folder:
    """A study as its folder had it at one moment.

    `spec` has `stop` as it was raised, and parts that tell what the record says of them but train
    nothing. `process` is who ran the study just
    before it was read: one that has ended since is complete here.
    """

    directory: Path
    spec: StudySpec = field(repr=False)
    history: History = field(repr=False)
    process: str | None = None

    @property
    def order(self) -> Sequence[int]:
        """The trials in the order of being told."""
        return self.history.order

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def seed(self) -> int:
        return self.spec.seed

    @cached_property
    def finished(self) -> Sequence[Record]:
        """The trials that may be compared: see `selection.candidates`, of the highest rung."""
        return candidates(self.history, self.spec.ladder[-1])

    @property
    def audited(self) -> bool:
        """Whether there are audit figures to be looked at."""
        return any(record.outcome and record.outcome.audit for record in self.history.records)

    def curve(self, trial: int) -> list[dict[str, Any]]:
        """The rows of a trial as `folder.read_curve` gives them.

        A trial of one epoch has no file: its row is its outcome.
        """
        rows = folder.read_curve(self.directory, trial, self.history.id)
        record = self.history.records[trial]
        outcome = record.outcome
        if rows or record.trial.budget > 1 or outcome is None or not outcome.metrics:
            return rows
        row = {"epoch": 1, "metrics": dict(outcome.metrics), "seconds": dict(outcome.seconds)}
        return [row | ({"audit": dict(outcome.audit)} if outcome.audit else {})]

    @cached_property
    def retrainings(self) -> Mapping[str, Folder]:
        """The studies of its `retrain` folder by label; none of what another study has left."""
        found = self._retrained()
        return {path.name: read(path) for path in found if not path.name.startswith((AGAIN, AT))}

    @cached_property
    def at_sizes(self) -> Sequence[Folder]:
        """The studies there that `retrain --at` has begun."""
        return [read(path) for path in self._retrained() if path.name.startswith(AT)]

    def again(self, trial: int) -> Folder | None:
        """The study there in which a trial was trained again as it was; None: it was not."""
        path = self.directory / RETRAIN / f"{AGAIN}{trial}"
        return read(path) if path in self._retrained() else None

    def _retrained(self) -> list[Path]:
        home = self.directory / RETRAIN
        return studies_in(home) if folder.belongs(home, self.history.id) else []


def read(directory: Path) -> Folder:
    """A study's folder, whether it runs or not. Raises UserError beginning with the folder."""
    if inner := studies_in(directory):
        raise is_matrix(directory, inner)
    process = ledger.holder(directory)
    return folder_of(directory, history.read(directory), process)


def folder_of(directory: Path, past: History, process: str | None) -> Folder:
    """The study of that history. Raises UserError beginning with the folder."""
    try:
        return Folder(directory, recorded(past), past, process)
    except UserError as error:
        raise UserError(f"{directory}: {error}") from error


def read_all(directories: Sequence[Path], one: Callable[[Path], Folder] = read) -> list[Folder]:
    """The studies in folders, each a study's or that of a matrix; every study once, by `one`.

    Raises UserError for a folder with neither, and for no folder.
    """
    if not directories:
        raise UserError("got no folder, expected those of studies or of a matrix")
    paths = [path for directory in directories for path in studies_in(directory) or [directory]]
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.resolve(), path)
    return [one(path) for path in found.values()]


def studies_in(directory: Path) -> list[Path]:
    """The folders of a matrix's studies; none for any other folder. Raises UserError for a file."""
    with explained(directory, UserError, "read"):
        if directory.is_file():
            raise UserError(
                f"{directory} is a file, expected the study's folder, such as "
                f"{RUNS / directory.stem}"
            )
        if (directory / LEDGER).exists():
            return []
        return sorted(path.parent for path in directory.glob(f"*/{LEDGER}"))


def is_matrix(directory: Path, inner: Sequence[Path]) -> UserError:
    """What is said where a study is expected."""
    return UserError(
        f"{directory}: here are the {len(inner)} studies of a matrix: name one, such as {inner[0]}"
    )
