"""What the runner does with failures, and what a worker makes of a task's misbehaviour."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from toys import ShuffledExecutor, by_trial, study_file

from hpogen.errors import UserError
from hpogen.executors.base import Event
from hpogen.executors.inline import InlineExecutor, resolve_device
from hpogen.record import folder, ledger
from hpogen.running.drive import MAX_LOST, Result
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study.study import Study
from hpogen.trial import Failure, Outcome


def drive(path: Path, executor: Any = None) -> tuple[Result, list[dict[str, Any]]]:
    directory = path.parent / "q"
    with Study(load_study(path), directory) as study:
        result = run(study, executor)
    return result, ledger.read(directory)


def test_failed_trials_are_outcomes(tmp_path: Path) -> None:
    path = study_file(tmp_path, task={"name": "bowl", "epochs": 2, "mood": "raises"})
    result, events = drive(path)
    assert result == Result("finished", 12)
    told = by_trial(events, "told")
    assert told[2]["failure"]["kind"] == "error"
    assert told[2]["failure"]["text"] == "RuntimeError: trial 2 is not in the mood"
    assert (told[2]["score"], told[2]["metrics"], told[2]["epochs"]) == (None, {}, 0)
    assert told[3]["failure"] is None
    log = folder.log_path(tmp_path / "q", 2).read_text()
    assert "Traceback" in log and "bowl.py" in log
    assert not folder.log_path(tmp_path / "q", 3).exists()


def test_nan_is_diverged_and_ends_the_trial(tmp_path: Path) -> None:
    path = study_file(tmp_path, task={"name": "bowl", "epochs": 9, "mood": "nan"})
    told = by_trial(drive(path)[1], "told")
    assert told[2]["failure"] == {"kind": "diverged", "text": "val_loss is nan after epoch 1"}
    assert told[2]["epochs"] == 1
    assert folder.read_curve(tmp_path / "q", 2) == []


def test_errors_in_a_row_stop_the_study_which_can_go_on(tmp_path: Path) -> None:
    keys = {
        "task": {"name": "bowl", "epochs": 2, "mood": "always raises"},
        "limits": {"max_consecutive_errors": 4},
    }
    result, events = drive(study_file(tmp_path, **keys))
    assert result == Result("errors", 4, "trial 3: RuntimeError: never in the mood")
    assert len(by_trial(events, "told")) == 4
    assert drive(tmp_path / "study.yaml")[0].trials == 4  # four more, then it stops again


def test_out_of_memory_is_tried_once_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = study_file(tmp_path, task={"name": "bowl", "epochs": 2, "mood": "memory"})
    told = by_trial(drive(path)[1], "told")
    assert told[2]["failure"] == {"kind": "oom", "text": "MemoryError: the bowl is full"}
    assert caplog.text.count("trial=2 failure=oom action=once_more") == 1


class Unlucky(ShuffledExecutor):
    """Loses the worker of one trial, so many times."""

    def __init__(self, trial: int, times: int) -> None:
        super().__init__(seed=0)
        self._trial, self._times = trial, times

    def wait(self, timeout: float) -> list[Event]:
        unlucky = [job for job in self._running if job.trial.id == self._trial]
        if self._times and unlucky:
            self._times -= 1
            del self._running[unlucky[0]]
            failure = Failure("lost", "its node is gone")
            return [(unlucky[0], Outcome(self._trial, {}, failure=failure))]
        return super().wait(timeout)


def test_a_lost_trial_runs_again_and_is_never_told_as_bad(tmp_path: Path) -> None:
    undisturbed = by_trial(drive(study_file(tmp_path / "a"))[1], "told")
    result, events = drive(study_file(tmp_path / "b"), Unlucky(3, MAX_LOST))
    assert result.end == "finished"
    assert sum(event["kind"] == "lost" for event in events) == MAX_LOST
    assert by_trial(events, "told") == undisturbed


def test_a_trial_lost_once_more_stops_the_study_untold(tmp_path: Path) -> None:
    path = study_file(tmp_path)
    result, events = drive(path, Unlucky(3, MAX_LOST + 1))
    assert (result.end, result.text) == ("lost", "trial 3: its node is gone")
    assert 3 in by_trial(events, "asked") and 3 not in by_trial(events, "told")
    assert drive(path)[0].end == "finished"  # run again to go on


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("yield {'other': 1.0}", "ValueError: task 'odd' yielded the metric 'other'"),
        ("yield 7", "TypeError: task 'odd' yielded 7, expected a mapping"),
        ("yield {'val_loss': 'high'}", "TypeError: task 'odd' yielded val_loss = 'high', expected"),
        ("yield {'val_loss': 1.0}", "yielded 1 epochs, the trial's budget is 2"),
        ("yield {}\n    yield {}", "did not give the metric 'val_loss'"),
        ("import sys; sys.exit(3); yield", "SystemExit: 3"),
        ("return 3", "ValueError: task 'odd' returned, the trial's budget is 2 epochs"),
    ],
)
def test_a_task_that_misbehaves_fails_its_trial(body: str, said: str, tmp_path: Path) -> None:
    path = study_file(tmp_path, task={"name": "odd", "epochs": 2}, plugins=["odd.py"])
    (tmp_path / "odd.py").write_text(
        "from hpogen.plugins import task\n\n"
        f"@task('odd', metrics=['val_loss'])\ndef odd(trial):\n    {body}\n"
    )
    told = by_trial(drive(path)[1], "told")
    assert told[0]["failure"]["kind"] == "error"
    assert said in told[0]["failure"]["text"]


def test_what_a_task_prints_goes_to_its_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = study_file(tmp_path, task={"name": "loud", "epochs": 1}, plugins=["loud.py"])
    (tmp_path / "loud.py").write_text(
        "import sys\nfrom hpogen.plugins import task\n\n"
        "@task('loud', metrics=['val_loss'])\ndef loud(trial):\n"
        "    print('hello from', trial.id)\n    print('oh', file=sys.stderr)\n"
        "    yield {'val_loss': 1.0}\n"
    )
    drive(path)
    assert folder.log_path(tmp_path / "q", 3).read_text() == "hello from 3\noh\n"
    assert capfd.readouterr() == ("", "")


def test_a_trials_own_folder_goes_when_it_is_empty(tmp_path: Path) -> None:
    path = study_file(tmp_path, task={"name": "saver", "epochs": 1}, plugins=["saver.py"])
    (tmp_path / "saver.py").write_text(
        "from hpogen.plugins import task\n\n"
        "@task('saver', metrics=['val_loss'])\ndef saver(trial):\n"
        "    if trial.id == 1:\n        (trial.directory / 'note').write_text('mine')\n"
        "    yield {'val_loss': 1.0}\n"
    )
    drive(path)
    assert not folder.trial_stem(tmp_path / "q", 0).exists()
    assert (folder.trial_stem(tmp_path / "q", 1) / "note").read_text() == "mine"


def test_devices() -> None:
    assert resolve_device("cpu") == "cpu"
    for wrong in ("gpu", "cuda:x", "cuda:99"):
        with pytest.raises(UserError, match=f"--device: .*{wrong}"):
            resolve_device(wrong)


COMMAND = """
import json, math, sys, time
x, seed, budget, where = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
print("epochs:", budget, where)
for epoch in range(budget):
    print(json.dumps({"val_loss": (x - 0.3) ** 2 + seed % 7, "kind": 1.0}), flush=True)
    time.sleep(float(sys.argv[5]))
print("warning: ends here", file=sys.stderr)
sys.exit(int(x > 0.9))
"""


def command_study(directory: Path, pause: float = 0.0, **keys: Any) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "train me.py").write_text(COMMAND)
    command = f"{sys.executable} '{directory}/train me.py' {{x}} {{seed}} {{budget}} {{directory}}"
    task = {
        "name": "command",
        "command": f"{command} {pause}",
        "metrics": ["val_loss", "kind"],
        "epochs": 2,
    }
    space = {"x": {"float": [0.0, 1.0], "default": 0.95}}
    keys = {"search_space": space, "stop": {"trials": 3}, "plugins": [], **keys}
    return study_file(directory, task=task, **keys)


def test_a_command_is_a_task(tmp_path: Path) -> None:
    result, events = drive(command_study(tmp_path))
    told, asked = by_trial(events, "told"), by_trial(events, "asked")
    assert result.end == "finished"
    assert told[0]["failure"]["text"] == (
        "RuntimeError: the command ended with exit code 1: warning: ends here"
    )
    x, seed = asked[1]["config"]["x"], asked[1]["seed"]
    assert told[1]["metrics"] == {"val_loss": pytest.approx((x - 0.3) ** 2 + seed % 7), "kind": 1.0}
    log = folder.log_path(tmp_path / "q", 1).read_text()
    assert f"epochs: 2 {tmp_path}" in log and "warning: ends here" in log


def test_a_stopped_command_does_not_live_on(tmp_path: Path) -> None:
    path = command_study(tmp_path, pause=3600)
    with Study(load_study(path), tmp_path / "q") as study:
        begin = time.monotonic()
        assert run(study, InlineExecutor("cpu"), seconds=1.0).end == "time"
        assert time.monotonic() - begin < 10
    alive = subprocess.run(["pgrep", "-f", "train me.py"], capture_output=True, text=True)
    assert alive.stdout == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    path = study_file(tmp_path, stop={"trials": 1000})

    class Alarm:
        """Sends the signal to this process when the fifth trial has finished."""

        def started(self, trial: object) -> None: ...

        def progressed(self, progress: object) -> None: ...

        def tick(self, stopping: bool) -> None: ...

        def finished(self, record: Any) -> None:
            if record.trial.id == 4:
                os.kill(os.getpid(), number)

    original = signal.signal(number, signal.SIG_DFL)  # the tests may run under nohup
    try:
        with Study(load_study(path), tmp_path / "q") as study:
            assert run(study, observer=Alarm()).end == "interrupted"
            assert 5 <= len(study.history.told()) < 1000
        assert signal.getsignal(number) == signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)
        with Study(load_study(path), tmp_path / "r") as study:
            assert run(study, observer=Alarm(), seconds=1).end in ("time", "finished")
    finally:
        signal.signal(number, original)
