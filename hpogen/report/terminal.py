"""The terminal that a command runs in: how wide it is, what was typed there."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from hpogen.report.table import WHOLE
from hpogen.report.terms import explained


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def print_page(lines: Iterable[str], *, quiet: bool) -> None:
    """A page with what its words mean, or without."""
    print_lines(lines if quiet else explained(lines, width()))


def width() -> int:
    """Columns; in a file or pipe so many that nothing is cut or wrapped."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WHOLE


def program() -> str:
    """How hpogen is called here, for the commands that are printed; a script may have called us."""
    called = Path(sys.argv[0])
    beside = Path(sys.executable).with_name("hpogen")
    if called.stem == "hpogen":
        return _typed(str(called))
    if called.name != "__main__.py" and beside.exists():
        return _typed(str(beside))
    return f"{_typed(sys.executable)} -m hpogen"


def _typed(path: str) -> str:
    """A program by its bare name where the shell would find this one, else by its path."""
    found = shutil.which(Path(path).name)
    if found is not None and os.path.abspath(found) == os.path.abspath(path):
        return Path(path).name
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
