"""CMA-ES is the engine `cma` itself: same points, told once per generation, restarted by IPOP."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import cma
import numpy as np
import pytest

from hpogen.searchers.cmaes import CmaesSearcher
from hpogen.space import Space
from hpogen.trial import Config, Proposal

SPACE = Space.parse(
    {
        "a": {"float": [-5, 5], "default": 2},
        "b": {"float": [1e-6, 1], "log": True},
        "c": {"float": [0, 1]},
    }
)


def sphere(config: Config) -> float:
    return float(np.sum((SPACE.encode(config) - 0.3) ** 2))


def run(
    searcher: CmaesSearcher, trials: int, score: Callable[[Config], float] = sphere
) -> list[Proposal]:
    """One generation out at a time, told in reverse order."""
    asked: list[Proposal] = []
    while len(asked) < trials:
        generation = [*iter(searcher.ask, None)]
        for i in reversed(range(len(generation))):
            searcher.tell(len(asked) + i, score(generation[i].config))
        asked += generation
    return asked[:trials]


def test_proposes_what_a_bare_loop_on_cma_proposes() -> None:
    np.random.seed(11)
    options = {"bounds": [0, 1], "popsize": 8, "seed": math.nan, "verbose": -9, "verb_log": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cma warns of its own default options
        bare = cma.CMAEvolutionStrategy(SPACE.encode(SPACE.default), 0.25, options)
    expected: list[Config] = []
    while len(expected) < 120:
        points = bare.ask()
        configs = [SPACE.decode(point) for point in points]
        bare.tell(points, [sphere(config) for config in configs])
        expected += configs
    asked = run(CmaesSearcher(SPACE, (10,), 11, population=8), 120)
    for proposal, config in zip(asked, expected, strict=True):
        assert dict(proposal.config) == pytest.approx(dict(config), rel=1e-9)


def test_the_default_population_is_that_of_cma() -> None:
    assert len([*iter(CmaesSearcher(SPACE, (10,), 0).ask, None)]) == 4 + int(3 * math.log(3))


def test_converges_to_the_minimum() -> None:
    best = min(run(CmaesSearcher(SPACE, (10,), 0), 400), key=lambda p: sphere(p.config))
    assert SPACE.encode(best.config) == pytest.approx([0.3] * 3, abs=1e-4)


def test_restarts_double_the_population_and_cohorts_go_on() -> None:
    flat = run(CmaesSearcher(SPACE, (10,), 0, population=4), 400, lambda config: 1.0)
    sizes = np.bincount([proposal.cohort or 0 for proposal in flat]).tolist()
    assert sizes[0] == 4
    assert {4, 8, 16} <= set(sizes)
    assert sorted(sizes[:-1]) == sizes[:-1]
    start = SPACE.encode(SPACE.default)
    first, second, third = (
        np.mean([SPACE.encode(p.config) for p in flat if p.cohort == sizes.index(size)], axis=0)
        for size in (4, 8, 16)
    )
    assert np.linalg.norm(first - start) < 0.3
    assert min(np.linalg.norm(x - y) for x, y in ((second, start), (third, second))) > 0.3


def test_enqueued_configurations_are_learned_from() -> None:
    target = SPACE.complete({"a": -2.0, "b": 1e-6 ** (1 - 0.3), "c": 0.3})  # the minimum
    plain, helped = (
        run(CmaesSearcher(SPACE, (10,), 5, population=6, enqueue=given), 12)
        for given in ([], [target])
    )
    assert helped[0].config == target
    assert [p.config for p in helped[1:6]] == [p.config for p in plain[1:6]]
    assert np.mean([sphere(p.config) for p in helped[6:]]) < np.mean(
        [sphere(p.config) for p in plain[6:]]
    )


def test_rounded_coordinates_keep_moving() -> None:
    space = Space.parse({"n": {"int": [1, 4]}, "k": {"choice": ["a", "b"]}, "x": {"float": [0, 1]}})

    def score(config: Config) -> float:
        penalty = abs(int(config["n"]) - 2) + (config["k"] == "b")
        return (float(config["x"]) - 0.5) ** 2 + 0.01 * penalty

    runs = [run(CmaesSearcher(space, (10,), seed), 400, score) for seed in range(5)]
    late = [proposal.config for asked in runs for proposal in asked[-100:]]
    assert np.std([float(config["x"]) for config in late]) < 1e-3  # x has converged
    assert sum(config["n"] != 2 for config in late) > 20
    assert any(config["k"] == "b" for config in late)
