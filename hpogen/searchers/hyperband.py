"""Hyperband: HpBandSter's successive halving without its master, and random configurations.

`bohb.py` runs the same brackets with configurations from a model.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hpogen.searchers.brackets import Count, bracket, plan, reduction
from hpogen.space import Space
from hpogen.trial import Config, Proposal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # HpBandSter's docstrings have invalid escape sequences
    from hpbandster.core.dispatcher import Job
    from hpbandster.optimizers.iterations import SuccessiveHalving


class HyperbandSearcher:
    """`brackets` brackets of synchronous rungs, several open at once when slots are free."""

    enqueues_default, ranks_only, multi_fidelity = True, False, True
    plan = staticmethod(plan)

    def __init__(
        self,
        space: Space,
        budgets: Sequence[int],
        seed: int,
        *,
        enqueue: Sequence[Config] = (),
        brackets: Count,
    ) -> None:
        eta = reduction("hyperband", budgets)
        draw = functools.partial(space.sample, np.random.default_rng(seed))
        run = Brackets(budgets, eta, brackets, enqueue, draw)
        self.ask, self.tell = run.ask, run.tell


class Brackets:
    """What HpBandSter's master does with its brackets, one `ask` and one `tell` at a time.

    The oldest open bracket that has something to run comes first; when all wait, the next one is
    opened. When a whole rung has failed, new configurations begin at the rung above. `draw` gives a
    configuration, `learn` takes each evaluation.
    """

    def __init__(
        self,
        budgets: Sequence[int],
        eta: int,
        count: int,
        enqueue: Sequence[Config],
        draw: Callable[[], Config],
        learn: Callable[[Job], None] | None = None,
    ) -> None:
        self._budgets = tuple(budgets)
        self._eta = eta
        self._count = count
        self._enqueue = [*enqueue]
        self._draw, self._learn = draw, learn
        self._opened = 0
        self._open: list[SuccessiveHalving] = []
        self._jobs: list[tuple[SuccessiveHalving, Job]] = []  # by trial
        self._latest: dict[tuple[int, int, int], int] = {}  # a configuration's trial so far

    def ask(self) -> Proposal | None:
        for halving in self._open:
            if (proposal := self._run(halving)) is not None:
                return proposal
        if self._opened == self._count:
            return None
        rungs = bracket(self._opened, self._budgets, self._eta)
        self._open.append(
            SuccessiveHalving(
                HPB_iter=self._opened,
                num_configs=[rung.configurations for rung in rungs],
                budgets=[rung.budget for rung in rungs],
                config_sampler=self._sampled,
            )
        )
        self._opened += 1
        return self._run(self._open[-1])

    def tell(self, trial: int, score: float) -> None:
        halving, job = self._jobs[trial]
        job.result = {"loss": score, "info": {}}
        halving.register_result(job)
        if self._learn is not None:
            self._learn(job)
        self._open = [halving for halving in self._open if not halving.is_finished]

    def _sampled(self, budget: int) -> tuple[Config, dict[str, Any]]:
        config = self._draw()
        return (self._enqueue.pop(0) if self._enqueue else config), {}

    def _run(self, halving: SuccessiveHalving) -> Proposal | None:
        run = halving.get_next_run()
        if run is None:
            return None
        identity, config, budget = run
        parent = self._latest.get(identity)
        self._latest[identity] = len(self._jobs)
        self._jobs.append((halving, Job(identity, config=config, budget=budget)))
        rung = self._budgets.index(budget)
        cohort = halving.HPB_iter * len(self._budgets) + rung
        return Proposal(config, budget, parent=parent, cohort=cohort)
