"""No search: the configurations that are enqueued, for evaluating and comparing given ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hpogen.space import Space
from hpogen.trial import Config, Proposal


class ListedSearcher:
    """What `enqueue` lists (nothing: the space's defaults), in its order, round after round.

    Each round trains with seeds of its own (`replicate` 0, 1, 2, …); `stop` ends it, so that
    raising `stop.trials` adds seeds.
    """

    enqueues_default, ranks_only, multi_fidelity = False, False, False
    honours = frozenset({"forbid", "prior"})  # it draws nothing that these could shape
    size = math.inf

    def __init__(
        self, space: Space, budgets: Sequence[int], seed: int, *, enqueue: Sequence[Config] = ()
    ) -> None:
        self._configs = [*enqueue] or [space.default]
        self.anew = len(self._configs)
        self._budget = budgets[-1]
        self._next = 0  # the trial that the next proposal will be

    def ask(self) -> Proposal | None:
        round_, i = divmod(self._next, len(self._configs))
        self._next += 1
        return Proposal(self._configs[i], self._budget, replicate=round_)

    def tell(self, trial: int, score: float) -> None:
        """A list learns nothing."""

    def tell_scores(self, trial: int, scores: Sequence[float], excess: Mapping[str, float]) -> None:
        """Nor of several scores."""
