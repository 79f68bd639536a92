"""What each searcher does with priors and forbidden combinations, beside the contract."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hpogen.errors import Refusal
from hpogen.searchers.bohb import Model
from hpogen.searchers.cmaes import CmaesSearcher, Ipop
from hpogen.searchers.generations import Generations
from hpogen.searchers.grid import GridSearcher
from hpogen.searchers.optuna import OptunaSearcher
from hpogen.searchers.pso import PsoSearcher
from hpogen.searchers.random import RandomSearcher
from hpogen.space import Point, Space
from hpogen.trial import Config

F = [0, 1]
BUDGETS = (4,)
CORNER = Space.parse({"x": {"float": F}, "y": {"float": F}, "forbid": ["x > 0.55 or y > 0.55"]})
PRIOR = {"center": 0.01, "width": 2}
NARROW = {
    "lr": {"float": [1e-4, 1], "log": True, "prior": PRIOR},
    "m": {"float": F},
    "k": {"choice": ["a", "b"]},
}


def asked(searcher: Any, n: int, score: float = 0.0) -> list[Config]:
    found = []
    for trial in range(n):
        found.append(searcher.ask().config)
        searcher.tell(trial, score + trial)
    return found


def test_cmaes_begins_at_the_prior_with_its_width() -> None:
    engine = Ipop(Space.parse(NARROW), 0, 8, 0.25)
    points = np.concatenate([engine.ask() for _ in range(200)])
    normal = math.log(2) / math.log(1e4)
    assert points[:, 0].mean() == pytest.approx(0.5, abs=0.01)
    assert points[:, 0].std() == pytest.approx(normal, rel=0.1)
    assert points[:, 1].std() == pytest.approx(0.25, rel=0.15)  # no prior: sigma, less at the walls
    wide = Space.parse({**NARROW, "m": {"float": F, "prior": {"center": 0.2, "width": 50}}})
    assert Ipop(wide, 0, 8, 0.25)._deviations[1] == pytest.approx(12**-0.5)


def test_cmaes_restarts_without_the_prior() -> None:
    engine = Ipop(Space.parse(NARROW), 0, 4, 0.25)
    generations = 0
    while engine._deviations is not None:
        points = engine.ask()
        engine.tell(points, [0.0] * len(points))
        generations += 1
        assert generations < 500
    assert np.std(np.concatenate([engine.ask() for _ in range(100)]), axis=0)[0] > 0.15


def test_tpe_begins_with_draws_from_the_prior() -> None:
    space = Space.parse(NARROW)
    draws = asked(OptunaSearcher(space, BUDGETS, 0, n_startup_trials=40), 40)
    logs = np.log2([float(draw["lr"]) / 0.01 for draw in draws])  # type: ignore[arg-type]
    assert abs(logs.mean()) < 0.5 and 0.7 < logs.std() < 1.3
    assert draws == asked(RandomSearcher(space, BUDGETS, 0), 40)
    after = OptunaSearcher(space, BUDGETS, 0, n_startup_trials=2)
    assert asked(after, 9)[2:] != asked(RandomSearcher(space, BUDGETS, 0), 9)[2:]


def test_a_grid_passes_over_what_is_forbidden() -> None:
    searcher = GridSearcher(CORNER, BUDGETS, 0, points=3)
    assert searcher.size is None
    found = [p.config for p in iter(searcher.ask, None)]
    assert found == [{"x": x, "y": y} for x in (0, 0.5) for y in (0, 0.5)]
    with pytest.raises(Refusal, match=r"grid: search_space\.forbid: the first 100000 combinations"):
        GridSearcher(CORNER, BUDGETS, 0, points={"x": [0.9, 1.0]})


def test_a_grid_takes_steps_and_ordered_values() -> None:
    space = Space.parse(
        {
            "d": {"float": [0, 0.5], "step": 0.1},
            "n": {"int": [10, 90], "step": 20},
            "s": {"choice": ["s", None], "ordered": True},
        }
    )
    searcher = GridSearcher(space, BUDGETS, 0, points={"d": 3, "n": 9})
    found = [p.config for p in iter(searcher.ask, None)]
    assert searcher.size == len(found) == 3 * 5 * 2
    axes = [[*dict.fromkeys(config[name] for config in found)] for name in space.names]
    assert axes == [[0.0, 0.3, 0.5], [10, 30, 50, 70, 90], ["s", None]]


class Listed:
    """An engine whose generations are given; it has no other points."""

    def __init__(self, *generations: Sequence[Point]) -> None:
        self.left = [*generations]
        self.told: list[list[float]] = []

    def ask(self) -> Sequence[Point]:
        return self.left.pop(0)

    def another(self) -> None: ...

    def tell(self, points: Sequence[Point], scores: Sequence[float]) -> None:
        self.told.append([*scores])


def test_a_forbidden_point_is_no_trial_and_told_as_the_worst() -> None:
    inside, outside = np.array([0.2, 0.2]), np.array([0.9, 0.2])
    engine = Listed([outside, inside, outside, inside / 2], [outside, outside], [inside, inside])
    made = Generations(CORNER, 4, [], engine)
    found = [made.ask(), made.ask()]
    assert [p and p.config["x"] for p in found] == [0.2, 0.1]
    assert made.ask() is None
    made.tell(1, 2.0), made.tell(0, 1.0)
    assert engine.told == [[math.inf, 1.0, math.inf, 2.0]]
    proposal = made.ask()
    assert proposal and proposal.config == CORNER.default  # a whole generation was forbidden
    assert made.ask() is None
    made.tell(2, 3.0)
    assert engine.told[-1] == [3.0, math.inf]
    assert [p and p.cohort for p in (made.ask(), made.ask())] == [2, 2]


@pytest.mark.parametrize("searcher", [CmaesSearcher, PsoSearcher, RandomSearcher, OptunaSearcher])
def test_the_best_allowed_corner_is_found(searcher: Any) -> None:
    """The optimum lies where the border of the forbidden is: (0.55, 0.55)."""
    made = searcher(CORNER, BUDGETS, 1)
    best = math.inf
    for trial in range(120):
        config = made.ask().config
        assert not CORNER.forbids(config)
        score = 2 - config["x"] - config["y"]
        best = min(best, score)
        made.tell(trial, score)
    assert best < 1.1  # 0.9 at the border


def test_bohb_and_tpe_draw_from_the_space_where_the_model_finds_nothing_allowed() -> None:
    thin = Space.parse(
        {"x": {"float": F, "default": 0}, "y": {"float": F}, "forbid": ["x > 0.004"]}
    )
    model = Model(thin, 0, random_fraction=1.0, top_n_percent=15, num_samples=64,
                  bandwidth_factor=3.0, min_points_in_model=None)  # fmt: skip
    assert not any(thin.forbids(model.draw()) for _ in range(3))
    assert not any(thin.forbids(config) for config in asked(OptunaSearcher(thin, BUDGETS, 0), 2))
