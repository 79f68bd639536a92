"""What `hpogen doctor` has found: a line each, ok, a note or a problem, and what to do about it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Literal

from hpogen.errors import shortened

GIB = 2**30
Level = Literal["ok", "note", "problem"]
PATIENCE = 120.0  # seconds for a probe: a first import from a network disk takes its time


@dataclass(frozen=True)
class Finding:
    """`name` is what was looked at, in the group's words; `todo` is empty where all is well."""

    name: str
    level: Level
    text: str
    todo: str = ""


def ok(name: str, text: str) -> Finding:
    return Finding(name, "ok", text)


def note(name: str, text: str, todo: str) -> Finding:
    return Finding(name, "note", text, todo)


def problem(name: str, text: str, todo: str) -> Finding:
    return Finding(name, "problem", text, todo)


class Silent(Exception):
    """A probe said nothing that could be read: why, in one line."""


def probed(what: str) -> Any:
    """What `hpogen.executors.probe` says, in a process of its own. Raises Silent."""
    command = [sys.executable, "-P", "-m", "hpogen.executors.probe", what]  # nothing of this folder
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Silent(f"did not come back within {PATIENCE:.0f} s") from None
    if done.returncode < 0:
        raise Silent(f"its process was killed by signal {-done.returncode}")
    if done.returncode:
        raise Silent(shortened((done.stderr.strip().splitlines() or ["it said nothing"])[-1]))
    return json.loads(done.stdout.splitlines()[-1])
