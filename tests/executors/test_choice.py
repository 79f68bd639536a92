"""Which executor the command line chooses, and addresses that lead nowhere: told, and soon."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toys import study_file

from hpogen.errors import UserError
from hpogen.executors import ray_worker
from hpogen.executors.choice import Where, executor_for
from hpogen.executors.inline import InlineExecutor
from hpogen.executors.ray_cluster import connect
from hpogen.executors.ray_member import kind_of
from hpogen.executors.ray_room import room
from hpogen.spec import load_study


@pytest.fixture
def task(tmp_path: Path) -> Any:
    return load_study(study_file(tmp_path)).task


@pytest.mark.parametrize("workers", [None, 1])
def test_one_worker_is_this_process(workers: int | None, task: Any) -> None:
    assert isinstance(executor_for([task], Where(workers=workers)), InlineExecutor)


def test_one_worker_loads_no_ray(tmp_path: Path) -> None:
    path = study_file(tmp_path)
    code = "import sys, hpogen.cli as c\ntry: c.main()\nfinally: print('ray' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(path), "--dir", "q", "--workers", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (Where(workers=0), "--workers: got 0"),
        (Where(cpus_per_trial=2), "--cpus-per-trial: needs --workers N"),
        (Where(gpus_per_trial=0.5), "--gpus-per-trial: needs --workers N"),
        (Where(workers=2, cpus_per_trial=0), "--cpus-per-trial: got 0"),
        (Where(workers=2, gpus_per_trial=1.5), "--gpus-per-trial: got 1.5"),
        (Where(workers=2, gpus_per_trial=-1.0), "--gpus-per-trial: got -1"),
        (Where(workers=2, device="cuda:0"), "--device: got 'cuda:0'"),
        (Where(ray="somewhere"), "--ray: got 'somewhere'"),
        (Where(ray="ray://head:10001"), "--ray: got 'ray://head:10001'"),
    ],
)
def test_options_that_cannot_be(where: Where, said: str, task: Any) -> None:
    with pytest.raises(UserError) as refused:
        executor_for([task], where)
    assert str(refused.value).startswith(said)


@contextlib.contextmanager
def listener(answer: bytes) -> Iterator[str]:
    """The address of something that is no Ray cluster: it sends `answer`, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                held.append(server.accept()[0])
                held[0].sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join(5)
        for connection in held:
            connection.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_is_no_ray_is_told(answer: bytes) -> None:
    begin = time.monotonic()
    with listener(answer) as address, pytest.raises(UserError, match=f"--ray {address}: "):
        connect(address, 1)
    assert time.monotonic() - begin < 30


def test_nobody_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(UserError, match=f"--ray {address}: cannot be reached"):
        connect(address, 1)


def test_how_many_workers_a_node_holds() -> None:
    assert room({"CPU": 16, "GPU": 2}, 1, 0.25) == 8
    assert room({"CPU": 6, "GPU": 2}, 1, 0.25) == 6
    assert room({"CPU": 16, "GPU": 2}, 2, 0.4) == 4  # a worker's share is on one GPU
    assert room({"CPU": 16, "GPU": 5}, 1, 2) == 2
    assert room({"CPU": 16}, 1, 1) == 0


def test_a_worker_killed_for_memory_is_no_loss() -> None:
    assert kind_of("The actor died because its node was running low on memory") == "oom"
    assert kind_of("Worker exit type: SYSTEM_ERROR") == "lost"


def test_a_plug_in_comes_along_to_a_node_that_has_no_such_file(tmp_path: Path) -> None:
    here = tmp_path / "part.py"
    here.write_bytes(b"x = 1\n")
    assert ray_worker._unpacked(here, b"x = 1\n") == here
    for path in (here, tmp_path / "elsewhere/part.py"):
        copy = ray_worker._unpacked(path, b"x = 2\n")
        assert copy != path and copy.name == "part.py" and copy.read_bytes() == b"x = 2\n"
