"""The swarm is pyswarms' own: the same positions, generation by generation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hpogen.searchers.isolation import PrivateRandom
from hpogen.searchers.pso import PsoSearcher, _logging_left_alone
from hpogen.space import Point, Space
from hpogen.trial import Config

SPACE = Space.parse({name: {"float": [-1, 1]} for name in "abcd"})
SEED, POPULATION, GENERATIONS = 7, 6, 15


def sphere(points: Point) -> Point:
    """(N, 4) → (N,)"""
    return np.asarray(np.sum((points - 0.9) ** 2, axis=-1))


def run(searcher: PsoSearcher, generations: int, score: Callable[[Config], float]) -> Point:
    """The points asked, (generations, particles, 4)."""
    points = []
    for generation in range(generations):
        asked = [*iter(searcher.ask, None)]
        assert {proposal.cohort for proposal in asked} == {generation}
        for i in reversed(range(len(asked))):
            searcher.tell(generation * len(asked) + i, score(asked[i].config))
        points.append([SPACE.encode(proposal.config) for proposal in asked])
    return np.array(points)


@pytest.mark.parametrize("topology", ["star", "ring"])
def test_moves_as_a_bare_pyswarms_loop_does(topology: str) -> None:
    with _logging_left_alone():
        from pyswarms.single import GlobalBestPSO, LocalBestPSO

        weights = {"c1": 1.2, "c2": 1.4, "w": 0.7, "k": 3, "p": 2}
        bare = (GlobalBestPSO if topology == "star" else LocalBestPSO)(
            n_particles=POPULATION,
            dimensions=4,
            options=weights,
            bounds=(np.zeros(4), np.ones(4)),
            bh_strategy="reflective",
            velocity_clamp=(-0.5, 0.5),
        )
        np.random.seed(SEED)
        bare.reset()  # the constructor draws a swarm twice; this is the one that counts
        bare.swarm.pbest_pos = bare.swarm.position.copy()
        bare.optimize(sphere, GENERATIONS, verbose=False)
    searcher = PsoSearcher(
        SPACE,
        (9,),
        SEED,
        population=POPULATION,
        inertia=0.7,
        cognitive=1.2,
        social=1.4,
        topology=topology,  # type: ignore[arg-type]
    )
    asked = run(searcher, GENERATIONS, lambda config: float(sphere(SPACE.encode(config))))
    np.testing.assert_allclose(asked, np.array(bare.pos_history), rtol=1e-9, atol=1e-12)


def test_velocities_are_symmetric_at_first_and_walls_reflect() -> None:
    asked = run(PsoSearcher(SPACE, (9,), 0, population=200), 2, lambda config: np.inf)
    steps = asked[1] - asked[0]
    assert abs(np.mean(steps > 0) - 0.5) < 0.06
    assert np.max(np.abs(steps)) <= 0.5 + 1e-9


def test_a_swarm_that_knows_nothing_yet_follows_nobody() -> None:
    searcher = PsoSearcher(SPACE, (9,), 0, population=50, inertia=0.5, cognitive=0.0, social=1.5)
    asked = run(searcher, 20, lambda config: np.inf)
    assert np.std(asked[-1]) > 0.15  # it would contract towards a particle that failed


def test_the_best_so_far_draws_the_swarm() -> None:
    searcher = PsoSearcher(SPACE, (9,), 0, inertia=0.6, cognitive=1.5, social=1.5)
    asked = run(searcher, 40, lambda config: float(sphere(SPACE.encode(config))))
    assert sphere(asked).min() < 1e-4


def test_logging_and_the_working_directory_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    handlers = [*logging.getLogger().handlers]
    PsoSearcher(SPACE, (9,), 0)
    assert logging.getLogger().handlers == handlers
    assert [*tmp_path.iterdir()] == []


def test_the_private_generator_goes_on_where_it_was() -> None:
    np.random.seed(5)
    expected = np.random.rand(4).tolist()
    private, got = PrivateRandom(5), []
    for _ in range(4):
        with private:
            got.append(np.random.rand())
        np.random.rand()
    assert got == expected
