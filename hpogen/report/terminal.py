"""The terminal that a command runs in: how wide it is, what was typed there."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def width() -> int:
    """Columns."""
    return shutil.get_terminal_size().columns


def program() -> str:
    """How this program was called, for the commands that are printed."""
    name = sys.argv[0]
    if Path(name).name == "__main__.py":
        return f"{_typed(sys.executable)} -m hpogen"
    return _typed(name)


def _typed(path: str) -> str:
    """A program by its bare name where the shell would find this one, else by its path."""
    found = shutil.which(Path(path).name)
    if found is not None and os.path.abspath(found) == os.path.abspath(path):
        return Path(path).name
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
