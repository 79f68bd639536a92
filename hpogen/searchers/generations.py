"""Generations dealt out one by one: between engines that learn from a whole generation at once
and the searcher contract. CMA-ES and PSO use it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Protocol

from annotated_types import Ge, Le

from hpogen.space import Point, Space
from hpogen.trial import Config, Proposal

Population = Annotated[int, Ge(2), Le(10_000)]
REDRAWS = 100  # of a forbidden point


class Engine(Protocol):
    """An optimizer in the unit cube that is told a complete generation before it makes the next."""

    def ask(self) -> Sequence[Point]:
        """The next generation: points of shape (dimension,)."""
        ...

    def another(self) -> Point | None:
        """One more point of the generation, in place of one; None where it has no other."""
        ...

    def tell(self, points: Sequence[Point], scores: Sequence[float]) -> None:
        """The scores of a generation in its order; inf for a failed one, never NaN.

        A point may differ from the one that was asked, where a configuration was enqueued.
        """
        ...


class Generations:
    """`ask` and `tell` of a searcher, on an engine of generations.

    `ask` gives None while a generation is dealt out and not yet told. Whatever the order of the
    tells, the engine is told once per generation, in the order of the trials.

    A forbidden point is drawn again, up to a hundred times, where the engine can; what is left is
    no trial, and told as infinity with its generation. Where a whole generation is forbidden, the
    space's defaults take the place of its first point.
    """

    def __init__(self, space: Space, budget: int, enqueue: Sequence[Config], engine: Engine):
        self._space = space
        self._budget = budget
        self._enqueue = enqueue
        self._engine = engine
        self._generation = -1
        self._points: list[Point] = []
        self._tried: list[int] = []  # the points that are trials
        self._scores: dict[int, float] = {}  # by trial
        self._pruned: dict[int, tuple[int, float]] = {}  # by trial: epochs and score
        self._range = (math.inf, -math.inf)  # of the finite scores
        self._first = 0  # the generation's first trial
        self._next = 0  # the trial that the next proposal will be

    def ask(self) -> Proposal | None:
        if self._next == self._first + len(self._tried):
            if self._points:
                return None
            self._begin()
        i = self._tried[self._next - self._first]
        if self._next < len(self._enqueue):
            config = self._enqueue[self._next]
            self._points[i] = self._space.encode(config)
        else:
            config = self._space.decode(self._points[i])
        self._next += 1
        return Proposal(config, self._budget, cohort=self._generation)

    def _begin(self) -> None:
        self._points = [*self._engine.ask()]
        self._generation += 1
        free = max(len(self._enqueue) - self._next, 0)  # points that enqueued ones replace
        self._tried = [i for i in range(len(self._points)) if self._allowed(i) or i < free]
        if not self._tried:
            self._points[0] = self._space.encode(self._space.default)
            self._tried = [0]

    def _allowed(self, i: int) -> bool:
        """Whether a point is not forbidden, or could be drawn again until it is not."""
        for _ in range(REDRAWS if self._space.forbidden else 0):
            if not self._space.forbids(self._space.decode(self._points[i])):
                return True
            point = self._engine.another()
            if point is None:
                return False
            self._points[i] = point
        return not self._space.forbidden

    def tell(self, trial: int, score: float) -> None:
        self._scores[trial] = score
        if math.isfinite(score):
            self._range = min(self._range[0], score), max(self._range[1], score)
        self._tell_engine()

    def tell_pruned(self, trial: int, score: float, epochs: int) -> None:
        """It comes behind all that have finished, before those that failed; the furthest first."""
        self._pruned[trial] = (-epochs, score)
        self._tell_engine()

    def _tell_engine(self) -> None:
        if len(self._scores) + len(self._pruned) < len(self._tried):
            return
        low, high = self._range if self._range[0] < math.inf else (0.0, 0.0)
        for place, trial in enumerate(sorted(self._pruned, key=self._pruned.__getitem__), 1):
            self._scores[trial] = high + place * (high - low or 1.0)
        scores = [math.inf] * len(self._points)
        for i, t in zip(self._tried, sorted(self._scores), strict=True):
            scores[i] = self._scores[t]
        self._engine.tell(self._points, scores)
        self._points, self._tried, self._scores, self._first = [], [], {}, self._next
        self._pruned = {}
