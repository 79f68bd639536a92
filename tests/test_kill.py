"""SIGKILL at random moments: the resumed study is the undisturbed one, metrics and all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from analysis.learned import ridge
from toys import essence, study_file

from hpogen.record import folder, ledger
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study.study import Study

IMAGES: dict[str, Any] = {
    "task": {
        "dataset": {"name": "digits", "subset": 0.3, "validation": 200, "augment": "standard"},
        "model": {"name": "mlp", "width": 32},
        "epochs": 3,
        "schedule": {"name": "cosine"},
        "measures": ["agn_online"],
    },
    "search_space": {
        "lr": {"float": [0.001, 5.0], "log": True, "default": 0.1},
        "batch_size": {"int": [16, 128], "log": True, "default": 32},
    },
    "searcher": {"name": "cmaes", "population": 4},
    "objective": {"preset": "agn+val", "alpha": 0.05, "scale": "log"},
    "stop": {"trials": 12},
    "plugins": [],
}
BOWL: dict[str, Any] = {
    "task": {"name": "bowl", "epochs": 2, "pause": 0.005},
    "searcher": {"name": "cmaes", "population": 4},
    "objective": {"terms": [{"metric": "val_loss"}, {"metric": "agn", "scale": "standard"}]},
    "stop": {"trials": 60},
}

STREAM = """
import random
import numpy as np
import torch
from torch.utils.data import Dataset
import hpogen.training.checkpoint
from hpogen.plugins import dataset
from hpogen.training.data import Data, streamed

hpogen.training.checkpoint.INTERVAL = 0.02  # seconds: it goes on within an epoch
hpogen.training.checkpoint.SHARE = 1.0

class Noisy(Dataset):
    def __init__(self, noise):
        self.noise = noise
        self.targets = [i % 4 for i in range(200)]
    def __len__(self):
        return len(self.targets)
    def __getitem__(self, i):
        noise = self.noise(torch.rand(8) + random.random() + float(np.random.rand()))
        return noise + torch.arange(8) * self.targets[i] / 8

@dataset("noisy")
def noisy(root):
    train = streamed(Noisy(lambda x: 2 * x), Noisy(lambda x: x))
    return Data(train, train.none(), "classes")
"""
STREAMED: dict[str, Any] = {
    "task": {
        "name": "supervised",
        "dataset": {"name": "noisy", "subset": 0.6, "validation": 40},
        "model": {"name": "mlp", "width": 8},
        "epochs": 2,
        "measures": ["agn_online"],
    },
    "search_space": {"lr": IMAGES["search_space"]["lr"], "batch_size": 8},
    "stop": {"trials": 2},
    "plugins": ["noisy.py"],
}

FORKER = """
import json, os, sys
import hpogen, cma, sklearn.datasets, torch, torch._dynamo  # once, not in every child
from hpogen.cli import main

for line in sys.stdin:
    arguments = json.loads(line)
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        os.dup2(2, 1)
        sys.argv = ["hpogen", *arguments]
        try:
            main()
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code or 0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Drivers:
    """Runs commands, each in a process of its own: a fork of one that has imported everything."""

    def __init__(self, first: str = "") -> None:
        """`first` is run before anything else: other imports, say."""
        self._forker = subprocess.Popen(
            [sys.executable, "-c", first + FORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def close(self) -> None:
        self._forker.communicate()

    def call(self, arguments: list[str], kill_after: float | None = None) -> bool:
        """Run a command, killed so many seconds after it began; whether it came to its end."""
        orders, answers = self._forker.stdin, self._forker.stdout
        assert orders is not None and answers is not None
        orders.write(f"{json.dumps(arguments)}\n")
        orders.flush()
        child = int(answers.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        code = int(answers.readline())
        assert code == 0 or (kill_after is not None and code == -signal.SIGKILL)
        return code == 0


@pytest.fixture(scope="module")
def drivers() -> Iterator[Drivers]:
    with closing(Drivers()) as drivers:
        drivers.call(["--version"])  # once it has imported everything
        yield drivers


@dataclass(frozen=True)
class Story:
    """Commands that are given one after the other, each again until it came to its end."""

    commands: list[list[str]]  # DIR stands for the folder that they write
    begin: Path | None = None  # what the folder holds before

    def play(self, drivers: Drivers, directory: Path, chance: Iterator[float]) -> int:
        """Kill each command so many seconds after it began; how many were under way then."""
        if self.begin is not None:
            shutil.copytree(self.begin, directory)
        killed = 0
        for command in self.commands:
            arguments = [str(directory) if word == "DIR" else word for word in command]
            while not drivers.call(arguments, next(chance, None)):
                killed += 1
        return killed


def images(folder: Path) -> Story:
    return Story([["run", str(study_file(folder, **IMAGES)), "--dir", "DIR"]])


def folds(folder: Path) -> Story:
    """Each trial trains three times."""
    dataset = {**IMAGES["task"]["dataset"], "validation": {"folds": 3}}
    keys = {"task": {**IMAGES["task"], "dataset": dataset}, "stop": {"trials": 6}}
    path = study_file(folder, **{**IMAGES, **keys})
    return Story([["run", str(path), "--dir", "DIR"]])


def streamed_study(folder: Path) -> Path:
    """Processes read what the trials train on, of a class that a plug-in defines."""
    path = study_file(folder, **STREAMED)
    (folder / "noisy.py").write_text(STREAM)
    return path


def streaming(folder: Path) -> Story:
    return Story([["run", str(streamed_study(folder)), "--dir", "DIR"]])


def race(folder: Path) -> Story:
    """Few trials, then three finalists on more data with two seeds each."""
    dataset = {**IMAGES["task"]["dataset"], "audit": 100}
    keys = {
        "task": {**IMAGES["task"], "dataset": dataset},
        "finalists": {"count": 3, "data": 0.6, "seeds": 2},
        "stop": {"trials": 10},
    }
    path = study_file(folder, **{**IMAGES, **keys})
    return Story([["run", str(path), "--dir", "DIR"]])


def pruned(folder: Path) -> Story:
    """Most of the trials end before their budget."""
    keys = {
        "task": {**IMAGES["task"], "epochs": 6},
        "prune": {"rule": "median", "after": 2, "n_startup_trials": 2},
    }
    path = study_file(folder, **{**IMAGES, **keys})
    return Story([["run", str(path), "--dir", "DIR"]])


RACE = pytest.param(race, marks=pytest.mark.slow)


def bowl(folder: Path) -> Story:
    return Story([["run", str(study_file(folder, **BOWL)), "--dir", "DIR"]])


def found(folder: Path) -> Story:
    """An α that is found from the first trials, and bounds that some of them miss."""
    keys = {
        "objective": {"preset": "agn+val", "alpha": "auto", "scale": "log"},
        "constraints": {"gap_loss": "<= -0.2"},
    }
    return Story([["run", str(study_file(folder, **{**BOWL, **keys})), "--dir", "DIR"]])


def fronts(folder: Path) -> Story:
    """A search for a Pareto front, with bounds that some trials miss."""
    keys = {
        "objective": {"pareto": ["val_loss", {"metric": "agn", "scale": "log"}]},
        "searcher": "optuna",
        "constraints": {"gap_loss": "<= 0.2"},
    }
    return Story([["run", str(study_file(folder, **{**BOWL, **keys})), "--dir", "DIR"]])


def learned(folder: Path) -> Story:
    """A search that is steered by a learned objective."""
    form = {"preset": "learned", "model": "gap.json", "force": True}
    path = study_file(folder, **{**BOWL, "objective": form})
    ridge(folder / "gap.json", agn=0.5, gap_loss=0.1)
    return Story([["run", str(path), "--dir", "DIR"]])


def matrix(folder: Path) -> Story:
    """Two objectives, which have trials in common, of two seeds."""
    objectives = ["val", {"label": "agn", "terms": [{"metric": "agn"}]}]
    axes = {"objective": objectives, "seed": [0, 1]}
    path = study_file(folder, **{**BOWL, "matrix": axes, "stop": {"trials": 20}})
    return Story([["run", str(path), "--dir", "DIR"]])


def forked(folder: Path) -> Story:
    """A study forked into one with another objective and more trials."""
    old = study_file(folder / "old", **{**BOWL, "stop": {"trials": 30}})
    with Study(load_study(old), folder / "old" / "run") as study:
        assert run(study).end == "finished"
    new = study_file(folder / "new", **{**BOWL, "objective": {"preset": "val"}})
    commands = [["fork", str(folder / "old" / "run"), str(new), "--dir", "DIR"]]
    return Story([*commands, ["run", str(new), "--dir", "DIR"]])


def retrained(folder: Path) -> Story:
    path = study_file(folder, **{**IMAGES, "stop": {"trials": 2}})
    with Study(load_study(path), folder / "run") as study:
        assert run(study).end == "finished"
    return Story([["retrain", "DIR", "--seeds", "3"]], begin=folder / "run")


def record(directory: Path) -> dict[str, Any]:
    """The essence of every ledger in the folder, and the metrics of every epoch.

    Where studies have trials in common, one of them trains each, whichever comes first.
    """
    paths = sorted(path.parent for path in directory.rglob(ledger.LEDGER))
    ledgers = {str(path.relative_to(directory)): essence(ledger.read(path)) for path in paths}
    events = [event for found in ledgers.values() for event in found]
    if any(event["kind"] == "reused" for event in events):
        ledgers = {name: without_who_trained(found) for name, found in ledgers.items()}
    return {
        "ledgers": ledgers,
        "curves": [
            curves(path, sum(event["kind"] == "asked" for event in ledger.read(path)))
            for path in paths
        ],
        "epochs trained": sum(event.get("epochs", 0) for event in events),
    }


def without_who_trained(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [event for event in events if event["kind"] != "reused"]
    return [{key: value for key, value in e.items() if key != "epochs"} for e in kept]


def curves(directory: Path, trials: int) -> list[list[dict[str, Any]]]:
    """The metrics of every epoch of every trial."""
    return [
        [{"epoch": row["epoch"], **row["metrics"]} for row in folder.read_curve(directory, trial)]
        for trial in range(trials)
    ]


@pytest.mark.parametrize(
    "story",
    [
        images,
        pruned,
        pytest.param(folds, marks=pytest.mark.slow),
        pytest.param(race, marks=pytest.mark.slow),
        streaming,
        bowl,
        found,
        fronts,
        learned,
        matrix,
        forked,
        retrained,
    ],
)
@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_and_resumed(
    story: Callable[[Path], Story], kills: int, tmp_path: Path, drivers: Drivers
) -> None:
    check_killed(story(tmp_path / "given"), kills, tmp_path, drivers)


def check_killed(told: Story, kills: int, tmp_path: Path, drivers: Drivers) -> None:
    """Killed so often in all, at random moments, it comes to the same as undisturbed."""
    begin = time.monotonic()
    assert told.play(drivers, tmp_path / "whole", iter(())) == 0
    duration = (time.monotonic() - begin) / len(told.commands)
    whole = record(tmp_path / "whole")
    assert whole["epochs trained"]
    random, killed = Random(kills), 0
    for attempt in range(10 * kills):
        moments = (random.random() * duration * 0.8 for _ in range(min(4, kills - killed)))
        killed += told.play(drivers, tmp_path / str(attempt), moments)
        assert record(tmp_path / str(attempt)) == whole
        if killed >= kills:
            return
    raise AssertionError(f"only {killed} of {kills} kills hit a running command")
