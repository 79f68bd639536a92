"""Generations dealt out one by one: between engines that learn from a whole generation at once
and the searcher contract. CMA-ES and PSO use it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from annotated_types import Ge, Le, doc

from hpogen.space import Point, Space
from hpogen.trial import Config, Proposal

Population = Annotated[int, Ge(2), Le(10_000)]
Asynchronous = Annotated[
    bool, doc("whether the next generation begins before the last trial of this one has ended")
]
REDRAWS = 100  # of a forbidden point


class Engine(Protocol):
    """An optimizer in the unit cube that is told a complete generation before it makes the next."""

    def ask(self) -> Sequence[Point]:
        """The next generation: points of shape (dimension,). Those from `early` hold their places.

        What it has in these places is not looked at.
        """
        ...

    def another(self) -> Point | None:
        """One more point of the generation, in place of one; None where it has no other."""
        ...

    def early(
        self,
        points: Sequence[Point],
        scores: Mapping[int, float],
        allowed: Callable[[Point], bool],
    ) -> tuple[int, Point] | None:
        """A point of the next generation that is allowed, and its place in it.

        It follows from what is known of this one: `scores` are by place, of those that have ended.
        None: there is none yet, and nothing has changed.
        """
        ...

    def tell(self, points: Sequence[Point], scores: Sequence[float]) -> None:
        """The scores of a generation in its order; inf for a failed one, never NaN.

        A point may differ from the one that was asked, where a configuration was enqueued.
        """
        ...


@dataclass
class _Generation:
    """Points and what became of them, by their places in the generation."""

    number: int
    points: dict[int, Point] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)  # to be dealt out, in this order
    trials: dict[int, int] = field(default_factory=dict)  # those dealt out: place by trial
    scores: dict[int, float] = field(default_factory=dict)
    pruned: dict[int, tuple[int, float]] = field(default_factory=dict)  # epochs and score

    @property
    def told(self) -> bool:
        return not self.waiting and len(self.trials) == len(self.scores) + len(self.pruned)


class Generations:
    """`ask` and `tell` of a searcher, on an engine of generations.

    `ask` gives None while a generation is dealt out and not yet told. Whatever the order of the
    tells, the engine is told once per generation, in the order of its points. `asynchronous` gives
    points of the next generation meanwhile, as far as the engine has them; the engine still learns
    generation by generation.

    A forbidden point is drawn again, up to a hundred times, where the engine can; what is left is
    no trial, and told as infinity with its generation. Where a whole generation is forbidden, the
    space's defaults take the place of its first point.
    """

    def __init__(
        self,
        space: Space,
        budget: int,
        enqueue: Sequence[Config],
        engine: Engine,
        asynchronous: bool = False,
    ):
        self._space = space
        self._budget = budget
        self._enqueue = enqueue
        self._engine = engine
        self._asynchronous = asynchronous
        self._now: _Generation | None = None  # the engine waits for its scores
        self._ahead = _Generation(0)  # what has been dealt of the next one
        self._range = (math.inf, -math.inf)  # of the finite scores
        self._next = 0  # the trial that the next proposal will be

    def ask(self) -> Proposal | None:
        while self._now is None:
            self._begin()
            self._tell_engine()
        generation = self._now
        if not generation.waiting:
            if not (self._asynchronous and self._begin_early()):
                return None
            generation = self._ahead
        i = generation.waiting.pop(0)
        if self._next < len(self._enqueue):
            config = self._enqueue[self._next]
            generation.points[i] = self._space.encode(config)
        else:
            config = self._space.decode(generation.points[i])
        generation.trials[self._next] = i
        self._next += 1
        return Proposal(config, self._budget, cohort=generation.number)

    def _begin(self) -> None:
        """What is ahead becomes the generation, with the rest of its points."""
        now = self._now = self._ahead
        self._ahead = _Generation(now.number + 1)
        asked = dict(enumerate(self._engine.ask()))
        new = [i for i in asked if i not in now.points]
        now.points = {**asked, **now.points}
        free = max(len(self._enqueue) - self._next, 0)  # points that enqueued ones replace
        now.waiting = [i for k, i in enumerate(new) if self._allowed(now, i) or k < free]
        if not (now.waiting or now.trials):
            now.points[0] = self._space.encode(self._space.default)
            now.waiting = [0]

    def _begin_early(self) -> bool:
        """Take one point of the next generation, if there is one."""
        assert self._now is not None
        points = [self._now.points[i] for i in range(len(self._now.points))]
        found = self._engine.early(points, self._now.scores, self._allows)
        if found is not None:
            i, self._ahead.points[i] = found
            self._ahead.waiting.append(i)
        return found is not None

    def _allows(self, point: Point) -> bool:
        enqueued = self._next < len(self._enqueue)  # which takes the point's place
        return enqueued or not self._space.forbids(self._space.decode(point))

    def _allowed(self, generation: _Generation, i: int) -> bool:
        """Whether a point is not forbidden, or could be drawn again until it is not."""
        for _ in range(REDRAWS if self._space.forbidden else 0):
            if not self._space.forbids(self._space.decode(generation.points[i])):
                return True
            point = self._engine.another()
            if point is None:
                return False
            generation.points[i] = point
        return not self._space.forbidden

    def tell(self, trial: int, score: float) -> None:
        generation = self._of(trial)
        generation.scores[generation.trials[trial]] = score
        if math.isfinite(score):
            self._range = min(self._range[0], score), max(self._range[1], score)
        self._tell_engine()

    def tell_pruned(self, trial: int, score: float, epochs: int) -> None:
        """It comes behind all that have finished, before those that failed; the furthest first."""
        generation = self._of(trial)
        generation.pruned[generation.trials[trial]] = (-epochs, score)
        self._tell_engine()

    def _of(self, trial: int) -> _Generation:
        now = self._now
        return now if now is not None and trial in now.trials else self._ahead

    def _tell_engine(self) -> None:
        now = self._now
        if now is None or not now.told:
            return
        low, high = self._range if self._range[0] < math.inf else (0.0, 0.0)
        for place, i in enumerate(sorted(now.pruned, key=now.pruned.__getitem__), 1):
            now.scores[i] = high + place * (high - low or 1.0)
        places = range(len(now.points))
        self._engine.tell(
            [now.points[i] for i in places], [now.scores.get(i, math.inf) for i in places]
        )
        self._now = None
