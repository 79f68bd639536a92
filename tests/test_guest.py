"""What a user's code does to the process: it ends, forks, moves elsewhere, raises what it likes.

Studies run in processes of their own: a fork that comes through would go on with the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from toys import by_trial, study_file

from hpogen import folder, ledger

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
    told = whole(tmp_path / "q", done, 7) if not where else by_trial(
        ledger.read(tmp_path / "q"), "told"
    ).values()
    assert done.code == 0
    assert [event["metrics"] for event in told] == [{"val_loss": 2.0}] * 7
    assert "RuntimeError: child" in folder.log_path(tmp_path / "q", 1).read_text()
    assert "words" in folder.log_path(tmp_path / "q", 3).read_text()
