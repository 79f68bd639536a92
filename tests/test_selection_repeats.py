"""`noise_cut` through the whole machine: the best are trained again at the end, and charged."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from toys import ShuffledExecutor, StopsAfter, as_read, by_trial, essence, replay, study_file

from hpogen.executors.inline import InlineExecutor
from hpogen.record import folder, history, ledger
from hpogen.report import pages
from hpogen.report.live import line
from hpogen.running.runner import run, run_all
from hpogen.selection import choose
from hpogen.spec import load_study
from hpogen.study import status
from hpogen.study.read import read
from hpogen.study.rehearsal import plan
from hpogen.study.standing import is_complete, standing
from hpogen.study.study import Study
from hpogen.trial import Rung

NOISY = """
import math
import random
from hpogen.plugins import task

@task("noisy", metrics=("val_loss",))
def noisy(trial, *, fragile: bool = False):
    chance = random.Random(trial.seed)
    luck = chance.gauss(0, 0.3)
    for epoch in range(trial.start_epoch, trial.budget):
        if fragile and trial.replicate:
            yield {"val_loss": math.nan}
        noise = luck + chance.gauss(0, 0.05)
        yield {"val_loss": 3 + (trial.config["x"] - 0.3) ** 2 + noise + 1 / (epoch + 1)}
"""
EPOCHS = 8
NOISE_CUT: dict[str, Any] = {
    "task": {"name": "noisy", "epochs": EPOCHS},
    "plugins": ["noisy.py"],
    "selection": "noise_cut",
    "stop": {"trials": 22},
}
CMAES = {"name": "cmaes", "population": 4}
STANDARD = {"terms": [{"metric": "val_loss", "scale": "standard"}], "standard_after": 5}
RANK = {"terms": [{"metric": "val_loss", "scale": "rank"}]}
RUNGS = {"budgets": {"min": 2, "max": EPOCHS, "eta": 2}, "stop": {"epochs": 200}}
SETUPS: dict[str, dict[str, Any]] = {
    "random": {},
    "cmaes": {"searcher": CMAES},
    "grid": {"searcher": {"name": "grid", "points": 2}},
    "standard": {"objective": STANDARD},
    "rank": {"objective": RANK, "searcher": CMAES},
    "hyperband": {"searcher": {"name": "hyperband", "brackets": 3}, **RUNGS},
    "failures": {"task": {"name": "noisy", "epochs": EPOCHS, "fragile": True}},
}


def noisy_study(directory: Path, **keys: Any) -> Path:
    path = study_file(directory, **{**NOISE_CUT, **keys})
    (directory / "noisy.py").write_text(NOISY)
    return path


def finished(path: Path, directory: Path, executor: Any = None) -> list[dict[str, Any]]:
    with Study(load_study(path), directory) as study:
        assert run(study, executor).end == "finished"
    return ledger.read(directory)


def repeats(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in by_trial(events, "asked").values() if event.get("repeat")]


def late(directory: Path, trial: int) -> float:
    rows = folder.read_curve(directory, trial)
    return fmean(row["metrics"]["val_loss"] for row in rows[-5:])


def ended(lines: list[bytes], trial: int) -> bool:
    """Whether a trial's curve was whole by then."""
    ends = [f'"kind":"{kind}","trial":{trial},'.encode() for kind in ("held", "told")]
    return any(end in line for line in lines for end in ends)


@pytest.mark.parametrize("setup", ["random", "cmaes", "standard", "hyperband"])
def test_the_five_best_late_losses_are_trained_again_twice(setup: str, tmp_path: Path) -> None:
    events = finished(noisy_study(tmp_path, **SETUPS[setup]), tmp_path / "q")
    asked, again = by_trial(events, "asked"), repeats(events)
    search = [i for i, e in asked.items() if not e.get("repeat") and e["budget"] == EPOCHS]
    losses = {i: late(tmp_path / "q", i) for i in search}
    best = sorted(losses, key=losses.__getitem__)[:5]
    assert len(best) == 5
    assert [(e["config"], e["replicate"]) for e in again] == [
        (asked[i]["config"], replicate) for replicate in (1, 2) for i in best
    ]
    assert {e["budget"] for e in again} == {EPOCHS}
    assert min(e["trial"] for e in again) > max(search)
    assert len({e["seed"] for e in (*again, *(asked[i] for i in best))}) == 15


def test_the_answer_is_the_least_mean_of_the_evaluations(tmp_path: Path) -> None:
    other = 0
    for seed in range(4):
        directory = tmp_path / str(seed)
        path = noisy_study(directory, seed=seed)
        events = finished(path, directory / "q")
        means: dict[str, list[float]] = {}
        for event in repeats(events):
            means.setdefault(str(event["config"]), []).append(late(directory / "q", event["trial"]))
        asked = by_trial(events, "asked")
        first = {
            i: e for i, e in asked.items() if not e.get("repeat") and str(e["config"]) in means
        }
        for i, event in first.items():
            means[str(event["config"])].append(late(directory / "q", i))
        expected = min(first, key=lambda i: fmean(means[str(first[i]["config"])]))
        spec, past = load_study(path), history.read(directory / "q")
        record = choose(past, spec.objective, "noise_cut", Rung(EPOCHS), directory / "q")
        assert record is not None and record.trial.id == expected
        assert standing(as_read(spec, past, directory / "q")).best is record
        other += expected != min(asked, key=lambda i: late(directory / "q", i))
    assert other  # a lucky single evaluation is not taken for the best


def test_a_configuration_that_fails_again_is_not_the_answer(tmp_path: Path) -> None:
    path = noisy_study(tmp_path, **SETUPS["failures"])
    finished(path, tmp_path / "q")
    past = history.read(tmp_path / "q")
    assert sum(record.failure is not None for record in past.records) == 10
    assert (
        choose(past, load_study(path).objective, "noise_cut", Rung(EPOCHS), tmp_path / "q") is None
    )


@pytest.mark.parametrize("setup", SETUPS)
def test_cut_anywhere_and_resumed_is_the_same_study(setup: str, tmp_path: Path) -> None:
    path = noisy_study(tmp_path, **SETUPS[setup])
    whole = finished(path, tmp_path / "whole")
    assert repeats(whole)
    lines = (tmp_path / "whole" / ledger.LEDGER).read_bytes().splitlines(keepends=True)
    first = next(i for i, event in enumerate(whole) if event.get("repeat"))
    for cut in [*range(1, first - 2, 11), *range(first - 2, len(lines) + 1, 2)]:
        directory = tmp_path / f"cut{cut}"
        directory.mkdir()
        (directory / ledger.LEDGER).write_bytes(b"".join(lines[:cut]))
        (directory / "trials").mkdir()
        for curve in (tmp_path / "whole" / "trials").glob("*.jsonl"):
            if ended(lines[:cut], int(curve.stem)):
                (directory / "trials" / curve.name).write_bytes(curve.read_bytes())
        assert essence(finished(path, directory)) == essence(whole), f"cut behind line {cut}"


@pytest.mark.parametrize("setup", ["random", "cmaes", "standard", "failures"])
def test_the_number_of_slots_changes_nothing(setup: str, tmp_path: Path) -> None:
    path = noisy_study(tmp_path, **SETUPS[setup])
    one = finished(path, tmp_path / "one")
    for seed in range(3):
        four = finished(path, tmp_path / str(seed), ShuffledExecutor(seed))
        assert by_trial(four, "asked") == by_trial(one, "asked")
        assert by_trial(four, "told") == by_trial(one, "told")


def test_repeats_run_side_by_side(tmp_path: Path) -> None:
    events = finished(noisy_study(tmp_path), tmp_path / "q", ShuffledExecutor(0))
    order = [(e["kind"], e["trial"]) for e in events if e.get("trial", -1) >= 12]
    assert [kind for kind, _ in order[:4]] == ["asked"] * 4


@pytest.mark.parametrize("stop", [{"trials": 22}, {"epochs": 22 * EPOCHS}])
def test_the_repeats_are_charged_within_stop(stop: dict[str, int], tmp_path: Path) -> None:
    path = noisy_study(tmp_path, stop=stop)
    events = finished(path, tmp_path / "q")
    past = history.read(tmp_path / "q")
    assert len(past.records) == 22 and past.charged == past.trained == 22 * EPOCHS
    assert len(repeats(events)) == 10
    expected = plan(load_study(path))
    counts = (expected["configurations"], expected["evaluations"], expected["epochs_charged"])
    assert counts == (12, 22, 22 * EPOCHS)


@pytest.mark.parametrize("searcher", [CMAES, {"name": "hyperband", "brackets": 9}])
def test_the_searcher_never_hears_of_them(searcher: Mapping[str, Any], tmp_path: Path) -> None:
    """With a raised stop the search goes on behind its first repeats as if they were not there."""
    rungs = {"budgets": RUNGS["budgets"]} if searcher["name"] == "hyperband" else {}
    keys = {"searcher": searcher, **rungs}
    short, long = (noisy_study(tmp_path / str(n), **keys, stop={"trials": n}) for n in (24, 60))
    finished(short, tmp_path / "q")
    events = finished(long, tmp_path / "q")
    plain = finished(
        noisy_study(tmp_path / "p", **keys, selection="val_loss", stop={"trials": 60}),
        tmp_path / "p/q",
    )
    asked = [e for e in essence(events) if e["kind"] == "asked"]
    search = [e for e in asked if not e.get("repeat")]
    assert len(search) > 35 and len(asked) > len(search) + 10
    assert next(i for i, e in enumerate(asked) if e.get("repeat")) == 14  # in between
    ids = [e["trial"] for e in search]
    undisturbed = [e for e in essence(plain) if e["kind"] == "asked"]
    for number, (own, other) in enumerate(zip(search, undisturbed, strict=False)):
        parent = None if other["parent"] is None else ids[other["parent"]]
        assert own == {**other, "trial": ids[number], "parent": parent}
    assert any(e["parent"] is not None and e["parent"] > 14 for e in search) == bool(rungs)


def test_the_studies_of_a_pool_repeat_what_they_would_alone(tmp_path: Path) -> None:
    """Both answer and repeat by late losses, so that all of one is reused by the other."""
    log = {"terms": [{"metric": "val_loss", "scale": "log"}]}
    paths = [noisy_study(tmp_path / "a"), noisy_study(tmp_path / "b", objective=log)]
    alone = [finished(path, path.parent / "alone") for path in paths]
    first, second = (
        Study(load_study(path), tmp_path / "p" / name)
        for path, name in zip(paths, "ab", strict=True)
    )
    with first, second:
        assert [result.end for result in run_all([first, second])] == ["finished"] * 2
        assert first.history.trained + second.history.trained == 22 * EPOCHS
    for name, events in zip("ab", alone, strict=True):
        assert by_trial(ledger.read(tmp_path / "p" / name), "asked") == by_trial(events, "asked")


def test_a_trial_that_was_trained_again_says_so(tmp_path: Path) -> None:
    finished(noisy_study(tmp_path), tmp_path / "q")
    found = status.trial(read(tmp_path / "q"), 21)
    assert found["repeat"] == 2
    assert "trained again by the study itself, replicate 2" in pages.show_page(found, "", 80)
    assert "trained again, replicate 2" in line(history.read(tmp_path / "q").records[21])
    assert status.trial(read(tmp_path / "q"), 3)["repeat"] is None


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    path = noisy_study(tmp_path)
    whole = finished(path, tmp_path / "whole")
    chance = random.Random(0)
    for _ in range(400):
        with Study(load_study(path), tmp_path / "q") as study:
            stop = StopsAfter(chance.randrange(2, 9))  # a trial of two epochs begins anew
            if run(study, InlineExecutor(), observer=stop).end == "finished":
                break
    assert essence(ledger.read(tmp_path / "q")) == essence(whole)


def test_a_study_is_complete_with_its_last_repeat(tmp_path: Path) -> None:
    path = noisy_study(tmp_path)
    events, spec = finished(path, tmp_path / "q"), load_study(path)
    complete = [is_complete(as_read(spec, replay(events[: n + 1]))) for n in range(len(events))]
    assert complete == [False] * (len(events) - 1) + [True]


def test_fewer_than_five_are_all_trained_again(tmp_path: Path) -> None:
    path = noisy_study(tmp_path, searcher={"name": "grid", "points": {"x": 3, "y": 1}})
    events = finished(path, tmp_path / "q")
    assert len(repeats(events)) == 6 and len(by_trial(events, "asked")) == 9
