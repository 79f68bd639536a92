"""Hyper-parameters as a Python program writes them: a thin face of the YAML's forms.

    {"lr": hpogen.Float(1e-4, 1, log=True), "width": hpogen.Int(8, 512), "classes": 10}

`space_form` makes the YAML's mapping of it, and that is what is checked: `form.py` has the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from types import EllipsisType
from typing import Any

import numpy as np

from hpogen.errors import UserError, quoted
from hpogen.space.foreign import from_configspace, of_distribution, of_hyperparameter, package_of
from hpogen.trial import Value

Condition = Mapping[str, Value | Sequence[Value]]


@dataclass(frozen=True)
class Float:
    """A real number from `low` to `high`, both included.

    `log`: equal ratios are equally likely. `default` is the value of trial 0; left out, the middle.
    With `step` only low, low + step, … high are drawn. `prior={"center": 0.1, "width": 10}` says
    where the best value is thought to be. `when` names what must have which value, or one of which
    values, for the parameter to exist.
    """

    low: float
    high: float
    _: KW_ONLY
    log: bool = False
    default: float | EllipsisType = ...
    step: float | None = None
    prior: Mapping[str, float] | None = None
    when: Condition | None = None

    @property
    def form(self) -> dict[str, Any]:
        """What the YAML has for it."""
        return {"float": [self.low, self.high]} | _given(self)


@dataclass(frozen=True)
class Int:
    """An integer from `low` to `high`, both included; the rest is `Float`'s."""

    low: int
    high: int
    _: KW_ONLY
    log: bool = False
    default: int | EllipsisType = ...
    step: int | None = None
    prior: Mapping[str, float] | None = None
    when: Condition | None = None

    @property
    def form(self) -> dict[str, Any]:
        """What the YAML has for it."""
        return {"int": [self.low, self.high]} | _given(self)


@dataclass(frozen=True)
class Choice:
    """One of the values; `default`, left out, is the first. `when` as `Float` has it.

    `ordered`: searchers see their order, as one number.
    """

    values: Sequence[Value]
    _: KW_ONLY
    ordered: bool = False
    default: Value | EllipsisType = ...
    when: Condition | None = None

    @property
    def form(self) -> dict[str, Any]:
        """What the YAML has for it."""
        return {"choice": self.values} | _given(self)


@dataclass(frozen=True)
class Constant:
    """A value that every configuration has, and that no searcher sees; the bare value will do."""

    value: Value

    @property
    def form(self) -> Value:
        """What the YAML has for it."""
        return self.value


OBJECTS = (Float, Int, Choice, Constant)
FOREIGN = {"ConfigSpace": of_hyperparameter, "optuna": of_distribution}  # by package
FIRST = ("low", "high", "values")  # what the YAML names by the kind


def _given(parameter: Float | Int | Choice) -> dict[str, Any]:
    """What was said beside the range. A key that says what is so without it is left out."""
    named = [field for field in fields(parameter) if field.name not in FIRST]
    pairs = [(field, getattr(parameter, field.name)) for field in named]
    return {field.name: x for field, x in pairs if x is not field.default}


def space_form(space: Mapping[str, Any]) -> dict[str, Any]:
    """The `search_space` mapping of the YAML for a mapping of names to hyper-parameters.

    A value may be `Float`, `Int`, `Choice`, `Constant`, the YAML's own form, a hyper-parameter of
    ConfigSpace, a distribution of Optuna, or a bare value, which is a constant; with them `forbid`
    may be a list of conditions. The space may be a whole ConfigSpace. What the values are is
    checked where the mapping is loaded. Raises UserError for what is no mapping, and for what
    ConfigSpace has and hpogen has no word for.
    """
    if hasattr(space, "forbidden_clauses") and package_of(space) == "ConfigSpace":
        return {name: _plain(form) for name, form in from_configspace(space).items()}
    if not isinstance(space, Mapping):
        raise UserError(
            f"search space: got {quoted(space)}, expected a mapping: "
            '{"lr": hpogen.Float(1e-4, 1, log=True)}'
        )
    return {name: _plain(parameter) for name, parameter in space.items()}


def _plain(given: Any) -> Any:
    """In the YAML's types alone: NumPy's numbers and tuples come from Python."""
    if isinstance(given, OBJECTS):
        return _plain(given.form)
    if package_of(given) in FOREIGN:
        return _plain(FOREIGN[package_of(given)](given))
    if isinstance(given, np.generic):
        return given.item()
    if isinstance(given, np.ndarray | tuple | list | range):
        return [_plain(value) for value in given]
    if isinstance(given, Mapping):
        return {key: _plain(value) for key, value in given.items()}
    return given
