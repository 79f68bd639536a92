"""A study from the first proposal to the last score: resuming, scales, duplicates, refusals."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from toys import ShuffledExecutor, StopsAfter, by_trial, essence, study_file

from hpogen.errors import UserError
from hpogen.executors.inline import InlineExecutor
from hpogen.record import ledger
from hpogen.running.runner import run
from hpogen.selection import choose
from hpogen.spec import load_study
from hpogen.study.study import Study
from hpogen.trial import Failure, Outcome, Rung

STANDARD = {"terms": [{"metric": "val_loss", "weight": 1}, {"metric": "agn", "weight": 0.5}]}
STANDARD["terms"][1]["scale"] = "standard"  # type: ignore[index]
RANK = {"terms": [{"metric": "val_loss", "weight": 1, "scale": "rank"}]}
CMAES = {"name": "cmaes", "population": 4}
SETUPS: dict[str, dict[str, Any]] = {
    "random": {},
    "cmaes": {"searcher": CMAES, "objective": {"preset": "agn+val", "alpha": 0.1}},
    "grid": {"searcher": {"name": "grid", "points": 3}},
    "standard": {"objective": {**STANDARD, "standard_after": 5}},
    "standard, never enough": {"searcher": CMAES, "objective": {**STANDARD, "standard_after": 50}},
    "rank": {"searcher": CMAES, "objective": RANK},
    "failures": {"task": {"name": "bowl", "epochs": 2, "mood": "nan"}, "searcher": CMAES},
    "duplicates": {"search_space": {"x": {"choice": [0.1, 0.2]}, "y": {"int": [1, 2]}}},
}


def finished(path: Path, directory: Path, executor: Any = None) -> list[dict[str, Any]]:
    with Study(load_study(path), directory) as study:
        assert run(study, executor).end == "finished"
    return ledger.read(directory)


@pytest.mark.parametrize("setup", SETUPS)
def test_cut_anywhere_and_resumed_is_the_same_study(setup: str, tmp_path: Path) -> None:
    """The ledger is cut behind every line, as a kill at that moment leaves it."""
    path = study_file(tmp_path, **SETUPS[setup])
    whole = finished(path, tmp_path / "whole")
    lines = (tmp_path / "whole" / ledger.LEDGER).read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines) + 1):
        directory = tmp_path / f"cut{cut}"
        directory.mkdir()
        (directory / ledger.LEDGER).write_bytes(b"".join(lines[:cut]))
        (directory / "trials").mkdir()
        assert essence(finished(path, directory)) == essence(whole), f"cut behind line {cut}"


@pytest.mark.parametrize("setup", ["random", "cmaes", "grid", "standard", "rank", "failures"])
def test_the_number_of_slots_changes_nothing(setup: str, tmp_path: Path) -> None:
    path = study_file(tmp_path, **{"stop": {"trials": 21}, **SETUPS[setup]})
    one = finished(path, tmp_path / "one")
    for seed in range(5):
        four = finished(path, tmp_path / f"four{seed}", ShuffledExecutor(seed))
        assert by_trial(four, "asked") == by_trial(one, "asked")
        assert by_trial(four, "told") == by_trial(one, "told")
        scales = [[e for e in essence(events) if e["kind"] == "scale"] for events in (one, four)]
        assert scales[0] == scales[1]


def test_a_standard_scale_is_frozen_from_the_first_finite_outcomes(tmp_path: Path) -> None:
    task = {"name": "bowl", "epochs": 2, "mood": "nan"}
    path = study_file(tmp_path, task=task, objective={**STANDARD, "standard_after": 5})
    events = finished(path, tmp_path / "q")
    told = by_trial(events, "told")
    agn = [told[i]["metrics"]["agn"] for i in sorted(told) if told[i]["metrics"]][:5]
    (scale,) = [event for event in events if event["kind"] == "scale"]
    assert scale["budget"] == 2
    center = sorted(agn)[2]
    assert scale["metrics"]["agn"]["center"] == center
    for event in told.values():
        if event["metrics"]:
            z = (event["metrics"]["agn"] - center) / scale["metrics"]["agn"]["spread"]
            assert event["score"] == pytest.approx(event["metrics"]["val_loss"] + 0.5 * z)


def test_rank_scores_are_ranks_within_the_generation(tmp_path: Path) -> None:
    path = study_file(tmp_path, searcher=CMAES, objective=RANK)
    told = by_trial(finished(path, tmp_path / "q"), "told")
    for first in (0, 4, 8):
        generation = [told[trial] for trial in range(first, first + 4)]
        assert sorted(event["score"] for event in generation) == [1, 2, 3, 4]
        by_loss = sorted(generation, key=lambda event: event["metrics"]["val_loss"])
        assert [event["score"] for event in by_loss] == [1, 2, 3, 4]


def test_duplicates_train_nothing_and_are_charged(tmp_path: Path) -> None:
    path = study_file(tmp_path, **SETUPS["duplicates"])
    events = finished(path, tmp_path / "q", ShuffledExecutor(0))
    asked, told = by_trial(events, "asked"), by_trial(events, "told")
    assert len(asked) == len(told) == 12
    first: dict[str, int] = {}
    for trial, event in asked.items():
        original = first.setdefault(str(event["config"]), trial)
        assert told[trial]["score"] == told[original]["score"]
        assert told[trial]["epochs"] == (2 if original == trial else 0)
    assert len(first) == 4  # x and y have two values each
    with Study(load_study(path), tmp_path / "q") as study:
        assert study.history.charged == 24
        assert study.history.trained == 8
        assert study.history.duplicates == 8


@pytest.mark.parametrize(
    ("stop", "trials"),
    [({"epochs": 9}, 4), ({"trials": 5}, 5), ({"epochs": 9, "trials": 3}, 3), ({"epochs": 3}, 1)],
)
def test_what_does_not_fit_is_not_asked(stop: dict[str, int], trials: int, tmp_path: Path) -> None:
    path = study_file(tmp_path, stop=stop)
    assert len(by_trial(finished(path, tmp_path / "q"), "asked")) == trials


def test_a_raised_stop_goes_on_and_a_lowered_one_is_refused(tmp_path: Path) -> None:
    short, long = (study_file(tmp_path / str(n), stop={"trials": n}) for n in (5, 9))
    finished(short, tmp_path / "q")
    extended = finished(long, tmp_path / "q")
    assert essence(extended)[1:] == essence(finished(long, tmp_path / "whole"))[1:]
    before = (tmp_path / "q" / ledger.LEDGER).read_bytes()
    with pytest.raises(UserError, match=r"stop\.trials: 5.* has 9; stop can only be raised"):
        finished(short, tmp_path / "q")
    assert (tmp_path / "q" / ledger.LEDGER).read_bytes() == before


def test_a_finished_study_is_left_as_it_is(tmp_path: Path) -> None:
    path = study_file(tmp_path, **SETUPS["standard, never enough"])
    finished(path, tmp_path / "q")
    before = {p: p.read_bytes() for p in (tmp_path / "q").rglob("*") if p.is_file()}
    finished(path, tmp_path / "q")
    assert {p: p.read_bytes() for p in (tmp_path / "q").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"seed": 1}, "seed: 1, .*with 0"),
        ({"task": {"name": "bowl", "epochs": 3}}, "task.epochs: 3, .*with 2"),
        ({"searcher": CMAES}, "searcher.name: 'cmaes', .*with 'random'"),
        ({"search_space": {"x": {"float": [0.0, 2.0]}, "y": 7}}, "search_space"),
        ({"objective": {"preset": "agn+val", "alpha": 1}}, "objective"),
    ],
)
def test_another_spec_is_refused_by_key(keys: dict[str, Any], said: str, tmp_path: Path) -> None:
    finished(study_file(tmp_path), tmp_path / "q")
    before = (tmp_path / "q" / ledger.LEDGER).read_bytes()
    path = study_file(tmp_path, **keys)
    with pytest.raises(UserError, match=f"^{path}(:1:\\d+)?: {said}") as caught:
        finished(path, tmp_path / "q")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "q" / ledger.LEDGER).read_bytes() == before


def test_another_plugin_of_that_name_is_refused(tmp_path: Path) -> None:
    path = study_file(tmp_path)
    finished(path, tmp_path / "q")
    (tmp_path / "bowl.py").write_text((tmp_path / "bowl.py").read_text() + "# new\n")
    with pytest.raises(UserError, match=r"plugins\.bowl\.py: 'sha256:\w+', but"):
        finished(path, tmp_path / "q")


def test_what_is_not_compared_may_change(tmp_path: Path) -> None:
    before = finished(study_file(tmp_path), tmp_path / "q")
    keys = {
        "name": "other",
        "limits": {"max_consecutive_errors": 3},
        "checkpoints": {"keep": "all"},
    }
    assert finished(study_file(tmp_path, **keys), tmp_path / "q") == before


def edited(directory: Path, old: str, new: str) -> None:
    """Change the ledger's asked lines as another engine would have written them."""
    lines = (directory / ledger.LEDGER).read_bytes().decode().splitlines()
    for i, line in enumerate(lines):
        event = ledger.decode(line.encode(), i)
        if old in line and event["kind"] == "asked":
            event["config"]["x"] = float(new)
        lines[i] = ledger.encode(event, i).decode().rstrip("\n")
    (directory / ledger.LEDGER).write_text("\n".join(lines) + "\n")


def test_another_proposal_on_replay_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = study_file(tmp_path)
    finished(path, tmp_path / "q")
    edited(tmp_path / "q", '"trial":3', "0.25")
    proposes = r"ledger\.jsonl:8: .*the searcher proposes x = .*trial 3.* with the same versions"
    with pytest.raises(UserError, match=proposes):
        finished(path, tmp_path / "q")


def test_a_proposal_off_by_rounding_is_taken_as_recorded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = study_file(tmp_path)
    x = by_trial(finished(path, tmp_path / "q"), "asked")[3]["config"]["x"]
    edited(tmp_path / "q", '"trial":3', repr(x * (1 + 1e-12)))
    finished(path, tmp_path / "q")
    assert "replay trial=3 x=" in caplog.text


def test_ones_own_loop(tmp_path: Path) -> None:
    study = Study(load_study(study_file(tmp_path)), tmp_path / "q")
    seen = []
    while (trial := study.next()) is not None:
        seen.append(trial)
        if trial.id == 4:
            study.record(Outcome(trial.id, {}, failure=Failure("error", "no")))
        else:
            study.record(Outcome(trial.id, {"val_loss": float(trial.config["x"])}))
    assert [trial.id for trial in seen] == list(range(12))
    best = choose(study.history, study.spec.objective, study.spec.selection, Rung(2), tmp_path)
    assert best is not None
    xs = {trial.id: trial.config["x"] for trial in seen if trial.id != 4}
    assert best.trial.id == min(xs, key=xs.__getitem__)
    assert study.history.records[4].score == math.inf
    study.close()


def test_what_is_recorded_is_checked(tmp_path: Path) -> None:
    with Study(load_study(study_file(tmp_path)), tmp_path / "q") as study:
        trial = study.next()
        assert trial is not None
        with pytest.raises(ValueError, match="trial 7 is not running"):
            study.record(Outcome(7, {"val_loss": 1.0}))
        with pytest.raises(ValueError, match="metric 'val_loss' is missing"):
            study.record(Outcome(trial.id, {"agn": 1.0}))
        study.record(Outcome(trial.id, {"val_loss": math.nan}))
        assert study.history.records[0].failure == Failure("diverged", "val_loss is nan")


def test_a_term_without_a_value_fails_the_trial(tmp_path: Path) -> None:
    log = {"terms": [{"metric": "val_loss", "weight": 1, "scale": "log"}]}
    with Study(load_study(study_file(tmp_path, objective=log)), tmp_path / "q") as study:
        trial = study.next()
        assert trial is not None
        study.record(Outcome(trial.id, {"val_loss": -1.0}))
        failure = study.history.records[0].failure
        assert failure is not None and failure.kind == "error" and "logarithm" in failure.text


def test_the_seed_belongs_to_the_configuration(tmp_path: Path) -> None:
    asked = by_trial(finished(study_file(tmp_path), tmp_path / "q"), "asked")
    assert len({event["seed"] for event in asked.values()}) == 12
    other = by_trial(finished(study_file(tmp_path, seed=1), tmp_path / "r"), "asked")
    assert asked[0]["config"] == other[0]["config"]  # the default
    assert asked[0]["seed"] != other[0]["seed"]


def test_an_interrupted_inline_run_goes_on(tmp_path: Path) -> None:
    """A run that is stopped, again and again, ends where an undisturbed one does."""
    path = study_file(tmp_path, stop={"trials": 40})
    whole = finished(path, tmp_path / "whole")
    chance = random.Random(0)
    for _ in range(400):
        with Study(load_study(path), tmp_path / "q") as study:
            stop = StopsAfter(chance.randrange(2, 9))  # a trial of two epochs begins anew
            if run(study, InlineExecutor(), observer=stop).end == "finished":
                break
    assert essence(ledger.read(tmp_path / "q")) == essence(whole)
