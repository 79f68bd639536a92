"""Trials as W&B runs, offline: read back from its files. Needs the extra `hpogen[wandb]`."""

from __future__ import annotations

import importlib.util
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from toys import study_file

from hpogen.record import folder
from hpogen.record.history import read

there = importlib.util.find_spec("wandb") is not None
pytestmark = pytest.mark.skipif(not there, reason="wandb is not installed: hpogen[wandb]")

BLOCK, HEAD = 32768, struct.Struct("<IHB")  # of LevelDB's log: checksum, length, type
BEGIN = 7  # bytes of W&B's own head


def records(path: Path) -> Iterator[Any]:
    """What W&B wrote of a run: protobufs in LevelDB's log format, whole or in pieces."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, piece = path.read_bytes(), BEGIN, b""
    while at + HEAD.size <= len(data):
        if BLOCK - at % BLOCK < HEAD.size:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = HEAD.unpack_from(data, at)
        piece += data[at + HEAD.size : at + HEAD.size + length]
        at += HEAD.size + length
        if kind in (1, 4):  # whole, last
            yield Record.FromString(piece)
            piece = b""


def items(of: Any) -> dict[str, Any]:
    return {".".join(x.nested_key) or x.key: json.loads(x.value_json) for x in of}


class Read:
    """A run: its name, configuration, curve by step, summary, and whether it has ended."""

    def __init__(self, path: Path) -> None:
        self.curve: dict[int, dict[str, float]] = {}
        self.summary: dict[str, Any] = {}
        self.exit: int | None = None
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.name, self.group = record.run.display_name, record.run.run_group
                self.project = record.run.project
                self.config = items(record.run.config.update)
            elif kind == "history":
                row = items(record.history.item)
                step = row.pop("_step", record.history.step.num)
                assert step not in self.curve, "an epoch is there twice"
                self.curve[step] = {n: x for n, x in row.items() if not n.startswith("_")}
            elif kind == "summary":
                self.summary |= items(record.summary.update)
            elif kind == "exit":
                self.exit = record.exit.exit_code


@pytest.mark.slow
def test_offline_runs_are_whole_after_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    task = {"name": "bowl", "epochs": 3, "mood": "raises", "pause": 0.3}
    path = study_file(tmp_path, task=task, track={"wandb": "bowls"})
    command = [sys.executable, "-m", "hpogen", "run", path, "--dir", tmp_path / "q"]
    killed = 0
    for seconds in (14.0, 12.0):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
            with suppress(subprocess.TimeoutExpired):
                one.wait(seconds)
            killed += one.poll() is None
            one.kill()
    assert killed
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "track." not in done.stderr
    files = [*(tmp_path / "q" / "wandb").glob("offline-run-*/*.wandb")]
    runs = {run.name: run for run in map(Read, files)}
    trials = read(tmp_path / "q").records
    assert len(files) == len(runs) == len(trials) + 1
    for record in trials:
        run = runs[f"trial {record.trial.id}"]
        assert (run.project, run.group) == ("bowls", "study")
        assert run.exit == (1 if record.failure else 0)
        config = {**record.trial.config, "budget": 3, "seed": record.trial.seed}
        assert {name: run.config[name] for name in config} == config
        rows = folder.read_curve(tmp_path / "q", record.trial.id)
        assert run.curve == {row["epoch"]: row["metrics"] for row in rows}
        if record.failure is None:
            assert run.summary["score"] == record.score
    best = min(trials, key=lambda record: record.score)
    answer = runs["study: answer"]
    assert (answer.summary["answer"], answer.summary["score"]) == (best.trial.id, best.score)


@pytest.mark.slow
def test_a_server_that_is_not_there_stops_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    task = {"name": "bowl", "epochs": 2, "pause": 0.5}
    path = study_file(tmp_path, task=task, track={"wandb": "bowls"})
    command = [sys.executable, "-m", "hpogen", "run", path, "--dir", tmp_path / "q"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240)
    assert len(read(tmp_path / "q").told()) == 12
    told = [line for line in done.stderr.splitlines() if "track.wandb: project bowls" in line]
    assert "lacks trials: hpogen resume sends them" in told[-1] and len(told) <= 2
