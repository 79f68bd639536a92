"""The search space: YAML in and out, configurations and the unit cube, every mistake by name."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hpogen.errors import UserError
from hpogen.space import Space
from hpogen.space.parameters import same, value_of

F = [0, 1]
SGD = Space.parse(
    {
        "batch_size": {"int": [32, 1000], "log": True, "default": 100},
        "lr": {"float": [1e-7, 0.5], "log": True, "default": 0.01},
        "momentum": {"float": [0, 0.99], "default": 0.6},
    }
)
NESTED = Space.parse(
    {
        "damping": {"float": [0, 1], "when": {"nesterov": False}},  # before its parent
        "optimizer": {"choice": ["sgd", "adam", "adamw"]},
        "nesterov": {"choice": [True, False], "when": {"optimizer": ["sgd"]}},
        "beta": {"int": [1, 3], "when": {"optimizer": ["adam", "adamw"]}},
        "classes": 10,
    }
)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """One to five parameters of every kind, each perhaps conditional on an earlier one."""
    mapping: dict[str, Any] = {}
    finite = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))
    for i in range(draw(st.integers(1, 5))):
        log = draw(st.booleans())
        kind = draw(st.sampled_from(["float", "int", "choice", "ordered", "steps"]))
        if kind in ("choice", "ordered"):
            values = st.sampled_from(["a", "b", 7, 2.5, True, None])
            few = 1 if kind == "choice" else 2
            form: dict[str, Any] = {"choice": draw(st.lists(values, min_size=few, unique=True))}
            form |= {"ordered": True} if kind == "ordered" else {}
        elif kind == "steps":
            low, count = draw(st.integers(-50, 50)), draw(st.integers(1, 30))
            step = draw(st.sampled_from([1, 3, 7]))
            form = {"int": [low, low + count * step], "step": step}
        else:
            number = st.integers(1, 2000) if kind == "int" else finite
            number = st.floats(1e-9, 1e6) if kind == "float" and log else number
            low, high = sorted(draw(st.lists(number, min_size=2, max_size=2, unique=True)))
            form = {kind: [low, high], "log": log}
        earlier = [name for name, other in mapping.items() if "choice" in other]
        if earlier and draw(st.booleans()):
            parent = draw(st.sampled_from(earlier))
            form["when"] = {parent: draw(st.sampled_from(mapping[parent]["choice"]))}
        mapping[f"p{i}"] = form
    return Space.parse(mapping)


@given(space=spaces(), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_record_cube_and_json_round_trips(space: Space, seed: int) -> None:
    assert Space.parse(json.loads(json.dumps(space.record()))) == space
    config = space.sample(np.random.default_rng(seed))
    for one in (config, space.default):
        assert space.contains(one)
        assert space.contains(json.loads(json.dumps(one)))
        point = space.encode(one)
        assert point.shape == (space.dimension,)
        assert (point >= 0).all() and (point <= 1).all()
        back = space.decode(point)
        assert back.keys() == one.keys()
        for name, value in one.items():
            assert type(back[name]) is type(value)
            assert back[name] == (
                pytest.approx(value, rel=1e-6, abs=1e-6) if isinstance(value, float) else value
            )


@given(space=spaces(), corner=st.sampled_from([0.0, 1.0, np.nextafter(1, 0)]))
@settings(max_examples=30, deadline=None)
def test_the_corners_of_the_cube_are_inside(space: Space, corner: float) -> None:
    assert space.contains(space.decode(np.full(space.dimension, corner)))


@given(space=spaces())
@settings(max_examples=15, deadline=None)
def test_configspace_is_the_same_space(space: Space) -> None:
    twin = space.configspace()
    for drawn in twin.sample_configuration(5):
        config = {name: plain(space, name, value) for name, value in dict(drawn).items()}
        assert space.contains(config)
    default = dict(twin.get_default_configuration())
    assert {name: plain(space, name, value) for name, value in default.items()} == pytest.approx(
        dict(space.default)
    )


def test_configspace_leaves_constants_out_and_shares_no_generator() -> None:
    space = Space.parse({"a": {"choice": F, "when": {"c": 3}}, "b": {"float": F}, "c": 3})
    one, other = space.configspace(), space.configspace()
    assert [*one] == ["a", "b"]
    one.seed(0), other.seed(0)
    assert one.sample_configuration(3) == other.sample_configuration(3)


def plain(space: Space, name: str, value: Any) -> Any:
    return value_of(space.parameters[name], value)  # type: ignore[arg-type]


def test_numbers_are_uniform_on_their_scale() -> None:
    draws = [SGD.sample(np.random.default_rng(i)) for i in range(400)]
    assert np.mean([math.log10(float(d["lr"])) for d in draws]) == pytest.approx(-3.65, abs=0.3)
    space = Space.parse({"n": {"int": [1, 4]}})
    generator = np.random.default_rng(0)
    counts = np.bincount([int(space.sample(generator)["n"]) for _ in range(4000)])[1:]
    assert (abs(counts - 1000) < 120).all()  # the ends have their full share


def test_defaults_are_the_middle_of_the_scale_and_the_first_choice() -> None:
    space = Space.parse(
        {
            "a": {"float": [0, 3]},
            "b": {"float": [1e-4, 1], "log": True},
            "c": {"int": [1, 100], "log": True},
            "d": {"choice": ["x", "y"]},
            "e": 5,
        }
    )
    assert space.default == {"a": 1.5, "b": pytest.approx(0.01), "c": 10, "d": "x", "e": 5}


def test_what_is_inactive_is_left_out() -> None:
    assert NESTED.default == {"optimizer": "sgd", "nesterov": True, "classes": 10}
    assert NESTED.complete({"nesterov": False}).keys() >= {"damping"}
    adam = NESTED.complete({"optimizer": "adam", "nesterov": False, "damping": 0.5})
    assert adam == {"optimizer": "adam", "beta": 2, "classes": 10}
    assert not NESTED.contains({**adam, "damping": 0.5})
    assert not NESTED.contains({"optimizer": "adam", "classes": 10})


@pytest.mark.parametrize(
    ("partial", "text"),
    [
        ({"lrr": 1}, "parameter 'lrr' is unknown; did you mean 'lr'? (batch_size, lr, momentum)"),
        ({"lr": 3}, "lr: got 3, expected a number in [1e-07, 0.5]"),
        ({"lr": math.nan}, "lr: got nan, expected a number in [1e-07, 0.5]"),
        ({"lr": "0.1"}, "lr: got '0.1', expected a number"),
        ({"batch_size": 64.0}, "batch_size: got 64.0, expected an integer"),
        ({"batch_size": True}, "batch_size: got True, expected an integer"),
    ],
)
def test_complete_names_what_is_wrong(partial: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError) as error:
        SGD.complete(partial)
    assert str(error.value) == text


def test_complete_tells_one_and_true_apart() -> None:
    space = Space.parse({"a": {"choice": [1, "x"]}, "b": {"float": [0, 2]}})
    with pytest.raises(UserError, match="a: got True, expected one of"):
        space.complete({"a": True})
    assert same(space.complete({"b": 1})["b"], 1.0)


MISTAKES: list[tuple[Any, tuple[str | int, ...], str]] = [
    ({}, (), "expected parameters"),
    ({"a": 3}, (), "nothing to search"),
    ({"a": None}, ("a",), "expected a finite number, string or boolean"),
    ({"a": math.inf}, ("a",), "expected a finite number"),
    ({"a": {"flt": F}}, ("a",), "expected {float"),
    ({"a": {"float": F, "int": F}}, ("a",), "expected {float"),
    (
        {"a": {"float": F, "lag": 1}},
        ("a", "lag"),
        "did you mean 'log'? (default, float, log, prior, step, when",
    ),
    (
        {"a": {"choice": F, "log": True}},
        ("a", "log"),
        "'log' is unknown (choice, default, ordered, when)",
    ),
    ({"a": {"float": [1, 0]}}, ("a", "float"), "expected low < high"),
    ({"a": {"int": [1, 1]}}, ("a", "int"), "expected low < high"),
    ({"a": {"float": [0]}}, ("a", "float"), "got [0], expected [low, high]"),
    ({"a": {"float": F, "log": True}}, ("a", "float"), "expected low > 0"),
    ({"a": {"float": [0, math.nan]}}, ("a", "float", 1), "got nan"),
    ({"a": {"float": [0, math.inf]}}, ("a", "float", 1), "got inf"),
    ({"a": {"float": ["0", 1]}}, ("a", "float", 0), "got '0'"),
    ({"a": {"float": [False, 1]}}, ("a", "float", 0), "got False"),
    ({"a": {"int": [0, 1.5]}}, ("a", "int", 1), "got 1.5, expected [low, high], two integers"),
    ({"a": {"int": [0, 10**400]}}, ("a", "int"), "2^53"),
    ({"a": {"float": [-1e308, 1e308]}}, ("a", "float"), "width"),
    ({"a": {"float": F, "log": "yes"}}, ("a", "log"), "got 'yes', expected true or false"),
    ({"a": {"float": F, "default": 2}}, ("a", "default"), "got 2, expected a number in [0.0, 1.0]"),
    ({"a": {"float": F, "default": None}}, ("a", "default"), "got None, expected a number"),
    ({"a": {"choice": []}}, ("a", "choice"), "expected a list of values"),
    ({"a": {"choice": "ab"}}, ("a", "choice"), "expected a list of values"),
    ({"a": {"choice": [1, True]}}, ("a", "choice", 1), "got True, which equals 1"),
    ({"a": {"choice": [1, [2]]}}, ("a", "choice", 1), "got [2]"),
    ({"a": {"choice": [1], "default": True}}, ("a", "default"), "expected one of [1]"),
    ({"a": {"float": F, "when": 3}}, ("a", "when"), "expected {parameter"),
    ({"a": {"float": F, "when": {"b": 1}}}, ("a", "when", "b"), "parameter 'b' is unknown"),
    ({"a": {"float": F, "when": {"b": []}}, "b": 1}, ("a", "when", "b"), "at least one value"),
    (
        {"a": {"float": F, "when": {"b": 3}}, "b": {"choice": [1, 2]}},
        ("a", "when", "b"),
        "got 3, expected one of [1, 2]",
    ),
    (
        {"a": {"float": F, "when": {"b": 0.5}}, "b": {"float": F}},
        ("a", "when", "b"),
        "'b' is a float",
    ),
    ({"a": {"choice": F, "when": {"a": 1}}}, ("a", "when"), "circle: a → a"),
    (
        {"a": {"choice": F, "when": {"b": 1}}, "b": {"choice": F, "when": {"a": 1}}},
        ("a", "when"),
        "circle: a → b → a",
    ),
    (
        {
            "a": {"choice": F},
            "b": {"choice": F, "when": {"a": 0}},
            "c": {"choice": F, "when": {"b": 0, "a": 1}},
        },
        ("c", "when"),
        "never active: no value of 'a'",
    ),
    ({3: {"float": F}}, ("3",), "got 3, expected a name"),
]


@pytest.mark.parametrize(("mapping", "location", "text"), MISTAKES)
def test_mistakes_are_placed_and_named(
    mapping: Any, location: tuple[str | int, ...], text: str
) -> None:
    with pytest.raises(ValidationError) as error:
        Space.parse(mapping)
    first = error.value.errors()[0]
    assert first["loc"] == location
    assert text in first["msg"]
    assert "\n" not in first["msg"]


def test_every_mistake_is_reported() -> None:
    with pytest.raises(ValidationError) as error:
        Space.parse({"a": {"float": [1, 0]}, "b": {"int": F, "lag": 1}})
    assert [e["loc"] for e in error.value.errors()] == [("a", "float"), ("b", "lag")]
