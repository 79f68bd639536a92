"""A function that a Python program gives, without a plug-in file: bound for the studies of its own.

`hpogen.search` binds one. What stands for the file is the function's text.
"""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

from hpogen.plugins.binding import FILES, File
from hpogen.plugins.files import DIGITS
from hpogen.plugins.guest import PREFIX
from hpogen.plugins.parts import TaskFunction, tasks


@dataclass(frozen=True)
class Given(File):
    """A function's entry; `source` is the function's text."""

    entry: TaskFunction


def bind_function(entry: TaskFunction, function: Any) -> str:
    """The entry's name for a scope, which its own and the text of the `function` decide."""
    source = text_of(function)
    digest = hashlib.sha256(repr((entry.name, source)).encode()).hexdigest()
    name = f"{PREFIX}{entry.name}_{digest[:DIGITS]}"
    give(name, Given(Path(f"{entry.name}.py"), source, entry))
    return name


def give(name: str, given: Given) -> None:
    """Bind a function under the name that it has in the process which was given it."""
    FILES[name] = given
    tasks.bind(name, given.entry.name, given.entry)


def text_of(function: Any) -> bytes:
    """The function's text, or what it was compiled to, where nobody has the text."""
    inner = inspect.unwrap(getattr(function, "func", function))  # of a functools.partial
    if not inspect.isroutine(inner):
        inner = type(inner)
    try:
        return inspect.getsource(inner).encode()
    except (OSError, TypeError):
        code = getattr(inner, "__code__", None)
        return repr(_compiled(code) if isinstance(code, CodeType) else inner.__qualname__).encode()


def _compiled(code: CodeType) -> list[object]:
    """What decides what the code does; no addresses and no names of files."""
    constants = [_compiled(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return [code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars, constants]
