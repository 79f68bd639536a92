"""Any sampler of `optuna.samplers`, in memory; some of them for several scores.

Used as a searcher of its own, and by `asha.py` for the configurations of its lowest rung.
"""

from __future__ import annotations

import inspect
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import optuna
from annotated_types import doc

from hpogen.constraint import violation
from hpogen.searchers.constrained import share
from hpogen.searchers.optuna_samplers import CONSTRAINED, sampler_of
from hpogen.space import Space
from hpogen.space.parameters import (
    Choice,
    Constant,
    Number,
    Parameter,
    number_of,
    places,
    value_of,
)
from hpogen.trial import Config, Proposal, Value

REDRAWS = 100  # of a forbidden configuration

NAMES_CONSTRAINTS = hasattr(optuna.trial.Trial, "set_constraint")  # since 5.0


class OptunaSearcher:
    """TPE by default; any sampler of optuna.samplers.

    `sampler` is its class; the other options are the sampler's own.

    A failed trial is told as a score worse than every finite one so far: Optuna's samplers do not
    look at trials that failed, and told so they end no better (docs/searchers.md). Samplers that
    know constraints are told them; for others an infeasible trial is between feasible and failed.
    """

    enqueues_default, ranks_only, multi_fidelity = True, False, False
    honours = frozenset({"forbid", "prior"})  # the latter with TPE
    size = math.inf

    def __init__(
        self,
        space: Space,
        budgets: Sequence[int],
        seed: int,
        *,
        enqueue: Sequence[Config] = (),
        scores: int = 1,
        sampler: Annotated[
            str, doc("a class of `optuna.samplers`, whose own options stand beside it")
        ] = "TPESampler",
        **options: Any,
    ) -> None:
        self._pool = Pool("optuna", space, budgets[-1], seed, enqueue, sampler, options, scores)

    def ask(self) -> Proposal:
        return self._pool.ask()

    def tell(self, trial: int, score: float) -> None:
        self._pool.tell(trial, score)

    def tell_pruned(self, trial: int, score: float, epochs: int) -> None:
        self._pool.tell_pruned(trial, score, epochs)

    def tell_constrained(self, trial: int, score: float, excess: Mapping[str, float]) -> None:
        self._pool.tell_constrained(trial, score, excess)

    def tell_scores(self, trial: int, scores: Sequence[float], excess: Mapping[str, float]) -> None:
        self._pool.tell_scores(trial, scores, excess)


class Pool:
    """An Optuna study that proposes configurations for one budget, the enqueued ones first.

    Every parameter is drawn each time, so that a sampler sees one fixed space; what a condition
    makes inactive is left out of the configuration. Raises Refusal, beginning with `searcher`, for
    an unknown sampler or option, or a parameter that the sampler would draw at random instead.

    A forbidden draw is told as a failure and drawn again; after a hundred in a row the space is
    drawn from. No sampler takes a prior: in a space with one, TPE is given draws from it until it
    has been told as many scores as it begins with (`n_startup_trials`).
    """

    def __init__(
        self,
        searcher: str,
        space: Space,
        budget: int,
        seed: int,
        enqueue: Sequence[Config],
        sampler: str,
        options: Mapping[str, Any],
        scores: int = 1,
    ) -> None:
        self._space = space
        self._budget = budget
        self._enqueue = [*enqueue]
        self._distributions = {
            name: _distribution(parameter)
            for name, parameter in space.parameters.items()
            if not isinstance(parameter, Constant)
        }
        logging.getLogger("optuna").setLevel(logging.WARNING)  # it reports each trial by default
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made = sampler_of(searcher, space, sampler, options, seed % 2**32, scores)
        self._study = optuna.create_study(sampler=made, directions=["minimize"] * scores)
        self._generator = np.random.default_rng(seed)  # for what no sampler draws
        self._from_prior = _startup(options) if space.priors else 0  # scores that are still wanted
        self._trials: list[optuna.trial.Trial] = []  # by the number of the proposal
        self._low: list[float] = []  # of each score the least finite one, and the largest
        self._high: list[float] = []
        self._failed: list[
            tuple[optuna.trial.Trial, float]
        ] = []  # before any score was finite: see `_worse`
        self._excess: dict[str, float] = {}  # the largest of each constraint so far
        self._knows_constraints = sampler in CONSTRAINED and NAMES_CONSTRAINTS
        self._learns_of_pruned = sampler == "TPESampler" or options.get("consider_pruned_trials")

    def ask(self) -> Proposal:
        if self._enqueue:
            return self._given(self._enqueue.pop(0))
        if self._from_prior > 0:
            return self._given(self._space.sample(self._generator))
        for _ in range(REDRAWS):
            drawn = self._study.ask(self._distributions)
            config = self._plain(drawn.params)
            if not self._space.forbids(config):
                self._trials.append(drawn)
                return Proposal(config, self._budget)
            self._worse(drawn, 1.0)
        return self._given(self._space.sample(self._generator))

    def _given(self, config: Config) -> Proposal:
        """A configuration that the sampler takes as its own; what is inactive it draws."""
        of = self._space.parameters
        searched = {n: _outside(of[n], v) for n, v in config.items() if n in self._distributions}
        self._study.enqueue_trial(searched)
        self._trials.append(self._study.ask(self._distributions))
        return Proposal(config, self._budget)

    def _plain(self, params: Mapping[str, Any]) -> Config:
        of = self._space.parameters
        return self._space.complete({n: _inside(of[n], v) for n, v in params.items()})

    def tell(self, number: int, score: float) -> None:
        """The score of the proposal of that number; inf for a failure."""
        self._from_prior -= 1
        if math.isinf(score):
            self._worse(self._trials[number], 1.0)
        else:
            self._learn(number, (score,))

    def tell_constrained(self, number: int, score: float, excess: Mapping[str, float]) -> None:
        """The same of a finished trial of a study with constraints."""
        self.tell_scores(number, (score,), excess)

    def tell_scores(
        self, number: int, scores: Sequence[float], excess: Mapping[str, float]
    ) -> None:
        """The same of a finished trial: its scores, and of a study with constraints the excess."""
        self._from_prior -= 1
        if self._knows_constraints:
            for name, x in excess.items():
                self._excess[name] = max(self._excess.get(name, 1.0), x)
                self._trials[number].set_constraint(name, x)
            self._learn(number, scores)
        elif violation(excess):
            self._worse(self._trials[number], share(excess))
        else:
            self._learn(number, scores)

    def _learn(self, number: int, scores: Sequence[float]) -> None:
        self._low = [*map(min, self._low or scores, scores)]
        self._high = [*map(max, self._high or scores, scores)]
        self._study.tell(self._trials[number].number, [*scores])
        self._tell_worse()

    def _worse(self, trial: optuna.trial.Trial, by: float) -> None:
        """A trial behind the scores so far, by such a share of their range; 1: it failed."""
        self._failed.append((trial, by))
        self._tell_worse()

    def _tell_worse(self) -> None:
        if not self._high:
            return
        ends = [*zip(self._low, self._high, strict=True)]
        for trial, by in self._failed:
            for name, x in self._excess.items():
                trial.set_constraint(name, x)
            told = [high + (high - low or 1.0) * by for low, high in ends]
            self._study.tell(trial.number, told)
        self._failed = []

    def tell_pruned(self, number: int, score: float, epochs: int) -> None:
        """The proposal ended after so many epochs: as Optuna has it, or for want of that a failure.

        Most of its samplers look at finished trials alone.
        """
        if not self._learns_of_pruned:
            self.tell(number, math.inf)
            return
        self._from_prior -= 1
        self._trials[number].report(score, epochs)
        self._study.tell(self._trials[number].number, state=optuna.trial.TrialState.PRUNED)


def _outside(parameter: Parameter, value: Value) -> Value:
    """What Optuna has for a value: the place of a step or of an ordered one, else itself."""
    if isinstance(parameter, Constant) or places(parameter) is None:
        return value
    return number_of(parameter, value)


def _inside(parameter: Parameter, value: Any) -> Value:
    """The other way."""
    if isinstance(parameter, Constant) or places(parameter) is None:
        return value  # type: ignore[no-any-return]
    return value_of(parameter, value)


def _startup(options: Mapping[str, Any]) -> int:
    """How many trials TPE draws at random before it has a model."""
    declared = inspect.signature(optuna.samplers.TPESampler).parameters["n_startup_trials"]
    return int(options.get("n_startup_trials", declared.default))


def _distribution(parameter: Number | Choice) -> optuna.distributions.BaseDistribution:
    if (count := places(parameter)) is not None:
        return optuna.distributions.IntDistribution(0, count - 1)
    if isinstance(parameter, Choice):
        return optuna.distributions.CategoricalDistribution(parameter.values)
    if parameter.integer:
        low, high = int(parameter.low), int(parameter.high)
        return optuna.distributions.IntDistribution(low, high, log=parameter.log)
    return optuna.distributions.FloatDistribution(parameter.low, parameter.high, log=parameter.log)
