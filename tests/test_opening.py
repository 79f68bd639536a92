"""From Python: opening a study, and the public names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from toys import study_file

import hpogen

ROOT = Path(__file__).parents[1]


def test_a_loop_of_ones_own(tmp_path: Path) -> None:
    path = study_file(tmp_path)
    with hpogen.open_study(path, tmp_path / "q", ["stop.trials=3"]) as study:
        while (trial := study.next()) is not None:
            study.record(hpogen.Outcome(trial.id, metrics={"val_loss": float(trial.config["x"])}))
        assert len(study.history.told()) == 3


def test_a_spec_from_code_runs(tmp_path: Path) -> None:
    spec = hpogen.load_study(study_file(tmp_path))
    with hpogen.open_study(spec, tmp_path / "q") as study:
        assert hpogen.run(study, hpogen.InlineExecutor("cpu")).end == "finished"
        assert len(study.history.told()) == 12


def test_the_folder_is_runs_and_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with hpogen.open_study(study_file(tmp_path, name="mine")) as study:
        assert study.directory == Path("runs/mine")


def test_every_public_name_is_there() -> None:
    for name in hpogen.__all__:
        assert getattr(hpogen, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        hpogen.nonsense  # noqa: B018


def test_importing_it_is_quick() -> None:
    """At most 0.15 s of processor time; the best of five."""
    code = "import time; begin = time.process_time(); import hpogen; "
    command = [sys.executable, "-c", code + "print(time.process_time() - begin)"]
    runs = [subprocess.run(command, cwd=ROOT, check=True, capture_output=True) for _ in range(5)]
    assert min(float(run.stdout) for run in runs) < 0.15


@pytest.mark.parametrize(("hard", "code"), [(4096, 0), (300, 2)])
def test_many_studies_at_a_time_need_many_files(hard: int, code: int, tmp_path: Path) -> None:
    path = study_file(tmp_path, matrix={"seed": [*range(40)]}, stop={"trials": 1})
    limited = f"ulimit -Sn 100; ulimit -Hn {hard}; exec {sys.executable} -m hpogen run {path}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", limited], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == code, done.stderr
    assert ("40 studies at a time need 416 open files" in done.stderr) == bool(code)


@pytest.mark.parametrize(
    ("use", "code"),
    [("from hpogen.cli import main; main()", 2), ("import hpogen; hpogen.run", 1)],
    ids=["command", "name"],
)
def test_where_it_does_not_run_one_line_says_where_it_does(use: str, code: int) -> None:
    """On Windows, as far as a Python without fcntl and resource is like one there."""
    without = "import sys; sys.modules['fcntl'] = sys.modules['resource'] = None\n"
    command = [sys.executable, "-c", without + use]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "")
    last = done.stderr.splitlines()[-1]
    assert "hpogen runs on Linux and macOS, and this Python has no fcntl" in last
    assert code == 1 or done.stderr == last + "\n"
