"""The driver on simulated time: what it costs per trial, and how busy a matrix keeps its slots.

    .venv/bin/python scripts/bench/simulation.py [--trials 100000] [--slots 1000]

The studies, their searchers and ledgers are real; an executor whose clock jumps from one end of a
trial to the next stands for the workers. Trial times are log-normal (median 1, sigma 0.5). First
one random study: the driver's own seconds per trial, for each tenth of the trials. Then six CMA-ES
studies (population 8, d = 4) on 16 slots, in one pool and one after another: the share of the
slots' time that was used, until the last trial has ended.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import os
import platform
import random
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import hpogen
from hpogen.executors.base import Event, Job
from hpogen.running.runner import run_all
from hpogen.study.study import Study
from hpogen.trial import Outcome

TASK = """
from hpogen.plugins import task

@task("simulated", metrics=("val_loss",))
def simulated(trial):
    raise NotImplementedError("the executor makes up the outcomes")
    yield {}
"""
STUDY = """
plugins: [simulated.py]
seed: {seed}
task: {{name: simulated, epochs: 1}}
search_space:
  batch_size: {{int: [32, 1000], log: true, default: 100}}
  lr: {{float: [1.0e-7, 0.5], log: true, default: 0.01}}
  momentum: {{float: [0.0, 0.99], default: 0.6}}
  weight_decay: {{float: [5.0e-7, 0.05], log: true, default: 5.0e-4}}
searcher: {searcher}
stop: {{trials: {trials}}}
"""
SIGMA = 0.5  # of the logarithm of a trial's time


class SimulatedExecutor:
    """`slots` workers of which only the trials' times are real numbers: nothing is trained."""

    device_type = "cpu"

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.now = 0.0
        self.busy = 0.0
        self.ended: list[float] = []  # process seconds at which each trial's end was reported
        self._random = random.Random(0)
        self._number = itertools.count()
        self._running: list[tuple[float, int, Job]] = []

    def submit(self, job: Job) -> None:
        seconds = self._random.lognormvariate(0.0, SIGMA)
        self.busy += seconds
        heapq.heappush(self._running, (self.now + seconds, next(self._number), job))

    def wait(self, timeout: float) -> list[Event]:
        if not self._running:
            return []
        self.now, _, job = heapq.heappop(self._running)
        self.ended.append(time.process_time())
        loss = float(job.trial.config["momentum"])
        return [(job, Outcome(job.trial.id, {"val_loss": loss}))]

    def cancel(self) -> None:
        self._running.clear()

    stop = cancel

    @property
    def utilisation(self) -> float:
        return self.busy / (self.slots * self.now)


def study(folder: Path, name: str, seed: int, searcher: str, trials: int) -> Study:
    (folder / "simulated.py").write_text(TASK)
    path = folder / f"{name}.yaml"
    path.write_text(STUDY.format(seed=seed, searcher=searcher, trials=trials))
    return Study(hpogen.load_study(path), folder / name)


def drive(studies: list[Study], executor: SimulatedExecutor) -> None:
    results = run_all(studies, executor)
    wrong = [result for result in results if result.end != "finished"]
    for each in studies:
        each.close()
    if wrong:
        sys.exit(f"wrong: a study ended as {wrong[0]}")


def print_cost(trials: int, slots: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        executor = SimulatedExecutor(slots)
        begin = time.perf_counter()
        drive([study(Path(folder), "one", 0, "random", trials)], executor)
        seconds = time.perf_counter() - begin
    tenth = trials // 10
    costs = [
        (executor.ended[start + tenth - 1] - executor.ended[start]) / (tenth - 1)
        for start in range(0, trials, tenth)
    ]
    print(f"{trials:,} trials on {slots:,} slots in {seconds:.0f} s; CPU µs per trial, by tenth:")
    print("  " + " ".join(f"{1e6 * cost:.0f}" for cost in costs))


def print_utilisation(trials: int) -> None:
    searcher = "{name: cmaes, population: 8}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = SimulatedExecutor(16)
        drive([study(folder, f"p{i}", i, searcher, trials) for i in range(6)], pool)
        alone = SimulatedExecutor(16)
        for i in range(6):
            drive([study(folder, f"a{i}", i, searcher, trials)], alone)
    print(
        f"6 CMA-ES studies of {trials} trials, 16 slots: in one pool {100 * pool.utilisation:.1f} "
        f"%, one after another {100 * alone.utilisation:.1f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--slots", type=int, default=1_000)
    parser.add_argument("--each", type=int, nargs="+", default=[32, 160, 640])
    options = parser.parse_args()
    print(
        f"hpogen {version('hpogen')}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} before"
    )
    for trials in options.each:
        print_utilisation(trials)
    print_cost(options.trials, options.slots)


if __name__ == "__main__":
    main()
