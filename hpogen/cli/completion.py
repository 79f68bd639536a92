"""What a shell completes behind `hpogen`: values of arguments and options, by the parameter's name.

`main` asks for it only where a shell does; typer has the shells' side. Nothing is read but the
names of files, nothing imported but tables of names.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Callable, Iterable
from glob import escape, glob
from pathlib import Path

import typer
from typer.models import ParameterInfo

from hpogen import plugins
from hpogen.objective import PRESETS, SCALES
from hpogen.plugins.registry import imported
from hpogen.record.ledger import LEDGER

VARIABLE = "_HPOGEN_COMPLETE"  # by which typer's shell functions ask
RUNS = "runs"
Complete = Callable[[str], list[str]]


def asked() -> bool:
    """Whether a shell has called this program, and not its user."""
    return VARIABLE in os.environ


def complete(app: typer.Typer) -> None:
    """Give the parameters of all commands what completes them."""
    for function in filter(None, (command.callback for command in app.registered_commands)):
        hints = typing.get_type_hints(function, include_extras=True)
        function.__annotations__.update(hints)  # typer would evaluate their texts anew
        for name, hint in hints.items():
            for said in getattr(hint, "__metadata__", ()):
                if isinstance(said, ParameterInfo) and name in COMPLETES:
                    said.autocompletion = COMPLETES[name]


def folders(incomplete: str) -> list[str]:
    """Folders of studies and of matrices that begin so, or stand below one that does.

    With none of them the shell completes by itself.
    """
    found = {Path(path).parent for path in _glob(incomplete, LEDGER)}
    below = [Path(path).parent for path in _glob(incomplete, f"*/{LEDGER}")]
    return _sorted({*found, *below, *(path.parent for path in below)}, incomplete)


def studies(incomplete: str) -> list[str]:
    """YAML files that begin so, or stand in a folder that does."""
    here = [Path(path) for path in glob(f"{escape(incomplete)}*.yaml")]
    return _sorted({*here, *map(Path, glob(f"{escape(incomplete)}*/*.yaml"))}, incomplete)


def _glob(incomplete: str, rest: str) -> list[str]:
    """Below `runs` only, as long as no folder is named: there may be any number beside it."""
    if os.sep in incomplete or rest == LEDGER:
        return glob(f"{escape(incomplete)}*/{rest}")
    return glob(f"{RUNS}/{rest}") if RUNS.startswith(incomplete) else []


def _sorted(found: Iterable[Path], incomplete: str) -> list[str]:
    return sorted(path for path in map(str, found) if path.startswith(incomplete))


def _names(names: Callable[[], Iterable[str]]) -> Complete:
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def _listed(names: Callable[[], Iterable[str]]) -> Complete:
    """The last of several names with commas between them."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(last)]

    return complete


COMPLETES: dict[str, Complete] = {
    "study": studies,
    "directory": folders,
    "directories": folders,
    "kind": _names(lambda: imported("hpogen.cli.launching:KINDS")),
    "selection": _names(lambda: imported("hpogen.selection:SELECTIONS")),
    "objective": _names(lambda: PRESETS),
    "scale": _names(lambda: SCALES),
    "add": _listed(plugins.measures.names),
    "task": _names(lambda: [*plugins.tasks.names(), "function"]),
    "dataset": _names(plugins.datasets.names),
    "model": _names(plugins.models.names),
    "optimizer": _names(lambda: ("sgd", "adam", "adamw", "sam")),
    "searcher": _names(plugins.searchers.names),
}
