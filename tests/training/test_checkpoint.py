"""Checkpoints: whole or not at all, of the right trial, as few as asked for."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from training import runs
from training.runs import CONFIG, epochs, task

from hpogen.errors import UserError
from hpogen.record.stores import Remote, check_writable, store_at
from hpogen.tasks.base import Epoch
from hpogen.training import checkpoint, random_state
from hpogen.training.checkpoint import Checkpoints, position
from hpogen.trial import RunningTrial

AT_URL = False


@pytest.fixture(params=["folder", "url"], autouse=True)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test with checkpoints in the trial's folder, and with fsspec at a URL."""
    monkeypatch.setitem(globals(), "AT_URL", request.param == "url")


def trial(home: Path, **keys: Any) -> RunningTrial:
    return runs.trial(home, **{"checkpoints": f"file://{home}" if AT_URL else "", **keys})


def newest_first(home: Path) -> list[Path]:
    place = f"file://{home}" if AT_URL else str(home)
    return [home / name for name in checkpoint.newest_first(store_at(place))]


def store(running: RunningTrial, sums: frozenset[str] = frozenset()) -> Checkpoints:
    return Checkpoints(running, sums, continuable=True)


def state(value: float) -> dict[str, Any]:
    return {"weights": torch.full((50,), value), "curve": [{"val_loss": value}]}


def loaded(checkpoints: Checkpoints) -> float | None:
    found = checkpoints.load()
    return None if found is None else float(found["weights"][0])


def test_the_furthest_is_loaded_and_two_are_kept(tmp_path: Path) -> None:
    checkpoints = store(trial(tmp_path))
    assert loaded(checkpoints) is None
    for step in range(4):
        checkpoints.save(1, step, state(step))
    assert [position(path.name) for path in newest_first(tmp_path)] == [(1, 3), (1, 2)]
    assert loaded(store(trial(tmp_path, attempt=1))) == 3
    checkpoints.save(2, 0, state(9))
    assert loaded(store(trial(tmp_path))) == 9
    assert not list(tmp_path.glob("*.tmp"))


def test_the_same_place_is_not_written_twice(tmp_path: Path) -> None:
    checkpoints = store(trial(tmp_path))
    checkpoints.save(1, 0, state(1))
    checkpoints.save(1, 0, state(2))
    assert loaded(checkpoints) == 1


def test_keep_all(tmp_path: Path) -> None:
    checkpoints = store(trial(tmp_path, keep="all"))
    for step in range(4):
        checkpoints.save(1, step, state(step))
    assert len(newest_first(tmp_path)) == 4


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "not a checkpoint"])
def test_a_damaged_one_gives_way_to_the_one_before(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = store(trial(tmp_path))
    checkpoints.save(1, 0, state(1))
    checkpoints.save(2, 0, state(2))
    newest = newest_first(tmp_path)[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {
        "cut": newest.read_bytes()[:-10],
        "flipped": bytes(content),
        "empty": b"",
        "not a checkpoint": b"hello",
    }[damage]
    newest.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert loaded(store(trial(tmp_path))) == 1
    assert newest.name in caplog.text
    newest_first(tmp_path)[1].write_bytes(b"")
    assert loaded(store(trial(tmp_path))) is None


def test_reading_executes_no_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    checkpoints = store(trial(tmp_path))
    checkpoints.save(1, 0, {"weights": Trap()})
    assert checkpoints.load() is None
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "other",
    [
        {"config": CONFIG | {"lr": 0.06}},
        {"seed": 8},
        {"id": 1},
        {"budget": 0},
    ],
)
def test_one_of_something_else_is_ignored(tmp_path: Path, other: dict[str, Any]) -> None:
    store(trial(tmp_path)).save(1, 0, state(1))
    assert loaded(store(trial(tmp_path, **other))) is None


def test_one_with_other_sums_is_ignored(tmp_path: Path) -> None:
    store(trial(tmp_path)).save(1, 0, state(1))
    assert loaded(store(trial(tmp_path), frozenset({"agn"}))) is None


def test_the_parents_is_taken_where_it_may_be_continued(tmp_path: Path) -> None:
    store(trial(tmp_path)).save(1, 0, state(1))
    child = trial(tmp_path, id=5, parent=0)
    assert loaded(store(child)) == 1
    assert loaded(Checkpoints(child, frozenset(), continuable=False)) is None
    assert loaded(store(trial(tmp_path, id=5, parent=3))) is None


def test_written_at_most_every_interval_and_for_a_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    clock = SimpleNamespace(monotonic=lambda: now)  # other threads have the real one
    monkeypatch.setattr(checkpoint, "time", clock)
    checkpoints = store(trial(tmp_path))
    now = 9.9
    assert not checkpoints.due()
    now = 10.0
    assert checkpoints.due()
    ticks = iter([10.0, 11.0])  # writing takes a second
    clock.monotonic = lambda: next(ticks, now)
    checkpoints.save(1, 0, state(1))
    now = 110.9
    assert not checkpoints.due()
    now = 111.1
    assert checkpoints.due()


@pytest.mark.parametrize(("keep", "left"), [("none", 0), ("final", 1), ("all", 3)])
def test_discard(tmp_path: Path, keep: Any, left: int) -> None:
    checkpoints = store(trial(tmp_path, keep="all"))
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, 0, state(epoch))
    (tmp_path / "notes.txt").touch()
    task().discard(trial(tmp_path, keep=keep))
    assert [position(path.name)[0] for path in newest_first(tmp_path)] == [3, 2, 1][:left]
    assert (tmp_path / "notes.txt").exists()
    task().discard(trial(tmp_path / "never started", keep=keep))


def test_a_trial_leaves_one_at_its_budgets_end(tmp_path: Path) -> None:
    epochs(task(), trial(tmp_path))
    assert [position(path.name) for path in newest_first(tmp_path)] == [(3, 0)]


def test_a_killed_trial_goes_on_from_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = epochs(task(), trial(tmp_path / "whole"), "agn", "agn_online")
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    monkeypatch.setattr(random_state, "TICK", -1.0)
    steps: Any = task().train(trial(tmp_path / "cut"), frozenset({"agn", "agn_online"}))
    for _ in range(13):  # in the second epoch
        next(steps)
    written = {path: path.read_bytes() for path in newest_first(tmp_path / "cut")}
    steps.close()
    for path in newest_first(tmp_path / "cut"):  # as if it had never been closed
        path.unlink()
    for path, content in written.items():
        path.write_bytes(content)
    assert [position(path.name)[0] for path in written] != [0, 0]
    again = trial(tmp_path / "cut", start_epoch=1, attempt=1)
    resumed: list[Epoch] = epochs(task(), again, "agn", "agn_online")
    assert [epoch.epoch for epoch in resumed] == [2, 3]
    assert resumed[-1].metrics == whole[-1].metrics


def test_the_parents_at_its_url(tmp_path: Path) -> None:
    parent = f"file://{tmp_path}/parent"
    store(trial(tmp_path, checkpoints=parent)).save(1, 0, state(1))
    child = trial(tmp_path / "child", id=5, parent=0, inherited=parent)
    assert loaded(store(child)) == 1
    store(child).save(2, 0, state(2))
    assert loaded(store(child)) == 2
    assert [position(name) for name in checkpoint.newest_first(Remote(parent))] == [(1, 0)]


def test_one_that_cannot_be_written_is_said_and_the_trial_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = store(trial(tmp_path))
    checkpoints.save(1, 0, state(1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._store, "write", full)
        checkpoints.save(2, 0, state(2))
    assert "written=false: OSError: [Errno 28] No space left on device" in caplog.text
    assert loaded(store(trial(tmp_path))) == 1
    checkpoints.save(2, 0, state(2))
    assert loaded(store(trial(tmp_path))) == 2


@pytest.mark.parametrize(
    "where", ["/proc/nowhere", "file:///proc/nowhere", "nonsense://bucket", "s3://bucket/a"]
)
def test_a_place_that_cannot_be_written(where: str) -> None:
    with pytest.raises(UserError, match="cannot be written: ") as error:
        check_writable(where)
    assert "\n" not in str(error.value)
