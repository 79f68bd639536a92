"""Hyperband over data beside hyperband over epochs: the samples until the same validation loss.

.venv/bin/python scripts/bench/data_rungs.py [--seeds 10] [--tasks digits mnist fashion-mnist]

Stated before the first run with seeds from 100 on; it was tried on seeds 0 and 1.
Each task is an MLP of 2 × 128 on a subset of its training set. Three arms search the paper's space
with learning rates from 1e-3 on, by `hyperband` with eight brackets, η = 2, on the same seeds:

- `epochs`: rungs of T/8, T/4, T/2 and T epochs on the subset S;
- `data`: T epochs on S/8, S/4, S/2 and S;
- `both`: T/8 epochs on S/8, and so on: each rung costs a quarter of the one above.

The highest rung is the same training in all arms. `epochs` and `data` are charged the same in all;
`both` less for each bracket, and so has twice as many. The figure of an arm and a seed is what it
was charged when its answer first had a validation loss no higher than the last answer of `epochs`,
as a share of what `epochs` was charged when it had that answer first; infinite where it never had.
(On seeds 0 and 1 it was set against the whole charge of `epochs`, a third of which came after.)

Reached on a task where the median of `data` over the seeds is at most 0.70. Confirmed where that
is so on two of three tasks. Beside it stand the quartiles, how many seeds never came there, the
same of `both`, and the mean difference of the last validation losses with Student's 95 % interval.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from hpogen import run
from hpogen.analysis.answers import siblings_of
from hpogen.analysis.trajectory import trajectory
from hpogen.spec import StudySpec
from hpogen.study.open import open_study
from hpogen.study.read import Folder, read

FIRST = 100  # seed
REACHED = 0.70
SUBSETS = {"digits": 0.4, "mnist": 0.04, "fashion-mnist": 0.04}
EPOCHS = 16
SPACE: Mapping[str, Any] = {
    "batch_size": {"int": [16, 256], "log": True, "default": 64},
    "lr": {"float": [1e-3, 0.5], "log": True, "default": 0.01},
    "momentum": {"float": [0.0, 0.99], "default": 0.6},
    "weight_decay": {"float": [5e-7, 0.05], "log": True, "default": 5e-4},
}
ARMS = ("epochs", "data", "both")


def study(task: str, arm: str, seed: int) -> StudySpec:
    subset = SUBSETS[task]
    budgets: dict[str, Any] = {"min": EPOCHS // 8, "max": EPOCHS, "eta": 2}
    if arm != "epochs":
        over = "data" if arm == "data" else ["data", "epochs"]
        budgets = {"over": over, "min": subset / 8, "max": subset, "eta": 2}
    return StudySpec.from_record(
        {
            "name": f"{task} {arm} {seed}",
            "seed": seed,
            "task": {
                "dataset": {"name": task, "subset": subset, "validation": 400, "audit": 300},
                "model": {"name": "mlp", "width": 128, "depth": 2},
                "epochs": EPOCHS,
                "schedule": "cosine",
            },
            "search_space": dict(SPACE),
            "searcher": {"name": "hyperband", "brackets": 16 if arm == "both" else 8},
            "budgets": budgets,
            "checkpoints": {"keep": "none"},
            "stop": {"epochs": 100_000},
        }
    )


def searched(task: str, arm: str, seed: int, runs: Path) -> Folder:
    """A study that has ended; one that had is only read."""
    directory = runs / f"{task}-{arm}-{seed}"
    with open_study(study(task, arm, seed), directory) as opened:
        run(opened)
    return read(directory)


def losses(folder: Folder) -> tuple[np.ndarray, np.ndarray]:
    """After each told trial: the epochs charged, and the answer's validation loss, (T,) each."""
    path = trajectory(folder, None, siblings_of([folder]))
    outcomes = [None if r is None else r.outcome for r in path.incumbents]
    values = [math.inf if o is None else o.metrics["val_loss"] for o in outcomes]
    return path.epochs, np.array(values)


def reached(folder: Folder, target: float) -> float:
    """The epochs charged when the answer was first as good; infinity where it never was."""
    charged, values = losses(folder)
    there = values <= target
    return float(charged[there.argmax()]) if there.any() else math.inf


def share(arm: Folder, against: Folder) -> float:
    """See above."""
    target = losses(against)[1][-1]
    return reached(arm, target) / reached(against, target)


def report(task: str, seeds: range, runs: Path) -> bool:
    found = {arm: [searched(task, arm, seed, runs) for seed in seeds] for arm in ARMS}
    medians = {}
    for arm, folders in found.items():
        shares = np.array([share(f, e) for f, e in zip(folders, found["epochs"], strict=True)])
        low, medians[arm], high = np.quantile(shares, (0.25, 0.5, 0.75), method="inverted_cdf")
        ends = [losses(f)[1][-1] for f in folders]
        against = [losses(f)[1][-1] for f in found["epochs"]]
        difference = np.subtract(ends, against)
        width = stats.sem(difference) * stats.t.ppf(0.975, len(difference) - 1)
        print(
            f"{task:14} {arm:7} share {medians[arm]:.2f} [{low:.2f}, {high:.2f}], "
            f"never {int(np.isinf(shares).sum())} of {len(shares)}; last val loss "
            f"{np.mean(ends):.4f}, minus epochs' {difference.mean():+.4f} ± {width:.4f}"
        )
    return bool(medians["data"] <= REACHED)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=FIRST)
    parser.add_argument("--tasks", nargs="+", default=[*SUBSETS], choices=[*SUBSETS])
    parser.add_argument("--runs", type=Path, default=Path("runs/bench/data-rungs"))
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    found = [report(task, seeds, given.runs) for task in given.tasks]
    print(f"reached on {sum(found)} of {len(found)} tasks")


if __name__ == "__main__":
    main()
