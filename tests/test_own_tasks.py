"""A task of one's own: its audit, its split, its checkpoint, and what it may give."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toys import by_trial, study_file, typed

from hpogen.analysis.comparison import compare
from hpogen.errors import UserError
from hpogen.executors.inline import InlineExecutor
from hpogen.record import ledger
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study.open import open_study
from hpogen.study.read import read
from hpogen.study.retrained import plan, results
from hpogen.study.study import Study
from hpogen.trial import Outcome

JUDGED = """
from hpogen.plugins import task

@task("judged", metrics=("val_loss",), audit=("rmse", "loss"), split=True)
def judged(trial, *, hard: float = 0.0):
    x = trial.config["x"] - (0.2 if trial.split == "retrain" else 0.0)
    for epoch in trial.epochs():
        loss = x**2 + hard / (epoch + 1)
        yield {"val_loss": loss}, {"rmse": loss + 1, "loss": loss + trial.seed % 7}
"""
PROGRAM = """
import json, sys
x, split, budget = float(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for epoch in range(budget):
    error = x**2 + (1 if split == "retrain" else 0)
    print(json.dumps({"val_loss": x**2, "audit": {"error": error}}), flush=True)
"""
SPACE = {"x": {"float": [0.0, 1.0], "default": 0.5}}
KEYS: dict[str, Any] = {"search_space": SPACE, "searcher": "random", "objective": "val"}


def own(tmp_path: Path, body: str, budget: int = 2, **keys: Any) -> Path:
    """A study whose task is `own`, of that body."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "own.py").write_text(body)
    keys = {**KEYS, "stop": {"trials": 3}, **keys}
    return study_file(tmp_path, task={"name": "own", "epochs": budget}, plugins=["own.py"], **keys)


def judged(tmp_path: Path, **keys: Any) -> Path:
    (tmp_path / "judged.py").write_text(JUDGED)
    keys = {**KEYS, "stop": {"trials": 4}, "baselines": {"middle": {"x": 0.5}}, **keys}
    task = {"name": "judged", "epochs": 2}
    return study_file(tmp_path, task=task, plugins=["judged.py"], **keys)


def program(tmp_path: Path, **task: Any) -> Path:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = f"python {tmp_path}/program.py {{x}} {{split}} {{budget}}"
    known = {"name": "command", "command": command, "metrics": ["val_loss"], "epochs": 2}
    keys = {**KEYS, "plugins": [], "stop": {"trials": 3}}
    return study_file(tmp_path, task={**known, "audit": ["error"], **task}, **keys)


def ran(path: Path, name: str = "q") -> Path:
    with open_study(path, path.parent / name) as study:
        run(study)
    return path.parent / name


def told(path: Path) -> dict[str, Any]:
    return by_trial(ledger.read(ran(path)), "told")[0]


def failure(path: Path) -> str:
    return str(told(path)["failure"]["text"])


def test_the_audit_is_kept_apart(tmp_path: Path) -> None:
    directory = ran(judged(tmp_path))
    for event in by_trial(ledger.read(directory), "told").values():
        assert event["metrics"].keys() == {"val_loss"}
        assert event["audit"]["rmse"] == event["metrics"]["val_loss"] + 1
    assert read(directory).spec.task.judged_by == "rmse"
    found = compare([directory])
    assert (found.judged_by, found.error) == ("audit RMSE", "RMSE")


@pytest.mark.parametrize(
    "keys",
    [
        {"objective": {"terms": [{"metric": "rmse"}]}},
        {"selection": "rmse"},
    ],
)
def test_nothing_that_chooses_names_an_audit_figure(keys: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rmse"):
        load_study(judged(tmp_path, **keys))


def test_a_function_is_retrained_on_all_of_its_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = ran(judged(tmp_path))
    assert typed(*["retrain", str(directory), "--seeds", "2"]) == 0
    page = capsys.readouterr().out
    assert "test RMSE" in page and "baseline middle" in page
    for one in results(directory):
        assert one.n == 2 and one.choice.config.keys() == {"x"}
        x = float(str(one.choice.config["x"]))
        assert [run.error for run in one.runs] == [pytest.approx((x - 0.2) ** 2 + 1)] * 2
    assert all(
        spec.task.record()["split"] == "retrain" for spec in plan(read(directory), 2).values()
    )
    assert typed(*["compare", str(directory)]) == 0


def test_a_command_has_audit_and_is_retrained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = ran(program(tmp_path))
    event = by_trial(ledger.read(directory), "told")[0]
    assert event["metrics"] == {"val_loss": 0.25} and event["audit"] == {"error": 0.25}
    assert typed(*["retrain", str(directory), "--seeds", "1"]) == 0
    assert "test error" in capsys.readouterr().out
    runs = [run for one in results(directory) for run in one.runs]
    assert runs and all(run.error >= 1 for run in runs)


def test_old_ledgers_of_commands_say_nothing_new(tmp_path: Path) -> None:
    record = load_study(program(tmp_path, audit=[])).record()["task"]
    assert not {"audit", "split"} & record.keys()


@pytest.mark.parametrize("option", [["--subset"], ["--at", "0.2,0.5"]])
def test_what_needs_hpogens_own_data_says_so(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = ran(judged(tmp_path))
    assert typed(*["retrain", str(directory), "--trial", "0", *option]) != 0
    said = capsys.readouterr().err
    assert f"{option[0]}: got the task 'judged'" in said and said.count("\n") == 1


def test_advice_fits_the_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = "from hpogen.plugins import task\n\n@task('own', metrics=['val_loss'])\n"
    function = ran(own(tmp_path / "f", bare + "def f(t):\n    return {'val_loss': 1.0}\n", 1))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "program.py").write_text(PROGRAM.replace('"audit"', '"other"'))
    command = 'python -c \'print("{{\\"val_loss\\": {x}}}")\''
    task = {"name": "command", "command": command, "metrics": ["val_loss"], "epochs": 1}
    keys = {**KEYS, "plugins": [], "stop": {"trials": 2}}
    for directory, key in (
        (function, "@task(…, audit=…)"),
        (ran(study_file(tmp_path / "c", task=task, **keys)), "task.audit"),
    ):
        assert typed(*["compare", str(directory)]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert f"there are no audit figures: {key} gives" in said
        assert "task.dataset" not in said


HEAD = "from hpogen.plugins import task\n\n@task('own', metrics=['val_loss'], audit=['error'])\n"
FINE = "yield {'val_loss': 1.0}, {'error': 0.5}"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("yield {'val_loss': 1.0}, {'other': 1.0}", "the audit figure 'other', which it does not"),
        ("yield {'error': 1.0}, {}", "the metric 'error', which it does not declare"),
        ("yield {'val_loss': 1.0}, 7", "yielded 7, expected a mapping of audit figures"),
        ("yield {'val_loss': 1.0}", "did not give the audit figure 'error' with its last epoch"),
        ("yield {'val_loss': 1.0}, {'error': None}", "yielded error = None, expected a number"),
        ("yield {'val_loss': 1.0}, {'error': float('nan')}", "error is nan after epoch 1"),
        ("yield {'val_loss': True}, {'error': 1}", "yielded val_loss = True, expected a number"),
        ("return None", "returned None, expected to yield a mapping of metrics"),
        ("return 'good'", "returned 'good', expected to yield a mapping"),
        ("return [1.0]", "returned [1.0], expected to yield a mapping"),
        (f"{FINE}\n    {FINE}", "went on after the trial's budget of 1 epochs"),
    ],
)
def test_what_a_function_cannot_give(body: str, said: str, tmp_path: Path) -> None:
    assert said in failure(own(tmp_path, f"{HEAD}def f(trial):\n    {body}\n", 1))


@pytest.mark.parametrize(
    ("value", "loss"),
    [("0.5", 0.5), ("{'val_loss': 2}", 2.0), ("np.float32(3)", 3.0), ("torch.tensor(4.0)", 4.0)],
)
def test_a_function_that_returns_has_one_epoch(value: str, loss: float, tmp_path: Path) -> None:
    body = (
        "import numpy as np, torch\nfrom hpogen.plugins import task\n\n"
        f"@task('own', metrics=['val_loss'])\ndef f(trial):\n    return {value}\n"
    )
    assert told(own(tmp_path, body, 1))["metrics"] == {"val_loss": loss}


def test_a_number_of_several_metrics_is_refused(tmp_path: Path) -> None:
    body = "from hpogen.plugins import task\n\n@task('own', metrics=['val_loss', 'b'])\n"
    said = failure(own(tmp_path, body + "def f(trial):\n    return 0.5\n", 1))
    assert "returned a number, which of its metrics is it: b, val_loss?" in said


DESCENT = """
import random
import numpy as np
import torch
from hpogen.plugins import task

@task("own", metrics=["val_loss"], audit=["error"], resumable=RESUMABLE)
def own(trial, *, pause: float = 0.0):
    import time
    random.seed(trial.seed), np.random.seed(trial.seed % 2**32), torch.manual_seed(trial.seed)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=trial.config["x"] + 0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    trial.checkpoint.register(model=model, optimizer=optimizer, schedule=schedule)
    for epoch in trial.epochs():
        x = torch.randn(8, 3) + random.random() + float(np.random.rand())
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        time.sleep(pause)
        yield {"val_loss": loss}, {"error": model.weight.sum().item() + epoch}
"""


def descent(tmp_path: Path, resumable: bool, pause: float = 0.0) -> Path:
    path = own(tmp_path, DESCENT.replace("RESUMABLE", str(resumable)), 6)
    if pause:
        path.write_text(path.read_text().replace('"epochs": 6', f'"epochs": 6, "pause": {pause}'))
    return path


class Stopping(InlineExecutor):
    """Stops its trial after each epoch, and begins it again with what was received."""

    def wait(self, timeout: float) -> Any:
        if not self._running:
            return []
        [(job, steps)] = self._running.items()
        self._mine = job if job.trial.attempt == 0 else self._mine
        event = next(steps)
        if event is None:
            return []
        if isinstance(event, Outcome):
            self.cancel()
            return [(self._mine, event)]
        attempt = job.trial.attempt + 1
        if attempt <= job.trial.budget:
            start = event.epoch if job.task.resumable else 0
            self.cancel()
            trial = replace(job.trial, start_epoch=start, attempt=attempt)
            received = {"received": event.metrics, "audited": event.audit} if start else {}
            super().submit(replace(job, trial=trial, **received))
        return [(self._mine, event)]


def stopped(path: Path, directory: Path) -> dict[int, dict[str, Any]]:
    with Study(load_study(path), directory) as study:
        run(study, Stopping("cpu"))
    return by_trial(ledger.read(directory), "told")


@pytest.mark.parametrize("audit", ["", ", {'error': loss + 1}"])
def test_one_that_keeps_its_own_state_and_had_ended_ends_well(audit: str, tmp_path: Path) -> None:
    """Nothing is left to be yielded then, and what was received last is the outcome."""
    body = (
        "from hpogen.plugins import task\n\n"
        f"@task('own', metrics=['val_loss'], audit={['error'] if audit else []}, resumable=True)\n"
        "def f(trial):\n    for epoch in trial.epochs():\n        loss = 1.0 / (epoch + 1)\n"
        f"        yield {{'val_loss': loss}}{audit}\n"
    )
    for event in stopped(own(tmp_path, body, 3), tmp_path / "s").values():
        assert event["failure"] is None and event["metrics"] == {"val_loss": 1 / 3}
        assert event["audit"] == ({"error": 4 / 3} if audit else {})


@pytest.mark.parametrize("resumable", [True, False])
def test_a_registered_training_goes_on_where_it_was(resumable: bool, tmp_path: Path) -> None:
    """Also one that is not declared resumable: the file says how far it had come."""
    path = descent(tmp_path, resumable)
    once = by_trial(ledger.read(ran(path, "once")), "told")
    again = stopped(path, tmp_path / "stopped")
    for trial, event in once.items():
        assert event["failure"] is None
        assert (again[trial]["metrics"], again[trial]["audit"]) == (
            event["metrics"],
            event["audit"],
        )
    rows = [len(read(tmp_path / name).curve(0)) for name in ("once", "stopped")]
    assert rows == [6, 6]
    assert not list(tmp_path.glob("*/trials/*/checkpoint-*")), "nothing is left"


@pytest.mark.slow
def test_one_that_was_killed_at_any_moment_ends_as_the_undisturbed(tmp_path: Path) -> None:
    path = descent(tmp_path, True, pause=0.05)
    once = by_trial(ledger.read(ran(path, "once")), "told")
    command = [sys.executable, "-m", "hpogen", "run", str(path), "--dir", str(tmp_path / "k")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while rows(tmp_path / "k") < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(by_trial(ledger.read(tmp_path / "k"), "told")) < len(once)
    subprocess.run(command, check=True, capture_output=True)
    killed = by_trial(ledger.read(tmp_path / "k"), "told")
    for trial, event in once.items():
        assert (killed[trial]["metrics"], killed[trial]["audit"]) == (
            event["metrics"],
            event["audit"],
        )


def rows(directory: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in directory.glob("trials/*.jsonl"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "trial.checkpoint.register(model=3)",
            "model is a int, expected something with state_dict",
        ),
        (
            "trial.checkpoint.register(a=A()); trial.checkpoint.register(a=A())",
            "is called a second time",
        ),
        ("trial.checkpoint.register(b=A(print))", "the state of b holds more than tensors"),
    ],
)
def test_what_cannot_be_registered(line: str, said: str, tmp_path: Path) -> None:
    body = (
        "from hpogen.plugins import task\n\nclass A:\n    def __init__(self, held=0):\n"
        "        self.held = held\n    def state_dict(self):\n        return {'held': self.held}\n"
        "    def load_state_dict(self, state):\n        self.held = state['held']\n\n"
        "@task('own', metrics=['val_loss'])\n"
        f"def f(trial):\n    {line}\n    yield {{'val_loss': 1.0}}\n"
    )
    assert said in failure(own(tmp_path, body, 1))


def test_a_command_says_which_audit_figure_is_missing(tmp_path: Path) -> None:
    said = failure(program(tmp_path, audit=["error", "loss"]))
    assert said.startswith("ValueError: the command did not give the audit figure 'loss'")
    assert 'print {…, "audit": {"loss": 0.5}}' in said


def test_a_command_that_gives_another_audit_figure(tmp_path: Path) -> None:
    said = failure(program(tmp_path, audit=["loss"]))
    assert said == (
        "ValueError: the command gave the audit figure 'error', which task.audit does not list "
        "(loss)"
    )


def test_a_command_that_is_not_told_cannot_be_retrained(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"split: retrain, but the command has no \{split\}"):
        load_study(program(tmp_path, command="echo {x}", split="retrain"))
    directory = ran(
        program(tmp_path, command=f"python {tmp_path}/program.py {{x}} search {{budget}}")
    )
    assert typed(*["retrain", str(directory)]) != 0


def test_the_record_of_a_function_goes_through_json(tmp_path: Path) -> None:
    record = load_study(judged(tmp_path)).record()
    assert json.loads(json.dumps(record))["task"]["split"] == "search"
