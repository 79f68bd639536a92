"""Two choices inside our searchers, each measured beside what it replaced, on functions of our own.

.venv/bin/python scripts/bench/searchers_choices.py pso [--seeds 30]
.venv/bin/python scripts/bench/searchers_choices.py failures [--seeds 30]

Stated before the first run with seeds from 100 on; the script itself was tried on seeds 0 and 1.
The figure is the log10 of the regret of the best finite score at the end. Two arms are paired by
task and seed, their difference is averaged over the tasks for each seed, and its 95 % interval is
Student's over the seeds. Negative: the first arm is better.

`pso`: inertia 0.729 and both weights 1.494 (Clerc and Kennedy 2002, `clerc`) against the values of
pyswarms' documentation (0.9, 0.5, 0.3, `example`), and against random search; 100 evaluations, a
population of 10, six tasks in four numbers. Confirmed where both intervals are below zero.
`example` against random search is shown beside it.

`failures`: a failed trial told to an Optuna sampler as FAIL (`ignored`) against a score worse than
the worst (`worst`). Failures come in three kinds: `random`, each evaluation with probability 0.3;
`corner`, the 30 % of the cube beyond a diagonal plane, away from the optimum; `edge`, everything
beyond 0.1 from the optimum in one coordinate, as with a learning rate just above the best. The
primary figure is TPESampler's, 100 evaluations, the mean over the kinds with `random` counted as
much as `corner` and `edge` together, over four tasks. The arm whose interval is on its side of zero
becomes the default of all samplers; where it holds zero, `worst` stays. CmaEsSampler and
NSGAIISampler (100 evaluations, population 10) and GPSampler (one task, 20 evaluations, 5 of them at
random, a third of the seeds) are secondary: one of them gets the other arm only if its own interval
is on the other side of zero.
"""

from __future__ import annotations

import argparse
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import optuna
from optuna.trial import TrialState
from scipy import stats

from hpogen.searchers.base import Searcher
from hpogen.searchers.optuna import OptunaSearcher
from hpogen.searchers.pso import PsoSearcher
from hpogen.searchers.random import RandomSearcher
from hpogen.space import Space
from hpogen.trial import Config

Point = npt.NDArray[np.float64]  # (4,), in the unit cube
Kind = Literal["none", "random", "corner", "edge"]

CUBE = Space.parse({name: {"float": [0, 1]} for name in "abcd"})
NET = Space.parse(
    {
        "a": {"float": [1e-5, 1], "log": True},  # a learning rate
        "b": {"float": [0, 0.99]},  # momentum
        "c": {"int": [16, 1024], "log": True},  # batch size
        "d": {"float": [1e-6, 1e-1], "log": True},  # weight decay
    }
)
CHOOSING = Space.parse({**NET.record(), "e": {"choice": ["adam", "sgd", "lion"]}})
CLERC = {"inertia": 0.729, "cognitive": 1.494, "social": 1.494}
EXAMPLE = {"inertia": 0.9, "cognitive": 0.5, "social": 0.3}


@dataclass(frozen=True)
class Task:
    """A function of a point with its least value 0, and where that is."""

    space: Space
    function: Callable[[Point, Config], float]
    best: Sequence[float]  # of the four numbers, in the unit cube

    def fails(self, config: Config, kind: Kind, generator: np.random.Generator) -> bool:
        x, best = self.space.encode(config)[:4], np.array(self.best)
        if kind == "corner":  # 30 % of the cube: the sum of four uniforms is beyond 2 ± 0.3083
            away = 1 if best.sum() < 2 else -1
            return bool(away * (x.sum() - 2) > 0.3083)
        if kind == "edge":
            away = 1 if best[0] < 0.7 else -1
            return bool(away * (x[0] - best[0]) > 0.1)
        return bool(kind == "random" and generator.random() < 0.3)


def sphere(x: Point, config: Config) -> float:
    return float(np.sum((x - 0.3) ** 2))


def ellipsoid(x: Point, config: Config) -> float:
    return float(np.sum(np.array([1, 10, 100, 1000]) * (x - 0.4) ** 2))


def rosenbrock(x: Point, config: Config) -> float:
    y = 4 * x - 2
    return float(np.sum(100 * (y[1:] - y[:-1] ** 2) ** 2 + (1 - y[:-1]) ** 2))


def rastrigin(x: Point, config: Config) -> float:
    y = 4 * (x - 0.6)
    return float(np.sum(y**2 + 2 * (1 - np.cos(2 * np.pi * y))))


def ridge(x: Point, config: Config) -> float:
    """Two coordinates matter, along a line, as a learning rate and a batch size do."""
    return float(abs(x[0] - x[1]) + 0.1 * abs(x[0] - 0.35) + 0.01 * np.sum(np.abs(x[2:] - 0.5)))


def training(x: Point, config: Config) -> float:
    """A validation loss: too small a rate learns nothing, too large a one stays at chance."""
    rate = 6 * (x[0] - 0.55) + 2 * (x[1] - 0.5) - 2 * (x[2] - 0.5)  # the effective one
    loss = 2.3 * (1 - math.exp(-(rate**2))) if rate < 0.8 else 2.3
    penalty = {"sgd": 0.0, "adam": 0.05, "lion": 0.2}[str(config.get("e", "sgd"))]
    return float(loss + 0.3 * (x[1] - 0.5) ** 2 + 0.1 * (x[3] - 0.6) ** 2 + penalty)


TASKS = {
    "sphere": Task(CUBE, sphere, (0.3, 0.3, 0.3, 0.3)),
    "ellipsoid": Task(CUBE, ellipsoid, (0.4, 0.4, 0.4, 0.4)),
    "rosenbrock": Task(CUBE, rosenbrock, (0.75, 0.75, 0.75, 0.75)),
    "rastrigin": Task(CUBE, rastrigin, (0.6, 0.6, 0.6, 0.6)),
    "ridge": Task(CUBE, ridge, (0.35, 0.35, 0.5, 0.5)),
    "training": Task(NET, training, (0.55, 0.5, 0.5, 0.6)),
    "training, a choice": Task(CHOOSING, training, (0.55, 0.5, 0.5, 0.6)),
}
NUMBERS = ("sphere", "rosenbrock", "rastrigin", "training")
SAMPLERS: Mapping[str, tuple[Mapping[str, Any], Sequence[str], int, int]] = {
    # options, tasks, evaluations, and by what the number of seeds is divided
    "TPESampler": ({}, (*NUMBERS[:3], "training, a choice"), 100, 1),
    "CmaEsSampler": ({"popsize": 10}, NUMBERS, 100, 1),
    "NSGAIISampler": ({"population_size": 10}, (*NUMBERS[:3], "training, a choice"), 100, 1),
    "GPSampler": ({"n_startup_trials": 5}, ("training",), 20, 3),
}
WEIGHTS: Mapping[Kind, float] = {"random": 0.5, "corner": 0.25, "edge": 0.25}


def regret(
    make: Callable[[Space, int], Searcher], name: str, seed: int, evaluations: int, kind: Kind
) -> float:
    """log10 of the least finite score of a search."""
    task, generator = TASKS[name], np.random.default_rng(seed)
    searcher, least = make(task.space, seed), math.inf
    for trial in range(evaluations):
        proposal = searcher.ask()
        assert proposal is not None  # one trial at a time: nothing to wait for
        failed = task.fails(proposal.config, kind, generator)
        score = math.inf
        if not failed:
            x = task.space.encode(proposal.config)[:4]
            score = task.function(x, proposal.config)
        least = min(least, score)
        searcher.tell(trial, score)
    return math.log10(least + 1e-12)


def interval(differences: Sequence[float]) -> str:
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    middle = float(np.mean(differences))
    return f"{middle:+.3f} [{middle - half:+.3f}, {middle + half:+.3f}]"


def pso(seeds: Sequence[int]) -> None:
    arms: dict[str, Callable[[Space, int], Searcher]] = {
        "clerc": lambda space, seed: PsoSearcher(space, (1,), seed, **CLERC),
        "example": lambda space, seed: PsoSearcher(space, (1,), seed, **EXAMPLE),
        "random": lambda space, seed: RandomSearcher(space, (1,), seed),
    }
    tasks = [name for name in TASKS if "choice" not in name]
    found = {
        arm: np.array([[regret(make, t, s, 100, "none") for t in tasks] for s in seeds])
        for arm, make in arms.items()
    }  # (seeds, tasks)
    for one, other in (("clerc", "example"), ("clerc", "random"), ("example", "random")):
        difference = found[one] - found[other]
        for i, task in enumerate(tasks):
            print(f"{one:<8}− {other:<9}{task:<20}{interval(difference[:, i])}")
        print(f"{one:<8}− {other:<9}{'all':<20}{interval(difference.mean(axis=1))}", flush=True)


class Ignoring(OptunaSearcher):
    """Failed trials are FAIL to Optuna, whose samplers do not look at them."""

    def tell(self, trial: int, score: float) -> None:
        if math.isinf(score):
            self._pool._study.tell(trial, state=TrialState.FAIL)
        else:
            super().tell(trial, score)


ARMS = {"ignored": Ignoring, "worst": OptunaSearcher}


def with_failures(sampler: str, arm: str, task: str, kind: Kind, seed: int) -> float:
    options, _, evaluations, _ = SAMPLERS[sampler]

    def make(space: Space, seed: int) -> Searcher:
        return ARMS[arm](space, (1,), seed, sampler=sampler, **options)

    return regret(make, task, seed, evaluations, kind)


def failures(sampler: str, seeds: Sequence[int]) -> None:
    _, tasks, _, share = SAMPLERS[sampler]
    seeds = seeds[: len(seeds) // share]
    total = np.zeros(len(seeds))
    for kind, weight in WEIGHTS.items():
        ignored, worst = (
            np.array([[with_failures(sampler, arm, t, kind, s) for t in tasks] for s in seeds])
            for arm in ARMS
        )  # (seeds, tasks)
        difference = ignored - worst
        for i, task in enumerate(tasks):
            print(f"{sampler:<15}{kind:<8}{task:<20}{interval(difference[:, i])}")
        print(f"{sampler:<15}{kind:<8}{'all':<20}{interval(difference.mean(axis=1))}", flush=True)
        total += weight * difference.mean(axis=1)
    print(f"{sampler:<15}{'all':<8}{'all':<20}{interval(total)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["pso", "failures"])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--sampler", choices=SAMPLERS, action="append")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = ("numpy", "pyswarms", "optuna", "cmaes")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"Python {platform.python_version()}, {packages}; {given.seeds} seeds")
    seeds = range(100, 100 + given.seeds)
    if given.what == "pso":
        pso(seeds)
    else:
        for sampler in given.sampler or SAMPLERS:
            failures(sampler, seeds)


if __name__ == "__main__":
    main()
