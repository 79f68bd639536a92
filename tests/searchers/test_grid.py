"""The grid's points, and that it is complete and free of repetitions."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from hpogen.searchers.grid import GridSearcher
from hpogen.space import Space


def grid(space: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    searcher = GridSearcher(Space.parse(space), (7,), 0, **options)
    return [dict(p.config) for p in iter(searcher.ask, None)]


def test_complete_factorial_with_the_last_parameter_fastest() -> None:
    space = {"a": {"choice": ["x", "y"]}, "b": {"float": [0, 1]}, "c": 3}
    assert grid(space, points=3) == [
        {"a": a, "b": b, "c": 3} for a, b in itertools.product("xy", (0.0, 0.5, 1.0))
    ]


@pytest.mark.parametrize(
    ("parameter", "points", "values"),
    [
        ({"float": [1e-4, 1], "log": True}, 5, [1e-4, 1e-3, 1e-2, 1e-1, 1]),
        ({"float": [0, 1], "default": 0.3}, 1, [0.3]),
        ({"int": [1, 3]}, 10, [1, 2, 3]),
        ({"int": [1, 100], "log": True}, 3, [1, 10, 100]),
        ({"float": [0, 1]}, {"p": [0.2, 0.9]}, [0.2, 0.9]),
        ({"choice": ["a", "b", "c"]}, {"p": ["b"]}, ["b"]),
    ],
)
def test_points_of_one_parameter(parameter: Any, points: Any, values: list[float]) -> None:
    got = [config["p"] for config in grid({"p": parameter}, points=points)]
    if isinstance(values[0], str):
        assert got == values
    else:
        assert got == pytest.approx(values, rel=1e-12)


def test_inactive_parameters_repeat_nothing() -> None:
    space = {
        "optimizer": {"choice": ["sgd", "adam"]},
        "momentum": {"int": [0, 2], "when": {"optimizer": "sgd"}},
        "lr": {"choice": [1, 2]},
    }
    got = grid(space)
    assert len(got) == 3 * 2 + 2
    assert len({tuple(config.items()) for config in got}) == len(got)
