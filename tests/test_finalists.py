"""Finalists through the whole machine: trained again in rounds, raced, charged, replayed."""

from __future__ import annotations

import io
import math
import random
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from toys import ShuffledExecutor, StopsAfter, as_read, by_trial, essence, replay, study_file

from hpogen.errors import UserError
from hpogen.executors.inline import InlineExecutor
from hpogen.record import folder, ledger
from hpogen.running.runner import run
from hpogen.selection.race import race
from hpogen.spec import StudySpec, load_study
from hpogen.spec.choice import Finalists
from hpogen.spec.form import Stop
from hpogen.spec.schema import schema
from hpogen.study.finalists import final
from hpogen.study.read import read
from hpogen.study.rehearsal import plan
from hpogen.study.standing import chosen, is_complete, standing
from hpogen.study.study import Study
from hpogen.tasks.base import Epoch
from hpogen.tasks.function import FunctionTask
from hpogen.trial import RunningTrial

SAMPLES = 60
HARD = np.random.default_rng(0).exponential(size=SAMPLES)  # how hard each sample is


@dataclass(frozen=True)
class Judged(FunctionTask):
    """The toy bowl, whose trials keep a loss for each validation sample.

    Trained again, a trial with x below `fragile` fails, and one with x below `jumpy` does worse.
    """

    keeps_losses: ClassVar[bool] = True
    spread: float = 0.02
    fragile: float = 0.0
    jumpy: float = 0.0

    @property
    def subset(self) -> float:  # type: ignore[override]
        return 0.25

    def train(self, trial: RunningTrial, wanted: frozenset[str]) -> Iterator[Epoch | None]:
        chance = np.random.default_rng(trial.seed)
        x = float(trial.config["x"])
        luck = self.spread * chance.standard_normal()
        more = 0.0 if trial.data is None else 2.0 if x < self.jumpy else -0.1 * trial.data
        mean = 1 + (x - 0.3) ** 2 + luck + more
        losses = mean * HARD + 0.05 * chance.standard_normal(SAMPLES)
        for epoch in range(trial.start_epoch, trial.budget):
            loss = float(losses.mean())
            if trial.replicate and x < self.fragile:
                loss = math.nan
            last = epoch == trial.budget - 1
            yield Epoch(epoch + 1, {"val_loss": loss}, files={LOSSES: _npy(losses)} if last else {})


LOSSES = "val_losses.npy"


def _npy(losses: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, losses.astype(np.float32))
    return file.getvalue()


def spec_of(directory: Path, task: Mapping[str, float] | None = None, **keys: Any) -> StudySpec:
    """A study of 8 trials and at most 9 of 3 finalists, on as much data, all of 2 epochs."""
    finalists = {"count": 3, "seeds": 3, "data": 0.25, **keys.pop("finalists", {})}
    spec = load_study(study_file(directory, **{"stop": {"trials": 17}, **keys}))
    given = spec.task
    assert isinstance(given, FunctionTask)
    judged = Judged("bowl", 2, 1, given.options, _scope=given._scope, **{**(task or {})})
    return replace(spec, task=judged, finalists=Finalists(**finalists))


def finished(spec: StudySpec, directory: Path, executor: Any = None) -> list[dict[str, Any]]:
    with Study(spec, directory) as study:
        assert run(study, executor).end == "finished"
    return ledger.read(directory)


def losses_of(directory: Path, trial: int) -> Any:
    return np.load(folder.trial_stem(directory, trial).with_suffix(f".{LOSSES}"))


LONGER = ("close", "more data", "cmaes")
MORE = {"stop": {"trials": 20}}
SETUPS: dict[str, dict[str, Any]] = {
    "clear": {"task": {"spread": 0.001}},
    "close": {"task": {"spread": 0.3}},
    "one seed": {"finalists": {"seeds": 1}, "stop": {"trials": 11}},
    "indifferent": {"finalists": {"indifference": 9.0}},
    "two fail": {"task": {"fragile": 0.3}},
    "all fail": {"task": {"fragile": 1.0}},
    "more data": {"finalists": {"data": 1.0}},
    "one jumps": {"finalists": {"data": 0.5, "count": 4}, "task": {"jumpy": 0.3}, **MORE},
    "few": {"searcher": {"name": "grid", "points": {"x": 2, "y": 1}}, "enqueue": []},
    "epochs": {"stop": {"epochs": 34}},
    "cmaes": {"searcher": {"name": "cmaes", "population": 4}},
}


def expected(spec: StudySpec, events: list[dict[str, Any]], directory: Path) -> tuple[Any, ...]:
    """The replicates that a race asks of each finalist, and who wins: by its rules, by hand."""
    asked, told = by_trial(events, "asked"), by_trial(events, "told")
    rules = spec.finalists
    assert rules is not None
    search = [i for i, e in asked.items() if not e.get("repeat")]
    best = sorted(search, key=lambda i: (told[i]["score"], i))[: rules.count]
    runs = {
        (str(e["config"]), e["replicate"]): i for i, e in asked.items() if e.get("repeat", False)
    }
    left, order = list(best), []
    for seed in range(1, rules.seeds + 1):
        order += [(i, seed) for i in left]
        seen = []
        for i in best:
            mine = [runs.get((str(asked[i]["config"]), r)) for r in range(1, seed + 1)]
            failed = any(r is not None and told[r]["failure"] for r in mine)
            given = [losses_of(directory, r) for r in mine if r is not None and not failed]
            jumped = rules.data > 0.25 and float(asked[i]["config"]["x"]) < spec.task.jumpy
            given = [] if jumped else given
            seen.append(np.stack(given) if given else None)
        standing = race(seen, rules.seeds, rules.indifference, rules.alpha)
        left = [best[k] for k in standing.left]
        if standing.why:
            return order, None if standing.best is None else best[standing.best]
    raise AssertionError("a race ends when its seeds are used up")


@pytest.mark.parametrize("setup", SETUPS)
def test_who_runs_in_which_round_and_who_wins(setup: str, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, **SETUPS[setup])
    events = finished(spec, tmp_path / "q")
    asked = by_trial(events, "asked")
    order, winner = expected(spec, events, tmp_path / "q")
    repeats = [(e["config"], e["replicate"]) for e in asked.values() if e.get("repeat")]
    assert repeats == [(asked[i]["config"], seed) for i, seed in order]
    answer = chosen(read(tmp_path / "q"))
    assert (None if answer is None else answer.trial.id) == winner


@pytest.mark.parametrize(
    "setup", ["clear", "two fail", *(pytest.param(s, marks=pytest.mark.slow) for s in LONGER)]
)
def test_cut_anywhere_and_resumed_is_the_same_study(setup: str, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, **SETUPS[setup])
    whole = finished(spec, tmp_path / "whole")
    lines = (tmp_path / "whole" / ledger.LEDGER).read_bytes().splitlines(keepends=True)
    first = next(i for i, event in enumerate(whole) if event.get("repeat"))
    for cut in range(first - 1, len(lines) + 1):
        directory = tmp_path / f"cut{cut}"
        shutil.copytree(tmp_path / "whole", directory)
        (directory / ledger.LEDGER).write_bytes(b"".join(lines[:cut]))
        assert essence(finished(spec, directory)) == essence(whole), f"cut behind line {cut}"


@pytest.mark.parametrize("setup", SETUPS)
def test_the_number_of_slots_changes_nothing(setup: str, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, **SETUPS[setup])
    one = finished(spec, tmp_path / "one")
    for seed in range(3):
        four = finished(spec, tmp_path / str(seed), ShuffledExecutor(seed))
        assert by_trial(four, "asked") == by_trial(one, "asked")
        assert by_trial(four, "told") == by_trial(one, "told")


def test_a_round_runs_side_by_side(tmp_path: Path) -> None:
    events = finished(spec_of(tmp_path, **SETUPS["close"]), tmp_path / "q", ShuffledExecutor(0))
    order = [(e["kind"], e["trial"]) for e in events if e.get("trial", -1) >= 8]
    assert [kind for kind, _ in order[:3]] == ["asked"] * 3


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, **SETUPS["close"])
    whole = finished(spec, tmp_path / "whole")
    chance = random.Random(0)
    for _ in range(100):
        with Study(spec, tmp_path / "q") as study:
            stop = StopsAfter(chance.randrange(2, 9))  # a trial of two epochs begins anew
            if run(study, InlineExecutor(), observer=stop).end == "finished":
                break
    assert essence(ledger.read(tmp_path / "q")) == essence(whole)


@pytest.mark.parametrize("setup", ["clear", "close", "two fail"])
def test_a_study_is_complete_with_the_end_of_its_race(setup: str, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, **SETUPS[setup])
    events = finished(spec, tmp_path / "q")
    states = [
        is_complete(as_read(spec, replay(events[: n + 1]), tmp_path / "q"))
        for n in range(len(events))
    ]
    assert states == [False] * (len(events) - 1) + [True]


def test_one_that_does_worse_on_more_data_is_never_chosen(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, **SETUPS["one jumps"])
    finished(spec, tmp_path / "q")
    found = final(read(tmp_path / "q"))
    assert found is not None and found.leader is not None
    jumps = [float(f.record.trial.config["x"]) < 0.3 for f in found.finalists]
    assert [f.fault == "worse" for f in found.finalists] == jumps
    assert 0 < sum(jumps) < 4
    assert found.leader.fault is None


def test_samples_are_charged(tmp_path: Path) -> None:
    """Of 2 epochs on all data, where the subset is a quarter of them: 8 each."""
    spec = spec_of(tmp_path, **SETUPS["more data"], stop={"epochs": 9 * 8 + 16})
    events = finished(spec, tmp_path / "q")
    asked = by_trial(events, "asked").values()
    runs = [event for event in asked if event.get("repeat")]
    assert {event["data"] for event in runs} == {1.0}
    assert len(asked) - len(runs) == 8
    assert read(tmp_path / "q").history.charged == 16 + 8 * len(runs)
    planned = plan(spec)
    assert (planned["evaluations"], planned["epochs_charged"]) == (17, 88)


def test_a_race_is_told_of_from_its_first_trial_on(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    events = finished(spec, tmp_path / "q")
    first = next(i for i, event in enumerate(events) if event.get("repeat"))
    told = [
        standing(as_read(spec, replay(events[:n]), tmp_path / "q")).race is not None
        for n in (first // 2, first, first + 1)
    ]
    assert told == [False, False, True]


def test_what_an_early_end_leaves_over_is_not_spent(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, **SETUPS["clear"])
    finished(spec, tmp_path / "q")
    study = read(tmp_path / "q")
    assert len(study.history.records) == 8 + 6  # two rounds told them apart
    assert study.history.charged == 28


def test_a_raised_stop_goes_on_with_the_search_and_races_again(tmp_path: Path) -> None:
    """Runs of configurations that are finalists once more are not trained again."""
    spec = spec_of(tmp_path, **SETUPS["close"])
    finished(spec, tmp_path / "q")
    more = replace(spec, stop=Stop(trials=40))
    events = finished(more, tmp_path / "q")
    asked = by_trial(events, "asked")
    repeats = [(str(e["config"]), e["replicate"]) for e in asked.values() if e.get("repeat")]
    assert len(repeats) == len(set(repeats)) > 9
    assert sum(not e.get("repeat") for e in asked.values()) == 40 - 9 - 9
    found = final(as_read(more, replay(events), tmp_path / "q"))
    assert found is not None and not found.due


DIGITS: dict[str, Any] = {
    "task": {
        "dataset": {"name": "digits", "subset": 0.2, "validation": 300, "audit": 200},
        "model": "mlp",
        "epochs": 2,
    },
    "search_space": {"lr": {"float": [0.001, 0.5], "log": True, "default": 0.1}},
    "finalists": {},
    "stop": {"trials": 40},
    "plugins": [],
}
COMMAND = {"name": "command", "command": "python a.py {lr}", "metrics": ["val_loss"], "epochs": 2}


def with_data(**keys: Any) -> dict[str, Any]:
    task = DIGITS["task"]
    return {**task, "dataset": {**task["dataset"], **keys}}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"stop": {"trials": 19}}, "stop.trials: got 19, expected at least 20: 15 trials are kept"),
        ({"stop": {"epochs": 159}}, "at least 160: 150 epochs are kept for finalists, and to have"),
        ({"finalists": {"count": 1}}, "finalists.count: got 1, expected at least 2"),
        ({"finalists": {"data": 0.1}}, "finalists.data: got 0.1, expected the search's 0.2 or"),
        ({"finalists": {"data": 0.9}}, "data 0.9 of the 1297 .* are 1167, expected 1 to 797"),
        ({"finalists": {"sets": 3}}, "finalists.sets: 'sets' is unknown"),
        ({"task": with_data(subset=0.5, audit=349)}, "are 648, no more than the search's 648"),
        ({"task": with_data(validation=0), "objective": "train"}, "there are none: set task.data"),
        ({"task": with_data(validation={"size": 300, "redraw": True})}, "not keep: drop finalists"),
        ({"task": COMMAND}, "finalists are judged by the loss of each .* 'command' does not keep"),
        ({"selection": "noise_cut"}, "'noise_cut' trains the best again itself: use another, or"),
        ({"selection": "race", "stop": {"trials": 19}}, "stop.trials: got 19, expected at least"),
    ],
)
def test_bad_finalists_are_one_line(keys: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as error:
        load_study(study_file(tmp_path, **{**DIGITS, **keys}))
    assert "\n" not in str(error.value)


def test_race_is_short_for_val_loss_with_finalists(tmp_path: Path) -> None:
    keys = {"selection": "race", "finalists": None}
    spec = load_study(study_file(tmp_path, **{**DIGITS, **keys}))
    assert (spec.selection, spec.finalists) == ("val_loss", Finalists())
    assert StudySpec.from_record(spec.record()).record() == spec.record()
    assert "race" in schema()["properties"]["selection"]["enum"]
