"""Which plug-in files a lookup by name sees: those of the study at hand, and no other study's.

`files.py` names each file by its content, the registries keep its parts under that name, and what
a study has made of its YAML remembers the names: in another process they mean the same.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
Scope = tuple[str, ...]
"""Plug-in files by the modules that they have become; of equal names the last one's is seen."""


@dataclass(frozen=True)
class File:
    """A plug-in file as it was when it was imported."""

    path: Path
    source: bytes


FILES: dict[str, File] = {}  # by module: what this process has imported for some study
_scope: ContextVar[Scope] = ContextVar("scope", default=())


def in_scope() -> Scope:
    """The files that a lookup sees here."""
    return _scope.get()


@contextmanager
def scope(files: Scope) -> Iterator[None]:
    """Within the block, lookups see the parts of those files, and what every study sees.

    Afterwards they see what they saw before it, also where Ctrl-C ends the block at its beginning.
    """
    before = _scope.get()
    try:
        _scope.set(files)
        yield
    finally:
        _scope.set(before)


def scoped(method: F) -> F:
    """A method whose lookups see what its object, which has a `_scope`, was made with."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with scope(self._scope):
            return method(self, *args, **kwargs)

    return call  # type: ignore[return-value]


def registering() -> str:
    """The file whose code adds a part now; empty for any other code, such as a package's.

    A module that a file imports is imported once, for every file: its parts are everyone's.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals["__name__"].startswith(__package__):
        frame = frame.f_back
    name = frame.f_globals["__name__"] if frame else ""
    return name if name in FILES else ""
