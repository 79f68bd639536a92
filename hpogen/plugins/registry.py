"""A registry: the names of one kind of part, each with its part, imported when first asked for.

`parts.py` has one for searchers, tasks, models, data sets and measures.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from hpogen.errors import UserError, unknown
from hpogen.plugins.binding import in_scope, registering

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind of part. A built-in is one line `name="module:attribute"`.

    Or a row of the `table` "module:attribute", a mapping of name → part, or its place, read when
    first needed. A name that ends in a slash is a family of parts, `torchvision/resnet18`; it is
    the place of a function that gives the part of the name after the slash, or raises UserError.
    """

    def __init__(self, kind: str, table: str = "", **builtin: str) -> None:
        self.kind = kind
        self._table = table
        self._families = {name: place for name, place in builtin.items() if name.endswith("/")}
        self._builtin = {n: place for n, place in builtin.items() if n not in self._families}
        self._added: dict[str, T] = {}  # for every study
        self._bound: dict[str, dict[str, T]] = {}  # by plug-in file, for the studies that have it

    @functools.cached_property
    def _rows(self) -> Mapping[str, T | str]:
        return imported(self._table) if self._table else {}

    def _users(self) -> Mapping[str, T]:
        """The parts of users that are in scope."""
        found = dict(self._added)
        for file in in_scope():
            found |= self._bound.get(file, {})
        return found

    def names(self) -> list[str]:
        """Those that stand here one by one: without the families'."""
        return sorted({*self._builtin, *self._rows, *self._users()})

    def choices(self) -> list[str]:
        """What a user may write: the names, then the families, as `torchvision/NAME`."""
        return [*self.names(), *(f"{prefix}NAME" for prefix in self._families)]

    def __contains__(self, name: object) -> bool:
        try:
            self.check(str(name))
        except UserError:
            return False
        return True

    def is_builtin(self, name: object) -> bool:
        """Whether it is one of hpogen's own; a family's is not."""
        return name in self._builtin or name in self._rows

    def is_plugin(self, name: object) -> bool:
        """Whether it was added by a user."""
        return name in self._users()

    def check(self, name: str) -> None:
        """Raise UserError with the nearest name if there is no such part; imports no built-in."""
        if self._family(name):
            self.get(name)
        elif name not in self.names():
            raise UserError(unknown("", name, self.choices()))

    def get(self, name: str) -> T:
        """The part of that name, imported now. Raises UserError with the nearest name."""
        part = self._users().get(name) or self._rows.get(name) or self._builtin.get(name)
        if part is None:
            if prefix := self._family(name):
                made: T = imported(self._families[prefix])(name.removeprefix(prefix))
                return made
            raise UserError(unknown("", name, self.choices()))
        found: T = imported(part) if isinstance(part, str) else part
        return found

    def parts(self) -> list[T]:
        """Those that `names` names, all imported now."""
        return [self.get(name) for name in self.names()]

    def add(self, name: str, part: T) -> None:
        """Register a user's part. The name of a built-in one is refused; a reload replaces.

        What a study's plug-in file adds, that study alone will see.
        """
        if self.is_builtin(name) or self._family(name):
            raise UserError(f"{self.kind} {name!r} is built in: give yours another name")
        file = registering()
        (self._bound.setdefault(file, {}) if file else self._added)[name] = part

    def bind(self, file: str, name: str, part: T) -> None:
        """Register a part for the studies in whose scope `file` is, whatever it is called."""
        self._bound.setdefault(file, {})[name] = part

    def _family(self, name: str) -> str:
        """The prefix of the family that the name belongs to; empty: none."""
        return next((prefix for prefix in self._families if name.startswith(prefix)), "")


def imported(place: str) -> Any:
    """What stands at `module:attribute`, imported now."""
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
