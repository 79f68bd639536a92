"""Every executor through the same cases: what the runner relies on, whatever runs the trials."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toys import ShuffledExecutor, by_trial, study_file

from hpogen.executors.inline import InlineExecutor
from hpogen.record import folder, ledger
from hpogen.running import runner
from hpogen.spec import load_study
from hpogen.study.study import Study

Make = Callable[[], Any]

TASK = """
import sys, time
from hpogen.plugins import task

@task("odd", metrics=("val_loss",))
def odd(trial, *, mood: str = "good", pause: float = 0.0):
    print("hello from", trial.id)
    for epoch in range(trial.budget):
        if mood == "counts":
            print("epoch", epoch + 1)
        time.sleep(pause)
        if trial.id % 3 == 2 and mood == "raises":
            raise RuntimeError("not in the mood")
        if trial.id % 3 == 2 and mood == "exits":
            sys.exit(3)
        if trial.id % 3 == 2 and mood == "memory":
            raise MemoryError("full")
        if trial.id % 3 == 2 and mood == "undeclared":
            yield {"other": 1.0}
        loss = float("nan") if trial.id % 3 == 2 and mood == "nan" else trial.config["x"]
        yield {"val_loss": loss + epoch}
"""


def on_ray() -> Any:
    from hpogen.executors.ray import RayExecutor

    return RayExecutor(2)


@pytest.fixture(
    params=[
        pytest.param(lambda: InlineExecutor("cpu"), id="inline"),
        pytest.param(lambda: InlineExecutor("cpu", together=3), id="inline in turns"),
        pytest.param(lambda: ShuffledExecutor(seed=1), id="shuffled"),
        pytest.param(on_ray, id="ray", marks=pytest.mark.ray),
    ]
)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    if request.param is on_ray:
        request.getfixturevalue("cluster")
    with contextlib.ExitStack() as stack:

        def made() -> Any:
            executor = request.param()
            stack.callback(executor.stop)
            return executor

        yield made


def odd_study(directory: Path, limits: dict[str, Any] | None = None, **options: Any) -> Path:
    (directory / "odd.py").write_text(TASK)
    task = {"name": "odd", "epochs": 2, **options}
    keys = {"plugins": ["odd.py"], "limits": limits or {}, "stop": {"trials": 6}}
    return study_file(directory, task=task, **keys)


def told(path: Path, executor: Any) -> dict[int, dict[str, Any]]:
    with Study(load_study(path), path.parent / "run") as study:
        assert runner.run(study, executor).end == "finished"
    return by_trial(ledger.read(path.parent / "run"), "told")


def test_trials_curves_and_logs(make: Make, tmp_path: Path) -> None:
    found = told(odd_study(tmp_path), make())
    assert [found[trial]["failure"] for trial in range(6)] == [None] * 6
    for trial in range(6):
        rows = folder.read_curve(tmp_path / "run", trial)
        assert [row["epoch"] for row in rows] == [1, 2]
        assert rows[-1]["metrics"] == found[trial]["metrics"]
        assert folder.log_path(tmp_path / "run", trial).read_text() == f"hello from {trial}\n"


@pytest.mark.parametrize(
    ("mood", "kind", "text"),
    [
        ("raises", "error", "RuntimeError: not in the mood"),
        ("exits", "error", "SystemExit: 3"),
        ("memory", "oom", "MemoryError: full"),
        ("undeclared", "error", "yielded the metric 'other'"),
        ("nan", "diverged", "val_loss is nan after epoch 1"),
    ],
)
def test_a_failure_is_an_outcome(
    mood: str, kind: str, text: str, make: Make, tmp_path: Path
) -> None:
    found = told(odd_study(tmp_path, mood=mood), make())
    for trial, event in found.items():
        if trial % 3 != 2:
            assert event["failure"] is None
            continue
        assert event["failure"]["kind"] == kind and text in event["failure"]["text"]
        assert event["score"] is None and event["metrics"] == {}


@pytest.mark.parametrize("limit", ["trial_seconds", "epoch_seconds"])
def test_limits_of_time(limit: str, make: Make, tmp_path: Path) -> None:
    found = told(odd_study(tmp_path, {limit: 0.01}, pause=0.05), make())
    assert [event["failure"]["kind"] for event in found.values()] == ["timeout"] * 6
    assert f"limits.{limit} is 0.01" in found[0]["failure"]["text"]


def test_limits_that_are_kept_change_nothing(make: Make, tmp_path: Path) -> None:
    limits = {"trial_seconds": 1000, "epoch_seconds": 999.5}
    found = told(odd_study(tmp_path, limits), make())
    assert [event["failure"] for event in found.values()] == [None] * 6


class Stops:
    """Asks to stop when the first trial has finished."""

    asked = False

    def started(self, trial: object) -> None: ...

    def progressed(self, progress: object) -> None: ...

    def tick(self, stopping: bool) -> None: ...

    def finished(self, record: object) -> None:
        if not self.asked:
            self.asked = True
            os.kill(os.getpid(), signal.SIGTERM)


def interrupt(path: Path, executor: Any) -> None:
    with Study(load_study(path), path.parent / "run") as study:
        assert runner.run(study, executor, observer=Stops()).end == "interrupted"
    assert len(by_trial(ledger.read(path.parent / "run"), "told")) < 6


def test_a_pruned_trial_gives_its_place_to_the_next(make: Make, tmp_path: Path) -> None:
    """It trains one epoch more at most, of which nothing is recorded."""
    (tmp_path / "odd.py").write_text(TASK)
    path = study_file(
        tmp_path,
        task={"name": "odd", "epochs": 20, "mood": "counts", "pause": 0.002},
        prune={"rule": "asha", "after": 2, "reduction_factor": 2},
        plugins=["odd.py"],
        stop={"trials": 14},
    )
    executor = make()
    found = told(path, executor)
    ended = {n: e["epochs"] for n, e in found.items() if e["failure"]}
    assert len(found) == 14 and 4 <= len(ended) < 14
    for trial, event in found.items():
        epochs = ended.get(trial, 20)
        assert event["failure"] is None or event["failure"]["kind"] == "pruned"
        rows = folder.read_curve(tmp_path / "run", trial)
        assert [row["epoch"] for row in rows] == [*range(1, epochs + 1)]
        counted = folder.log_path(tmp_path / "run", trial).read_text().count("epoch")
        more = 0 if isinstance(executor, InlineExecutor) else 1
        assert epochs <= counted <= min(epochs + more, 20)
    assert not [path for path in (tmp_path / "run" / folder.TRIALS).iterdir() if path.is_dir()]


def test_stopped_and_gone_on_with(make: Make, tmp_path: Path) -> None:
    path = odd_study(tmp_path, pause=0.02)
    interrupt(path, make())
    assert len(told(path, make())) == 6


def test_one_executor_serves_run_after_run(make: Make, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        path.mkdir()
    first, second = [odd_study(path, pause=0.02) for path in paths]
    executor = make()
    interrupt(first, executor)
    for path in (second, first):
        found = told(path, executor)
        assert [event["failure"] for event in found.values()] == [None] * 6
