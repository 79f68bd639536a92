"""Milliseconds per ask + tell of every searcher at d = 4, after 100 and after 400 trials.

.venv/bin/python scripts/bench/searchers_time.py [--rounds 5]

One slot, the scores of a sphere; the mean over 40 trials around each count, the least of the
rounds (the machines are shared). Optuna's TPE without hpogen runs in between, as a peer.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import optuna

from hpogen import plugins
from hpogen.space import Space

SPACE = Space.parse({name: {"float": [0, 1]} for name in "abcd"})
OPTIONS: dict[str, dict[str, Any]] = {
    "random": {},
    "cmaes": {},
    "pso": {},
    "hyperband": {"brackets": 1000},
    "bohb": {"brackets": 1000},
    "asha": {},
    "optuna": {},
}
COUNTS, HALF = (100, 400), 20
PACKAGES = ("numpy", "cma", "pyswarms", "hpbandster", "optuna")


def sphere(config: Any) -> float:
    return sum((x - 0.3) ** 2 for x in config.values())


def ours(name: str, seed: int) -> Callable[[int], None]:
    cls = plugins.searchers.get(name)
    budgets = (1, 2, 4) if cls.multi_fidelity else (4,)
    searcher = cls(SPACE, budgets, seed, **OPTIONS[name])

    def step(trial: int) -> None:
        searcher.tell(trial, sphere(searcher.ask().config))

    return step


def bare_tpe(seed: int) -> Callable[[int], None]:
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    distributions = {name: optuna.distributions.FloatDistribution(0, 1) for name in "abcd"}

    def step(trial: int) -> None:
        asked = study.ask(distributions)
        study.tell(asked, sphere(asked.params))

    return step


def milliseconds(step: Callable[[int], None]) -> list[float]:
    seconds = []
    for trial in range(COUNTS[-1] + HALF):
        begin = time.perf_counter()
        step(trial)
        seconds.append(time.perf_counter() - begin)
    return [1000 * float(np.mean(seconds[n - HALF : n + HALF])) for n in COUNTS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"Python {platform.python_version()}, {packages}, {os.cpu_count()} cores, n = {rounds}")
    times: dict[str, list[list[float]]] = {}
    for seed in range(rounds):
        for name in OPTIONS:
            times.setdefault(name, []).append(milliseconds(ours(name, seed)))
        times.setdefault("(bare Optuna TPE)", []).append(milliseconds(bare_tpe(seed)))
    print(f"{'searcher':<20}" + "".join(f"{f'ms at {n}':>12}" for n in COUNTS))
    for name, rows in times.items():
        print(f"{name:<20}" + "".join(f"{x:>12.3f}" for x in np.min(rows, axis=0)))


if __name__ == "__main__":
    main()
