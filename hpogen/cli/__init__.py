"""The command line; `main` is the program."""

from __future__ import annotations

import io
import sys

from hpogen.cli import launching, looking, results
from hpogen.cli.app import app

__all__ = ["launching", "looking", "main", "results"]


def main() -> None:
    """The program `hpogen`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a bar that cannot be shown is no error
    app(prog_name="hpogen")
