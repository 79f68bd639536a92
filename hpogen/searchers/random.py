"""Random search: the baseline that every other searcher has to beat."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from hpogen.space import Space
from hpogen.trial import Config, Proposal


class RandomSearcher:
    """Random search: draws from the space, uniform (in log where asked) or by a prior."""

    enqueues_default, ranks_only, multi_fidelity = True, False, False
    honours = frozenset({"forbid", "prior"})
    size = math.inf

    def __init__(
        self, space: Space, budgets: Sequence[int], seed: int, *, enqueue: Sequence[Config] = ()
    ) -> None:
        self._space = space
        self._budget = budgets[-1]
        self._enqueue = [*enqueue]
        self._generator = np.random.default_rng(seed)

    def ask(self) -> Proposal:
        config = self._space.sample(self._generator)
        return Proposal(self._enqueue.pop(0) if self._enqueue else config, self._budget)

    def tell(self, trial: int, score: float) -> None:
        """Random search learns nothing."""

    def tell_scores(self, trial: int, scores: Sequence[float], excess: Mapping[str, float]) -> None:
        """Nor of several scores."""
