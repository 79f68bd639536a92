"""Steps, ordinals, null and priors: their values, shares and coordinates."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from hpogen.errors import UserError
from hpogen.space import Space
from hpogen.space.parameters import Number, value_of

F = [0, 1]
KINDS = Space.parse(
    {
        "dropout": {"float": [0, 0.5], "step": 0.1},
        "width": {"int": [16, 64], "step": 16},
        "size": {"choice": ["small", None, "large"], "ordered": True},
        "decay": {"choice": [None, 0.1], "when": {"size": [None, "large"]}},
    }
)


def drawn(space: Space, n: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    return [dict(space.sample(generator)) for _ in range(n)]


def test_steps_are_exact_and_equally_often() -> None:
    draws = drawn(KINDS, 6000)
    for name, values in {
        "dropout": [0, 0.1, 0.2, 0.3, 0.4, 0.5],
        "width": [16, 32, 48, 64],
    }.items():
        counts = {x: sum(draw[name] == x for draw in draws) for x in values}
        assert sum(counts.values()) == 6000
        assert stats.chisquare([*counts.values()]).pvalue > 0.001
    assert {type(draw["width"]) for draw in draws} == {int}


def test_ordered_values_have_one_coordinate_and_equal_shares() -> None:
    assert KINDS.dimension == 1 + 1 + 1 + 2
    size = KINDS.parameters["size"]
    shares = [size.decode([x]) for x in np.linspace(0, 1, 9, endpoint=False)]
    assert shares == ["small"] * 3 + [None] * 3 + ["large"] * 3
    assert size.decode([1.0]) == "large"
    assert [size.encode(x) for x in ("small", None)] == [[pytest.approx(1 / 6)], [0.5]]


def test_null_is_a_value_and_not_an_absence() -> None:
    config = KINDS.complete({"size": None})
    assert config["size"] is None and config["decay"] is None
    assert KINDS.contains(json.loads(json.dumps(config)))
    assert KINDS.why_not({**config, "size": "small"}) == "has 'decay', which is not active there"
    assert KINDS.why_not({k: v for k, v in config.items() if k != "decay"}) == "has no 'decay'"


def test_the_record_gives_the_space_and_has_no_key_that_is_not_used() -> None:
    assert Space.parse(json.loads(json.dumps(KINDS.record()))) == KINDS
    plain = Space.parse({"a": {"float": F}, "b": {"int": F}, "c": {"choice": [1, 2]}})
    assert json.dumps(plain.record()) == (
        '{"a": {"float": [0.0, 1.0], "log": false, "default": 0.5}, '
        '"b": {"int": [0, 1], "log": false, "default": 0}, "c": {"choice": [1, 2], "default": 1}}'
    )


def test_values_come_to_the_nearest_step_only_from_rounding() -> None:
    assert KINDS.complete({"dropout": 0.1 + 0.2})["dropout"] == 0.3
    with pytest.raises(UserError, match=r"dropout: got 0.25, expected 0.0 and a multiple of the"):
        KINDS.complete({"dropout": 0.25})
    assert KINDS.default["dropout"] in (0.2, 0.3) and KINDS.default["width"] in (32, 48)


def test_the_twin_of_configspace_has_the_places() -> None:
    for config in KINDS.configspace().sample_configuration(50):
        of = KINDS.parameters
        plain = {n: value_of(of[n], x) for n, x in dict(config).items()}  # type: ignore[arg-type]
        assert KINDS.contains(plain)


@pytest.mark.parametrize(
    ("form", "low", "high", "center", "width"),
    [
        ({"float": [0, 1], "prior": {"center": 0.9, "width": 0.2}}, 0, 1, 0.9, 0.2),
        ({"float": [-2, 9], "prior": {"center": -2, "width": 100}}, -2, 9, -2, 100),
        (
            {"float": [1e-4, 1], "log": True, "prior": {"center": 1e-2, "width": 3}},
            *(math.log(x) for x in (1e-4, 1, 1e-2, 3)),
        ),
    ],
)
def test_draws_are_normal_and_cut_off(
    form: dict[str, Any], low: float, high: float, center: float, width: float
) -> None:
    draws = np.array([draw["x"] for draw in drawn(Space.parse({"x": form}), 3000)])
    x = np.log(draws) if form.get("log") else draws
    ends = (low - center) / width, (high - center) / width
    assert stats.kstest(x, stats.truncnorm(*ends, center, width).cdf).pvalue > 0.001


def test_integers_and_steps_have_priors_too() -> None:
    forms = ({"int": [1, 9]}, {"int": [1, 9], "step": 2}, {"float": [1, 9], "step": 0.5})
    for form in forms:
        space = Space.parse({"n": {**form, "prior": {"center": 7, "width": 0.1}}})
        assert [draw["n"] for draw in drawn(space, 200)].count(7) > 190


def test_the_center_is_the_default_unless_there_is_one() -> None:
    prior = {"center": 0.93, "width": 0.1}
    assert Space.parse({"a": {"float": F, "prior": prior}}).default["a"] == 0.93
    log = {"float": [0.01, 1], "log": True, "prior": {"center": 0.1, "width": 2}}
    assert Space.parse({"a": log}).default["a"] == 0.1
    assert Space.parse({"a": {"int": F, "prior": prior}}).default["a"] == 1
    stepped = {"float": F, "step": 0.1, "prior": prior}
    assert Space.parse({"a": stepped}).default["a"] == 0.9
    assert Space.parse({"a": {**stepped, "default": 0.2}}).default["a"] == 0.2


def test_what_has_no_prior_is_drawn_as_ever() -> None:
    plain = {"a": {"float": F}, "b": {"int": [1, 9]}}
    with_prior = {**plain, "c": {"float": F, "prior": {"center": 0.5, "width": 0.1}}}
    space = Space.parse({**plain, "c": {"float": F}})
    for one, other in zip(drawn(space, 50), drawn(Space.parse(with_prior), 50), strict=True):
        assert (one["a"], one["b"]) == (other["a"], other["b"])


def test_far_tails_stay_inside() -> None:
    parameter = Space.parse({"x": {"float": F, "prior": {"center": 0, "width": 1e-9}}})
    number = parameter.parameters["x"]
    assert isinstance(number, Number)
    assert [number.drawn(u) for u in (0.0, np.nextafter(1, 0))] == pytest.approx([0, 0], abs=1e-7)


PRIOR = {"center": 0.5, "width": 0.1}
MISTAKES: list[tuple[Any, tuple[str | int, ...], str]] = [
    ({"a": {"float": F, "step": 0}}, ("a", "step"), "got 0, expected a number above 0"),
    ({"a": {"float": F, "step": 0.3}}, ("a", "step"), "got 0.3, expected steps that end at 1.0, n"),
    ({"a": {"int": [1, 4], "step": 2}}, ("a", "step"), "expected steps that end at 4, not at 3"),
    ({"a": {"int": [1, 4], "step": 0.5}}, ("a", "step"), "got 0.5, expected a number above 0; w"),
    ({"a": {"float": F, "step": 1e-300}}, ("a", "step"), "expected at most 2^53 steps"),
    (
        {"a": {"float": [1, 3], "log": True, "step": 1}},
        ("a", "step"),
        "not together with log: true; expected {choice: [values], ordered: true}",
    ),
    ({"a": {"float": F, "step": 0.5, "default": 0.2}}, ("a", "default"), "0.0 is nearest"),
    ({"a": {"float": F, "prior": 0.5}}, ("a", "prior"), "got 0.5, expected {center: value, width"),
    ({"a": {"float": F, "prior": {"center": 1}}}, ("a", "prior", "width"), "expected {center: val"),
    (
        {"a": {"float": F, "prior": {**PRIOR, "centre": 1}}},
        ("a", "prior", "centre"),
        "'centre' is unknown; did you mean 'center'? (center, width)",
    ),
    (
        {"a": {"float": F, "prior": {**PRIOR, "center": 2}}},
        ("a", "prior", "center"),
        "got 2.0, expected a value in [0.0, 1.0]",
    ),
    (
        {"a": {"float": [0.1, 1], "log": True, "prior": PRIOR}},
        ("a", "prior", "width"),
        "got 0.1, expected a factor above 1",
    ),
    ({"a": {"choice": F, "prior": PRIOR}}, ("a", "prior"), "'prior' is unknown (choice, default,"),
    ({"a": {"choice": [1], "ordered": True}}, ("a", "ordered"), "two at least"),
    ({"a": {"choice": F, "ordered": 1}}, ("a", "ordered"), "got 1, expected true or false"),
    ({"a": {"choice": [None, None]}}, ("a", "choice", 1), "got None, which equals None"),
    ({"a": {"choice": F}, "b": None}, ("b",), "got None, expected a finite number"),
]


@pytest.mark.parametrize(("mapping", "location", "text"), MISTAKES)
def test_mistakes_are_placed_and_named(
    mapping: Any, location: tuple[str | int, ...], text: str
) -> None:
    with pytest.raises(ValidationError) as error:
        Space.parse(mapping)
    first = error.value.errors()[0]
    assert (first["loc"], "\n" in first["msg"]) == (location, False)
    assert text in first["msg"]
