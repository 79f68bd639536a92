"""Particle swarms on the backend of `pyswarms`, with a swarm and a generator of the study's own."""

from __future__ import annotations

import copy
import logging.config
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt, doc

from hpogen.errors import Refusal
from hpogen.searchers.generations import Asynchronous, Generations, Population
from hpogen.searchers.isolation import PrivateRandom
from hpogen.space import Point, Space
from hpogen.space.parameters import Choice
from hpogen.trial import Config


@contextmanager
def _logging_left_alone() -> Iterator[None]:
    """pyswarms sets up the root logger and a file of its own whenever a part of it is made."""
    configure = logging.config.dictConfig
    logging.config.dictConfig = lambda config: None
    try:
        yield
    finally:
        logging.config.dictConfig = configure


with _logging_left_alone():
    from pyswarms.backend import compute_pbest, create_swarm
    from pyswarms.backend.handlers import VelocityHandler
    from pyswarms.backend.topology import Ring, Star

Weight = Annotated[float, Ge(0), Le(100)]


class PsoSearcher:
    """A particle swarm in the unit cube, whose walls reflect; it takes numbers only.

    `inertia`, `cognitive` and `social` are pyswarms' w, c1 and c2, with the values of Clerc and
    Kennedy (2002), whose swarm contracts. `velocity` limits a particle's step in each coordinate;
    the first velocities are uniform within ±`velocity`. With `topology: ring` a particle follows
    the best of its `neighbours` nearest ones instead of the best of all. `asynchronous` moves a
    particle as soon as its own score is known, towards the best of those known then.
    """

    # a particle remembers its best over the generations
    enqueues_default, ranks_only, multi_fidelity = True, False, False
    honours = frozenset({"forbid"})
    earlier: ClassVar[Mapping[str, float]] = {"inertia": 0.9, "cognitive": 0.5, "social": 0.3}
    size = math.inf

    def __init__(
        self,
        space: Space,
        budgets: Sequence[int],
        seed: int,
        *,
        enqueue: Sequence[Config] = (),
        population: Annotated[Population, doc("particles; each is a proposal per generation")] = 10,
        inertia: Annotated[float, Ge(0), Lt(1), doc("share of the velocity that is kept")] = 0.729,
        cognitive: Annotated[Weight, doc("pull towards the particle's own best")] = 1.494,
        social: Annotated[Weight, doc("pull towards the best of its neighbours")] = 1.494,
        velocity: Annotated[
            float, Gt(0), Le(100), doc("largest step of a coordinate, in widths of the unit cube")
        ] = 0.5,
        topology: Annotated[
            Literal["star", "ring"], doc("whether all particles are neighbours, or the nearest")
        ] = "star",
        neighbours: Annotated[int, Ge(1), doc("of a ring: how many the nearest are")] = 3,
        asynchronous: Asynchronous = False,
    ) -> None:
        for name, parameter in space.parameters.items():
            if isinstance(parameter, Choice) and not parameter.ordered:
                text = "is a choice without an order, and a swarm moves in numbers only"
                raise Refusal(f"pso: {name!r} {text}: ordered: true, if it has one")
        if topology == "ring" and neighbours > population:
            raise Refusal(f"pso: neighbours: got {neighbours}, expected at most {population}")
        swarm = Swarm(
            (population, space.dimension),
            seed,
            weights={"w": inertia, "c1": cognitive, "c2": social},
            velocity=velocity,
            neighbours=neighbours if topology == "ring" else None,
        )
        generations = Generations(space, budgets[-1], enqueue, swarm, asynchronous)
        self.ask, self.tell = generations.ask, generations.tell
        self.tell_pruned = generations.tell_pruned


class Swarm:
    """The loop of pyswarms' `GlobalBestPSO.optimize` (`LocalBestPSO` with neighbours), in halves.

    `shape` is (particles, dimension).
    """

    def __init__(
        self,
        shape: tuple[int, int],
        seed: int,
        *,
        weights: dict[str, float],
        velocity: float,
        neighbours: int | None,
    ) -> None:
        self._random = PrivateRandom(seed)
        self._bounds = (np.zeros(shape[1]), np.ones(shape[1]))
        self._clamp = (-velocity, velocity)
        self._neighbours = neighbours
        with _logging_left_alone(), self._random:
            self._topology = Star() if neighbours is None else Ring()
            self._velocities = VelocityHandler("unmodified")
            swarm = create_swarm(*shape, options=weights, bounds=self._bounds, clamp=self._clamp)
        swarm.pbest_cost = np.full(shape[0], np.inf)
        self._swarm = swarm
        self._early: dict[int, tuple[Point, Point]] = {}  # those that moved on: place and velocity

    def ask(self) -> Sequence[Point]:
        return [*self._swarm.position]

    def another(self) -> None:
        """Where a particle goes follows from where it comes from."""

    def early(
        self,
        points: Sequence[Point],
        scores: Mapping[int, float],
        allowed: Callable[[Point], bool],
    ) -> tuple[int, Point] | None:
        """The next place of the first particle that has a score and has not moved yet."""
        known = [scores.get(i, math.inf) for i in range(len(points))]
        for i in sorted(scores.keys() - self._early.keys()):
            before, random = copy.copy(self._swarm), copy.copy(self._random)
            self._move(points, known)
            place, velocity = self._swarm.position[i], self._swarm.velocity[i]
            self._swarm = before
            if allowed(place):
                self._early[i] = place, velocity
                return i, place
            self._random = random
        return None

    def tell(self, points: Sequence[Point], scores: Sequence[float]) -> None:
        self._move(points, scores)
        for i, (place, velocity) in self._early.items():
            self._swarm.position[i], self._swarm.velocity[i] = place, velocity
        self._early = {}

    def _move(self, points: Sequence[Point], scores: Sequence[float]) -> None:
        """All particles, from their points (particles, dimension); inf where no score is known."""
        swarm = self._swarm
        swarm.position = np.array(points)  # (particles, dimension)
        swarm.current_cost = np.array(scores)  # (particles,)
        swarm.pbest_pos, swarm.pbest_cost = compute_pbest(swarm)
        swarm.best_pos, swarm.best_cost = self._topology.compute_gbest(
            swarm, p=2, k=self._neighbours
        )
        if np.isinf(swarm.best_cost):
            swarm.best_pos = swarm.position  # every particle failed: there is none to follow
        with self._random:
            swarm.velocity = self._topology.compute_velocity(
                swarm, self._clamp, self._velocities, self._bounds
            )
            swarm.position = self._topology.compute_position(swarm, self._bounds, _reflected)


def _reflected(points: Point, bounds: tuple[Point, Point]) -> Point:
    """Points (particles, dimension) mirrored at the walls of the unit cube until they are inside.

    To the bit what pyswarms' `reflective` gives, which mirrors once per round and so takes as many
    rounds as a step is long, and never ends where a step is so long that 2 − x is −x.
    """
    inside = np.abs(np.fmod(points, 2))
    return np.asarray(np.where(inside > 1, 2 - inside, inside))
