"""Hyperband: HpBandSter's successive halving without its master, and random configurations.

`bohb.py` runs the same brackets with configurations from a model.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np

from hpogen.searchers.brackets import Count, Plan, bracket, plan, reduction
from hpogen.space import Space
from hpogen.trial import Config, Proposal

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # HpBandSter's docstrings have invalid escape sequences
    from hpbandster.core.dispatcher import Job
    from hpbandster.optimizers.iterations import SuccessiveHalving


class Generator(Protocol):
    """Where new configurations come from; HpBandSter's config generators are such."""

    def get_config(self, budget: int) -> tuple[Config, dict[str, Any]]: ...

    def new_result(self, job: Job) -> None: ...


class HyperbandSearcher:
    """`brackets` brackets of synchronous rungs, several open at once when slots are free."""

    enqueues_default: ClassVar[bool] = True
    ranks_only: ClassVar[bool] = False
    multi_fidelity: ClassVar[bool] = True

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
        self._brackets = Brackets(budgets, eta, brackets, Uniform(space, seed), enqueue)

    @staticmethod
    def plan(budgets: Sequence[int], *, brackets: int) -> Plan:
        """What the options cost, before anything runs."""
        return plan(budgets, brackets)

    def ask(self) -> Proposal | None:
        return self._brackets.ask()

    def tell(self, trial: int, score: float) -> None:
        self._brackets.tell(trial, score)


class Uniform:
    """Random configurations."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._generator = np.random.default_rng(seed)

    def get_config(self, budget: int) -> tuple[Config, dict[str, Any]]:
        return self._space.sample(self._generator), {}

    def new_result(self, job: Job) -> None:
        """Random search learns nothing."""


class Brackets:
    """What HpBandSter's master does with its brackets, one `ask` and one `tell` at a time.

    The oldest open bracket that has something to run comes first; when all wait, the next one is
    opened. When a whole rung has failed, new configurations begin at the rung above.
    """

    def __init__(
        self,
        budgets: Sequence[int],
        eta: int,
        count: int,
        generator: Generator,
        enqueue: Sequence[Config],
    ) -> None:
        self._budgets = tuple(budgets)
        self._eta = eta
        self._count = count
        self._generator = generator
        self._enqueue = [*enqueue]
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
                config_sampler=self._draw,
            )
        )
        self._opened += 1
        return self._run(self._open[-1])

    def tell(self, trial: int, score: float) -> None:
        halving, job = self._jobs[trial]
        job.result = {"loss": score, "info": {}}
        halving.register_result(job)
        self._generator.new_result(job)
        self._open = [halving for halving in self._open if not halving.is_finished]

    def _draw(self, budget: int) -> tuple[Config, dict[str, Any]]:
        config, info = self._generator.get_config(budget)
        return (self._enqueue.pop(0), {}) if self._enqueue else (config, info)

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
