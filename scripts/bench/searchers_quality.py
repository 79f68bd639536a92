"""Quality of our searchers beside their engines used directly, as their own documentation does.

.venv/bin/python scripts/bench/searchers_quality.py [--seeds 20]

Equal evaluations, the same seeds, `enqueue: []`. The criterion was stated before the first run: the
upper end of the 95 % interval (Student) of the mean paired difference in log10 regret, ours minus
direct, is below MARGIN. Exits with 1 when it is not.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import platform
import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import cma
import numpy as np
import numpy.typing as npt
import optuna
from scipy import stats
from scipy.optimize import minimize

from hpogen.searchers.base import Searcher
from hpogen.searchers.bohb import BohbSearcher
from hpogen.searchers.cmaes import CmaesSearcher
from hpogen.searchers.optuna import OptunaSearcher
from hpogen.searchers.pso import PsoSearcher, _logging_left_alone
from hpogen.space import Space

warnings.simplefilter("ignore")  # of the engines' own old calls

from hpbandster.core.dispatcher import Job  # noqa: E402
from hpbandster.optimizers.bohb import BOHB as Master  # noqa: E402
from hpbandster.optimizers.config_generators.bohb import BOHB  # noqa: E402

with _logging_left_alone():
    from pyswarms.single import GlobalBestPSO

Point = npt.NDArray[np.float64]  # (4,), in the unit cube
Function = Callable[[Point, int], float]  # of a point and a budget

MARGIN = 0.2  # log10 of regret
EVALUATIONS, BRACKETS, BUDGETS = 120, 24, (4, 8, 16)
SPACE = Space.parse({name: {"float": [0, 1]} for name in "abcd"})

# Hartmann in four dimensions (Picheny, Wagner, Ginsbourger 2013), without its standardisation
A = np.array([[10, 3, 17, 3.5], [0.05, 10, 17, 0.1], [3, 3.5, 1.7, 10], [17, 8, 0.05, 10]])
P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124],
        [2329, 4135, 8307, 3736],
        [2348, 1451, 3522, 2883],
        [4047, 8828, 8732, 5743],
    ]
)
ALPHA = np.array([1.0, 1.2, 3.0, 3.2])


def sphere(x: Point, budget: int) -> float:
    return float(np.sum((x - 0.3) ** 2))


def rosenbrock(x: Point, budget: int) -> float:
    y = 4 * x - 2
    return float(np.sum(100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2))


def hartmann_true(x: Point, lack: float = 0.0) -> float:
    alpha = ALPHA - 0.1 * lack  # a low budget's bias, as in Kandasamy et al. 2017
    return float(-np.sum(alpha * np.exp(-np.sum(A * (x - P) ** 2, axis=1))))


def hartmann(x: Point, budget: int) -> float:
    """With a bias and a noise that are less the larger the budget; the noise belongs to x."""
    noise = np.random.RandomState(zlib.crc32(np.round(x, 9).tobytes()) ^ budget).standard_normal()
    return hartmann_true(x, lack=1 - budget / BUDGETS[-1]) + 0.2 * noise / math.sqrt(budget)


def through(searcher: Searcher, function: Function, evaluations: int) -> list[tuple[Point, int]]:
    asked = []
    while len(asked) < evaluations and (proposal := searcher.ask()) is not None:
        x = np.array([proposal.config[name] for name in "abcd"], dtype=float)
        asked.append((x, proposal.budget))
        searcher.tell(len(asked) - 1, function(x, proposal.budget))
    return asked


def cma_directly(function: Function, seed: int) -> list[tuple[Point, int]]:
    seen: list[tuple[Point, int]] = []
    np.random.seed(seed)
    options = {"bounds": [0, 1], "seed": math.nan, "verbose": -9, "verb_log": 0}
    engine = cma.CMAEvolutionStrategy([0.5] * 4, 0.25, options)
    while len(seen) < EVALUATIONS:
        points = engine.ask()
        engine.tell(points, [function(x, BUDGETS[-1]) for x in points])
        seen += [(x, BUDGETS[-1]) for x in points]
    return seen[:EVALUATIONS]


def pyswarms_directly(function: Function, seed: int) -> list[tuple[Point, int]]:
    with _logging_left_alone():
        swarm = GlobalBestPSO(
            n_particles=10,
            dimensions=4,
            options={"w": 0.729, "c1": 1.494, "c2": 1.494},
            bounds=(np.zeros(4), np.ones(4)),
            bh_strategy="reflective",
            velocity_clamp=(-0.5, 0.5),
        )
        np.random.seed(seed)
        swarm.reset()
        swarm.optimize(
            lambda points: np.array([function(x, BUDGETS[-1]) for x in points]),
            EVALUATIONS // 10,
            verbose=False,
        )
    return [(x, BUDGETS[-1]) for generation in swarm.pos_history for x in generation]


def optuna_directly(function: Function, seed: int) -> list[tuple[Point, int]]:
    seen: list[tuple[Point, int]] = []

    def objective(trial: optuna.Trial) -> float:
        seen.append((np.array([trial.suggest_float(n, 0, 1) for n in "abcd"]), BUDGETS[-1]))
        return function(*seen[-1])

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective, n_trials=EVALUATIONS)
    return seen


def hpbandster_directly(function: Function, seed: int) -> list[tuple[Point, int]]:
    seen: list[tuple[Point, int]] = []
    configspace = SPACE.configspace()
    configspace.seed(seed)
    np.random.seed(seed)
    generator = BOHB(configspace)
    master = SimpleNamespace(
        max_SH_iter=3, eta=2, budgets=np.array(BUDGETS, dtype=float), config_generator=generator
    )
    for i in range(BRACKETS):
        iteration = Master.get_next_iteration(master, i)
        while (run := iteration.get_next_run()) is not None:
            identity, config, budget = run
            seen.append((np.array([config[n] for n in "abcd"]), int(budget)))
            job = Job(identity, config=config, budget=budget)
            job.result = {"loss": function(*seen[-1])}
            iteration.register_result(job)
            generator.new_result(job)
    return seen


ENGINES: dict[str, tuple[Callable[[int], Searcher], Any]] = {
    "cmaes / cma": (lambda seed: CmaesSearcher(SPACE, BUDGETS, seed), cma_directly),
    "pso / pyswarms": (lambda seed: PsoSearcher(SPACE, BUDGETS, seed), pyswarms_directly),
    "optuna / Optuna TPE": (lambda seed: OptunaSearcher(SPACE, BUDGETS, seed), optuna_directly),
    "bohb / HpBandSter": (
        lambda seed: BohbSearcher(SPACE, BUDGETS, seed, brackets=BRACKETS),
        hpbandster_directly,
    ),
}
FUNCTIONS: dict[str, Function] = {
    "sphere": sphere,
    "rosenbrock": rosenbrock,
    "hartmann": hartmann,
}


def log_regret(name: str, seen: Sequence[tuple[Point, int]]) -> float:
    """log10 of the true value of the best trial at the largest budget, above the optimum."""
    function = FUNCTIONS[name]
    x = min((x for x, b in seen if b == BUDGETS[-1]), key=lambda x: function(x, BUDGETS[-1]))
    if name == "hartmann":
        return math.log10(hartmann_true(x) - optimum() + 1e-12)
    return math.log10(function(x, BUDGETS[-1]) + 1e-12)


@functools.cache
def optimum() -> float:
    """Of the noiseless Hartmann function, from each of its four wells."""
    return min(minimize(hartmann_true, x, bounds=[(0, 1)] * 4, tol=1e-14).fun for x in P)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = range(parser.parse_args().seeds)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names = ("numpy", "cma", "pyswarms", "hpbandster", "optuna")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"Python {platform.python_version()}, {packages}, {os.cpu_count()} cores")
    print(f"{len(seeds)} seeds, {EVALUATIONS} evaluations ({BRACKETS} brackets), margin {MARGIN}")
    print(f"{'ours / direct':<22}{'function':<12}{'ours':>8}{'direct':>8}{'difference (95 %)':>26}")
    failed = False
    for engine, (make, directly) in ENGINES.items():
        for name, function in FUNCTIONS.items():
            ours = [log_regret(name, through(make(s), function, EVALUATIONS)) for s in seeds]
            direct = [log_regret(name, directly(function, s)) for s in seeds]
            difference = np.subtract(ours, direct)
            half = stats.t.ppf(0.975, len(seeds) - 1) * stats.sem(difference)
            middle = float(np.mean(difference))
            failed |= not middle + half < MARGIN
            interval = f"{middle:+.3f} [{middle - half:+.3f}, {middle + half:+.3f}]"
            print(
                f"{engine:<22}{name:<12}{np.mean(ours):>8.2f}{np.mean(direct):>8.2f}{interval:>26}",
                flush=True,
            )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
