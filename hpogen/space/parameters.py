"""The kinds of hyper-parameter, each with its range and its coordinates in the unit cube.

`space.py` makes them from YAML; searchers read `low`, `high`, `log` and `values` where they must.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from hpogen.errors import quoted
from hpogen.trial import Value

When = Mapping[str, tuple[Value, ...]]
"""A condition: every parameter named has one of the values, and is itself active."""


def _condition(when: When) -> dict[str, Any]:
    return {"when": {name: list(values) for name, values in when.items()}} if when else {}


def same(a: object, b: object) -> bool:
    """Equality that tells 1, 1.0 and true apart, as YAML does."""
    return type(a) is type(b) and a == b


@dataclass(frozen=True)
class Number:
    """A float in [low, high], or with `integer` one of the integers low … high."""

    low: float
    high: float
    log: bool
    integer: bool
    default: int | float
    when: When = field(default_factory=dict)
    width: ClassVar[int] = 1

    @cached_property
    def interval(self) -> tuple[float, float]:
        """What [0, 1] maps to, in log where asked: every integer has an equal share, ± ½."""
        margin = 0.5 if self.integer else 0.0
        ends = (self.low - margin, self.high + margin)
        return (math.log(ends[0]), math.log(ends[1])) if self.log else ends

    def decode(self, block: Sequence[float]) -> int | float:
        start, end = self.interval
        x = start + block[0] * (end - start)
        if self.log:
            x = math.exp(x)
        if self.integer:
            return int(min(max(math.floor(x + 0.5), self.low), self.high))
        return min(max(x, self.low), self.high)

    def encode(self, value: Any) -> list[float]:
        start, end = self.interval
        x = math.log(value) if self.log else float(value)
        return [(x - start) / (end - start)]

    def check(self, value: object) -> int | float:
        """The value as plain int or float. Raises ValueError for a wrong type or outside."""
        kind = "an integer" if self.integer else "a number"
        accepted = int if self.integer else (int, float)
        if isinstance(value, bool) or not isinstance(value, accepted):
            raise ValueError(f"got {quoted(value)}, expected {kind}")
        if not self.low <= value <= self.high:
            raise ValueError(
                f"got {quoted(value)}, expected {kind} in [{self.low!r}, {self.high!r}]"
            )
        return int(value) if self.integer else float(value)

    def record(self) -> dict[str, Any]:
        kind = "int" if self.integer else "float"
        form = {kind: [self.low, self.high], "log": self.log, "default": self.default}
        return form | _condition(self.when)


@dataclass(frozen=True)
class Choice:
    """One of several values: a one-hot block of coordinates, of which the largest decides."""

    values: tuple[Value, ...]
    default: Value
    when: When = field(default_factory=dict)

    @property
    def width(self) -> int:
        return len(self.values)

    def index(self, value: object) -> int:
        """The place of a value among the choices."""
        return next(i for i, other in enumerate(self.values) if same(value, other))

    def decode(self, block: Sequence[float]) -> Value:
        return self.values[max(range(len(block)), key=block.__getitem__)]

    def encode(self, value: object) -> list[float]:
        # 2/3 and 1/3 rather than 1 and 0, so that a small step from here can change the choice
        return [2 / 3 if same(value, other) else 1 / 3 for other in self.values]

    def check(self, value: object) -> Value:
        """The value. Raises ValueError when it is none of the choices."""
        for other in self.values:
            if same(value, other):
                return other
        raise ValueError(f"got {quoted(value)}, expected one of {quoted(list(self.values))}")

    def record(self) -> dict[str, Any]:
        return {"choice": list(self.values), "default": self.default} | _condition(self.when)


@dataclass(frozen=True)
class Constant:
    """A value that every configuration has, and that no searcher sees."""

    default: Value
    when: ClassVar[When] = {}
    width: ClassVar[int] = 0

    def decode(self, block: Sequence[float]) -> Value:
        return self.default

    def encode(self, value: object) -> list[float]:
        return []

    def check(self, value: object) -> Value:
        """The value. Raises ValueError when it is another."""
        if not same(value, self.default):
            raise ValueError(f"got {quoted(value)}, expected the constant {self.default!r}")
        return self.default

    def record(self) -> Value:
        return self.default


Parameter = Number | Choice | Constant


def height(parameter: Parameter, value: Any) -> float:
    """Where a value lies on the axis of its parameter, from 0 to 1; logarithmic where that is."""
    if isinstance(parameter, Number):
        return float(parameter.encode(value)[0])
    if isinstance(parameter, Choice):
        return parameter.index(value) / max(len(parameter.values) - 1, 1)
    return 0.5
