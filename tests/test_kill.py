"""SIGKILL at random moments: the resumed study is the undisturbed one, metrics and all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from toys import essence, study_file

from hpogen import folder, ledger

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

FORKER = """
import os, sys, pathlib
import hpogen, cma, sklearn.datasets, torch, torch._dynamo  # once, not in every child

for line in sys.stdin:
    path, directory = line.rstrip().split("\\t")
    child = os.fork()
    if child == 0:
        spec = hpogen.load_study(path)
        print(os.getpid(), flush=True)
        with hpogen.Study(spec, pathlib.Path(directory)) as study:
            end = hpogen.run(study).end
        print(end, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


class Drivers:
    """Runs studies, each in a process of its own: a fork of one that has imported everything."""

    def __init__(self) -> None:
        self._forker = subprocess.Popen(
            [sys.executable, "-c", FORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def close(self) -> None:
        self._forker.communicate()

    def drive(self, path: Path, directory: Path, kill_after: float | None = None) -> float | None:
        """Run the study, killed so many seconds after it began.

        How many seconds it took to finish; None when it was killed before.
        """
        orders, answers = self._forker.stdin, self._forker.stdout
        assert orders is not None and answers is not None
        orders.write(f"{path}\t{directory}\n")
        orders.flush()
        child = int(answers.readline())
        begin = time.monotonic()
        if kill_after is not None:
            time.sleep(kill_after)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        answer = answers.readline()
        seconds = time.monotonic() - begin
        if answer == "ended\n":
            return None
        assert (answer, answers.readline()) == ("finished\n", "ended\n")
        return seconds


@pytest.fixture(scope="module")
def drivers() -> Iterator[Drivers]:
    with closing(Drivers()) as drivers:
        yield drivers


def curves(directory: Path, trials: int) -> list[list[dict[str, Any]]]:
    """The metrics of every epoch of every trial."""
    return [
        [{"epoch": row["epoch"], **row["metrics"]} for row in folder.read_curve(directory, trial)]
        for trial in range(trials)
    ]


@pytest.mark.parametrize("keys", [IMAGES, BOWL], ids=["images", "bowl"])
@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_and_resumed(
    keys: dict[str, Any], kills: int, tmp_path: Path, drivers: Drivers
) -> None:
    path = study_file(tmp_path, **keys)
    duration = drivers.drive(path, tmp_path / "whole")
    assert duration is not None
    whole = ledger.read(tmp_path / "whole")
    chance = random.Random(kills)
    killed = 0
    for study in range(kills):
        directory = tmp_path / f"killed{study}"
        while (
            killed < kills
            and drivers.drive(path, directory, chance.random() * duration * 0.8) is None
        ):
            killed += 1
        drivers.drive(path, directory)
        assert essence(ledger.read(directory)) == essence(whole)
        trials = keys["stop"]["trials"]
        assert curves(directory, trials) == curves(tmp_path / "whole", trials)
        if killed == kills:
            return
    raise AssertionError(f"only {killed} of {kills} kills hit a running study")
