"""How a function that a Python program gave travels to the processes that its study has started.

It is pickled by value, closures and all, and read again there alone: nothing of it is ever on disk.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hpogen.errors import UserError, why
from hpogen.plugins import File, Given


@dataclass(frozen=True)
class Pickled:
    """A function under its name for a scope."""

    name: str
    content: bytes


def packed(name: str, file: File) -> File | Pickled:
    """What travels: a file itself, a function pickled. Raises UserError, naming what cannot go."""
    return Pickled(name, _dumped(file)) if isinstance(file, Given) else file


def unpickled(function: Pickled) -> Given:
    """What was packed."""
    from ray import cloudpickle

    given: Given = cloudpickle.loads(function.content)
    return given


def _dumped(given: Given) -> bytes:
    from ray import cloudpickle

    try:
        content: bytes = cloudpickle.dumps(given)  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever an object raises that does not want to travel
        culprit = next(_culprits(given.entry.function), None)
        what = f"its {culprit}" if culprit else why(error)
        raise UserError(
            f"{given.entry.name}: {what} cannot travel to workers: make it within the function, or "
            "take one worker"
        ) from None
    return content


def _culprits(function: Any, seen: frozenset[int] = frozenset()) -> Iterator[str]:
    """`'lock' (lock)`: what the function uses from outside and cannot be pickled."""
    from ray import cloudpickle

    if not inspect.isfunction(function) or id(function) in seen:
        return
    outside = inspect.getclosurevars(function)
    for name, value in {**outside.globals, **outside.nonlocals}.items():
        try:
            cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
        except Exception:
            yield from _culprits(value, seen | {id(function)})
            yield f"{name!r} ({type(value).__name__})"
