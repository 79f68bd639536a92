"""What trials cost, as metrics: of the network, of its forward, and of an epoch of training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from training.runs import epochs, task, trial

from hpogen.errors import Refusal
from hpogen.training import checkpoint, random_state
from hpogen.training.clock import Clock
from hpogen.training.forms.measures import ListedMeasure

COSTS = ("parameters", "macs", "latency", "seconds_per_epoch")


def test_the_costs_of_a_trial(tmp_path: Path) -> None:
    told = epochs(task(measures=["parameters", "macs"]), trial(tmp_path), *COSTS)
    assert {epoch.metrics["macs"] for epoch in told} == {64 * 16 + 16 * 10}
    assert {epoch.metrics["parameters"] for epoch in told} == {65 * 16 + 17 * 10}
    assert ["latency" in epoch.metrics for epoch in told] == [False, False, True]
    assert 0 < told[-1].metrics["latency"] < 1
    trained = told[-1].seconds["train"]
    assert told[-1].metrics["seconds_per_epoch"] == pytest.approx(trained / 3, rel=1e-12)
    assert 0 < trained < told[-1].seconds["total"]
    assert 0 < told[0].metrics["seconds_per_epoch"] < trained


def test_a_measure_changes_no_weight(tmp_path: Path) -> None:
    plain = epochs(task(), trial(tmp_path / "plain"), "val_loss")
    costly = epochs(task(), trial(tmp_path / "costly"), "val_loss", *COSTS)
    losses = [[epoch.metrics["val_loss"] for epoch in told] for told in (plain, costly)]
    assert losses[0] == losses[1]


def test_a_killed_trial_goes_on_with_what_it_had_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    monkeypatch.setattr(random_state, "TICK", -1.0)
    wanted = frozenset({"seconds_per_epoch"})
    steps: Any = task().train(trial(tmp_path), wanted)
    first = next(step for step in steps if step is not None)
    next(steps)
    time.sleep(0.5)  # of a step
    for _ in range(2):
        next(steps)
    newest = max(tmp_path.glob("checkpoint-*.pt"))  # the furthest
    state = torch.load(newest, weights_only=True)["state"]
    assert (state["epoch"], state["step"]) == (1, 3)
    assert state["seconds"]["train"] > first.metrics["seconds_per_epoch"] + 0.5
    assert state["seconds"]["total"] > state["seconds"]["train"]
    copied = tmp_path / "killed"
    copied.mkdir()
    (copied / newest.name).write_bytes(newest.read_bytes())
    steps.close()
    told = epochs(task(), trial(copied, start_epoch=1, attempt=1), *wanted)
    assert [epoch.epoch for epoch in told] == [2, 3]
    for epoch in told:
        assert epoch.metrics["seconds_per_epoch"] > state["seconds"]["train"] / epoch.epoch


def test_a_clock_can_be_read_while_it_runs() -> None:
    seconds = {"train": 0.0, "measures": 0.0, "total": 0.0}
    clock = Clock(seconds, torch.device("cpu"))
    with clock("total", wall=True), clock("train"):
        time.sleep(0.02)
        clock.settle()
        before = dict(seconds)
        assert before["total"] >= before["train"] >= 0.02
        with clock("measures", out_of="train"):
            time.sleep(0.02)
    assert seconds["measures"] >= 0.02 > seconds["train"] - before["train"]
    assert seconds["total"] >= before["total"] + 0.02
    settled = dict(seconds)
    clock.settle()
    assert seconds == settled


def test_each_is_measured_when_it_can_be() -> None:
    with pytest.raises(ValueError, match="'latency' is computed at the end only"):
        ListedMeasure(name="latency", every=2)
    with pytest.raises(ValueError, match="'seconds_per_epoch' needs every epoch"):
        ListedMeasure(name="seconds_per_epoch", every=2)
    assert task().observed() == {"latency", "seconds_per_epoch"}


def test_weights_alone_do_not_tell_how_long_training_took(tmp_path: Path) -> None:
    running = trial(tmp_path, keep="final")
    epochs(task(), running)
    with pytest.raises(Refusal, match="'seconds_per_epoch' is collected over the epochs"):
        task().measure(running, frozenset(), ["seconds_per_epoch"])
    found = task().measure(running, frozenset({"val_loss"}), ["macs", "latency"])
    assert found is not None and found.metrics["macs"] == 64 * 16 + 16 * 10
    assert found.metrics["latency"] > 0
