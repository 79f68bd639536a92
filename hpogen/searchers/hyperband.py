"""Hyperband: brackets of synchronous successive halving, as HpBandSter runs them.

`bohb.py` runs the same brackets with configurations from a model.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import doc

from hpogen.searchers.brackets import Bracket, Count, bracket, plan, reduction
from hpogen.space import Space
from hpogen.trial import Config, Proposal

Learn = Callable[[Config, int, float], None]
"""Takes a configuration, its budget in epochs and its score, infinite for a failure."""


class HyperbandSearcher:
    """Hyperband: brackets of synchronous rungs, several open at once when slots are free."""

    enqueues_default, ranks_only, multi_fidelity = True, False, True
    honours = frozenset({"forbid"})
    plan = staticmethod(plan)

    def __init__(
        self,
        space: Space,
        budgets: Sequence[int],
        seed: int,
        *,
        enqueue: Sequence[Config] = (),
        brackets: Annotated[Count, doc("how many brackets are run")],
    ) -> None:
        eta = reduction("hyperband", budgets)
        draw = functools.partial(space.sample, np.random.default_rng(seed))
        run = Brackets(budgets, eta, brackets, enqueue, draw)
        self.ask, self.tell = run.ask, run.tell


class Brackets:
    """What HpBandSter's master does with its brackets, one `ask` and one `tell` at a time.

    The oldest open bracket that has something to run comes first; when all wait, the next one is
    opened. `draw` gives a configuration, `learn` takes each evaluation.
    """

    def __init__(
        self,
        budgets: Sequence[int],
        eta: int,
        count: int,
        enqueue: Sequence[Config],
        draw: Callable[[], Config],
        learn: Learn | None = None,
    ) -> None:
        self._budgets = tuple(budgets)
        self._eta = eta
        self._count = count
        self._enqueue = [*enqueue]
        self._draw, self._learn = draw, learn
        self._opened = 0
        self._open: list[Halving] = []
        self._asked: list[tuple[Halving, Contender, int]] = []  # by trial, with its budget

    def ask(self) -> Proposal | None:
        for halving in self._open:
            if (proposal := self._run(halving)) is not None:
                return proposal
        if self._opened == self._count:
            return None
        rungs = bracket(self._opened, self._budgets, self._eta)
        self._open.append(Halving(self._opened, rungs, self._sampled))
        self._opened += 1
        return self._run(self._open[-1])

    def tell(self, trial: int, score: float) -> None:
        halving, contender, budget = self._asked[trial]
        halving.tell(contender, score)
        if self._learn is not None:
            self._learn(contender.config, budget, score)
        self._open = [halving for halving in self._open if not halving.is_finished]

    def _sampled(self) -> Config:
        config = self._draw()
        return self._enqueue.pop(0) if self._enqueue else config

    def _run(self, halving: Halving) -> Proposal | None:
        run = halving.next()
        if run is None:
            return None
        contender, budget = run
        parent, contender.trial = contender.trial, len(self._asked)
        self._asked.append((halving, contender, budget))
        cohort = halving.index * len(self._budgets) + self._budgets.index(budget)
        return Proposal(contender.config, budget, parent=parent, cohort=cohort)


@dataclass(eq=False)
class Contender:
    """A configuration of a bracket, and its trial on the highest rung that it has reached."""

    config: Config
    trial: int | None = None


class Halving:
    """Successive halving of one bracket: a rung begins when all of the one below is told.

    Where so many have failed that a rung is not full, new configurations begin on it. All, ties
    of scores included, is as in HpBandSter's `SuccessiveHalving`.
    """

    def __init__(self, index: int, rungs: Bracket, draw: Callable[[], Config]) -> None:
        self.index = index  # of the bracket
        self._rungs, self._draw = rungs, draw
        self._rung = 0
        self._drawn: list[Contender] = []
        self._promoted: deque[Contender] = deque()  # to this rung, and not begun on it
        self._begun = 0  # on this rung
        self._told: dict[Contender, float] = {}  # on this rung

    @property
    def is_finished(self) -> bool:
        return self._rung == len(self._rungs)

    def next(self) -> tuple[Contender, int] | None:
        """What runs now, and its budget; None where the rung waits to be told, and at the end."""
        while not self.is_finished:
            rung = self._rungs[self._rung]
            if self._begun < rung.configurations:
                self._begun += 1
                return (self._promoted.popleft() if self._promoted else self._new()), rung.budget
            if len(self._told) < self._begun:
                return None
            self._promote()
        return None

    def tell(self, contender: Contender, score: float) -> None:
        self._told[contender] = score

    def _new(self) -> Contender:
        self._drawn.append(Contender(self._draw()))
        return self._drawn[-1]

    def _promote(self) -> None:
        ended = [c for c in self._drawn if math.isfinite(self._told.get(c, math.inf))]
        ranks = np.argsort(np.argsort([self._told[contender] for contender in ended]))
        self._rung, self._begun, self._told = self._rung + 1, 0, {}
        if not self.is_finished:
            places = self._rungs[self._rung].configurations
            self._promoted.extend(c for c, rank in zip(ended, ranks, strict=True) if rank < places)
