"""`hpogen doctor`: what is here, and what is wrong where it is made wrong by real means."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import study_file

from hpogen.report.doctor.data import data
from hpogen.report.doctor.finding import Finding, Silent, note, ok, probed, problem
from hpogen.report.doctor.hardware import gpus
from hpogen.report.doctor.page import page, problems
from hpogen.report.doctor.software import software
from hpogen.report.doctor.storage import checkpoints_of, mount, storage
from hpogen.spec import load_study
from hpogen.study.open import open_study

ROOT = Path(__file__).parents[2]
NOBODY = 65534


def doctor(*arguments: str, before: tuple[str, ...] = (), **variables: str) -> tuple[int, Any]:
    """The exit code, and what `--json` prints, by group and name."""
    done = subprocess.run(
        [*before, sys.executable, "-m", "hpogen", "doctor", *arguments, "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["problems"] == sum(f["level"] == "problem" for f in _all(found))
    return done.returncode, {finding["name"]: finding for finding in _all(found)}


def _all(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [finding for group in found.values() if isinstance(group, list) for finding in group]


def named(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_this_machine_has_no_problem(tmp_path: Path) -> None:
    code, found = doctor(str(tmp_path / "runs" / "new"), HOME=str(tmp_path))
    assert [name for name, finding in found.items() if finding["level"] == "problem"] == []
    assert code == 0
    for package in ("torch", "ray", "numpy"):
        assert f"{package} {importlib.metadata.version(package)}" in found["packages"]["text"]
    assert {"locks", "renames", "syncs", "file system", "memory", "cluster"} <= found.keys()
    assert [*tmp_path.glob("**/.hpogen-doctor-*")] == []


def test_the_page_has_each_finding_and_what_to_do() -> None:
    found = {"disk": [ok("a", "fine"), note("b", "so so", "look")], "ray": [problem("c", "x", "y")]}
    lines = [*page(found, 60)]
    assert lines == [
        " disk",
        "   ok       a              fine",
        "   note     b              so so",
        "                           → look",
        " ray",
        "   problem  c              x",
        "                           → y",
        " 1 problem, 1 note",
    ]
    assert problems(found) == 1


@contextlib.contextmanager
def not_root() -> Iterator[None]:
    """Within the block this process is nobody, who may write less."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        with not_root():
            found = named(storage(Path(folder) / "runs"))
    assert found["writing"].level == "problem"
    assert found["writing"].text == f"{folder}: cannot be written: Permission denied"
    assert "locks" not in found


def in_memory(size: str, folder: Path, fill: str = "true") -> tuple[str, ...]:
    """A command in front of another, which sees a tmpfs of that size at the folder."""
    script = f'mount -t tmpfs -o size={size} none "$0" && {fill} && exec "$@"'
    found = ("unshare", "-m", "sh", "-c", script, str(folder))
    if shutil.which("unshare") is None or subprocess.run([*found, "true"]).returncode:
        pytest.skip("cannot mount a tmpfs here")
    return found


def test_a_disk_with_little_room(tmp_path: Path) -> None:
    code, found = doctor(str(tmp_path), before=in_memory("64k", tmp_path))
    assert code == 1
    assert found["disk"]["level"] == "problem"
    assert found["disk"]["text"] == f"{tmp_path}: 0.1 MiB of 0.1 MiB are free"
    assert found["file system"]["text"].startswith(f"tmpfs, mounted at {tmp_path}: in memory")
    assert found["locks"]["level"] == "ok"


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    full = '{ cat /dev/zero > "$0/filler" 2>/dev/null || true; }'
    code, found = doctor(str(tmp_path), before=in_memory("64k", tmp_path, full))
    assert code == 1
    for name in ("renames", "syncs"):
        assert found[name]["text"] == "do not work: No space left on device"


def test_locks_that_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpogen.report.doctor.storage.TAKE", "")  # who takes it whoever has it
    assert named(storage(tmp_path))["locks"].level == "problem"


def test_the_mount_of_a_folder(tmp_path: Path) -> None:
    assert mount(Path("/proc/self")) == ("proc", "/proc")
    kind, point = mount(tmp_path)
    assert kind and os.path.ismount(point)


def test_the_place_of_checkpoints_is_looked_at_where_it_is_another(tmp_path: Path) -> None:
    if not os.path.ismount("/dev/shm"):
        pytest.skip("needs a second file system")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        spec = load_study(study_file(tmp_path, checkpoints={"path": other}))
        open_study(spec, tmp_path / "run").close()
        found = named(storage(tmp_path / "run", checkpoints_of(tmp_path / "run")))
        assert found["checkpoints"].text.startswith(f"{other}: ")
    assert checkpoints_of(tmp_path) is None


def installed(folder: Path, name: str, version: str, *needs: str) -> None:
    """Metadata as of an installed package, to be found before the true one's."""
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {need}" for need in needs] + ["Requires-Python: >=3.11"]
    (place / "METADATA").write_text("\n".join(lines) + "\n")


def test_a_package_out_of_range_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, "numpy", "1.26.0")
    installed(tmp_path, "hpogen", "0.1.0", "numpy>=2.0,<3", "no-such-thing>=1", "x; extra=='dev'")
    monkeypatch.syspath_prepend(tmp_path)
    found = named(software())
    assert found["numpy"].text == "1.26.0, hpogen expects <3,>=2.0"
    assert found["no-such-thing"].text == "is not installed, and hpogen needs it"
    assert found["no-such-thing"].todo == "pip install 'no-such-thing>=1', or scripts/setup"
    assert "x" not in found and "numpy" not in found["packages"].text


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise ImportError('libc10.so is missing')", "ImportError: libc10.so is missing"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "killed by signal 4"),
    ],
)
def test_a_torch_that_does_not_fit_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, text: str
) -> None:
    (tmp_path / "torch.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    with pytest.raises(Silent, match=text):
        probed("torch")


def test_files_of_the_folder_are_not_taken_for_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("torch.py").write_text("raise RuntimeError('a file of mine')")
    assert probed("torch")["threads"] >= 1


def test_a_probe_that_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setattr("hpogen.report.doctor.finding.PATIENCE", 0.5)
    with pytest.raises(Silent, match="did not come back within"):
        probed("torch")


GPU = {"name": "H200", "capability": "9.0", "free": 2**36, "total": 2**37}


@pytest.mark.parametrize(
    ("cuda", "found", "driver", "level", "text"),
    [
        (None, [], "", "ok", "none: training is on the CPU (torch has no CUDA, there is no driver"),
        ("13.2", [], "", "ok", "none: training is on the CPU (torch has CUDA 13.2, there is no"),
        (None, [], "570.1", "problem", "driver 570.1, but this torch is a CPU build"),
        ("13.2", [], "470.1", "problem", "driver 470.1, torch has CUDA 13.2 and no device: too o"),
        ("13.2", [GPU], "580.1", "ok", "H200: 64.0 of 128.0 GiB are free, compute capability 9.0,"),
    ],
)
def test_what_is_said_of_gpus(
    cuda: str | None, found: list[dict[str, Any]], driver: str, level: str, text: str
) -> None:
    said = {"cuda": cuda, "hip": None, "gpus": found, "error": "too old"}
    (finding,) = gpus(said, driver)
    assert finding.level == level and finding.text.startswith(text)
    assert bool(finding.todo) == (level == "problem")


def test_data_sets_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPOGEN_DATA", str(tmp_path))
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    (tmp_path / "MNIST/raw/images").touch()
    (finding,) = data()
    assert finding.text.startswith(f"{tmp_path}: digits, mnist; not there: cifar10, cifar100,")
    tmp_path.chmod(0o555)
    with not_root():
        (finding,) = data()
    tmp_path.chmod(0o755)
    assert (finding.level, "nothing can be written" in finding.text) == ("note", True)


def test_a_token_that_others_can_read(tmp_path: Path) -> None:
    token = tmp_path / ".ray/auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    token.chmod(0o640)
    code, found = doctor(str(tmp_path), HOME=str(tmp_path))
    assert (code, found["token"]["todo"]) == (1, f"chmod 600 {token}")
    assert stat.S_IMODE(token.stat().st_mode) == 0o640
    assert "secret" not in json.dumps(found)


@pytest.mark.parametrize("answers", [True, False])
def test_a_cluster_that_is_said_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: bool
) -> None:
    with socket.create_server(("", 0)) as server:
        server.settimeout(60)
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        frame = bytes([0, 0, 0, 4 if answers else 7, 0, 0, 0, 0, 0])

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(frame)

        thread = threading.Thread(target=answer)
        thread.start()
        found = probed("ray")
        thread.join()
        port = server.getsockname()[1]
    assert (found["answers"], found["address"].endswith(f":{port}")) == (answers, True)


@pytest.mark.ray
def test_a_cluster_is_started_and_ended() -> None:
    code, found = doctor("--ray")
    assert (code, found["start"]["level"]) == (0, "ok")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_that_is_here() -> None:
    code, found = doctor()
    assert code == 0 and "GiB are free" in found["gpu 0"]["text"]
