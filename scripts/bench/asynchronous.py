"""What waiting for generations costs, and what `asynchronous: true` costs and brings.

    .venv/bin/python scripts/bench/asynchronous.py [--workers 4] [--trials 96] [--seeds 30]

CMA-ES and PSO on functions of four numbers, on simulated workers: a heap of ends stands for the
clock, the searchers are real. Trial times are log-normal with a sigma of 0.5 (`noise`), or those of
a training, whose time falls with its batch size: 1 + 3 · (32 / batch size) ^ 0.5, with a
sigma of 0.1 (`batch`). Both modes of one seed begin with the same points.

Stated before the first run. Printed are, with 95 % intervals (Student, over seeds, of the mean over
functions): the share of the workers' time that is idle until the last trial ends; and of
asynchronous minus exact, the log10 of the regret of the best trial after as many trials, and at the
time when the exact one has ended. The default stays exact, whatever comes out; the second figure
says when one should take the other: where the interval at equal time is below zero.
"""

from __future__ import annotations

import argparse
import heapq
import math
import platform
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from searchers_choices import TASKS, Task, interval

from hpogen.searchers.base import Searcher
from hpogen.searchers.cmaes import CmaesSearcher
from hpogen.searchers.pso import PsoSearcher

ENGINES = {"cmaes": CmaesSearcher, "pso": PsoSearcher}
FUNCTIONS = ("sphere", "ellipsoid", "rosenbrock", "rastrigin", "ridge", "training")


@dataclass(frozen=True)
class Run:
    ends: Sequence[tuple[float, float]]  # when a trial ended, and its score, in that order
    idle: float  # share of the workers' time

    def best(self, until: float = math.inf) -> float:
        return math.log10(min(score for end, score in self.ends if end <= until) + 1e-12)


def seconds(kind: str, point: np.ndarray, trial: int) -> float:
    chance = random.Random(trial)
    if kind == "noise":
        return chance.lognormvariate(0.0, 0.5)
    batch = 16 * (1024 / 16) ** float(point[2])  # as in the space of a network there
    return (1 + 3 * (32 / batch) ** 0.5) * chance.lognormvariate(0.0, 0.1)


def simulate(searcher: Searcher, task: Task, kind: str, workers: int, trials: int) -> Run:
    """One search of so many trials on so many workers."""
    running: list[tuple[float, int, float]] = []  # end, trial, score
    ends: list[tuple[float, float]] = []
    now, busy, asked = 0.0, 0.0, 0
    while len(ends) < trials:
        while len(running) < workers and asked < trials:
            proposal = searcher.ask()
            if proposal is None:
                break
            point = task.space.encode(proposal.config)[:4]
            takes = seconds(kind, point, asked)
            busy += takes
            heapq.heappush(running, (now + takes, asked, task.function(point, proposal.config)))
            asked += 1
        now, trial, score = heapq.heappop(running)
        ends.append((now, score))
        searcher.tell(trial, score)
    return Run(ends, 1 - busy / (workers * now))


def figures(engine: str, kind: str, seed: int, given: argparse.Namespace) -> list[float]:
    """Idle share exact and asynchronous, regret after as many trials, and at equal time."""
    rows = []
    for task in (TASKS[name] for name in FUNCTIONS):

        def run(asynchronous: bool, trials: int, task: Task = task) -> Run:
            made: Searcher = ENGINES[engine](
                task.space, (1,), seed, population=given.population, asynchronous=asynchronous
            )
            return simulate(made, task, kind, given.workers, trials)

        exact, early = run(False, given.trials), run(True, given.trials)
        longer = run(True, 2 * given.trials)
        at_once = longer.best(exact.ends[-1][0]) - exact.best()
        rows.append([exact.idle, early.idle, early.best() - exact.best(), at_once])
    return [*np.mean(rows, axis=0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--trials", type=int, default=96)
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=30)
    given = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "cma", "pyswarms"))
    print(f"Python {platform.python_version()}, {versions}; {vars(given)}")
    print("engine  times   idle exact, asynchronous   regret after as many trials, at equal time")
    for engine in ENGINES:
        for kind in ("noise", "batch"):
            found = np.array([figures(engine, kind, 200 + k, given) for k in range(given.seeds)])
            exact, early = 100 * found[:, :2].mean(axis=0)
            regrets = "   ".join(interval([*found[:, i]]) for i in (2, 3))
            print(f"{engine:<8}{kind:<8}{exact:5.1f} % {early:5.1f} %   {regrets}", flush=True)


if __name__ == "__main__":
    main()
