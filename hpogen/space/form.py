"""What a search space may look like in YAML, and what is said when it does not.

`Space.parse` calls it; every mistake becomes one line of a pydantic ValidationError.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from annotated_types import Len
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from hpogen.errors import quoted, unknown
from hpogen.space.parameters import Choice, Constant, Number, Parameter, When
from hpogen.trial import Value

KINDS = "{float: [low, high]}, {int: [low, high]}, {choice: [values]} or a constant"
EXPECTED = {
    "float": "[low, high], two finite numbers",
    "int": "[low, high], two integers",
    "choice": "a list of values",
    "log": "true or false",
    "when": "{parameter: value or [values]}",
}
LARGEST_INTEGER = 2**53  # beyond it a coordinate no longer tells neighbours apart
DEEPEST = 50  # conditions on conditions
MOST = 100  # mistakes in conditions that are looked for

Location = tuple[str | int, ...]


class _Mistake(Exception):
    def __init__(self, location: Location, got: object, text: str) -> None:
        super().__init__(text)
        self.location = location
        self.got = got


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)
    default: Any = None
    """The value of trial 0 and of the baseline; left out: the middle of a range, the first choice.

    With `log: true` the middle is the geometric mean of the bounds.
    """
    when: dict[str, Any] = {}
    """The parameter exists only where another one has this value, or one of these values."""


class _Float(_Form, title="float"):
    bounds: Annotated[list[float], Len(2, 2)] = Field(alias="float")
    """The lowest and the highest value, both included."""
    log: bool = False
    """Whether equal ratios are equally likely, not equal differences; then bounds are > 0."""


class _Integer(_Form, title="int"):
    bounds: Annotated[list[int], Len(2, 2)] = Field(alias="int")
    """The lowest and the highest value, both included; at most 2^53 from zero."""
    log: bool = False
    """Whether equal ratios are equally likely, not equal differences; then bounds are > 0."""


class _Choice(_Form, title="choice"):
    values: Annotated[list[Any], Len(1)] = Field(alias="choice")
    """Numbers, strings or booleans, each once; no order among them is assumed."""


FORMS: dict[str, type[_Float | _Integer | _Choice]] = {
    "float": _Float,
    "int": _Integer,
    "choice": _Choice,
}


def parse(mapping: Mapping[str, Any]) -> dict[str, Parameter]:
    """The parameters of a `search_space` mapping, in its order.

    Raises ValidationError; `loc` is the path within the mapping, `("lr", "float")` say.
    """
    if not isinstance(mapping, Mapping) or not mapping:
        raise _invalid(
            [_Mistake((), mapping, f"got {quoted(mapping)}, expected parameters: {KINDS}")]
        )
    parameters: dict[str, Parameter] = {}
    mistakes: list[_Mistake] = []
    for name, value in mapping.items():
        try:
            parameters[name] = _parameter(name, value)
        except _Mistake as mistake:
            mistakes.append(mistake)
        except ValidationError as error:
            mistakes += _reworded(name, error)
    if not mistakes:
        mistakes += itertools.islice(_impossible(parameters), MOST)
    if not mistakes and all(isinstance(p, Constant) for p in parameters.values()):
        mistakes = [_Mistake((), mapping, "every parameter is a constant: nothing to search")]
    if mistakes:
        raise _invalid(mistakes)
    return parameters


def _invalid(mistakes: list[_Mistake]) -> ValidationError:
    return ValidationError.from_exception_data(
        "search_space",
        [
            InitErrorDetails(
                type=PydanticCustomError("search_space", "{text}", {"text": str(mistake)}),
                loc=mistake.location,
                input=mistake.got,
            )
            for mistake in mistakes
        ],
    )


def _reworded(name: str, error: ValidationError) -> Iterator[_Mistake]:
    for detail in error.errors():
        location, got = detail["loc"], detail["input"]
        if detail["type"] == "extra_forbidden":
            fields = FORMS[error.title].model_fields.items()
            text = unknown("", location[-1], [info.alias or key for key, info in fields])
        else:
            text = f"got {quoted(got)}, expected {EXPECTED[str(location[0])]}"
        yield _Mistake((name, *location), got, text)


def _parameter(name: object, value: object) -> Parameter:
    if not isinstance(name, str) or not name:
        raise _Mistake((str(name),), name, f"got {name!r}, expected a name, as a string")
    if not isinstance(value, Mapping):
        return Constant(_plain((name,), value))
    kinds = [kind for kind in FORMS if kind in value]
    if len(kinds) != 1:
        raise _Mistake((name,), value, f"got keys {list(value)}, expected {KINDS}")
    form = FORMS[kinds[0]].model_validate(dict(value))
    parameter: Any = _choice(name, form) if isinstance(form, _Choice) else _number(name, form)
    if "default" in form.model_fields_set:
        try:
            default = parameter.check(form.default)
        except ValueError as error:
            raise _Mistake((name, "default"), form.default, str(error)) from None
        parameter = replace(parameter, default=default)
    result: Parameter = replace(parameter, when=_when(name, form.when))
    return result


def _number(name: str, form: _Float | _Integer) -> Number:
    low, high = form.bounds
    integer = isinstance(form, _Integer)
    problem = ""
    if low >= high:
        problem = "expected low < high; a constant is written `name: value`"
    elif form.log and low <= 0:
        problem = "expected low > 0 with log: true"
    elif integer and max(-low, high) > LARGEST_INTEGER:
        problem = "expected integers within ±2^53"
    elif not math.isfinite(high - low):
        problem = "expected a range whose width is finite"
    if problem:
        location = (name, "int" if integer else "float")
        raise _Mistake(location, form.bounds, f"got {form.bounds}, {problem}")
    middle = math.sqrt(low) * math.sqrt(high) if form.log else low + (high - low) / 2
    default = min(max(round(middle) if integer else middle, low), high)
    return Number(low, high, form.log, integer, default)


def _choice(name: str, form: _Choice) -> Choice:
    values = [_plain((name, "choice", i), value) for i, value in enumerate(form.values)]
    seen: dict[Value, Value] = {}
    for i, value in enumerate(values):
        if value in seen:
            text = f"got {quoted(value)}, which equals {quoted(seen[value])}: each value once"
            raise _Mistake((name, "choice", i), value, text)
        seen[value] = value
    return Choice(tuple(values), values[0])


def _when(name: str, given: Mapping[str, Any]) -> When:
    when: dict[str, tuple[Value, ...]] = {}
    for parent, wanted in given.items():
        values = wanted if isinstance(wanted, list) else [wanted]
        if not values:
            raise _Mistake((name, "when", parent), wanted, "got [], expected at least one value")
        when[parent] = tuple(_plain((name, "when", parent), value) for value in values)
    return when


def _plain(location: Location, value: object) -> Value:
    """The scalar without whatever a YAML parser wraps around it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    raise _Mistake(
        location, value, f"got {quoted(value)}, expected a finite number, string or boolean"
    )


def _impossible(parameters: Mapping[str, Parameter]) -> Iterator[_Mistake]:
    """Conditions on what is not there, that go round in a circle, or that can never hold."""
    sound = True
    for name, parameter in parameters.items():
        for parent, wanted in parameter.when.items():
            if (problem := _problem(parameters, name, parent, wanted)) is not None:
                sound = False
                yield _Mistake((name, "when", parent), wanted, problem)
    if not sound:
        return
    circle = _circle(parameters)
    for name, parameter in parameters.items():
        problem = circle.get(name) if circle else _unmet(parameters, name)
        if problem is not None:
            yield _Mistake((name, "when"), dict(parameter.when), problem)


def _problem(
    parameters: Mapping[str, Parameter], name: str, parent: str, wanted: tuple[Value, ...]
) -> str | None:
    if parent not in parameters:
        return unknown("parameter", parent, parameters.keys() - {name})
    other = parameters[parent]
    if isinstance(other, Number) and not other.integer:
        return f"{parent!r} is a float: a condition needs a choice, an int or a constant"
    for value in wanted:
        try:
            other.check(value)
        except ValueError as error:
            return str(error)
    return None


def _circle(parameters: Mapping[str, Parameter]) -> dict[str, str]:
    """What goes round in a circle or hangs on one, each with its way there; else what is too deep.

    Level by level: what has conditions on earlier levels only is the next one.
    """
    left = {name: {*parameter.when} for name, parameter in parameters.items() if parameter.when}
    for _ in range(DEEPEST):
        done = [name for name, parents in left.items() if not parents & left.keys()]
        if not done:
            break
        for name in done:
            del left[name]
    return {name: _way(parameters, name, left) for name in left}


def _way(parameters: Mapping[str, Parameter], name: str, left: Mapping[str, set[str]]) -> str:
    path = [name]
    while len(path) <= DEEPEST:
        above = next((parent for parent in parameters[path[-1]].when if parent in left), None)
        if above is None:
            break
        path.append(above)
        if above in path[:-1]:
            return f"conditions go round in a circle: {' → '.join(path)}"
    return f"conditions on conditions, more than {DEEPEST} deep"


def _unmet(parameters: Mapping[str, Parameter], name: str) -> str | None:
    """Why the parameter can never be active, or None: what its ancestors demand, taken together."""
    demands: dict[str, set[tuple[type, Value]]] = {}
    waiting = [name]
    while waiting:
        for parent, wanted in parameters[waiting.pop()].when.items():
            allowed = {(type(value), value) for value in wanted}
            if parent not in demands:
                waiting.append(parent)
            demands[parent] = demands.get(parent, allowed) & allowed
            if not demands[parent]:
                return f"never active: no value of {parent!r} meets every condition above it"
    return None
