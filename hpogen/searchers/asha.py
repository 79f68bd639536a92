"""Asynchronous successive halving (Li et al., MLSys 2020): no slot ever waits for a rung."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import doc

from hpogen.errors import Refusal
from hpogen.searchers.brackets import reduction
from hpogen.searchers.constrained import behind, tell_constrained
from hpogen.searchers.optuna import Pool
from hpogen.searchers.random import RandomSearcher
from hpogen.space import Space
from hpogen.trial import Config, Proposal


@dataclass
class _Rung:
    """What ran for one budget: (score, trial), best first; and of these what was not promoted."""

    told: list[tuple[float, int]] = field(default_factory=list)
    paused: list[tuple[float, int]] = field(default_factory=list)

    def add(self, score: float, trial: int) -> None:
        bisect.insort(self.told, (score, trial))
        bisect.insort(self.paused, (score, trial))

    def promote(self, eta: int) -> int | None:
        """The best paused trial, if it is among the best 1/η of the rung; it pauses no more."""
        if not self.paused or math.isinf(self.paused[0][0]):
            return None
        if bisect.bisect_left(self.told, self.paused[0]) >= len(self.told) // eta:
            return None
        return self.paused.pop(0)[1]


class AshaSearcher:
    """ASHA: promotes whenever it can, from the highest rung down; else a new configuration.

    `sampler` is `random`, or a class of `optuna.samplers` with its own options beside it; it
    learns from the scores of the lowest rung, which are all of one budget.
    """

    enqueues_default, ranks_only, multi_fidelity = True, False, True
    honours = frozenset({"forbid"})
    size = math.inf

    def __init__(
        self,
        space: Space,
        budgets: Sequence[int],
        seed: int,
        *,
        enqueue: Sequence[Config] = (),
        sampler: Annotated[
            str, doc("`random`, or a class of `optuna.samplers`, whose own options stand beside it")
        ] = "random",
        **options: Any,
    ) -> None:
        self._eta = reduction("asha", budgets)
        self._budgets = tuple(budgets)
        if sampler == "random" and options:
            raise Refusal(f"asha: sampler 'random' has no options, got {', '.join(options)}")
        lowest = budgets[0]
        self._source = (
            RandomSearcher(space, (lowest,), seed, enqueue=enqueue)
            if sampler == "random"
            else Pool("asha", space, lowest, seed, enqueue, sampler, options)
        )
        self._rungs = [_Rung() for _ in budgets]
        self._asked: list[tuple[Config, int]] = []  # by trial: configuration and rung
        self._numbers: dict[int, int] = {}  # of the lowest rung's trials, in the source

    def ask(self) -> Proposal | None:
        for rung in reversed(range(len(self._rungs) - 1)):
            parent = self._rungs[rung].promote(self._eta)
            if parent is not None:
                return self._propose(self._asked[parent][0], rung + 1, parent)
        self._numbers[len(self._asked)] = len(self._numbers)
        return self._propose(self._source.ask().config, 0, None)

    def _propose(self, config: Config, rung: int, parent: int | None) -> Proposal:
        self._asked.append((config, rung))
        return Proposal(config, self._budgets[rung], parent=parent, cohort=rung)

    def tell(self, trial: int, score: float) -> None:
        rung = self._asked[trial][1]
        self._rungs[rung].add(score, trial)
        if rung == 0:
            self._source.tell(self._numbers[trial], score)

    def tell_constrained(self, trial: int, score: float, excess: Mapping[str, float]) -> None:
        rung = self._asked[trial][1]
        self._rungs[rung].add(behind(score, excess), trial)
        if rung == 0:
            tell_constrained(self._source, self._numbers[trial], score, excess)
