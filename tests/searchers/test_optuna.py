"""Optuna's samplers are asked and told as a bare Optuna loop would."""

from __future__ import annotations

import importlib.util
import math
import warnings
from typing import Any

import optuna
import pytest

from hpogen.searchers.optuna import OptunaSearcher
from hpogen.space import Space
from hpogen.trial import Config

NUMBERS = Space.parse(
    {
        "x": {"float": [-2, 2]},
        "lr": {"float": [1e-4, 1], "log": True},
        "n": {"int": [1, 9]},
    }
)
SAMPLERS: list[tuple[str, dict[str, Any], int]] = [
    ("TPESampler", {"n_startup_trials": 5, "multivariate": True}, 30),
    ("GPSampler", {"n_startup_trials": 3}, 5),
    ("CmaEsSampler", {"popsize": 4}, 30),
    ("NSGAIISampler", {"population_size": 6}, 30),
    ("QMCSampler", {"scramble": True}, 20),
    ("RandomSampler", {}, 10),
]


def score(config: Config) -> float:
    return (float(config["x"]) - 1) ** 2 + math.log10(float(config["lr"])) ** 2 + int(config["n"])


def available(sampler: str) -> None:
    if sampler == "CmaEsSampler" and importlib.util.find_spec("cmaes") is None:
        pytest.skip("the package cmaes is not installed")


@pytest.mark.parametrize(("sampler", "options", "trials"), SAMPLERS)
def test_proposes_what_a_bare_optuna_loop_does(
    sampler: str, options: dict[str, Any], trials: int
) -> None:
    available(sampler)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental samplers, multivariate
        bare = getattr(optuna.samplers, sampler)(seed=3, **options)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=bare)
    searcher = OptunaSearcher(NUMBERS, (9,), 3, sampler=sampler, **options)
    distributions = {
        "x": optuna.distributions.FloatDistribution(-2, 2),
        "lr": optuna.distributions.FloatDistribution(1e-4, 1, log=True),
        "n": optuna.distributions.IntDistribution(1, 9),
    }
    for trial in range(trials):
        drawn = study.ask(distributions)
        proposal = searcher.ask()
        assert proposal is not None
        assert proposal.config == drawn.params
        study.tell(drawn, score(drawn.params))
        searcher.tell(trial, score(proposal.config))


@pytest.mark.parametrize("sampler", ["TPESampler", "GPSampler", "NSGAIISampler"])
def test_choices_and_conditions(sampler: str) -> None:
    space = Space.parse(
        {
            "k": {"choice": [64, 0.5, "all", True]},
            "x": {"float": [0, 1], "when": {"k": ["all", True]}},
            "c": 3,
        }
    )
    options = {"n_startup_trials": 5} if sampler == "GPSampler" else {}
    searcher = OptunaSearcher(space, (9,), 0, sampler=sampler, **options)
    for trial in range(7):
        proposal = searcher.ask()
        assert proposal is not None
        assert space.contains(proposal.config)
        searcher.tell(trial, float("x" in proposal.config))


def test_failures_are_told_as_worse_than_every_finite_score() -> None:
    searcher = OptunaSearcher(NUMBERS, (9,), 0)
    for trial, told in enumerate([math.inf, 5.0, 3.0, math.inf, 9.0]):
        searcher.ask()
        searcher.tell(trial, told)
    assert [trial.value for trial in searcher._pool._study.trials] == [6.0, 5.0, 3.0, 7.0, 9.0]


def test_enqueued_configurations_are_told_to_the_sampler() -> None:
    given = [NUMBERS.complete({"x": 1.0}), NUMBERS.complete({"n": 2})]
    searcher = OptunaSearcher(NUMBERS, (9,), 0, enqueue=given)
    for trial in range(2):
        proposal = searcher.ask()
        assert proposal is not None
        assert proposal.config == given[trial]
        searcher.tell(trial, float(trial))
    assert [(t.params, t.value) for t in searcher._pool._study.trials] == [
        (given[0], 0.0),
        (given[1], 1.0),
    ]
