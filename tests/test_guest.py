"""What a user's code does to the process: it ends, forks, moves elsewhere, raises what it likes.

Studies run in processes of their own: a fork that comes through would go on with the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from toys import StopsAfter, by_trial, study_file

from hpogen import Study, load_study, run
from hpogen.errors import UserError
from hpogen.record import folder, ledger

ROOT = Path(__file__).parents[1]

FORK = """
import os, sys
def fork(then, inside=os.getpid()):
    process = os.fork()
    if not process:
        exec(then)
        return "child"
    os.waitpid(process, 0)
    return "parent"
"""
ENDINGS = [
    "pass",  # comes back
    "raise RuntimeError('child')",
    "sys.exit(0)",
    "sys.exit('words')",
    "raise KeyboardInterrupt",
    "raise GeneratorExit",
    "os._exit(3)",
]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def hpogen(*arguments: str, cwd: Path, **options: Any) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "hpogen", *arguments],
        **{"capture_output": True, **options},
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
        timeout=120,
    )
    return Done(done.returncode, done.stdout or "", done.stderr or "")


def plugin(directory: Path, source: str, **keys: Any) -> Path:
    """A study whose plug-in is that source; its task is `mine`, of two epochs."""
    (directory / "p.py").write_text(source)
    keys = {"task": {"name": "mine", "epochs": 2}, "stop": {"trials": 3}, **keys}
    return study_file(directory, plugins=["p.py"], **keys)


TASK = """
from hpogen.plugins import task
@task("mine", metrics=("val_loss",))
def train(trial):
    BODY
    yield {"val_loss": 1.0}
    yield {"val_loss": 2.0}
"""


def whole(directory: Path, done: Done, trials: int) -> list[dict[str, Any]]:
    """The told events of a study that one process alone has written."""
    assert (done.code, done.err) == (0, "")
    lines = [line for line in done.out.splitlines() if line.startswith("trial ")]
    assert [line.split()[1] for line in lines] == [*map(str, range(trials))]
    events = ledger.read(directory)
    assert len(events) == 1 + 2 * trials
    assert [*by_trial(events, "asked")] == [*by_trial(events, "told")] == [*range(trials)]
    for trial in range(trials):
        rows = folder.curve_path(directory, trial).read_text().splitlines()
        assert [json.loads(row)["epoch"] for row in rows] == [1, 2]
    return [*by_trial(events, "told").values()]


@pytest.mark.parametrize("where", [[], pytest.param(["--ray", "local"], marks=pytest.mark.ray)])
def test_a_task_that_forks_trains_once(where: list[str], tmp_path: Path) -> None:
    body = f"then = {ENDINGS!r}[trial.id % 7]"
    source = FORK + TASK.replace("BODY", body).replace(
        'yield {"val_loss": 2.0}', 'fork(then)\n    yield {"val_loss": 2.0}\n    fork(then)'
    )
    plugin(tmp_path, source, stop={"trials": 7})
    done = hpogen("run", "study.yaml", "--dir", "q", *where, cwd=tmp_path)
    told = (
        whole(tmp_path / "q", done, 7)
        if not where
        else by_trial(ledger.read(tmp_path / "q"), "told").values()
    )
    assert done.code == 0
    assert [event["metrics"] for event in told] == [{"val_loss": 2.0}] * 7
    assert "RuntimeError: child" in folder.log_path(tmp_path / "q", 1).read_text()
    assert "words" in folder.log_path(tmp_path / "q", 3).read_text()


PARTS = """
import numpy as np
import torch
from torch import nn
from hpogen.plugins import dataset, measure, model, searcher
from hpogen.searchers.random import RandomSearcher
from hpogen.training.data import ImageData

fork("pass")

class Net(nn.Sequential):
    steps = 0

    def forward(self, images):
        Net.steps += 1
        if Net.steps == 2:
            fork("pass")  # its child trains to the end of the epoch
        return super().forward(images)

@model("net")
def net(in_shape, classes):
    fork("raise SystemExit")
    return Net(nn.Flatten(), nn.Linear(4, classes))

@dataset("dots")
def dots(root):
    fork("pass")
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 2, 2), dtype=np.uint8)
    labels = np.arange(60) % 3
    return ImageData(images, labels, images, labels, classes=3, name="dots")

@measure("size", of="network")
def size(model, batches):
    fork("raise SystemExit")
    return 1.0

@searcher("drawing")
class Drawing(RandomSearcher):
    def __init__(self, *arguments, **options):
        fork("pass")
        super().__init__(*arguments, **options)

    def ask(self):
        fork("raise ValueError('child')")
        return super().ask()

    def tell(self, trial, score):
        fork("pass")
        super().tell(trial, score)
"""
IMAGES: dict[str, Any] = {
    "stop": {"trials": 2},
    "task": {
        "dataset": {"name": "dots", "subset": 0.5, "validation": 12, "audit": 0},
        "model": "net",
        "measures": ["size"],
        "epochs": 2,
    },
    "search_space": {"lr": {"float": [0.01, 0.1]}, "batch_size": 10},
    "searcher": "drawing",
}


@pytest.mark.slow  # two processes that import torch
def test_every_part_may_fork(tmp_path: Path) -> None:
    plugin(tmp_path, FORK + PARTS, **IMAGES)
    done = hpogen("run", "study.yaml", "--dir", "q", cwd=tmp_path)
    assert done.err.count("ValueError: child") == 3  # two trials, and the end
    forked = whole(tmp_path / "q", Done(done.code, done.out, ""), 2)
    plugin(tmp_path, "def fork(then): ...\n" + PARTS, **IMAGES)
    plain = whole(tmp_path / "r", hpogen("run", "study.yaml", "--dir", "r", cwd=tmp_path), 2)
    assert [e["metrics"] for e in plain] == [e["metrics"] for e in forked]


POOLS = """
import multiprocessing, subprocess, threading, time
from concurrent.futures import ProcessPoolExecutor
FORKING = multiprocessing.get_context("fork")

def square(x):
    return x * x

def used():
    with FORKING.Pool(2) as pool:  # ends its workers by SIGTERM
        assert sum(pool.map(square, range(4))) == 14
    with ProcessPoolExecutor(2, FORKING) as pool:
        assert sum(pool.map(square, range(4))) == 14
    for _ in range(20):
        process = FORKING.Process(target=time.sleep, args=(600,))
        process.start()
        process.terminate()
        process.join()
    thread = threading.Thread(target=fork, args=("pass",))
    thread.start()
    thread.join()
    subprocess.run(["true"], check=True)
"""


def test_pools_of_processes_end_in_a_task(tmp_path: Path) -> None:
    plugin(tmp_path, FORK + POOLS + TASK.replace("BODY", "used()"))
    whole(tmp_path / "q", hpogen("run", "study.yaml", "--dir", "q", cwd=tmp_path), 3)


LOOP = """
import os, sys
from hpogen import Outcome, open_study
from hpogen.trial import Progress

with open_study("study.yaml", "q") as study:
    while (trial := study.next()) is not None:
        process = os.fork()
        if process:
            os.waitpid(process, 0)
            assert open("q/lock").read().startswith(f"process {os.getpid()} ")
        elif trial.id == 0:
            sys.exit(0)  # the block closes the study
        elif trial.id == 1:
            study.next()
        elif trial.id == 2:
            study.progress(Progress(trial.id, 1, {"val_loss": 9.0}, {}, "cpu"))
        study.record(Outcome(trial.id, {"val_loss": 1.0}))
"""


def test_a_loop_of_ones_own_may_fork(tmp_path: Path) -> None:
    plugin(tmp_path, TASK.replace("BODY", "pass"), stop={"trials": 4})
    done = subprocess.run(
        [sys.executable, "-c", LOOP],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stderr.count("ledger.jsonl: is written by process") == 3  # of trials 1 to 3
    events = ledger.read(tmp_path / "q")
    assert len(events) == 9
    assert [e["metrics"] for e in by_trial(events, "told").values()] == [{"val_loss": 1.0}] * 4
    assert not folder.curve_path(tmp_path / "q", 2).exists()


RAISED = ["sys.exit()", "sys.exit('x')", "raise KeyboardInterrupt", "raise GeneratorExit"]
RAISED += ["raise asyncio.CancelledError", "raise type('Own', (BaseException,), {})('x')"]


@pytest.mark.parametrize("raised", RAISED)
def test_whatever_a_plug_in_raises_is_a_mistake_with_its_line(raised: str, tmp_path: Path) -> None:
    path = plugin(tmp_path, f"import asyncio, sys\n\n{raised}\n")
    with pytest.raises(UserError) as caught:
        load_study(path)
    assert f"p.py' cannot be imported (line 3): {NAMES[RAISED.index(raised)]}" in str(caught.value)


NAMES = ["SystemExit", "SystemExit: x", "KeyboardInterrupt", "GeneratorExit", "CancelledError"]
NAMES += ["Own: x"]


def test_every_command_says_so(tmp_path: Path) -> None:
    plugin(tmp_path, TASK.replace("BODY", "pass"))
    assert hpogen("run", "study.yaml", "--dir", "q", cwd=tmp_path).code == 0
    (tmp_path / "p.py").write_text("import sys\nsys.exit()\n")
    for arguments in (["check", "study.yaml"], ["run", "study.yaml"], ["fork", "q", "study.yaml"]):
        done = hpogen(*arguments, cwd=tmp_path)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert "p.py' cannot be imported (line 2): SystemExit" in done.err


def test_whatever_a_task_raises_is_a_failed_trial(tmp_path: Path) -> None:
    body = f"import asyncio, sys\n    exec({RAISED!r}[trial.id])"
    path = plugin(tmp_path, TASK.replace("BODY", body), stop={"trials": len(RAISED)})
    with Study(load_study(path), tmp_path / "q") as study:
        assert run(study).end == "finished"
    told = by_trial(ledger.read(tmp_path / "q"), "told")
    assert [told[trial]["failure"]["text"] for trial in range(len(RAISED))] == NAMES


def test_an_engine_that_raises_is_one_line(tmp_path: Path) -> None:
    part = "import sys\n" + PARTS.replace("fork(\"raise ValueError('child')\")", "sys.exit()")
    plugin(tmp_path, "def fork(then): ...\n" + part, **IMAGES)
    line = next(i for i, line in enumerate(part.splitlines(), 2) if line.strip() == "sys.exit()")
    done = hpogen("run", "study.yaml", cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"p.py, line {line}: SystemExit\n"
    log = (tmp_path / "runs" / "study" / "hpogen.log").read_text()
    assert "Traceback" in log and "return super().ask()" not in log


GOES_ON = """
from hpogen.plugins import task
@task("mine", metrics=("val_loss",))
def train(trial):
    while True:
        try:
            yield {"val_loss": 1.0}
        except BaseException:
            BODY
"""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # that is the test
@pytest.mark.parametrize("body", ["continue", "raise", "raise SystemExit", "raise OSError('x')"])
def test_a_task_that_goes_on_is_stopped_at_its_budget(body: str, tmp_path: Path) -> None:
    path = plugin(tmp_path, GOES_ON.replace("BODY", body), stop={"trials": 2})
    with Study(load_study(path), tmp_path / "q") as study:
        assert run(study).end == "finished"
    for event in by_trial(ledger.read(tmp_path / "q"), "told").values():
        text = "ValueError: task 'mine' went on after the trial's budget of 2 epochs"
        assert (event["failure"]["text"], event["epochs"]) == (text, 2)
        assert len(folder.read_curve(tmp_path / "q", event["trial"])) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_task_that_goes_on_can_be_interrupted(tmp_path: Path) -> None:
    """Its generator takes no for an answer, and neither hinders the study's stop."""
    path = plugin(tmp_path, GOES_ON.replace("BODY", "continue"))
    with Study(load_study(path), tmp_path / "q") as study:
        assert run(study, observer=StopsAfter(1)).end == "interrupted"
        assert run(study).end == "finished"


MOVES = """
import os
from pathlib import Path
from hpogen.plugins import task
os.chdir(Path(__file__).parent / "data")

@task("mine", metrics=("val_loss",))
def train(trial):
    loss = float(open("loss").read())  # beside the plug-in, wherever hpogen was started
    os.makedirs("a", exist_ok=True)
    os.chdir("a")  # in every trial
    yield {"val_loss": loss}
    assert os.getcwd().endswith("data/a")
    os.rmdir(os.getcwd())
    yield {"val_loss": loss}
"""


def test_a_plug_in_and_a_task_may_move_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "loss").write_text("0.5")
    (tmp_path / "here").mkdir()
    plugin(tmp_path, MOVES)
    done = hpogen("run", "../study.yaml", "--dir", "q", cwd=tmp_path / "here")
    told = whole(tmp_path / "here" / "q", done, 3)
    assert [event["metrics"] for event in told] == [{"val_loss": 0.5}] * 3
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["q"]
    assert " folder   q\n" in done.out
    again = hpogen("resume", "q", cwd=tmp_path / "here")
    assert (again.code, again.err) == (0, "")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["q"]
