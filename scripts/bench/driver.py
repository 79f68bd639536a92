"""What the driver and its readers cost in large studies: run, resume, status, best, show, …

    .venv/bin/python scripts/bench/driver.py [--trials 10000 20000 50000 100000] [--keep FOLDER]

The studies are written by hpogen's own runner, two of each size (agn+val and val): 2 epochs with a
curve, eight metrics and an audit, 2 % of the trials diverge. An executor that makes up the outcomes
stands for the workers, so `run` is the driver's own cost. Ten trials are left for `resume`, which
trains them with a task that yields at once. Each command is a process of its own. Printed are
seconds of processor time, of wall-clock, and the peak of the resident memory; at the end the
exponent b of time ~ trials^b between the least and the largest size.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hpogen
from hpogen.executors.base import Event, Job
from hpogen.trial import Failure, Outcome, Progress

EPOCHS, LEFT, SLOTS = 2, 10, 4
TRAINED = """
import math, random

def trained(config, seed, epochs):
    noise = random.Random(seed)
    far = math.log10(config["lr"] / 0.03) ** 2 + (config["momentum"] - 0.8) ** 2
    for epoch in range(1, epochs + 1):
        loss = 2.3 * (1 - math.exp(-0.05 - 0.2 * far)) / epoch + 0.02 * noise.random()
        accuracy = math.exp(-loss)
        yield {
            "train_loss": 0.9 * loss, "train_accuracy": 1 - 0.9 * (1 - accuracy),
            "agn": 240.0 * epoch * loss * noise.random(), "val_loss": loss,
            "val_accuracy": accuracy, "gap_loss": 0.1 * loss, "gap_accuracy": 0.1 * (1 - accuracy),
            "train_loss_online": 1.1 * loss,
        }, {"loss": 1.02 * loss, "accuracy": 0.99 * accuracy}
"""
TASK = f"""{TRAINED}
from hpogen.plugins import task

NAMES = ("train_loss", "train_accuracy", "agn", "val_loss", "val_accuracy", "gap_loss",
         "gap_accuracy", "train_loss_online")

@task("simulated", metrics=NAMES, sums=("agn",), audit=("accuracy", "loss"))
def simulated(trial):
    yield from trained(trial.config, trial.seed, trial.budget)
"""
STUDY = """
name: {name}
plugins: [simulated.py]
task: {{name: simulated, epochs: {epochs}}}
search_space:
  batch_size: {{int: [32, 1000], log: true, default: 100}}
  lr: {{float: [1.0e-7, 0.5], log: true, default: 0.01}}
  momentum: {{float: [0.0, 0.99], default: 0.6}}
  weight_decay: {{float: [5.0e-7, 0.05], log: true, default: 5.0e-4}}
searcher: {searcher}
objective: {objective}
stop: {{trials: {trials}}}
"""
OBJECTIVES = {"a": "{preset: agn+val, alpha: 0.1, scale: log}", "b": "{preset: val}"}


class MadeUp:
    """Workers that need no time; after `trials` outcomes they ask the runner to stop."""

    device_type, slots = "cpu", SLOTS

    def __init__(self, trials: int) -> None:
        code: dict[str, object] = {}
        exec(TRAINED, code)
        self._trained: Any = code["trained"]
        self._left, self._running = trials, deque[Job]()

    def submit(self, job: Job) -> None:
        self._running.append(job)

    def wait(self, timeout: float) -> list[Event]:
        job = self._running.popleft()
        self._left -= 1
        if not self._left:
            signal.raise_signal(signal.SIGTERM)
        return [*self._events(job)]

    def _events(self, job: Job) -> Iterator[Event]:
        trial, memory = job.trial, {"peak": 949_743_616, "total": 25_276_063_744}
        if trial.seed % 50 == 0:
            yield job, Outcome(trial.id, {}, epochs=1, failure=Failure("diverged", "in epoch 1"))
            return
        for epoch, (metrics, audit) in enumerate(
            self._trained(trial.config, trial.seed, EPOCHS), 1
        ):
            seconds = {"train": 1.1334234770038165, "validation": 0.1702099149915739}
            yield job, Progress(trial.id, epoch, metrics, seconds, memory=memory, audit=audit)
        total = {**seconds, "measures": 0.29416729199147085, "total": 1.6384499899941147}
        yield job, Outcome(trial.id, metrics, audit, total, EPOCHS, code="c47e7bb91ddf")

    def cancel(self) -> None:
        self._running.clear()

    stop = cancel


def make(folder: Path, name: str, trials: int, searcher: str) -> None:
    """Run a study up to `trials` trials of `trials` + LEFT; the process ends with it."""
    folder.mkdir(exist_ok=True)
    (folder / "simulated.py").write_text(TASK)
    path = folder / f"{name}.yaml"
    stop = {"epochs": EPOCHS, "trials": trials + LEFT, "searcher": searcher}
    path.write_text(STUDY.format(name=name, objective=OBJECTIVES[name], **stop))
    with hpogen.Study(hpogen.load_study(path), folder / name) as study:
        result = hpogen.run(study, MadeUp(trials))
    if (result.end, result.trials) != ("interrupted", trials):
        sys.exit(f"wrong: the run ended as {result}")


@dataclass(frozen=True)
class Cost:
    cpu: float  # seconds
    wall: float  # seconds
    peak: int  # bytes


def cost(arguments: list[str]) -> Cost:
    """What a command takes, in a process of its own."""
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen([sys.executable, *arguments], stdout=said, stderr=said)
        _, code, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(code)
        if child.returncode:
            said.seek(0)
            sys.exit(f"wrong: {' '.join(arguments)}: {said.read().decode()[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, 1024 * usage.ru_maxrss)


def commands(home: Path, trials: int) -> dict[str, list[str]]:
    a, b, out = str(home / "a"), str(home / "b"), str(home / "out")
    typed = {
        "status": ["status", a],
        "status again": ["status", a],
        "best": ["best", a],
        "best again": ["best", a],
        "show": ["show", a, str(trials // 2)],
        "show again": ["show", a, str(trials // 3)],
        "resume, 10 left": ["resume", a],
        "resume, none left": ["resume", a],
        "status after it": ["status", a],
        "rescore": ["rescore", a, "--objective", "val"],
        "compare": ["compare", a, b],
        "report": ["report", a, b, "--out", f"{out}.html"],
        "export csv": ["export", a, "--to", f"{out}.csv"],
        "export optuna": ["export", a, "--to", f"sqlite:///{out}.db"],
    }
    return {name: ["-m", "hpogen", *words] for name, words in typed.items()}


def measure(home: Path, trials: int, searcher: str, only: list[str]) -> dict[str, Cost]:
    own = [__file__, "--make", str(home), "--searcher", searcher, "--trials", str(trials)]
    found: dict[str, Cost] = {}
    for name in OBJECTIVES:
        if not (home / name).exists():
            found["run"] = cost([*own, "--name", name])
    for name, words in commands(home, trials).items():
        if not only or name in only:
            found[name] = cost(words)
            print(f"{trials:9,} {name:18} {found[name].cpu:8.2f} s", file=sys.stderr, flush=True)
    return found


def show(found: dict[int, dict[str, Cost]]) -> None:
    least, most = min(found), max(found)
    heads = "".join(f"{f'{trials:,}':>22}" for trials in found)
    print(f"{'':18}{heads}   exponent")
    for name in found[most]:
        cells = "".join(
            f"{row[name].cpu:8.2f} {row[name].wall:6.1f} {row[name].peak / 2**20:5.0f} M"
            if name in row
            else f"{'':22}"
            for row in found.values()
        )
        exponent = ""
        if most > least and name in found[least]:
            grown = found[most][name].cpu / found[least][name].cpu
            exponent = f"{math.log(grown) / math.log(most / least):.2f}"
        print(f"{name:18}{cells} {exponent:>9}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[10_000, 20_000, 50_000, 100_000])
    parser.add_argument("--searcher", default="random")
    parser.add_argument("--keep", type=Path, help="a folder for the studies; those there are used")
    parser.add_argument("--only", nargs="*", default=[], help="of these rows")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        return make(given.make, given.name, given.trials[0], given.searcher)
    versions = f"hpogen {version('hpogen')}, Python {platform.python_version()}"
    print(f"{versions}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    print("seconds of processor time, of wall-clock, peak memory in MiB")
    with contextlib.ExitStack() as stack:
        home = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home.mkdir(exist_ok=True)
        found = {n: measure(home / str(n), n, given.searcher, given.only) for n in given.trials}
    show(found)


if __name__ == "__main__":
    main()
