"""How far a searcher's proposals depend on the processor: what a resumed study replays elsewhere.

    .venv/bin/python scripts/bench/replay_processors.py [--trials 120] [--searchers cmaes …]

Each searcher proposes twice for the same made-up scores, in processes of its own: with what the
processor has, and with the vector instructions of numpy, torch and OpenBLAS switched off, as on an
older one. Printed is the largest relative difference between two numbers of a configuration, and
the first trial at which one is above 1e-9, where a replay is refused.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any

from hpogen import plugins
from hpogen.space import Space

OLDER = {
    "ATEN_CPU_CAPABILITY": "default",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
    "OPENBLAS_CORETYPE": "Prescott",
}
REFUSED = 1e-9  # hpogen.study.replay.SAME
LR = {"float": [1e-4, 1.0], "log": True, "default": 0.01}
NUMBERS = {"lr": LR, "width": {"int": [8, 128], "log": True}, "momentum": {"float": [0.0, 0.99]}}
MIXED = {**NUMBERS, "optimizer": {"choice": ["sgd", "adam", "adamw"]}}
SEARCHERS: Mapping[str, Mapping[str, Any]] = {
    "random": {},
    "cmaes": {},
    "pso": {},
    "asha": {},
    "hyperband": {"brackets": 1000},
    "bohb": {"brackets": 1000},
    "optuna": {"sampler": "TPESampler"},
    "optuna, GP": {"sampler": "GPSampler"},
    "optuna, CMA-ES": {"sampler": "CmaEsSampler"},
}


def proposals(name: str, trials: int) -> list[dict[str, Any]]:
    cls = plugins.searchers.get(name.partition(",")[0])
    takes_choices = name not in ("pso", "optuna, CMA-ES")
    budgets = (1, 3, 9) if cls.multi_fidelity else (9,)
    space = Space.parse(MIXED if takes_choices else NUMBERS)
    searcher = cls(space, budgets, 0, **SEARCHERS[name])
    found = []
    for trial in range(trials):
        proposal = searcher.ask()
        config = dict(proposal.config)
        score = abs(math.log10(config["lr"]) + 2) + abs(math.log(config["width"] / 64))
        score += abs(config["momentum"] - 0.5) + 0.3 * (config.get("optimizer") == "sgd")
        searcher.tell(trial, score + 0.05 * math.sin(977 * trial))
        found.append(config)
    return found


def run(name: str, trials: int, more: Mapping[str, str]) -> list[dict[str, Any]]:
    command = [sys.executable, __file__, "--propose", name, "--trials", str(trials)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def apart(a: Any, b: Any) -> float:
    """Relatively; infinite where two that are no floats differ."""
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) / max(abs(a), abs(b), 1e-300)
    return 0.0 if a == b else math.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--searchers", nargs="+", choices=SEARCHERS, default=[*SEARCHERS])
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--propose", help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # of the engines' own old calls
    if given.propose:
        print(json.dumps(proposals(given.propose, given.trials)))
        return
    for name in given.searchers:
        begin = time.perf_counter()
        pairs = zip(*(run(name, given.trials, more) for more in ({}, OLDER)), strict=True)
        largest = [max((apart(a[key], b.get(key)) for key in a), default=0.0) for a, b in pairs]
        first = next((trial for trial, x in enumerate(largest) if x > REFUSED), None)
        refused = "" if first is None else f", refused at trial {first}"
        took = time.perf_counter() - begin
        print(f"{name:<16}{max(largest):.1e}{refused} ({took:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
