"""What a search space may look like in YAML, and what is said when it does not.

`Space.parse` calls it; every mistake becomes one line of a pydantic ValidationError.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Annotated, Any

from annotated_types import Gt, Len
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from hpogen.errors import quoted, unknown
from hpogen.space.conditions import impossible
from hpogen.space.forbid import Forbidden
from hpogen.space.mistake import Location, Mistake
from hpogen.space.parameters import Choice, Constant, Number, Parameter, Prior, When
from hpogen.trial import Value

KINDS = "{float: [low, high]}, {int: [low, high]}, {choice: [values]} or a constant"
EXPECTED = {
    "float": "[low, high], two finite numbers",
    "int": "[low, high], two integers",
    "choice": "a list of values",
    "log": "true or false",
    "ordered": "true or false",
    "step": "a number above 0; with int a whole one",
    "prior": "{center: value, width: number above 0}",
    "when": "{parameter: value or [values]}",
}
FORBID = "forbid"  # beside the parameters, where it is a list
LARGEST_INTEGER = 2**53  # beyond it a coordinate no longer tells neighbours apart


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)
    default: Any = None
    """The value of trial 0 and of the baseline; left out: the middle of a range, the first choice.

    With `log: true` the middle is the geometric mean of the bounds.
    """
    when: dict[str, Any] = {}
    """The parameter exists only where another one has this value, or one of these values."""


class PriorForm(BaseModel):
    """Where the best value is thought to be: a normal distribution, cut off at the range's ends."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)
    center: float
    """The value that is thought best, in the range."""
    width: Annotated[float, Gt(0)]
    """The standard deviation, in the parameter's unit; with `log: true` a factor, above 1."""


class _Float(_Form, title="float"):
    bounds: Annotated[list[float], Len(2, 2)] = Field(alias="float")
    """The lowest and the highest value, both included."""
    log: bool = False
    """Whether equal ratios are equally likely, not equal differences; then bounds are > 0."""
    step: Annotated[float, Gt(0)] | None = None
    """Only low, low + step, … high are drawn, equally often; not with `log: true`."""
    prior: PriorForm | None = None
    """Where the best value is thought to be; for `random`, `optuna` (TPE) and `cmaes`."""


class _Integer(_Form, title="int"):
    bounds: Annotated[list[int], Len(2, 2)] = Field(alias="int")
    """The lowest and the highest value, both included; at most 2^53 from zero."""
    log: bool = False
    """Whether equal ratios are equally likely, not equal differences; then bounds are > 0."""
    step: Annotated[int, Gt(0)] | None = None
    """Only low, low + step, … high are drawn, equally often; not with `log: true`."""
    prior: PriorForm | None = None
    """Where the best value is thought to be; for `random`, `optuna` (TPE) and `cmaes`."""


class _Choice(_Form, title="choice"):
    values: Annotated[list[Any], Len(1)] = Field(alias="choice")
    """Numbers, strings, booleans or null, each once."""
    ordered: bool = False
    """Whether the values stand in an order: searchers then see one number, in equal shares."""


FORMS: dict[str, type[_Float | _Integer | _Choice]] = {
    "float": _Float,
    "int": _Integer,
    "choice": _Choice,
}


def parse(mapping: Mapping[str, Any]) -> tuple[dict[str, Parameter], tuple[Forbidden, ...]]:
    """The parameters of a `search_space` mapping, in its order, and what it forbids.

    Raises ValidationError; `loc` is the path within the mapping, `("lr", "float")` say.
    """
    if not isinstance(mapping, Mapping) or not mapping:
        raise invalid(
            [Mistake((), mapping, f"got {quoted(mapping)}, expected parameters: {KINDS}")]
        )
    parameters: dict[str, Parameter] = {}
    mistakes: list[Mistake] = []
    given = {name: value for name, value in mapping.items() if not _forbids(name, value)}
    for name, value in given.items():
        try:
            parameters[name] = _parameter(name, value)
        except Mistake as mistake:
            mistakes.append(mistake)
        except ValidationError as error:
            mistakes += _reworded(name, error)
    if not mistakes:
        mistakes += impossible(parameters)
    if not mistakes and all(isinstance(p, Constant) for p in parameters.values()):
        mistakes = [Mistake((), mapping, "every parameter is a constant: nothing to search")]
    forbidden = [] if mistakes else [*_forbidden(mapping.get(FORBID), parameters, mistakes)]
    if mistakes:
        raise invalid(mistakes)
    return parameters, tuple(forbidden)


def _forbids(name: object, value: object) -> bool:
    """Whether these are forbidden combinations, and no parameter that is called so."""
    return name == FORBID and isinstance(value, list | str)


def _forbidden(
    given: object, parameters: Mapping[str, Parameter], mistakes: list[Mistake]
) -> Iterator[Forbidden]:
    if isinstance(given, str):
        text = f"got {quoted(given)}, expected a list of conditions: [{given!r}]"
        mistakes.append(Mistake((FORBID,), given, text))
    for i, text in enumerate(given if isinstance(given, list) else []):
        try:
            yield Forbidden.parse(text, parameters)
        except ValueError as error:
            mistakes.append(Mistake((FORBID, i), text, str(error)))


def invalid(mistakes: Sequence[Mistake]) -> ValidationError:
    """What is raised for these mistakes."""
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


def _reworded(name: str, error: ValidationError) -> Iterator[Mistake]:
    for detail in error.errors():
        location, got = detail["loc"], detail["input"]
        if detail["type"] == "extra_forbidden":
            form = FORMS[error.title] if len(location) == 1 else PriorForm
            fields = form.model_fields.items()
            text = unknown("", location[-1], [info.alias or key for key, info in fields])
        else:
            text = f"got {quoted(got)}, expected {EXPECTED[str(location[0])]}"
        yield Mistake((name, *location), got, text)


def _parameter(name: object, value: object) -> Parameter:
    if not isinstance(name, str) or not name:
        raise Mistake((str(name),), name, f"got {name!r}, expected a name, as a string")
    if not isinstance(value, Mapping):
        return Constant(_plain((name,), value))
    kinds = [kind for kind in FORMS if kind in value]
    if len(kinds) != 1:
        raise Mistake((name,), value, f"got keys {list(value)}, expected {KINDS}")
    form = FORMS[kinds[0]].model_validate(dict(value))
    parameter: Any = _choice(name, form) if isinstance(form, _Choice) else _number(name, form)
    if "default" in form.model_fields_set:
        try:
            default = parameter.check(form.default)
        except ValueError as error:
            raise Mistake((name, "default"), form.default, str(error)) from None
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
        raise Mistake(location, form.bounds, f"got {form.bounds}, {problem}")
    _check_step(name, form)
    prior = _prior(name, form)
    middle = math.sqrt(low) * math.sqrt(high) if form.log else low + (high - low) / 2
    best = middle if prior is None else prior.center
    default = min(max(round(best) if integer else best, low), high)
    number = Number(low, high, form.log, integer, default, step=form.step, prior=prior)
    return replace(number, default=number.at(number.place(best))) if form.step else number


def _check_step(name: str, form: _Float | _Integer) -> None:
    if form.step is None:
        return
    low, high, step = (Fraction(repr(x)) for x in (*form.bounds, form.step))
    problem = ""
    if form.log:
        problem = "not together with log: true; expected {choice: [values], ordered: true}"
    elif (high - low) / step > LARGEST_INTEGER:
        problem = "expected at most 2^53 steps"
    elif (high - low) % step:
        last = float(high - (high - low) % step)
        problem = f"expected steps that end at {form.bounds[1]}, not at {last:g}"
    if problem:
        raise Mistake((name, "step"), form.step, f"got {form.step}, {problem}")


def _prior(name: str, form: _Float | _Integer) -> Prior | None:
    if form.prior is None:
        return None
    center, width = form.prior.center, form.prior.width
    low, high = form.bounds
    if not low <= center <= high:
        text = f"got {center}, expected a value in [{low}, {high}]"
        raise Mistake((name, "prior", "center"), center, text)
    if form.log and width <= 1:
        text = f"got {width}, expected a factor above 1, as log is true: 10 is a power of ten"
        raise Mistake((name, "prior", "width"), width, text)
    return Prior(center, width)


def _choice(name: str, form: _Choice) -> Choice:
    if form.ordered and len(form.values) < 2:
        text = "ordered values are two at least; a constant is written `name: value`"
        raise Mistake((name, "ordered"), form.values, text)
    values = [_chosen((name, "choice", i), value) for i, value in enumerate(form.values)]
    seen: dict[Value, Value] = {}
    for i, value in enumerate(values):
        if value in seen:
            text = f"got {quoted(value)}, which equals {quoted(seen[value])}: each value once"
            raise Mistake((name, "choice", i), value, text)
        seen[value] = value
    return Choice(tuple(values), values[0], ordered=form.ordered)


def _when(name: str, given: Mapping[str, Any]) -> When:
    when: dict[str, tuple[Value, ...]] = {}
    for parent, wanted in given.items():
        values = wanted if isinstance(wanted, list) else [wanted]
        if not values:
            raise Mistake((name, "when", parent), wanted, "got [], expected at least one value")
        when[parent] = tuple(_chosen((name, "when", parent), value) for value in values)
    return when


def _chosen(location: Location, value: object) -> Value:
    return None if value is None else _plain(location, value)


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
    raise Mistake(
        location, value, f"got {quoted(value)}, expected a finite number, string or boolean"
    )
