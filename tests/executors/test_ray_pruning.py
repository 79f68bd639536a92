"""SIGKILL of a driver while it prunes on Ray: what was recorded stays, and the study goes on."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ray_processes import said, sandbox
from toys import by_trial, essence, study_file

from hpogen.errors import UserError
from hpogen.record import folder, ledger
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study.study import Study

TRIALS, EPOCHS = 30, 12


def study(directory: Path) -> Path:
    return study_file(
        directory,
        task={"name": "bowl", "epochs": EPOCHS, "pause": 0.02},
        prune={"rule": "median", "after": 3, "n_startup_trials": 3},
        stop={"trials": TRIALS},
    )


def recorded(directory: Path) -> list[dict[str, Any]]:
    with suppress(UserError):  # not begun yet
        return essence(ledger.read(directory))
    return []


def check(directory: Path, whole: Path) -> None:
    """The same trials; those that finished have the same scores, others end with their epoch."""
    events, before = ledger.read(directory), ledger.read(whole)
    assert by_trial(events, "asked") == by_trial(before, "asked")
    told, had = by_trial(events, "told"), by_trial(before, "told")
    pruned = {n: e for n, e in told.items() if e["failure"]}
    assert len(told) == TRIALS and 3 <= len(pruned) < TRIALS
    for number, event in told.items():
        rows = folder.read_curve(directory, number)
        done = event["epochs"] if number in pruned else EPOCHS
        assert [row["epoch"] for row in rows] == [*range(1, done + 1)]
        assert event["metrics"] == rows[-1]["metrics"]
        if number not in pruned and not had[number]["failure"]:
            assert event == {**had[number], "code": event["code"]}


@pytest.mark.ray
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kills", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_a_driver_killed_while_it_prunes(kills: int, tmp_path: Path) -> None:
    path, chance = study(tmp_path), Random(kills)
    with Study(load_study(path), tmp_path / "whole") as whole:
        assert run(whole).end == "finished"
    words = ("run", str(path), "--dir", str(tmp_path / "run"), "--workers", "2")
    with sandbox() as place:
        for kill in range(kills):
            process = place.start(sys.executable, "-m", "hpogen", *words)
            moment = (kill + 1) * TRIALS // (kills + 1)
            while len([e for e in recorded(tmp_path / "run") if e["kind"] == "told"]) < moment:
                assert process.poll() is None, said(process)
                time.sleep(0.01)
            time.sleep(chance.random() * 0.1)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(60)
            before = recorded(tmp_path / "run")
            with Study(load_study(path), tmp_path / "run"):  # replays it to the end
                assert recorded(tmp_path / "run")[: len(before)] == before
        process = place.start(sys.executable, "-m", "hpogen", *words)
        assert process.wait(300) == 0, said(process)
    assert recorded(tmp_path / "run")[: len(before)] == before
    check(tmp_path / "run", tmp_path / "whole")
