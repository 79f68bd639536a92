"""Workers, nodes and drivers that die on a real Ray cluster: every study ends as if none had."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import test_folds
from test_kill import IMAGES, curves, streamed_study
from toys import by_trial, essence, study_file

from hpogen.executors import ray as ray_module
from hpogen.executors import ray_member, ray_room
from hpogen.executors.base import ExecutorLost
from hpogen.executors.choice import Where, executor_for
from hpogen.executors.ray import RayExecutor
from hpogen.record import ledger
from hpogen.running import runner
from hpogen.spec import load_study
from hpogen.study.study import Study
from hpogen.trial import Progress

pytestmark = pytest.mark.ray

OFTEN = """
import time
import hpogen.training.checkpoint
from hpogen.plugins import measure

hpogen.training.checkpoint.INTERVAL = 0.05
hpogen.training.checkpoint.SHARE = 1.0

@measure("pause", of="network")
def pause(model, batches):
    time.sleep(0.05)
    return 0.0
"""


@pytest.fixture(scope="module", autouse=True)
def as_before() -> Iterator[None]:
    """The plug-in above is imported in this process, too: what it sets ends with these tests."""
    from hpogen.training import checkpoint

    interval, share = checkpoint.INTERVAL, checkpoint.SHARE
    yield
    checkpoint.INTERVAL, checkpoint.SHARE = interval, share


DATASET = {**IMAGES["task"]["dataset"], "subset": 0.7}
MEASURES = [*IMAGES["task"]["measures"], "pause"]
TASK = {**IMAGES["task"], "dataset": DATASET, "measures": MEASURES, "epochs": 14}
TWENTY = pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])
LONG = {
    **IMAGES,
    "task": TASK,
    "plugins": ["often.py"],
    "searcher": {"name": "cmaes", "population": 6},  # more than the cluster has CPUs
    "stop": {"trials": 12},
}


def images(directory: Path, **keys: Any) -> Path:
    """A study of image trials that last a second at least, far longer than workers are ahead of
    the driver, and write a checkpoint every 0.05 s.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "often.py").write_text(OFTEN)
    return study_file(directory, **{**LONG, **keys})


def drive(
    path: Path, directory: Path, executor: Any = None, observer: Any = None
) -> list[dict[str, Any]]:
    with Study(load_study(path), directory) as study, contextlib.ExitStack() as stack:
        if executor is not None:
            stack.callback(executor.stop)
        assert runner.run(study, executor, observer=observer).end == "finished"
    return ledger.read(directory)


def same(directory: Path, whole: Path) -> bool:
    """Whether two studies have the same trials, metrics, scores and curves."""
    found, expected = ledger.read(directory), ledger.read(whole)
    trials = len(by_trial(expected, "asked"))
    return all(
        by_trial(found, kind) == by_trial(expected, kind) for kind in ("asked", "told")
    ) and curves(directory, trials) == curves(whole, trials)


class Disturber:
    """Does something once, when a trial has done so many epochs."""

    def __init__(self, trial: int, epoch: int, disturb: Callable[[], None]) -> None:
        self._trial, self._epoch, self._disturb = trial, epoch, disturb
        self.done = False

    def progressed(self, progress: Progress) -> None:
        if not self.done and progress.trial == self._trial and progress.epoch >= self._epoch:
            self.done = True
            self._disturb()

    def started(self, trial: object) -> None: ...

    def finished(self, record: object) -> None: ...

    def tick(self, stopping: bool) -> None: ...


class KillsWorker(Disturber):
    """Kills the worker of a trial, and times how long it takes until the trial makes progress."""

    kept = Path()

    def __init__(self, executor: RayExecutor, trial: int, epoch: int) -> None:
        super().__init__(trial, epoch, self._kill)
        self._executor = executor
        self._killed = (0, 0.0)
        self.seconds = 0.0

    def progressed(self, progress: Progress) -> None:
        member = member_of(self._executor, progress.trial)
        if member is None or progress.trial != self._trial:
            return
        if self.done and not self.seconds and member.place.process != self._killed[0]:
            self.seconds = time.monotonic() - self._killed[1]
        super().progressed(progress)

    def _kill(self) -> None:
        process = member_of(self._executor, self._trial).place.process
        self._killed = (process, time.monotonic())
        os.kill(process, signal.SIGKILL)


class DamagesAndKills(KillsWorker):
    """And damages the trial's newest checkpoint, in the folder `kept`."""

    def _kill(self) -> None:
        super()._kill()
        newest = sorted(self.kept.glob("*/00002/checkpoint-*.pt"))[-1]
        newest.write_bytes(newest.read_bytes()[:-7])


class RemovesNode(Disturber):
    """Removes a node of the cluster while a trial runs on it, if the trial has begun there."""

    def __init__(self, executor: RayExecutor, node: str, remove: Callable[[], None]) -> None:
        super().__init__(-1, 4, remove)
        self._executor, self._node = executor, node

    def progressed(self, progress: Progress) -> None:
        member = member_of(self._executor, progress.trial)
        if not self.done and member is not None and member.place.node == self._node:
            self._trial = progress.trial
            super().progressed(progress)

    @property
    def lost(self) -> set[int]:
        return {self._trial} if self.done else set()


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_module, "SLICE", 0.05)  # to disturb trials that last a second


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed study, run in this process without Ray."""
    folder = tmp_path_factory.mktemp("whole")
    drive(images(folder), folder / "run")
    return folder / "run"


def member_of(executor: RayExecutor, trial: int) -> Any:
    """The pool's member that runs a trial; None when it has just ended."""
    busy = (member for member in executor.members if member.job)
    return next((member for member in busy if member.job.trial.id == trial), None)


@pytest.mark.parametrize("times", [1, TWENTY])
def test_a_killed_worker(times: int, cluster: Any, whole: Path, tmp_path: Path) -> None:
    for i in range(times):
        executor = RayExecutor(2)
        killer = KillsWorker(executor, 2 + i % 2, 3 + i % 6)
        events = drive(images(tmp_path / f"{i}"), tmp_path / f"{i}/run", executor, killer)
        assert sum(event["kind"] == "lost" for event in events) == 1
        assert same(tmp_path / f"{i}/run", whole)
        print(f"recovered after {killer.seconds:.1f} s")
        assert killer.seconds > 0


@pytest.mark.slow
def test_a_killed_worker_costs_its_fold_alone(cluster: Any, tmp_path: Path) -> None:
    dataset = {**TASK["dataset"], "validation": {"folds": 3}, "audit": 50}
    keys = {
        "task": {**TASK, "dataset": dataset, "epochs": 8},
        "searcher": "random",
        "stop": {"trials": 3},
    }
    path = images(tmp_path, **keys)
    drive(path, tmp_path / "one")
    killer = KillsWorker(executor := RayExecutor(3), 1, 1)
    events = drive(path, tmp_path / "three", executor, killer)
    assert killer.done
    (lost,) = [event for event in events if event["kind"] == "lost"]
    assert lost["trial"] == 1 and lost["part"] in range(3)
    assert by_trial(events, "told") == by_trial(ledger.read(tmp_path / "one"), "told")
    assert test_folds.curves(tmp_path / "three") == test_folds.curves(tmp_path / "one")
    assert test_folds.kept(tmp_path / "three") == test_folds.kept(tmp_path / "one")
    order = [(e["trial"], e["part"]) for e in events if e["kind"] == "part"]
    assert len(order) == 9 and order != sorted(order)  # they did run side by side


@pytest.mark.parametrize("times", [1, TWENTY])
def test_a_lost_node(times: int, cluster: Any, whole: Path, tmp_path: Path) -> None:
    for i in range(times):
        third = cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
        executor = RayExecutor()
        remove = functools.partial(cluster.remove_node, third, allow_graceful=False)
        remover = RemovesNode(executor, third.node_id, remove)
        events = drive(images(tmp_path / f"{i}"), tmp_path / f"{i}/run", executor, remover)
        assert remover.done
        assert {event["trial"] for event in events if event["kind"] == "lost"} == remover.lost
        assert same(tmp_path / f"{i}/run", whole)


class JoinsNode(Disturber):
    """Adds a node while a trial runs, and notes on which nodes trials have run."""

    def __init__(self, executor: RayExecutor, join: Callable[[], None]) -> None:
        super().__init__(0, 4, join)
        self._executor = executor
        self.nodes: set[str] = set()

    def progressed(self, progress: Progress) -> None:
        super().progressed(progress)
        if (member := member_of(self._executor, progress.trial)) is not None:
            self.nodes.add(member.place.node)


def test_a_node_that_joins(cluster: Any, tmp_path: Path) -> None:
    added: list[Any] = []
    node = functools.partial(cluster.add_node, num_cpus=1, object_store_memory=100_000_000)
    executor = RayExecutor()
    joiner = JoinsNode(executor, lambda: added.append(node()))
    path = images(tmp_path, stop={"trials": 24})
    try:
        drive(path, tmp_path / "run", executor, joiner)
        assert added[0].node_id in joiner.nodes and len(joiner.nodes) == 3
    finally:
        cluster.remove_node(added[0])


@pytest.mark.parametrize("damaged", [pytest.param(False, marks=pytest.mark.slow), True])
def test_checkpoints_at_a_url_go_on_with_another_worker(
    damaged: bool, cluster: Any, whole: Path, tmp_path: Path
) -> None:
    """The trial's folder is of no use to the next worker: what it needs is at the URL."""
    kept = tmp_path / "kept"
    path = images(tmp_path, checkpoints={"path": f"file://{kept}"})
    executor = RayExecutor(2)
    killer = (DamagesAndKills if damaged else KillsWorker)(executor, 2, 6)
    killer.kept = kept
    events = drive(path, tmp_path / "run", executor, killer)
    assert sum(event["kind"] == "lost" for event in events) == 1
    assert same(tmp_path / "run", whole)
    assert not (tmp_path / "run/trials/00002").exists()
    rows = (tmp_path / "run/trials/00002.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows].count(1) == 1, "it began anew"
    log = (tmp_path / "run/trials/00002.log").read_text() if damaged else ""
    assert ("damaged=true: the one before is used" in log) == damaged
    assert not [*kept.rglob("checkpoint-*")]


DRIVER = """
import sys
import hpogen
from hpogen.executors.ray import RayExecutor
executor = RayExecutor(2, address=sys.argv[3])
with hpogen.open_study(sys.argv[1], sys.argv[2]) as study:
    print(hpogen.run(study, executor).end, flush=True)
"""


def start(path: Path, directory: Path, address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(path), str(directory), address],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("times", [1, TWENTY])
def test_a_killed_driver(times: int, cluster: Any, whole: Path, tmp_path: Path) -> None:
    for i in range(times):
        path, directory = images(tmp_path / f"{i}"), tmp_path / f"{i}/run"
        with start(path, directory, cluster.address) as driver:
            deadline = time.monotonic() + 100
            while not (directory / "trials/00001.jsonl").exists():
                assert time.monotonic() < deadline and driver.poll() is None
                time.sleep(0.02)
            time.sleep(0.1 * (i % 10))
            driver.kill()
        with start(path, directory, cluster.address) as driver:
            assert driver.stdout is not None and driver.stdout.read() == "finished\n"
        assert same(directory, whole)


@pytest.mark.parametrize("searcher", ["random", "cmaes", "pso"])
def test_four_workers_find_what_one_finds(searcher: str, cluster: Any, tmp_path: Path) -> None:
    keys = {"searcher": {"name": searcher}, "stop": {"trials": 40}}
    one = drive(study_file(tmp_path / "one", **keys), tmp_path / "one/run")
    four = drive(study_file(tmp_path / "four", **keys), tmp_path / "four/run", RayExecutor(4))
    for kind in ("asked", "told"):
        assert by_trial(four, kind) == by_trial(one, kind)


def test_data_of_a_class_that_a_plug_in_defines(cluster: Any, tmp_path: Path) -> None:
    path = streamed_study(tmp_path)
    drive(path, tmp_path / "ray", RayExecutor(2))  # first: a class of an import that has been
    drive(path, tmp_path / "inline")  # replaced, Ray copies
    assert same(tmp_path / "ray", tmp_path / "inline")


HANGS = """
import time
from hpogen.plugins import task

@task("hangs", metrics=("val_loss",))
def hangs(trial):
    if trial.id == 1:
        time.sleep(3600)
    yield {"val_loss": trial.config["x"]}
"""


def test_a_trial_that_hangs_is_timed_out(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_member, "HUNG_SECONDS", 0.5)
    (tmp_path / "hangs.py").write_text(HANGS)
    keys = {"plugins": ["hangs.py"], "limits": {"trial_seconds": 2.0}, "stop": {"trials": 6}}
    path = study_file(tmp_path, task={"name": "hangs", "epochs": 1}, **keys)
    told = by_trial(drive(path, tmp_path / "run", RayExecutor(2)), "told")
    failures = {trial: event["failure"] for trial, event in told.items() if event["failure"]}
    assert {trial: failure["kind"] for trial, failure in failures.items()} == {1: "timeout"}
    assert "limits.trial_seconds is 2" in failures[1]["text"] and told[1]["score"] is None


FULL = """
import json, os, time
from hpogen.plugins import task

@task("full", metrics=("val_loss",))
def full(trial):
    import ray
    began = time.time()
    if trial.id == 2 and trial.attempt == 0:
        raise MemoryError("others are here")
    time.sleep(0.3)
    node = ray.get_runtime_context().get_node_id()
    row = {"node": node, "began": began, "ended": time.time()}
    (trial.directory / "span.json").write_text(json.dumps(row))
    yield {"val_loss": 1.0}
"""


def test_a_trial_out_of_memory_is_tried_alone(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "full.py").write_text(FULL)
    path = study_file(
        tmp_path, task={"name": "full", "epochs": 1}, plugins=["full.py"], stop={"trials": 16}
    )
    told = by_trial(drive(path, tmp_path / "run", RayExecutor(4)), "told")
    assert all(event["failure"] is None for event in told.values())
    files = sorted((tmp_path / "run/trials").glob("*/span.json"))
    spans = {int(file.parent.name): json.loads(file.read_text()) for file in files}
    alone = spans.pop(2)
    others = [span for span in spans.values() if span["node"] == alone["node"]]
    assert len(spans) == 15
    assert not any(
        span["began"] < alone["ended"] and alone["began"] < span["ended"] for span in others
    )


@pytest.mark.slow
def test_a_stopped_study_goes_on_elsewhere(cluster: Any, whole: Path, tmp_path: Path) -> None:
    path, directory = images(tmp_path), tmp_path / "run"
    stop = Disturber(1, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    executor = RayExecutor(2)
    with Study(load_study(path), directory) as study:
        assert runner.run(study, executor, observer=stop).end == "interrupted"
        running = sorted(study.running)
    executor.stop()
    kept = [list((directory / f"trials/{trial:05d}").glob("checkpoint-*.pt")) for trial in running]
    assert running and all(kept)
    drive(path, directory)  # without Ray
    assert same(directory, whole)


def test_essence_of_a_study_on_ray(cluster: Any, tmp_path: Path) -> None:
    path = study_file(tmp_path)
    found = drive(path, tmp_path / "ray", RayExecutor(1))
    assert essence(found) == essence(drive(path, tmp_path / "inline"))


def test_needs_that_no_node_meets(cluster: Any) -> None:
    from hpogen.errors import UserError

    with pytest.raises(UserError, match=r"--gpus-per-trial: got 0\.5, but no .* more than 0"):
        RayExecutor(1, gpus_per_trial=0.5)
    with pytest.raises(UserError, match=r"--cpus-per-trial: got 3, but no .* more than 2"):
        RayExecutor(1, address=cluster.address, cpus_per_trial=3)


def test_a_cluster_that_brings_no_node_is_given_up(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_room, "NODE_SECONDS", -1.0)
    waiting = ray_room.Waiting()
    for free in (0, 1):  # the first look finds that there is no worker
        waiting.look(True, free, 1.0, 0.0)
    with pytest.raises(ExecutorLost, match=r"has room for a worker \(1 CPU\), and none has come"):
        waiting.look(True, 0, 1.0, 0.0)


@pytest.fixture
def image_task(tmp_path: Path) -> Iterator[Any]:
    yield load_study(images(tmp_path)).task


def test_several_gpus_for_one_trial_are_refused(image_task: Any) -> None:
    from hpogen.errors import UserError

    with pytest.raises(UserError, match="trains on one GPU at most"):
        executor_for([image_task], Where(workers=2, gpus_per_trial=2.0))
