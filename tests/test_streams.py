"""Standard output and error that are closed, full or read in part, and Ctrl-C at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toys import by_trial, study_file

from hpogen.record import ledger

ROOT = Path(__file__).parents[1]
HPOGEN = f"{sys.executable} -m hpogen"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def shell(line: str, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    keys: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    line = f"set -o pipefail; {line.replace('hpogen', HPOGEN)}"
    return subprocess.run(["bash", "-c", line], cwd=cwd, env=ENVIRONMENT, text=True, **keys)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study that has run, with nobody to tell."""
    directory = tmp_path_factory.mktemp("streams")
    study_file(directory)
    for seed, (where, lines) in enumerate(((">&-", 1), (">/dev/full", 1), ("| head -1", 0))):
        folder = f"q{lines}{where[-1]}"
        done = shell(f"hpogen run study.yaml --dir {folder} --set seed={seed} {where}", directory)
        assert (done.returncode, done.stderr.count("\n")) == (0, lines), done.stderr
        assert len(by_trial(ledger.read(directory / folder), "told")) == 12
    (directory / "q01").rename(directory / "q")
    return directory


COMMANDS = [
    "status q",
    "best q",
    "show q 0",
    "compare q q1l",
    "rescore q",
    "report q",
    "export q --to q.csv",
    "check study.yaml",
    "list models",
    "schema",
    "--help",
    "--version",
]


@pytest.mark.parametrize("arguments", COMMANDS[:1] + COMMANDS[7:9] + COMMANDS[-2:])
def test_what_cannot_be_written_is_told(arguments: str, ran: Path) -> None:
    check_streams(arguments, ran)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", COMMANDS)
def test_what_cannot_be_written_is_told_by_every_command(arguments: str, ran: Path) -> None:
    check_streams(arguments, ran)


def check_streams(arguments: str, directory: Path) -> None:
    full = shell(f"hpogen {arguments} >/dev/full", directory)
    closed = shell(f"hpogen {arguments} >&-", directory)
    text = "standard output: cannot be written: "
    assert (full.returncode, full.stderr) == (1, f"{text}No space left on device\n")
    assert (closed.returncode, closed.stderr) == (1, f"{text}Bad file descriptor\n")
    read = shell(f"hpogen {arguments} | head -1", directory)
    assert (read.returncode, read.stderr, read.stdout.count("\n")) == (0, "", 1)


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_mistake_that_nobody_hears_of_has_its_exit_code(where: str, ran: Path) -> None:
    done = shell(f"hpogen list nothing {where}", ran)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_no_file_takes_the_place_of_what_is_closed(tmp_path: Path) -> None:
    """What a plug-in prints in C, or a child of it, would be written to the ledger."""
    path = study_file(tmp_path)
    source = (tmp_path / "bowl.py").read_text()
    (tmp_path / "bowl.py").write_text(
        source.replace(
            "    x, y =", "    import os; os.system('echo damaged; echo too >&2')\n    x, y ="
        )
    )
    done = shell("hpogen run study.yaml --dir q <&- >&- 2>&-", tmp_path)
    assert done.returncode == 0
    assert len(by_trial(ledger.read(path.parent / "q"), "told")) == 12


SLOW = """
import pathlib, time
pathlib.Path("begun").write_text("")
try:
    for _ in range(1200):
        time.sleep(0.05)
except KeyboardInterrupt as error:
    BODY
"""  # one long sleep would miss a signal that comes just before it, as any of Python's does


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("body", ["raise", "raise ImportError('numpy', 'C-extensions') from error"])
def test_ctrl_c_during_an_import(command: str, body: str, tmp_path: Path) -> None:
    study_file(tmp_path)
    (tmp_path / "bowl.py").write_text(SLOW.replace("BODY", body))
    check_interrupted(command, tmp_path)
    assert not (tmp_path / "runs").exists()


WAITS = """
import pathlib, time
from hpogen.plugins import searcher
from hpogen.searchers.random import RandomSearcher

@searcher("waits")
class Waits(RandomSearcher):
    def ask(self):
        pathlib.Path("begun").write_text("")
        for _ in range(12000):
            time.sleep(0.05)
"""


def test_ctrl_c_while_check_asks_a_searcher_that_never_answers(tmp_path: Path) -> None:
    study_file(tmp_path, searcher="waits", plugins=["bowl.py", "waits.py"])
    (tmp_path / "waits.py").write_text(WAITS)
    check_interrupted("check", tmp_path)


def check_interrupted(command: str, tmp_path: Path) -> None:
    """It ends in one line by a Ctrl-C that comes once there is a file `begun`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hpogen", command, "study.yaml"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted" and "Traceback" not in err
