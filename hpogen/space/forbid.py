"""Forbidden combinations, `kernel == 'rbf' and lr > 0.1`: read with Python's grammar, never run.

Comparisons of parameters with values or with each other, joined by `and`, `or`, `not`; nothing
else. `form.py` reads them when a space is loaded, `space.py` asks them of a configuration.
"""

from __future__ import annotations

import ast
import itertools
import keyword
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpogen.errors import quoted, unknown
from hpogen.space.parameters import Choice, Constant, Number, Parameter, same
from hpogen.trial import Config, Value

SUCH = "as in \"kernel == 'rbf' and lr > 0.1\""
LONGEST = 1000  # characters
WORDS = {"null": None, "true": True, "false": False}  # YAML's own, beside Python's
ORDERS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}

Truth = Callable[[Config], bool | None]
"""Whether it holds for a configuration; None: that hangs on a parameter that is not active."""
Get = Callable[[Config], Any]


@dataclass(frozen=True)
class Forbidden:
    """One line of `forbid`."""

    text: str
    _truth: Truth = field(compare=False, repr=False)

    @staticmethod
    def parse(text: object, parameters: Mapping[str, Parameter]) -> Forbidden:
        """The condition in a text. Raises ValueError, in one line, for none, or one of no effect.

        A name that is no name in Python stands in backticks: `` `weight-decay` > 0.1 ``.
        """
        if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
            raise ValueError(f"got {quoted(text)}, expected a condition, {SUCH}")
        names: dict[str, str] = {}  # by what stands in for them

        def named(found: re.Match[str]) -> str:
            stand_in = f"_quoted_{len(names)}_"
            names[stand_in] = found[1]
            return stand_in

        readable = re.sub(r"`([^`]+)`", named, " ".join(text.split()))
        try:
            tree = ast.parse(readable, mode="eval").body
            return Forbidden(text, _Reader(parameters, names).truth(tree))
        except (SyntaxError, RecursionError, MemoryError) as error:
            why = getattr(error, "msg", None) or "it is nested too deeply"
            why = "equal is written ==" if re.search(r"(?<![=!<>])=(?!=)", readable) else why
            raise ValueError(f"got {quoted(text)}, expected a condition, {SUCH}: {why}") from None

    def holds(self, config: Config) -> bool:
        """Whether the configuration is forbidden.

        A comparison with a parameter that the configuration lacks is neither true nor false: what
        hangs on it forbids nothing, as in SQL.
        """
        return self._truth(config) is True


@dataclass(frozen=True)
class _Reader:
    """From the syntax tree to functions, with every name and value checked on the way."""

    parameters: Mapping[str, Parameter]
    names: Mapping[str, str]  # what stands in backticks

    def truth(self, node: ast.expr) -> Truth:
        match node:
            case ast.BoolOp(op, values):
                parts = [self.truth(value) for value in values]
                return _any(parts) if isinstance(op, ast.Or) else _all(parts)
            case ast.UnaryOp(ast.Not(), operand):
                return _not(self.truth(operand))
            case ast.Compare(left, ops, comparators):
                sides = itertools.pairwise([left, *comparators])
                pairs = [self.compared(a, op, b) for op, (a, b) in zip(ops, sides, strict=True)]
                return _all(pairs)
        raise ValueError(
            f"got {self.shown(node)}, expected comparisons of parameters with values, joined by "
            f"and, or, not, {SUCH}"
        )

    def compared(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Truth:
        if isinstance(op, ast.Is | ast.IsNot):
            raise ValueError("got 'is', expected == or !=")
        if isinstance(op, ast.In | ast.NotIn):
            found = self.among(left, right)
            return found if isinstance(op, ast.In) else _not(found)
        a, b = self.name(left), self.name(right)
        if a is None and b is None:
            self.value(left), self.value(right)
            shown = f"{self.shown(left)} with {self.shown(right)}"
            raise ValueError(f"compares {shown}, expected a parameter on one side")
        if isinstance(op, ast.Eq | ast.NotEq):
            equal = _compare(self.side(left, b), _equal, self.side(right, a))
            return equal if isinstance(op, ast.Eq) else _not(equal)
        return self.ordered(left, ORDERS[type(op)], right)

    def among(self, left: ast.expr, right: ast.expr) -> Truth:
        name = self.name(left)
        lists = ast.List | ast.Tuple | ast.Set
        if name is None or not isinstance(right, lists) or not right.elts:
            raise ValueError("expected a parameter before 'in', and values in [] behind it")
        get = self.side(left, None)
        return _any([_compare(get, _equal, self.side(value, name)) for value in right.elts])

    def ordered(self, left: ast.expr, order: Callable[[Any, Any], bool], right: ast.expr) -> Truth:
        names = [name for name in map(self.name, (left, right)) if name is not None]
        if all(_is_number(self.parameters[name]) for name in names):
            return _compare(self.number(left, names), order, self.number(right, names))
        name = next(name for name in names if not _is_number(self.parameters[name]))
        parameter = self.parameters[name]
        if not isinstance(parameter, Choice) or not parameter.ordered or len(names) > 1:
            raise ValueError(f"{name!r} has no order here: expected ==, != or in")

        def place(get: Get) -> Get:
            return lambda config: x if (x := get(config)) is _ABSENT else parameter.index(x)

        return _compare(place(self.side(left, name)), order, place(self.side(right, name)))

    def number(self, node: ast.expr, names: Sequence[str]) -> Get:
        """A side of `<`: a value in the range of the parameter on the other one."""
        if self.name(node) is not None:
            return self.side(node, None)
        value, parameter = self.value(node), self.parameters[names[0]]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{names[0]}: got {quoted(value)}, expected a number")
        if isinstance(parameter, Number) and not parameter.low <= value <= parameter.high:
            low, high = parameter.low, parameter.high
            raise ValueError(f"{names[0]}: got {value!r}, expected a number in [{low}, {high}]")
        return lambda _: value

    def side(self, node: ast.expr, other: str | None) -> Get:
        """What gets a side's value; a bare value is one that the parameter `other` may have."""
        if (name := self.name(node)) is not None:
            return lambda config: config.get(name, _ABSENT)
        value = self.value(node)
        if other is not None:
            value = _possible(other, self.parameters[other], value)
        return lambda _: value

    def name(self, node: ast.expr) -> str | None:
        """The parameter that it names; None for a value. Raises ValueError for an unknown one."""
        if not isinstance(node, ast.Name) or node.id in WORDS:
            return None
        name = self.names.get(node.id, node.id)
        if name not in self.parameters:
            raise ValueError(unknown("parameter", name, self.parameters))
        return name

    def value(self, node: ast.expr) -> Value:
        match node:
            case ast.Name(id):
                return WORDS[id]
            case ast.Constant(bool() | int() | float() | str() | None as value):
                return value
            case ast.UnaryOp(ast.USub(), ast.Constant(int() | float() as value)):
                return -value
        raise ValueError(f"got {self.shown(node)}, expected a parameter or a value, {SUCH}")

    def shown(self, node: ast.expr) -> str:
        text = ast.unparse(node)
        for stand_in, name in self.names.items():
            text = text.replace(stand_in, f"`{name}`")
        return quoted(text)


_ABSENT = object()


def _compare(left: Get, compare: Callable[[Any, Any], bool], right: Get) -> Truth:
    def truth(config: Config) -> bool | None:
        a, b = left(config), right(config)
        return None if a is _ABSENT or b is _ABSENT else compare(a, b)

    return truth


def _all(parts: Sequence[Truth]) -> Truth:
    """False where one is false; else None where one is None (Kleene's logic, as SQL's)."""

    def truth(config: Config) -> bool | None:
        found = [part(config) for part in parts]
        return False if False in found else None if None in found else True

    return parts[0] if len(parts) == 1 else truth


def _any(parts: Sequence[Truth]) -> Truth:
    def truth(config: Config) -> bool | None:
        found = [part(config) for part in parts]
        return True if True in found else None if None in found else False

    return truth


def _not(part: Truth) -> Truth:
    def truth(config: Config) -> bool | None:
        found = part(config)
        return None if found is None else not found

    return truth


def _equal(a: object, b: object) -> bool:
    """1 and 1.0 are equal, 1 and true are not."""
    return same(a, b) or (a == b and not isinstance(a, bool) and not isinstance(b, bool))


def _possible(name: str, parameter: Parameter, value: Value) -> Value:
    """The value, if the parameter may have it; else ValueError, as the comparison never holds."""
    try:
        if isinstance(parameter, Number):
            return parameter.check(value)
        values = parameter.values if isinstance(parameter, Choice) else (parameter.default,)
        equal = [x for x in values if _equal(x, value)]
        return equal[0] if equal else parameter.check(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _is_number(parameter: Parameter) -> bool:
    """Whether its values are in the order of numbers."""
    if isinstance(parameter, Number):
        return True
    values = (parameter.default,) if isinstance(parameter, Constant) else parameter.values
    numbers = [x for x in values if isinstance(x, int | float) and not isinstance(x, bool)]
    if len(numbers) < len(values):
        return False
    ordered = isinstance(parameter, Choice) and parameter.ordered
    return not ordered or numbers == sorted(numbers)


def mentioned(name: str) -> str:
    """How a condition names a parameter: in backticks where Python could not."""
    bare = name.isidentifier() and not keyword.iskeyword(name) and name not in WORDS
    return name if bare else f"`{name}`"
