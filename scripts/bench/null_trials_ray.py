"""Null trials a second through Ray workers with the ledger on, beside Ray Tune and Optuna (SQLite).

    .venv/bin/python scripts/bench/null_trials_ray.py [--trials 3000] [--workers 2] [--rounds 3]

All in one run, interleaved; neither the start of Ray nor that of hpogen's workers is counted.
Then, by hpogen, --sleeps trials of four seconds each, beside the ideal. Exits with 1 only when a
study did not do what it was asked to.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from null_trials import STUDY, TASK, check

import hpogen
from hpogen.record import ledger

NULL = """    yield {"val_loss": trial.config["lr"]}"""
SLEEP_SECONDS = 4.0
SLEEP = f"""    import time
    time.sleep({SLEEP_SECONDS})
{NULL}"""


def ours(trials: int, workers: int, folder: Path, body: str = NULL) -> float:
    (folder / "null.py").write_text(TASK.replace(NULL, body))
    path = folder / "study.yaml"
    path.write_text(STUDY.format(trials=trials))
    executor = hpogen.RayExecutor(workers, cpus_per_trial=1)
    while executor.slots < workers:
        executor.wait(0.1)
    begin = time.perf_counter()
    with hpogen.Study(hpogen.load_study(path), folder / "run") as study:
        result = hpogen.run(study, executor)
    seconds = time.perf_counter() - begin
    executor.stop()
    check(result, ledger.read(folder / "run"), trials)
    return seconds


def tune(trials: int, workers: int, folder: Path) -> float:
    from ray import tune

    def null(config: dict[str, float]) -> None:
        tune.report({"val_loss": config["lr"]})

    settings = tune.TuneConfig(
        num_samples=trials, max_concurrent_trials=workers, reuse_actors=True, metric="val_loss",
        mode="min",
    )  # fmt: skip
    space = {"lr": tune.loguniform(1e-7, 0.5), "momentum": tune.uniform(0, 0.99)}
    run = tune.RunConfig(storage_path=str(folder), name="null", verbose=0)
    begin = time.perf_counter()
    results = tune.Tuner(null, param_space=space, tune_config=settings, run_config=run).fit()
    seconds = time.perf_counter() - begin
    if len(results) != trials:
        sys.exit(f"wrong: Ray Tune has {len(results)} of {trials} trials")
    return seconds


def optuna(trials: int, workers: int, folder: Path) -> float:
    """In one process: its own workers would share the SQLite file."""
    import optuna as engine

    engine.logging.set_verbosity(engine.logging.ERROR)
    storage = f"sqlite:///{folder}/null.db"
    study = engine.create_study(storage=storage, sampler=engine.samplers.RandomSampler(seed=0))

    def null(trial: engine.Trial) -> float:
        trial.suggest_float("momentum", 0, 0.99)
        return trial.suggest_float("lr", 1e-7, 0.5, log=True)

    begin = time.perf_counter()
    study.optimize(null, n_trials=trials)
    return time.perf_counter() - begin


def rate(run: Callable[[int, int, Path], float], trials: int, workers: int) -> float:
    """Trials per second of a study."""
    with tempfile.TemporaryDirectory() as folder:
        return trials / run(trials, workers, Path(folder))


def print_sleeps(trials: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        seconds = ours(trials, workers, Path(folder), SLEEP)
    ideal = SLEEP_SECONDS * -(-trials // workers)
    print(
        f"{trials} trials of {SLEEP_SECONDS:g} s on {workers} workers: {seconds:.2f} s, "
        f"{100 * (seconds / ideal - 1):.1f} % above the ideal {ideal:g} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3_000)
    parser.add_argument("--sleeps", type=int, default=32)
    parser.add_argument("--few", type=int, default=50, help="trials of the slower ones")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["hpogen"], help="leave the others out")
    arguments = parser.parse_args()
    from hpogen.executors.ray_cluster import connect

    connect("local", max(arguments.workers, os.cpu_count() or 1))
    runs = (
        {"hpogen": ours} if arguments.only else {"hpogen": ours, "Ray Tune": tune, "Optuna": optuna}
    )
    trials = {name: arguments.trials if name == "hpogen" else arguments.few for name in runs}
    load = f"load {os.getloadavg()[0]:.1f} before"
    print(f"{os.cpu_count()} cores, {load}, {arguments.workers} workers, {arguments.rounds} rounds")
    rounds = [
        {name: rate(run, trials[name], arguments.workers) for name, run in runs.items()}
        for _ in range(arguments.rounds)
    ]
    print(f"{'':10} {'trials':>7} {'median/s':>9} {'min/s':>8} {'max/s':>8}")
    for name in runs:
        rates = [measured[name] for measured in rounds]
        numbers = f"{statistics.median(rates):9,.1f} {min(rates):8,.1f} {max(rates):8,.1f}"
        print(f"{name:10} {trials[name]:7,} {numbers}")
    if arguments.sleeps:
        print_sleeps(arguments.sleeps, arguments.workers)


if __name__ == "__main__":
    main()
