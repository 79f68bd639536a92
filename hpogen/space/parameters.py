"""The kinds of hyper-parameter, each with its range and its coordinates in the unit cube.

`space.py` makes them from YAML; searchers read `low`, `high`, `log` and `values` where they must.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from statistics import NormalDist
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
class Prior:
    """Where the best value is thought to be: a normal distribution, cut off at the range's ends.

    `width` is its standard deviation in the unit of the parameter; with `log`, where the logarithm
    is normal, it is a factor: one deviation above `center` is `center` · `width`.
    """

    center: float
    width: float


@dataclass(frozen=True)
class Number:
    """A float in [low, high], or with `integer` one of the integers low … high.

    With `step` one of low, low + step, … high; then never `log`.
    """

    low: float
    high: float
    log: bool
    integer: bool
    default: int | float
    when: When = field(default_factory=dict)
    step: float | None = None
    prior: Prior | None = None
    width: ClassVar[int] = 1

    @cached_property
    def interval(self) -> tuple[float, float]:
        """What [0, 1] maps to, in log where asked: what is rounded has equal shares, ± ½."""
        margin = (self.step or 1) / 2 if self.integer or self.step else 0.0
        ends = (self.low - margin, self.high + margin)
        return (math.log(ends[0]), math.log(ends[1])) if self.log else ends

    @cached_property
    def last(self) -> int:
        """With `step`: how many steps there are from low to high, to the nearest."""
        return round((_exact(self.high) - _exact(self.low)) / _exact(self.step or 1))

    def at(self, place: int) -> int | float:
        """With `step`: low + place · step, exact for decimal numbers: 0.3, not 0.1 + 0.1 + 0.1."""
        x = _exact(self.low) + min(max(place, 0), self.last) * _exact(self.step or 1)
        return int(x) if self.integer else float(x)

    def place(self, value: float) -> int:
        """With `step`: the number of the step that is nearest to a value."""
        return round((value - self.low) / (self.step or 1))

    @cached_property
    def normal(self) -> NormalDist | None:
        """The prior in the coordinate of the unit cube, before it is cut off at 0 and 1."""
        if self.prior is None:
            return None
        start, end = self.interval
        center, width = self.prior.center, self.prior.width
        if self.log:
            center, width = math.log(center), math.log(width)
        return NormalDist((center - start) / (end - start), width / (end - start))

    def drawn(self, u: float) -> float:
        """The coordinate for a uniform u in [0, 1): u itself, or the prior's quantile."""
        if self.normal is None:
            return u
        low, high = self.normal.cdf(0.0), self.normal.cdf(1.0)
        p = min(max(low + u * (high - low), 1e-300), 1 - 2**-53)
        return min(max(self.normal.inv_cdf(p), 0.0), 1.0)

    def decode(self, block: Sequence[float]) -> int | float:
        start, end = self.interval
        x = start + block[0] * (end - start)
        if self.step:
            return self.at(math.floor((x - self.low) / self.step + 0.5))
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
        if self.step:
            nearest = self.at(self.place(value))
            if abs(value - nearest) > 1e-9 * self.step:
                raise ValueError(
                    f"got {quoted(value)}, expected {self.low!r} and a multiple of the step "
                    f"{self.step!r}: {nearest!r} is nearest"
                )
            return nearest
        return int(value) if self.integer else float(value)

    def record(self) -> dict[str, Any]:
        kind = "int" if self.integer else "float"
        form = {kind: [self.low, self.high], "log": self.log, "default": self.default}
        if self.step:
            form["step"] = self.step
        if self.prior:
            form["prior"] = {"center": self.prior.center, "width": self.prior.width}
        return form | _condition(self.when)


def _exact(x: float) -> Fraction:
    """The decimal number that a float is written as."""
    return Fraction(repr(x))


@dataclass(frozen=True)
class Choice:
    """One of several values: a one-hot block of coordinates, of which the largest decides.

    `ordered` ones, an ordinal, have one coordinate, in which their shares are equal.
    """

    values: tuple[Value, ...]
    default: Value
    when: When = field(default_factory=dict)
    ordered: bool = False

    @property
    def width(self) -> int:
        return 1 if self.ordered else len(self.values)

    def index(self, value: object) -> int:
        """The place of a value among the choices."""
        return next(i for i, other in enumerate(self.values) if same(value, other))

    def decode(self, block: Sequence[float]) -> Value:
        if self.ordered:
            return self.values[min(int(block[0] * len(self.values)), len(self.values) - 1)]
        return self.values[max(range(len(block)), key=block.__getitem__)]

    def encode(self, value: object) -> list[float]:
        if self.ordered:
            return [(self.index(value) + 0.5) / len(self.values)]
        # 2/3 and 1/3 rather than 1 and 0, so that a small step from here can change the choice
        return [2 / 3 if same(value, other) else 1 / 3 for other in self.values]

    def check(self, value: object) -> Value:
        """The value. Raises ValueError when it is none of the choices."""
        for other in self.values:
            if same(value, other):
                return other
        raise ValueError(f"got {quoted(value)}, expected one of {quoted(list(self.values))}")

    def record(self) -> dict[str, Any]:
        form = {"choice": list(self.values), "default": self.default}
        if self.ordered:
            form["ordered"] = True
        return form | _condition(self.when)


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


def places(parameter: Number | Choice) -> int | None:
    """How many values stand in a row, where they are steps or ordered; else None."""
    if isinstance(parameter, Choice):
        return len(parameter.values) if parameter.ordered else None
    return parameter.last + 1 if parameter.step else None


def number_of(parameter: Number | Choice, value: Any) -> int | float:
    """For engines that know numbers alone: the place of a choice or of a step, else the value."""
    if isinstance(parameter, Choice):
        return parameter.index(value)
    number: int | float = parameter.place(value) if parameter.step else value
    return number


def value_of(parameter: Number | Choice, number: float) -> Value:
    """The other way; what lies just outside the range is moved to its end."""
    if isinstance(parameter, Choice):
        return parameter.values[int(number)]
    if parameter.step:
        return parameter.at(int(number))
    inside = min(max(number, parameter.low), parameter.high)
    return int(inside) if parameter.integer else float(inside)


def height(parameter: Parameter, value: Any) -> float:
    """Where a value lies on the axis of its parameter, from 0 to 1; logarithmic where that is."""
    if isinstance(parameter, Number):
        return float(parameter.encode(value)[0])
    if isinstance(parameter, Choice):
        return parameter.index(value) / max(len(parameter.values) - 1, 1)
    return 0.5
