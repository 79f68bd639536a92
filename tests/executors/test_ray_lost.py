"""Clusters that go while a study runs: it says so, ends with one line, and can be gone on with."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_processes import Sandbox, said, sandbox, wait_until
from toys import by_trial, study_file

from hpogen.record import ledger

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
slow = pytest.mark.slow

TRIALS = 200
TASK = """
import time
from pathlib import Path
from hpogen.plugins import task

@task("tardy", metrics=("val_loss",), resumable=True)
def tardy(trial):
    for epoch in range(trial.start_epoch, trial.budget):
        time.sleep(0.0 if Path("{fast}").exists() else 1.0)
        yield {{"val_loss": trial.config["x"] / (1 + epoch)}}
"""


@pytest.fixture
def place() -> Iterator[Sandbox]:
    with sandbox() as found:
        yield found


def tardy(directory: Path, **keys: Any) -> Path:
    """A study of trials of two seconds, which `hurry` makes trials of no time."""
    directory.mkdir(exist_ok=True)
    (directory / "tardy.py").write_text(TASK.format(fast=directory / "fast"))
    task = {"name": "tardy", "epochs": 2}
    stop = {"trials": TRIALS}
    return study_file(directory, **{"task": task, "plugins": ["tardy.py"], "stop": stop, **keys})


def hpogen(place: Sandbox, *words: str) -> subprocess.Popen[str]:
    return place.start(sys.executable, "-m", "hpogen", *words)


PROGRAM = """
from hpogen import cli
from hpogen.executors import ray_room, ray_watch

{change}
cli.main()
"""
HASTY = "ray_watch.SILENT_SECONDS, ray_watch.LOST_SECONDS = 5.0, 10.0"
PATIENT = "ray_room.NODE_SECONDS = 500.0"  # a busy machine starts a node slowly


def start(place: Sandbox, path: Path, *words: str, change: str = "") -> subprocess.Popen[str]:
    """Run a study until some of its trials have been told; `change` shortens its patience, say."""
    run = ("run", str(path), "--dir", str(path.parent / "run"))
    process = place.start(sys.executable, "-c", PROGRAM.format(change=change), *run, *words)
    wait_until(lambda: told(path) >= 3, process)
    return process


def told(path: Path) -> int:
    return sum(
        record.read_bytes().count(b'"told"')
        for record in (path.parent / "run").rglob("ledger.jsonl")
    )


def ends(process: subprocess.Popen[str], line: str) -> None:
    """It ends within two minutes with exit code 1 and the line; what else it says is one notice."""
    assert process.wait(120) == 1
    out, err = said(process)
    assert len(re.findall(line, " ".join(out.split()))) >= 1, (out, err)
    assert "Traceback" not in out + err and len(err.splitlines()) <= 1, err
    assert " next     " in out


def goes_on(place: Sandbox, path: Path) -> None:
    """Without Ray, to the end that it would have had."""
    (path.parent / "fast").touch()
    for name in ("run", "whole"):
        process = hpogen(place, "run", str(path), "--dir", str(path.parent / name))
        assert process.wait(120) == 0, said(process)
    for record in (path.parent / "whole").rglob("ledger.jsonl"):
        mine = path.parent / "run" / record.parent.relative_to(path.parent / "whole")
        for kind in ("asked", "told"):
            found, whole = (
                by_trial(ledger.read(mine), kind),
                by_trial(ledger.read(record.parent), kind),
            )
            assert found == whole and len(found) == TRIALS


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


NODE = "stopped itself: the Ray node that this process is connected to died"
EITHER = "stopped itself: the (Ray node|head of the Ray cluster) "  # `ray start --block` ends both
HEAD = r"stopped itself: the head of the Ray cluster \(\S+\) has not answered for \d\d s"
SILENT = r"the Ray node that this process is connected to \(\w+\) has not answered for \d\d s"
DEATHS = [
    pytest.param("raylet", signal.SIGKILL, NODE, id="raylet"),
    pytest.param("gcs_server", signal.SIGKILL, HEAD, id="head", marks=slow),
    pytest.param("gcs_server", signal.SIGSTOP, HEAD, id="head hangs", marks=slow),
    pytest.param("raylet", signal.SIGSTOP, SILENT, id="raylet hangs", marks=slow),
    pytest.param("ray::DashboardAgent", signal.SIGKILL, NODE, id="agent", marks=slow),
    pytest.param("ray::RuntimeEnvAgent", signal.SIGKILL, NODE, id="other agent", marks=slow),
]


@pytest.mark.parametrize(("name", "number", "line"), DEATHS)
def test_our_own_ray_dies(
    name: str, number: signal.Signals, line: str, place: Sandbox, tmp_path: Path
) -> None:
    path = tardy(tmp_path)
    process = start(place, path, "--workers", "2")
    wait_until(lambda: bool(place.find(name)), process)  # an agent may start late
    (victim,) = place.find(name)
    os.kill(victim, number)
    if line in (HEAD, SILENT):
        begin = time.monotonic()
        wait_until(lambda: "does not answer; the run ends in" in said(process)[1], process, 30)
        assert time.monotonic() - begin < 30
    ends(process, line)
    gone(place)
    goes_on(place, path)


def test_the_head_of_our_own_ray_dies(place: Sandbox, tmp_path: Path) -> None:
    path = tardy(tmp_path)
    process = start(place, path, "--workers", "2", change=HASTY)
    os.kill(place.find("gcs_server")[0], signal.SIGKILL)
    ends(process, HEAD)
    goes_on(place, path)


def gone(place: Sandbox) -> None:
    """Nothing of Ray is left; its agents look for their raylet every few seconds."""
    deadline = time.monotonic() + 60
    while left := [text for text in place.processes().values() if "ray" in text]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@slow
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
@pytest.mark.parametrize("auto", [False, True])
def test_a_cluster_of_one_node_dies(auto: bool, name: str, place: Sandbox, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    place.ray("--head", f"--port={address.partition(':')[2]}", "--num-cpus=2")
    if auto:
        place.environment["RAY_ADDRESS"] = address
    path = tardy(tmp_path)
    process = start(place, path, "--ray", "auto" if auto else address)
    os.kill(place.find(name)[0], signal.SIGKILL)
    ends(process, EITHER)
    goes_on(place, path)


@slow
@pytest.mark.parametrize("another", [True, False])
def test_the_last_node_for_workers_dies(another: bool, place: Sandbox, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    place.ray("--head", f"--port={address.partition(':')[2]}", "--num-cpus=0")
    node = place.ray(f"--address={address}", "--num-cpus=2")
    path = tardy(tmp_path)
    process = start(place, path, "--ray", address, change=PATIENT if another else "")
    (raylet,) = place.find("raylet", beneath=node.pid)
    os.kill(raylet, signal.SIGKILL)
    wait_until(lambda: "the run ends in" in said(process)[1], process, 30)
    if another:
        place.ray(f"--address={address}", "--num-cpus=2")
        wait_until(lambda: "has started: the run goes on" in said(process)[1], process)
        (tmp_path / "fast").touch()
        assert process.wait(120) == 0
    else:
        ends(process, r"stopped itself: no node .* has room for a worker \(1 CPU\), and none")
    goes_on(place, path)


@slow
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_matrix_is_told_by_each_of_its_studies(name: str, place: Sandbox, tmp_path: Path) -> None:
    path = tardy(tmp_path, matrix={"seed": [0, 1]})
    process = start(place, path, "--workers", "2")
    os.kill(place.find(name)[0], signal.SIGKILL)
    ends(process, {"raylet": NODE, "gcs_server": HEAD}[name])
    goes_on(place, path)


@slow
def test_workers_end_with_their_node_when_nobody_is_left_to_end_them(
    place: Sandbox, tmp_path: Path
) -> None:
    path = tardy(tmp_path)
    process = start(place, path, "--workers", "2")
    for victim in (process.pid, *place.find("raylet")):
        os.kill(victim, signal.SIGKILL)
    process.wait(10)
    wait_for(lambda: not place.find("ray::Worker"), 10)
    goes_on(place, path)


def wait_for(holds: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@slow
def test_a_ray_that_does_not_start_in_time_is_one_line(place: Sandbox, tmp_path: Path) -> None:
    path = tardy(tmp_path)
    process = hpogen(place, "run", str(path), "--dir", str(tmp_path / "run"), "--workers", "2")
    while process.poll() is None:
        for raylet in place.find("raylet"):
            os.kill(raylet, signal.SIGSTOP)
        time.sleep(0.01)
    out, err = said(process)
    assert process.returncode == 2 and out == ""
    assert re.fullmatch(r"--ray local: .* timed out during startup.*\n", err), err
    gone(place)


LOUD = """
import os, time
from hpogen.plugins import task

@task("loud", metrics=("val_loss",))
def loud(trial):
    print("x" * 100_000, trial.id, "ends here", flush=True)
    yield {"val_loss": trial.config["x"]}
    time.sleep(0.2)
    if trial.id % 3 == 2:
        raise RuntimeError("an error, with its traceback in the log")
"""


def can_hide_folders() -> bool:
    words = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    with contextlib.suppress(OSError):
        return subprocess.run(words, capture_output=True).returncode == 0
    return False


@pytest.mark.skipif(not can_hide_folders(), reason="needs root: unshare --mount")
def test_logs_of_workers_that_do_not_see_the_folder_come_home(
    place: Sandbox, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    place.ray("--head", f"--port={address.partition(':')[2]}", "--num-cpus=0")
    hidden = f'mount -t tmpfs none {tmp_path} && exec "$0" "$@"'
    words = ("start", "--block", f"--address={address}", "--num-cpus=2")
    ray = str(Path(sys.executable).with_name("ray"))
    node = place.start("unshare", "--mount", "sh", "-c", hidden, ray, *words)
    wait_until(lambda: "Ray runtime started" in said(node)[0], node)
    (tmp_path / "loud.py").write_text(LOUD)
    path = study_file(
        tmp_path, task={"name": "loud", "epochs": 1}, plugins=["loud.py"], stop={"trials": 6}
    )
    process = hpogen(place, "run", str(path), "--dir", str(tmp_path / "run"), "--ray", address)
    assert process.wait(240) == 0, said(process)
    for trial in range(6):
        log = (tmp_path / f"run/trials/{trial:05d}.log").read_text()
        assert len(log) == 64 * 1024 and f"{trial} ends here\n" in log
        assert ("with its traceback in the log" in log) == (trial % 3 == 2)


FAKE = {
    "cluster_name": "fake",
    "max_workers": 1,
    "head_node_type": "ray.head.default",
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 5.0,
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
        "big": {
            "resources": {"CPU": 2, "GPU": 1, "object_store_memory": 100_000_000},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 1,
        },
    },
    **{key: {} for key in ("auth", "docker", "file_mounts")},
    **{
        key: []
        for key in (
            "cluster_synced_files",
            "rsync_exclude",
            "rsync_filter",
            "initialization_commands",
            "setup_commands",
            "head_setup_commands",
            "worker_setup_commands",
            "head_start_ray_commands",
            "worker_start_ray_commands",
        )
    },
    "file_mounts_sync_continuously": False,
}
BIG = """
from hpogen.plugins import task

@task("elsewhere", metrics=("val_loss",))
def elsewhere(trial):
    import ray
    resources = {node["NodeID"]: node["Resources"] for node in ray.nodes()}
    yield {"val_loss": resources[ray.get_runtime_context().get_node_id()]["CPU"]}
"""


@slow
@pytest.mark.parametrize(
    ("words", "gpus"),
    [
        (("--cpus-per-trial", "2"), False),
        (("--cpus-per-trial", "2", "--workers", "1"), False),
        (("--gpus-per-trial", "1"), True),
    ],
)
def test_what_an_autoscaler_can_bring_is_waited_for(
    words: tuple[str, ...], gpus: bool, place: Sandbox, tmp_path: Path
) -> None:
    """Ray's own autoscaler with its provider for tests, which starts nodes on this machine."""
    address = f"127.0.0.1:{free_port()}"
    provider = {"type": "fake_multinode", "gcs_address": address}
    (tmp_path / "cluster.json").write_text(json.dumps({**FAKE, "provider": provider}))
    (tmp_path / "big.py").write_text(BIG)
    place.environment |= {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    autoscaler = f"--autoscaling-config={tmp_path / 'cluster.json'}"
    place.ray("--head", f"--port={address.partition(':')[2]}", "--num-cpus=1", autoscaler)
    path = study_file(
        tmp_path, task={"name": "elsewhere", "epochs": 1}, plugins=["big.py"], stop={"trials": 4}
    )
    run = tmp_path / "run"
    process = hpogen(place, "run", str(path), "--dir", str(run), "--ray", address, *words)
    code, err = process.wait(400), said(process)[1]
    if gpus and "cuda:0 is not there" in err:  # the node came, and is one of Ray's inventions
        return
    assert code == 0, err
    losses = {e["metrics"]["val_loss"] for e in ledger.read(run) if e["kind"] == "told"}
    assert losses == {2.0}
