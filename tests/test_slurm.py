"""The SLURM job under a real SLURM: time limits, cancelled jobs, lost nodes, the token of Ray."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm import MISSING, WHY, Slurm, slurm
from toys import by_trial, study_file

from hpogen.record import ledger

SCRIPT = Path(__file__).parents[1] / "scripts/cluster/slurm.sh"
BIN = Path(sys.executable).parent
PSO = {"name": "pso", "population": 5}

pytestmark = pytest.mark.skipif(bool(MISSING), reason=WHY)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    with slurm() as started:
        started.environment |= {"HPOGEN": str(BIN / "hpogen"), "RAY": str(BIN / "ray")}
        yield started


def study(directory: Path, trials: int) -> list[dict[int, dict[str, Any]]]:
    """Write a study whose trials last 0.4 s; what its ledger says when nothing disturbs it."""
    path = study_file(
        directory,
        task={"name": "bowl", "epochs": 2, "pause": 0.2},
        searcher=PSO,
        stop={"trials": trials},
    )
    command = [BIN / "hpogen", "run", path, "--dir", directory / "whole", "--set", "task.pause=0"]
    subprocess.run(command, check=True, capture_output=True)
    return events(directory / "whole")


def told(directory: Path) -> int:
    record = directory / "run/ledger.jsonl"
    return record.read_bytes().count(b'"told"') if record.exists() else 0


def wait_for_trials(directory: Path, count: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while told(directory) < count:
        assert time.monotonic() < deadline, output(directory)
        time.sleep(0.1)


def output(directory: Path) -> str:
    return "".join(path.read_text() for path in directory.glob("*.out"))


def events(run: Path) -> list[dict[int, dict[str, Any]]]:
    return [by_trial(ledger.read(run), kind) for kind in ("asked", "told")]


def submit(cluster: Slurm, directory: Path, *options: str, run: tuple[str, ...] = ()) -> str:
    return cluster.submit(directory, *options, str(SCRIPT), "study.yaml", "--dir", "run", *run)


def test_a_cancelled_job_stops_cleanly_and_stays_away(cluster: Slurm, tmp_path: Path) -> None:
    """scancel signals the script and hpogen itself: that is one request to stop, not two."""
    whole = study(tmp_path, 24)
    job = submit(cluster, tmp_path, "--time=30")
    wait_for_trials(tmp_path, 3)
    cluster.call("scancel", job)
    found = cluster.wait_for(job, "CANCELLED")
    assert found["Restarts"] == "0"
    said = output(tmp_path)
    assert "stopped" in said and " folder   run" in said, "it was not left time for its last words"
    assert "requeued" not in said and "Traceback" not in said
    assert 3 <= told(tmp_path) < 24
    job = submit(cluster, tmp_path, "--time=30")
    assert cluster.wait_for(job, "COMPLETED", "FAILED")["ExitCode"] == "0:0"
    assert events(tmp_path / "run") == whole


@pytest.mark.slow
def test_a_time_limit_requeues_until_the_study_is_done(cluster: Slurm, tmp_path: Path) -> None:
    whole = study(tmp_path, 150)
    job = submit(cluster, tmp_path, "--time=1", "--signal=B:USR1@30")
    found = cluster.wait_for(job, "COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", seconds=600)
    assert (found["JobState"], found["ExitCode"]) == ("COMPLETED", "0:0")
    assert int(found["Restarts"]) >= 1
    assert output(tmp_path).count("slurm.sh: requeued") == int(found["Restarts"])
    assert events(tmp_path / "run") == whole


@pytest.mark.slow
def test_a_warning_requeues_at_once(cluster: Slurm, tmp_path: Path) -> None:
    whole = study(tmp_path, 40)
    job = submit(cluster, tmp_path, "--time=30")
    wait_for_trials(tmp_path, 3)
    cluster.call("scancel", "--batch", "--signal=USR1", job)
    found = cluster.wait_for(job, "COMPLETED", "FAILED", "CANCELLED", seconds=200)
    assert (found["JobState"], found["Restarts"]) == ("COMPLETED", "1")
    assert events(tmp_path / "run") == whole


@pytest.mark.slow
def test_a_lost_node_moves_the_study_to_another(cluster: Slurm, tmp_path: Path) -> None:
    whole = study(tmp_path, 60)
    job = submit(cluster, tmp_path, "--time=30")
    wait_for_trials(tmp_path, 3)
    node = cluster.job(job)["BatchHost"]
    cluster.call("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        wait_for_trials(tmp_path, 60, seconds=300)
        found = cluster.wait_for(job, "COMPLETED", "FAILED", "NODE_FAIL", "CANCELLED")
        assert (found["JobState"], found["Restarts"]) == ("COMPLETED", "1")
        assert found["BatchHost"] != node
    finally:
        cluster.call("scontrol", "update", f"nodename={node}", "state=resume")
    assert events(tmp_path / "run") == whole


@pytest.mark.slow
@pytest.mark.ray
def test_several_nodes_are_a_ray_that_asks_for_a_token(cluster: Slurm, tmp_path: Path) -> None:
    whole = study(tmp_path, 100)
    job = submit(cluster, tmp_path, "--time=60", "--nodes=2", run=("--workers", "2"))
    wait_for_trials(tmp_path, 3, seconds=300)
    file = Path(cluster.environment["HOME"]) / ".ray/auth_token"
    assert file.stat().st_mode & 0o077 == 0, "others can read the token"
    assert file.read_text() not in everything_on_command_lines() + output(tmp_path)
    assert file.read_text() not in (tmp_path / f"ray-{job}.log").read_text()
    address = f"127.0.0.1:{20000 + int(job) % 20000}"
    stranger = subprocess.run(
        [sys.executable, "-c", f"import ray; ray.init('{address}')"],
        env={**os.environ, "HOME": str(tmp_path), "RAY_TMPDIR": cluster.environment["RAY_TMPDIR"]},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert stranger.returncode != 0 and "oken" in stranger.stderr
    found = cluster.wait_for(job, "COMPLETED", "FAILED", "CANCELLED", seconds=300)
    assert (found["JobState"], found["ExitCode"]) == ("COMPLETED", "0:0")
    assert events(tmp_path / "run") == whole
    ours = [Path(f"/proc/{process}/cmdline") for process in cluster.processes()]
    assert not [path for path in ours if path.exists() and b"ray" in path.read_bytes()]


def everything_on_command_lines() -> str:
    done = subprocess.run(["ps", "-eo", "args", "-ww"], capture_output=True, text=True, check=True)
    return done.stdout
