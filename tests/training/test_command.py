"""The task that is a command: what counts as its output, when it ends, and that nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toys import StopsAfter, by_trial, study_file

from hpogen import Study, load_study, run
from hpogen.executors.inline import InlineExecutor
from hpogen.record import folder, ledger
from hpogen.tasks import command

ROOT = Path(__file__).parents[2]

EPOCH = """
import json, os, subprocess, sys, time
def epoch(loss=0.5, file=sys.stdout):
    print(json.dumps({"val_loss": loss}), file=file, flush=True)
"""
FAMILY = """
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
children = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
with open("pids.tmp", "w") as file:
    print(os.getpid(), *(child.pid for child in children), file=file)
os.replace("pids.tmp", "pids")
"""


def script(directory: Path, body: str, **keys: Any) -> Path:
    """A study of one trial, two epochs, whose command is a Python script that has `epoch`."""
    directory.mkdir(exist_ok=True)
    (directory / "train.py").write_text(EPOCH + body)
    task = {
        "name": "command",
        "command": f"{sys.executable} {directory}/train.py {{x}}",
        "metrics": ["val_loss"],
        "epochs": 2,
    }
    keys = {"stop": {"trials": 1}, "plugins": [], "search_space": {"x": {"float": [0, 1]}}, **keys}
    return study_file(directory, task=task, **keys)


def told(path: Path, **options: Any) -> dict[str, Any]:
    """How its trial ended; nothing where it did not."""
    with Study(load_study(path), path.parent / "q") as study:
        run(study, InlineExecutor("cpu"), **options)
    return by_trial(ledger.read(path.parent / "q"), "told").get(0, {})


def test_null_is_the_text_null(tmp_path: Path) -> None:
    body = "assert sys.argv[1] == 'null', sys.argv\nfor i in range(2): epoch()"
    space = {"x": {"choice": [None, 1]}}
    assert told(script(tmp_path, body, search_space=space))["failure"] is None


def logged(path: Path) -> str:
    return folder.log_path(path.parent / "q", 0).read_text()


def until(happened: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def lives(process: int) -> bool:
    try:
        os.kill(process, 0)
        status = Path(f"/proc/{process}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[int]]]:
    """The processes of a FAMILY in the test's folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    pids = tmp_path / "pids"

    def found() -> list[int]:
        return [int(word) for word in pids.read_text().split()] if pids.exists() else []

    yield found
    for process in found():
        if lives(process):
            os.kill(process, signal.SIGKILL)


def all_gone(family: list[int]) -> None:
    assert len(family) == 3
    until(lambda: not any(map(lives, family)), "something of the command lives on")


def test_standard_error_goes_to_the_log_and_counts_for_nothing(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        "for i in range(2):\n"
        "    print('before', i, flush=True)\n"
        "    print(f'\\r{i}/2', end='', file=sys.stderr, flush=True)  # a bar: no line's end\n"
        "    epoch()\n"
        "    epoch(99, file=sys.stderr)\n",
    )
    assert told(path)["metrics"] == {"val_loss": 0.5}
    text = logged(path)
    assert text.count('{"val_loss": 99}') == 2 and '{"val_loss": 0.5}' not in text
    assert "before 0" in text and "before 1" in text


def test_numbers_on_standard_error_alone_are_no_epochs(tmp_path: Path) -> None:
    path = script(tmp_path, "epoch(99, file=sys.stderr)\nepoch(99, file=sys.stderr)\n")
    failure = told(path)["failure"]
    assert failure["text"] == (
        "ValueError: the command printed no JSON: its standard output was empty; after each epoch "
        'print a line such as {"val_loss": 0.5}'
    )


def test_a_command_without_json_is_told_its_first_lines_and_what_to_print(tmp_path: Path) -> None:
    body = "print()\nfor i in range(9): print(f'epoch {i}:', {'val_loss': 0.5}, 'x' * 100 * i)\n"
    said = told(script(tmp_path, body))["failure"]["text"]
    assert said.startswith(
        "ValueError: the command printed no JSON: its output began with "
        "\"epoch 0: {'val_loss': 0.5}\" and \"epoch 1: {'val_loss'"
    )
    assert said.endswith('; after each epoch print a line such as {"val_loss": 0.5}')
    assert len(said) <= 200, "the line of a finished trial would cut it"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("sys.exit('no such file')", "the command ended with exit code 1: no such file"),
        ("os.kill(os.getpid(), 9)", "the command was killed by signal 9"),
        ("os.kill(os.getpid(), 11)", "the command was killed by signal 11"),
        ("epoch(None)", "the command gave val_loss = null, expected a number"),
        ("epoch('0.5')", 'the command gave val_loss = "0.5", expected a number'),
        ("epoch(float('nan'))", "val_loss is nan after epoch 1"),
        ("while True: epoch()", "went on after the trial's budget of 2 epochs"),
        ("epoch()", "the command gave 1 epochs, the budget is 2"),
    ],
)
def test_how_a_command_fails(body: str, text: str, tmp_path: Path) -> None:
    assert text in told(script(tmp_path, body))["failure"]["text"]


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    task = {"name": "command", "command": "nobody {x}", "metrics": ["val_loss"], "epochs": 2}
    keys: dict[str, Any] = {"plugins": [], "search_space": {"x": {"float": [0, 1]}}}
    path = study_file(tmp_path, task=task, stop={"trials": 1}, **keys)
    failure = told(path)["failure"]
    assert failure["text"] == (
        "RuntimeError: the command ended with exit code 127: nobody: No such file or directory"
    )


def test_lines_without_an_end_are_bounded(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        "for _ in range(2):\n"
        "    sys.stdout.write('[' * 3_000_000 + '\\n')\n"
        "    epoch()\n"
        "sys.stdout.write('x' * 3_000_000)\n",
    )
    assert told(path)["metrics"] == {"val_loss": 0.5}
    assert [len(line) for line in logged(path).splitlines()] == [command.LINE] * 3


def test_nobody_need_read_standard_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    body = "epoch()\nsys.stderr.write('x' * 5_000_000)\nopen('written', 'w')\nepoch()"
    with Study(load_study(script(tmp_path, body)), tmp_path / "q") as study:
        executor = InlineExecutor("cpu")
        seen = Watcher(lambda: until((tmp_path / "written").exists, "the command is blocked"))
        assert run(study, executor, observer=seen).end == "finished"
    assert seen.epochs == 2


class Watcher:
    """Does something at the first epoch, in the driver: no trial gets on meanwhile."""

    def __init__(self, do: Callable[[], Any]) -> None:
        self._do = do
        self.epochs = 0

    def progressed(self, progress: object) -> None:
        self.epochs += 1
        if self.epochs == 1:
            self._do()

    def started(self, trial: object) -> None: ...

    def finished(self, record: object) -> None: ...

    def tick(self, stopping: bool) -> None: ...


def test_a_trial_ends_with_its_command_and_leaves_nobody(
    tmp_path: Path, family: Callable[[], list[int]]
) -> None:
    """Its children hold its output and would for ten minutes."""
    assert told(script(tmp_path, FAMILY + "epoch()\nepoch()\n"))["failure"] is None
    all_gone(family())


@pytest.mark.parametrize(
    ("body", "stops_after"),
    [
        ("while True: epoch()", None),
        ("epoch()\nsys.exit(3)", None),
        ("epoch()\nos.kill(os.getpid(), 9)", None),
        ("epoch()\ntime.sleep(600)", 1),
        ("epoch()\nsys.stdout.close()\ntime.sleep(600)", 1),
    ],
)
def test_nobody_is_left_however_a_trial_ends(
    body: str, stops_after: int | None, tmp_path: Path, family: Callable[[], list[int]]
) -> None:
    observer = StopsAfter(stops_after) if stops_after else None
    told(script(tmp_path, FAMILY + body), observer=observer)
    all_gone(family())


def test_nobody_is_left_when_the_time_is_over(
    tmp_path: Path, family: Callable[[], list[int]]
) -> None:
    path = script(tmp_path, FAMILY + "time.sleep(600)", limits={"trial_seconds": 3})
    assert told(path)["failure"]["kind"] == "timeout"
    all_gone(family())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nobody_is_left_when_the_driver_ends(
    number: signal.Signals, tmp_path: Path, family: Callable[[], list[int]]
) -> None:
    script(tmp_path, FAMILY + "time.sleep(600)")
    driver = subprocess.Popen(
        [sys.executable, "-m", "hpogen", "run", "study.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    until(family, "the command does not begin")
    driver.send_signal(number)
    assert driver.wait(30) == (-9 if number == signal.SIGKILL else 130)
    all_gone(family())


@pytest.mark.ray
def test_nobody_is_left_when_a_worker_is_killed(
    tmp_path: Path, family: Callable[[], list[int]]
) -> None:
    """The trial runs again on another worker, whose family is the one that ends by itself."""
    first = textwrap.indent(FAMILY + "time.sleep(600)\n", "    ")
    path = script(tmp_path, f"if not os.path.exists('pids'):{first}epoch()\nepoch()\n")
    driver = subprocess.Popen(
        [sys.executable, "-m", "hpogen", "run", "study.yaml", "--ray", "local", "--workers", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    until(family, "the command does not begin")
    guard = parent(family()[0])
    os.kill(parent(guard), signal.SIGKILL)  # the worker
    all_gone(family())
    out, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, out
    events = ledger.read(path.parent / "runs" / "study")
    assert [event["kind"] for event in events].count("lost") == 1
    assert by_trial(events, "told")[0]["metrics"] == {"val_loss": 0.5}


def parent(process: int) -> int:
    status = Path(f"/proc/{process}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1])


def test_a_command_may_end_politely(tmp_path: Path, family: Callable[[], list[int]]) -> None:
    """It has some seconds after SIGTERM, and a resumable one can save there."""
    body = (
        "import signal\n"
        "def save(*_):\n    open('saved', 'w').write('all')\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save)\n"
    )
    path = script(tmp_path, body + FAMILY + "epoch()\ntime.sleep(600)")
    told(path, observer=StopsAfter(1))
    assert (tmp_path / "saved").read_text() == "all"
    all_gone(family())


def test_its_standard_input_is_empty_and_its_signals_are_usual(tmp_path: Path) -> None:
    body = (
        "import signal\n"
        "assert sys.stdin.read() == ''\n"
        "assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()\n"
        "assert subprocess.run(['sh', '-c', 'kill -PIPE $$']).returncode == -signal.SIGPIPE\n"
        "epoch()\nepoch()\n"
    )
    assert told(script(tmp_path, body))["failure"] is None
