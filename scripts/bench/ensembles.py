"""Ensembles of 5 and 10 picks beside the answer: audit error over many searches.

HPOGEN_DATA=DATA OMP_NUM_THREADS=1 .venv/bin/python scripts/bench/ensembles.py [--seeds 12]

Stated before the first run. A search is 30 random trials of an MLP of 2 × 64 for 10 epochs, from a
plain search space with learning rates from 1e-3 on, on 260 images of `digits` (250 for validation,
500 for audit), or on 1,200 of `fashion-mnist` (500 and 5,000). Seed s searches with seed s and
splits the images by seed s, so that the searches differ in all that is random. Each answer is the
trial with the least validation loss; each ensemble is picked by validation loss, and by validation
error, from the same trials. The figure is the audit error of the ensemble minus the answer's, in
points: its mean over the seeds with a 95 % bootstrap interval (`mean_interval`), in how many
searches it is lower, and of how many trials the ensembles consist in the mean. Beside it stand the
optimism of the ensembles' validation error, and the same difference of the audit losses.

Confirmed on a data set where the interval for 5 picks by loss lies below 0.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from hpogen import run
from hpogen.analysis.ensemble import Found, select
from hpogen.analysis.figure import Figure
from hpogen.analysis.statistics import mean_interval
from hpogen.spec import StudySpec
from hpogen.study.ensemble import Metric
from hpogen.study.open import open_study
from hpogen.study.read import read

TASKS: Mapping[str, Mapping[str, float]] = {
    "digits": {"subset": 0.2, "validation": 250, "audit": 500},
    "fashion-mnist": {"subset": 0.02, "validation": 500, "audit": 5000},
}
SPACE: Mapping[str, Any] = {
    "batch_size": {"int": [16, 256], "log": True, "default": 64},
    "lr": {"float": [1e-3, 0.5], "log": True, "default": 0.05},
    "momentum": {"float": [0.0, 0.99], "default": 0.9},
    "weight_decay": {"float": [5e-7, 0.05], "log": True, "default": 5e-4},
}
METRICS: Sequence[Metric] = ("loss", "error")
SIZES = (5, 10)


def study(task: str, seed: int, trials: int) -> StudySpec:
    return StudySpec.from_record(
        {
            "name": f"{task} {seed}",
            "seed": seed,
            "task": {
                "dataset": {"name": task, "seed": seed, **TASKS[task]},
                "model": {"name": "mlp", "width": 64, "depth": 2},
                "epochs": 10,
                "schedule": "cosine",
                "keep": "probabilities",
            },
            "search_space": dict(SPACE),
            "searcher": "random",
            "checkpoints": {"keep": "none"},
            "stop": {"trials": trials},
        }
    )


def searched(task: str, seed: int, trials: int, runs: Path) -> dict[tuple[Metric, int], Found]:
    """The ensembles of one search, by what they are picked by and the number of picks."""
    directory = runs / f"{task}-{seed}"
    with open_study(study(task, seed, trials), directory) as opened:
        run(opened)
    folder = read(directory)
    return {(metric, size): select(folder, size, metric) for metric in METRICS for size in SIZES}


def error(of: Figure | str) -> float:
    assert isinstance(of, Figure)  # there is audit
    return 100 * of.value


def line(found: Sequence[Found]) -> str:
    """The differences of one kind of ensemble, over the searches."""
    differences = np.array([error(f.worth.figure) - error(f.answers.figure) for f in found])
    losses = [(f.worth.audit_loss or 0) - (f.answers.audit_loss or 0) for f in found]
    interval = mean_interval(differences)
    low, high = (interval.low, interval.high) if interval else (np.nan, np.nan)
    optimism = [100 * (f.worth.validation_error or 0) - error(f.worth.figure) for f in found]
    return (
        f"{np.mean([error(f.worth.figure) for f in found]):5.2f} %  "
        f"{differences.mean():+.2f} [{low:+.2f}, {high:+.2f}]  "
        f"lower in {int((differences < 0).sum())} of {len(found)}  "
        f"{np.mean([len(f.picks) for f in found]):.1f} trials  "
        f"optimism {np.mean(optimism):+.2f}  loss {np.mean(losses):+.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--tasks", nargs="+", default=[*TASKS], choices=[*TASKS])
    given = parser.parse_args()
    begin = time.process_time()
    for task in given.tasks:
        with TemporaryDirectory() as runs:
            seeds = range(given.seeds)
            found = [searched(task, seed, given.trials, Path(runs)) for seed in seeds]
        answers = [error(of["loss", SIZES[0]].answers.figure) for of in found]
        print(f"{task}: {given.seeds} searches of {given.trials} trials")
        print(f"  the answer            {np.mean(answers):5.2f} %")
        for metric in METRICS:
            for size in SIZES:
                told = line([of[metric, size] for of in found])
                print(f"  by {metric:5} {size:3} picks    {told}", flush=True)
    print(f"{time.process_time() - begin:.0f} s of processor time")


if __name__ == "__main__":
    main()
