"""Options of searchers out of all proportion: refused in one line, or served in no time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import study_file

from hpogen.errors import UserError
from hpogen.searchers.grid import GridSearcher
from hpogen.searchers.pso import _logging_left_alone, _reflected
from hpogen.space import Space
from hpogen.spec import load_study

BUDGETS = {"min": 2, "max": 8, "eta": 2}
EIGHT = {"name": "bowl", "epochs": 8}


@pytest.mark.parametrize(
    ("searcher", "words"),
    [
        ({"name": "pso", "velocity": 1e6}, "velocity: got 1000000.0, expected at most 100"),
        ({"name": "pso", "velocity": 0.0}, "velocity: got 0.0, expected more than 0"),
        ({"name": "pso", "velocity": math.inf}, "velocity: got inf, expected a finite number"),
        ({"name": "pso", "inertia": 1.0}, "inertia: got 1.0, expected less than 1"),
        ({"name": "pso", "cognitive": 1e300}, "cognitive: got 1e+300, expected at most 100"),
        ({"name": "pso", "social": -1.0}, "social: got -1.0, expected at least 0"),
        ({"name": "pso", "population": 2**62}, "expected at most 10000"),
        ({"name": "cmaes", "population": 2**62}, "expected at most 10000"),
        ({"name": "cmaes", "sigma": 1e300}, "sigma: got 1e+300, expected at most 100"),
        ({"name": "cmaes", "sigma": 1e-300}, "sigma: got 1e-300, expected at least"),
        ({"name": "grid", "points": 2**62}, "expected at most 10000"),
        ({"name": "grid", "points": {"x": 2**62}}, "expected at most 10000"),
        ({"name": "hyperband", "brackets": 2**62}, "expected at most 10000"),
        ({"name": "bohb", "brackets": 2**62}, "expected at most 10000"),
        ({"name": "bohb", "brackets": 1, "num_samples": 10**9}, "expected at most 10000"),
        ({"name": "bohb", "brackets": 1, "bandwidth_factor": 1e300}, "expected at most"),
        ({"name": "optuna", "n_ei_candidates": 2**62}, "expected at most 10000"),
        ({"name": "optuna", "n_ei_candidates": 0}, "expected at least 1"),
        ({"name": "optuna", "n_startup_trials": -1}, "expected at least 0"),
        ({"name": "optuna", "prior_weight": -1.0}, "expected at least 0"),
        ({"name": "optuna", "sampler": "CmaEsSampler", "popsize": 1}, "expected at least 2"),
        ({"name": "optuna", "sampler": "CmaEsSampler", "popsize": 10**9}, "at most 10000"),
        ({"name": "asha", "sampler": "TPESampler", "n_ei_candidates": -3}, "at least 1"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_out_of_all_proportion_is_refused_in_a_line(
    tmp_path: Path, searcher: dict[str, Any], words: str
) -> None:
    rungs = searcher["name"] in ("bohb", "hyperband", "asha")
    keys: dict[str, Any] = {"budgets": BUDGETS, "task": EIGHT} if rungs else {}
    path = study_file(tmp_path, searcher=searcher, **keys)
    path.write_text(path.read_text().replace("Infinity", ".inf"))
    with pytest.raises(UserError, match="searcher") as caught:
        load_study(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [1e-20, 0.3, 1.0, 5.0, 100.0])
def test_walls_mirror_as_pyswarms_does_to_the_bit(scale: float) -> None:
    with _logging_left_alone():
        from pyswarms.backend.handlers import BoundaryHandler

        walls = BoundaryHandler("reflective")
    points = scale * np.random.default_rng(0).normal(size=(500, 3))
    points[:2] = [[0, 1, 2], [-1, 1 + 2**-52, 2 - 2**-52]]
    bounds = np.zeros(3), np.ones(3)
    assert _reflected(points.copy(), bounds).tolist() == walls(points.copy(), bounds).tolist()


def test_walls_mirror_what_is_far_out_at_once() -> None:
    far = np.array([[1e6, -1e17, 1e300]])
    inside = _reflected(far, (np.zeros(3), np.ones(3)))
    assert ((inside >= 0) & (inside <= 1)).all()


def test_a_grid_leaves_what_is_inactive_at_once() -> None:
    when = {"k": "on"}
    space = Space.parse(
        {
            "k": {"choice": ["off", "on"]},
            **{f"x{i}": {"float": [0, 1], "when": when} for i in range(4)},
        }
    )
    searcher = GridSearcher(space, (1,), 0, points=10_000)  # 10¹⁶ combinations are "off"
    assert [dict(p.config) for p in (searcher.ask(), searcher.ask()) if p] == [
        {"k": "off"},
        {"k": "on", "x0": 0.0, "x1": 0.0, "x2": 0.0, "x3": 0.0},
    ]
