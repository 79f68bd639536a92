"""Forbidden combinations: what is forbidden, and what is said of a condition that is none."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hpogen.errors import UserError
from hpogen.space import Space
from hpogen.space.forbid import Forbidden

SPACE: dict[str, Any] = {
    "kernel": {"choice": ["lin", "rbf", None]},
    "lr": {"float": [0.001, 1.0], "log": True, "default": 0.01},
    "layers": {"int": [1, 4]},
    "size": {"choice": ["s", "m", "l"], "ordered": True},
    "batch": {"choice": [16, 64]},
    "nesterov": {"choice": [False, True]},
    "gamma": {"float": [0, 1], "when": {"kernel": "rbf"}},
    "weight-decay": {"float": [0, 1]},
    "seed": 7,
}


def space(*forbid: str) -> Space:
    return Space.parse({**SPACE, "forbid": [*forbid]})


def forbidden(text: str, **config: Any) -> bool:
    made = space(text)
    complete = made.complete({"kernel": "lin", **config})
    return made.forbids(complete) == text


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("kernel == 'rbf' and lr > 0.1", {"kernel": "rbf", "lr": 0.2}, {"kernel": "rbf"}),
        ("kernel == null", {"kernel": None}, {}),
        ("kernel in ['rbf', None]", {"kernel": None}, {"kernel": "lin"}),
        ("kernel not in ('lin', 'rbf')", {"kernel": None}, {"kernel": "lin"}),
        ("0.1 < lr <= 0.5", {"lr": 0.5}, {"lr": 0.6}),
        ("layers >= 3 or size == 'l'", {"size": "l"}, {"size": "m"}),
        ("size > 's' and not nesterov == true", {"size": "m"}, {"size": "m", "nesterov": True}),
        ("'l' <= size", {"size": "l"}, {"size": "m"}),
        ("batch > 16", {"batch": 64}, {"batch": 16}),
        ("batch == 64.0", {"batch": 64}, {"batch": 16}),
        ("nesterov != False", {"nesterov": True}, {"nesterov": False}),
        ("`weight-decay` > lr and layers == 4", {"layers": 4}, {"layers": 4, "weight-decay": 0.0}),
        ("layers == 4 and seed == 7", {"layers": 4}, {"layers": 3}),
        ("gamma > 0.5", {"kernel": "rbf", "gamma": 0.6}, {}),
        ("not gamma <= 0.5", {"kernel": "rbf", "gamma": 0.6}, {}),
        ("gamma > 0.9 or layers == 4", {"layers": 4}, {"layers": 3}),
    ],
)
def test_what_holds_is_forbidden(text: str, yes: dict[str, Any], no: dict[str, Any]) -> None:
    assert forbidden(text, **yes)
    assert not forbidden(text, **no)


def test_conditions_agree_with_python_on_a_whole_grid() -> None:
    text = "not (a == 1 and b > 2) and (c in [0, 3] or a <= b < c) and a != c"
    forms: dict[str, Any] = {name: {"int": [0, 3], "default": 1} for name in "abc"}
    made = Space.parse({**forms, "forbid": [text]})
    found = {
        values: bool(made.forbids(dict(zip("abc", values, strict=True))))
        for values in itertools.product(range(4), repeat=3)
    }
    expected = {
        (a, b, c): not (a == 1 and b > 2) and (c in [0, 3] or a <= b < c) and a != c
        for a, b, c in found
    }
    assert found == expected
    assert {*found.values()} == {True, False}


def test_a_forbidden_configuration_is_not_in_the_space_nor_drawn() -> None:
    made = space("layers > 1 and lr > 0.01")
    config = made.complete({"layers": 2, "lr": 0.5})
    assert made.why_not(config) == "is forbidden: layers > 1 and lr > 0.01"
    generator = np.random.default_rng(0)
    assert not any(made.forbids(made.sample(generator)) for _ in range(500))
    assert Space.parse(json.loads(json.dumps(made.record()))) == made
    assert "forbid" not in Space.parse(SPACE).record()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (3, "got 3, expected a condition, as in"),
        ("", "got '', expected a condition, as in"),
        ("layers > ", "expected a condition, as in \"kernel == 'rbf' and lr > 0.1\": invalid syn"),
        ("layers = 3", "equal is written =="),
        ("(" * 300 + "layers == 1" + ")" * 300, "expected a condition"),
        ("nesterov", "got 'nesterov', expected comparisons of parameters with values"),
        ("open('x') == 1", "got \"open('x')\", expected a parameter or a value"),
        ("layers + 1 > 3", "got 'layers + 1', expected a parameter or a value"),
        ("(lambda: 1)() == layers", "expected a parameter or a value"),
        ("lr.real > 0.1", "got 'lr.real', expected a parameter or a value"),
        ("layer > 3", "parameter 'layer' is unknown; did you mean 'layers'?"),
        ("1 < 2", "compares '1' with '2', expected a parameter on one side"),
        ("kernel == 'rbg'", "kernel: got 'rbg', expected one of ['lin', 'rbf', None]"),
        ("kernel is null", "got 'is', expected == or !="),
        ("kernel < 'rbf'", "'kernel' has no order here: expected ==, != or in"),
        ("size > layers", "'size' has no order here"),
        ("lr > '0.1'", "lr: got '0.1', expected a number"),
        ("lr > 3", "lr: got 3, expected a number in [0.001, 1.0]"),
        ("layers == 2.5", "layers: got 2.5, expected an integer"),
        ("nesterov == 1", "nesterov: got 1, expected one of [False, True]"),
        ("size in 'sm'", "expected a parameter before 'in', and values in [] behind it"),
        ("size in []", "expected a parameter before 'in', and values in [] behind it"),
        ("`no such` == 1", "parameter 'no such' is unknown"),
    ],
)
def test_what_is_no_condition_is_told_in_a_line(text: Any, said: str) -> None:
    with pytest.raises(ValidationError) as error:
        space("layers == 4", text)
    first = error.value.errors()[0]
    assert first["loc"] == ("forbid", 1)
    assert said in first["msg"] and "\n" not in first["msg"]


def test_the_defaults_and_something_else_are_left() -> None:
    with pytest.raises(ValidationError, match=r"forbids the defaults, {'layers': 2}: give another"):
        space("layers == 2")
    with pytest.raises(ValidationError, match=r"forbids each of 1000 drawn configurations"):
        Space.parse({"lr": {"float": [0, 1]}, "forbid": ["lr < 0.5", "lr > 0.5"]})
    with pytest.raises(ValidationError, match=r"forbid\n.*expected a list of conditions: \['lr"):
        Space.parse({"lr": {"float": [0, 1]}, "forbid": "lr < 0.5"})


def test_a_parameter_may_be_called_forbid() -> None:
    made = Space.parse({"forbid": {"int": [1, 3]}, "lr": {"float": [0, 1]}})
    assert made.names == ("forbid", "lr") and made.forbidden == ()


def test_drawing_ends_where_everything_is_forbidden() -> None:
    parameters = Space.parse({"lr": {"float": [0, 1]}}).parameters
    made = Space(parameters, (Forbidden.parse("lr >= 0", parameters),))
    with pytest.raises(UserError, match=r"search_space.forbid: 100000 draws in a row"):
        made.sample(np.random.default_rng(0))
