"""SIGKILL of the driver, a worker and the raylet, at random moments of an image study on Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from executors.test_ray import DATASET, TASK, images, same
from ray_processes import Sandbox, said, sandbox

from hpogen.record import ledger

VICTIMS = ("the driver", "ray::Worker", "raylet")
RACE: dict[str, Any] = {  # 3 trials, then 3 finalists on more data with 2 seeds each
    "task": {**TASK, "dataset": {**DATASET, "audit": 100}},
    "searcher": {"name": "random"},
    "finalists": {"count": 3, "data": 0.75, "seeds": 2},
    "stop": {"trials": 9},
}


def run(place: Sandbox, path: Path, directory: Path, *words: str) -> subprocess.Popen[str]:
    words = ("run", str(path), "--dir", str(directory), *words)
    return place.start(sys.executable, "-m", "hpogen", *words)


def told(directory: Path) -> int:
    with suppress(OSError):
        return (directory / ledger.LEDGER).read_text().count('"kind":"told"')
    return 0


def killed(place: Sandbox, process: subprocess.Popen[str], name: str, chance: Random) -> bool:
    """Whether such a process of the run was there to be killed."""
    found = [process.pid] if name == VICTIMS[0] else place.find(name, beneath=process.pid)
    if process.poll() is not None or not found:
        return False
    with suppress(ProcessLookupError):
        os.kill(chance.choice(found), signal.SIGKILL)
        return True
    return False


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(10_000)
@pytest.mark.parametrize(("keys", "first"), [({}, 0), (RACE, 3)], ids=["search", "race"])
@pytest.mark.parametrize("kills", [6, 50])
def test_a_run_whose_processes_are_killed_ends_as_the_undisturbed_one(
    kills: int, keys: dict[str, Any], first: int, tmp_path: Path
) -> None:
    """In a race while its finalists train, behind the `first` trials."""
    path, chance = images(tmp_path, **keys), Random(kills)
    number = attempt = 0
    with sandbox() as place:
        assert run(place, path, tmp_path / "whole").wait(600) == 0
        while number < kills:
            directory, attempt = tmp_path / str(attempt), attempt + 1
            process = run(place, path, directory, "--workers", "2")
            moment = chance.randrange(first, 9 if keys else 11)
            while told(directory) < moment and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.random())
            name = VICTIMS[number % 3]
            number += killed(place, process, name, chance)
            codes = {VICTIMS[0]: {-signal.SIGKILL, 0}, "ray::Worker": {0}, "raylet": {0, 1}}[name]
            assert process.wait(300) in codes, (name, said(process))
            while (code := process.returncode) != 0:
                process = run(place, path, directory, "--workers", "2")
                assert process.wait(600) == 0, (name, code, said(process))
            assert same(directory, tmp_path / "whole"), (name, directory)
