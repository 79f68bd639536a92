"""Studies whose trials are folds or repeats: recorded, resumed, charged, shown, and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import ShuffledExecutor, StopsAfter, by_trial, essence, study_file, typed

import hpogen
from hpogen.errors import UserError
from hpogen.executors.base import Executor
from hpogen.executors.inline import InlineExecutor
from hpogen.record import folder, ledger
from hpogen.report.watch import view
from hpogen.report.watch.followed import Followed
from hpogen.running.measure import add_measures
from hpogen.running.runner import Result, run, run_all
from hpogen.spec import load_study
from hpogen.study import status
from hpogen.study.read import read
from hpogen.study.rehearsal import plan
from hpogen.study.study import Study
from hpogen.trial import Failure, Outcome

DIGITS: dict[str, Any] = {
    "task": {
        "dataset": {"name": "digits", "subset": 0.1, "audit": 50, "validation": {"folds": 3}},
        "model": {"name": "mlp", "width": 8, "depth": 1},
        "epochs": 2,
        "measures": ["margin"],
    },
    "search_space": {
        "lr": {"float": [0.001, 0.5], "log": True},
        "batch_size": {"int": [16, 64], "log": True},
    },
    "searcher": {"name": "cmaes", "population": 2},
    "objective": {"terms": [{"metric": "val_loss"}, {"metric": "agn", "scale": "standard"}]},
    "stop": {"trials": 5},
    "plugins": [],
}
REPEATS = {"name": "digits", "subset": 0.1, "audit": 50, "validation": {"repeats": 2, "size": 60}}


def digits(home: Path, **keys: Any) -> Path:
    return study_file(home, **{**DIGITS, **keys})


def finished(path: Path, directory: Path, executor: Executor | None = None) -> list[dict[str, Any]]:
    with Study(load_study(path), directory) as study:
        assert run(study, executor).end == "finished"
    return ledger.read(directory)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("folds")
    finished(digits(home), home / "run")
    return home / "run"


def curves(directory: Path) -> list[Any]:
    """The metrics of each epoch of each trial and of each of its trainings."""
    return [
        [(row["epoch"], row["metrics"]) for row in folder.read_curve(directory, trial, None, part)]
        for trial in range(5)
        for part in (None, 0, 1, 2)
    ]


def kept(directory: Path) -> dict[str, bytes]:
    """What stands beside the curves."""
    return {path.name: path.read_bytes() for path in (directory / "trials").glob("*.npy")}


def test_the_ledger_has_each_training_and_the_mean(undisturbed: Path) -> None:
    events = ledger.read(undisturbed)
    assert events[0]["declared"]["parts"] == {"number": 3, "word": "fold"}
    kinds = [event["kind"] for event in events if event["kind"] != "scale"]
    assert kinds[1:6] == ["asked", "part", "part", "part", "held"]
    for trial, told in by_trial(events, "told").items():
        parts = [e for e in events if e["kind"] == "part" and e["trial"] == trial]
        assert [part["part"] for part in parts] == [0, 1, 2]
        assert (told["epochs"], told["code"]) == (6, parts[0]["code"])
        for name, value in {**told["metrics"], **told["audit"]}.items():
            each = [{**part["metrics"], **part["audit"]}[name] for part in parts]
            assert value == pytest.approx(np.mean(each), rel=1e-14)
    history = read(undisturbed).history
    assert (history.charged, history.trained) == (30, 30)


def test_a_study_of_single_trainings_says_nothing_of_them(tmp_path: Path) -> None:
    dataset = {"name": "digits", "subset": 0.1, "audit": 50, "validation": 100}
    task = {**DIGITS["task"], "dataset": dataset}
    events = finished(digits(tmp_path, task=task, stop={"trials": 1}), tmp_path / "q")
    assert "parts" not in events[0]["declared"] and "part" not in json.dumps(events[1:])
    assert [e["kind"] for e in events] == ["study", "asked", "held", "scale", "told"]


def test_what_is_kept_of_the_samples(undisturbed: Path) -> None:
    def array(name: str, part: int | None = None) -> Any:
        stem = folder.trial_stem(undisturbed, 1, part)
        return np.load(stem.with_suffix(f".{name}.npy"))

    parts = range(3)
    losses = [array("val_losses", part) for part in parts]
    assert sum(map(len, losses)) == len(array("val_losses")) == 130  # each row of the subset once
    assert np.array_equal(array("val_losses"), np.concatenate(losses))
    assert len(array("val_hits")) == 130
    hits = array("audit_hits")
    assert hits.shape == (50, 3) and hits.dtype == bool
    assert np.array_equal(hits, np.stack([array("audit_hits", part) for part in parts], 1))
    outcome = read(undisturbed).history.records[1].outcome
    assert outcome is not None and outcome.audit["accuracy"] == pytest.approx(hits.mean())
    rows = folder.read_curve(undisturbed, 1)
    each = [folder.read_curve(undisturbed, 1, None, part) for part in parts]
    for epoch, row in enumerate(rows):
        mean = np.mean([curve[epoch]["metrics"]["val_loss"] for curve in each])
        assert row["metrics"]["val_loss"] == pytest.approx(mean) and row["epoch"] == epoch + 1
    assert rows[-1]["metrics"] == outcome.metrics
    assert [path for path in (undisturbed / "trials").rglob("*") if path.is_dir()] == []


@pytest.mark.parametrize("seed", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in (1, 2))])
def test_trainings_side_by_side_give_the_same(seed: int, tmp_path: Path) -> None:
    """`random` asks for the same trials, however many run at a time."""
    path = digits(tmp_path, searcher="random")
    one = finished(path, tmp_path / "one")
    many = finished(path, tmp_path / "many", ShuffledExecutor(seed))
    assert by_trial(one, "told") == by_trial(many, "told")
    assert curves(tmp_path / "one") == curves(tmp_path / "many")
    assert kept(tmp_path / "one") == kept(tmp_path / "many")
    order = [(e["trial"], e["part"]) for e in many if e["kind"] == "part"]
    assert sorted(order) == [(trial, part) for trial in range(5) for part in range(3)]
    assert order != sorted(order)  # they did run side by side


@pytest.mark.parametrize("pace", [pytest.param(1, marks=pytest.mark.slow), 2, 5])
def test_closed_and_resumed(pace: int, undisturbed: Path, tmp_path: Path) -> None:
    path = digits(tmp_path)
    ends: list[Result] = []
    while not ends or ends[-1].end != "finished":
        with Study(load_study(path), tmp_path / "q") as study:
            ends.append(run(study, InlineExecutor(), observer=StopsAfter(pace)))
        assert len(ends) < 60
    assert len(ends) >= 30 // (pace + 1)  # an executor's turn is a training at most
    assert essence(ledger.read(tmp_path / "q")) == essence(ledger.read(undisturbed))
    assert curves(tmp_path / "q") == curves(undisturbed)
    assert kept(tmp_path / "q") == kept(undisturbed)


@pytest.mark.parametrize("lines", [(3, 5), pytest.param(range(1, 22), marks=pytest.mark.slow)])
def test_resumed_after_a_line(lines: Iterable[int], undisturbed: Path, tmp_path: Path) -> None:
    """The fifth is the last training of a trial, of which nothing else is written yet."""
    whole, path = essence(ledger.read(undisturbed)), digits(tmp_path)
    written = (undisturbed / ledger.LEDGER).read_bytes().splitlines(keepends=True)
    for number in lines:
        directory = tmp_path / str(number)
        shutil.copytree(undisturbed, directory)
        (directory / ledger.LEDGER).write_bytes(b"".join(written[:number]))
        for file in (directory / "trials").glob("?????.*"):
            file.unlink()  # of whole trials; those of trainings stay
        for event in whole[1:number]:
            if event["kind"] in ("told", "held"):
                for file in (undisturbed / "trials").glob(f"{event['trial']:05d}.*"):
                    shutil.copy(file, directory / "trials")
        assert essence(finished(path, directory)) == whole
        assert kept(directory) == kept(undisturbed)


def test_a_failure_waits_for_the_other_trainings(tmp_path: Path) -> None:
    metrics = {"val_loss": 1.0, "agn": 1.0}
    with Study(load_study(digits(tmp_path)), tmp_path / "q") as study:
        trial = study.next()
        assert trial is not None
        failed = Failure("diverged", "the loss is nan")
        study.record(Outcome(0, {}, epochs=1, failure=failed), part=2)
        study.record(Outcome(0, {"val_loss": 1.0, "agn": float("inf")}), part=1)
        assert study.history.records[0].state == "running"
        with pytest.raises(ValueError, match="training 1 of trial 0 has been recorded"):
            study.record(Outcome(0, metrics), part=1)
    with Study(load_study(digits(tmp_path)), tmp_path / "q") as study:
        assert study.next() == trial and [*study.history.records[0].parts] == [2, 1]
        study.record(Outcome(0, metrics, seconds={"total": 2.0}), part=0)
        record = study.history.records[0]
        assert record.state == "told" and record.outcome is not None
        failure = Failure("diverged", "fold 1: agn is inf")  # the first by number
        assert (record.failure, record.outcome.epochs) == (failure, 3)
        assert study.history.spent == 6 and study.history.done == 3


def test_a_lost_training_is_counted_by_itself(tmp_path: Path) -> None:
    with Study(load_study(digits(tmp_path)), tmp_path / "q") as study:
        assert study.next() is not None
        assert [study.lost(0, "gone", part) for part in (0, 1, 1)] == [1, 1, 2]
    assert read(tmp_path / "q").history.records[0].lost == 3


def test_what_a_trial_is_charged(tmp_path: Path) -> None:
    path = digits(tmp_path, stop={"epochs": 20}, searcher="random")
    spec = load_study(path)
    assert (plan(spec)["epochs_charged"], plan(spec)["evaluations"]) == (18, 3)
    finished(path, tmp_path / "q")
    history = read(tmp_path / "q").history
    assert (history.charged, len(history.records)) == (18, 3)


def test_patience_ends_each_training_by_itself(tmp_path: Path) -> None:
    space = {"lr": {"float": [0.9, 1.0]}, "batch_size": {"int": [16, 24]}}
    keys = {"objective": "val", "search_space": space, "stop": {"trials": 2}}
    path = digits(tmp_path, task={**DIGITS["task"], "epochs": 8, "patience": 1}, **keys)
    events = finished(path, tmp_path / "q")
    history = read(tmp_path / "q").history
    parts = [event for event in events if event["kind"] == "part"]
    assert len({event["epochs"] for event in parts}) > 1
    for event in parts:
        assert event["epochs"] + event.get("spared", 0) == 8
    assert history.charged == history.trained == sum(event["epochs"] for event in parts)
    for trial, told in by_trial(events, "told").items():
        own = [event["epochs"] for event in parts if event["trial"] == trial]
        assert (told["epochs"], told["spared"]) == (sum(own), 24 - sum(own))
        assert len(folder.read_curve(tmp_path / "q", trial)) == min(own)


RUNGS = {
    "searcher": {"name": "asha"},
    "budgets": {"min": 1, "max": 4, "eta": 2},
    "task": {**DIGITS["task"], "epochs": 4},
    "objective": "val",
    "stop": {"trials": 7},
}


def test_a_rung_is_charged_for_each_training(tmp_path: Path) -> None:
    keys = {**RUNGS, "searcher": {"name": "hyperband", "brackets": 1}}
    (bracket,) = plan(load_study(digits(tmp_path, **keys)))["brackets"]
    assert [rung["charged"] for rung in bracket] == [3 * rung["budget"] for rung in bracket]


def test_rungs_go_on_from_the_same_training(tmp_path: Path) -> None:
    anew = finished(digits(tmp_path / "a", **RUNGS), tmp_path / "a" / "q")
    path = digits(tmp_path / "b", **RUNGS, rungs="continue")
    continued = finished(path, tmp_path / "b" / "q")
    asked, told = by_trial(anew, "asked"), by_trial(anew, "told")
    assert any(event["parent"] is not None for event in asked.values())
    for trial, event in by_trial(continued, "told").items():
        parent = asked[trial]["parent"]
        below = 0 if parent is None else asked[parent]["budget"]
        assert event["epochs"] == 3 * (asked[trial]["budget"] - below)
        assert {**event, "epochs": told[trial]["epochs"]} == told[trial]
    assert [*tmp_path.rglob("checkpoint-*")] == []


def test_studies_of_a_pool_train_a_trial_once(tmp_path: Path) -> None:
    terms = [{"metric": "train_loss"}]
    for name, objective in (("a", "val"), ("b", {"terms": terms})):
        digits(tmp_path / name, searcher="random", objective=objective, stop={"trials": 3})
    specs = [load_study(tmp_path / name / "study.yaml") for name in "ab"]
    with Study(specs[0], tmp_path / "a/q") as a, Study(specs[1], tmp_path / "b/q") as b:
        ends = run_all([a, b], ShuffledExecutor(0))
        assert [end.end for end in ends] == ["finished"] * 2
        trained = [study.history.trained for study in (a, b)]
        assert sum(trained) == 18 and a.history.charged == b.history.charged == 18
        for one, other in zip(a.history.records, b.history.records, strict=True):
            assert one.outcome and other.outcome
            assert one.outcome.metrics == other.outcome.metrics
            assert bool(one.reused) != bool(other.reused)


def test_every_selection_and_the_figure_read_it(undisturbed: Path) -> None:
    from hpogen.analysis.figure import figure
    from hpogen.study.restate import restated
    from hpogen.study.standing import chosen

    study = read(undisturbed)
    for selection in ("score", "val_loss", "one_se_margin", "shrunk", "noise_cut"):
        answer = chosen(study, restated(study, None, selection))
        assert answer is not None
    found = figure(study, answer)
    assert not isinstance(found, str) and found.by == "audit" and found.samples == 50
    assert found.interval is not None and found.interval.low < found.value < found.interval.high
    hits = np.load(folder.trial_stem(undisturbed, answer.trial.id).with_suffix(".audit_hits.npy"))
    assert found.value == pytest.approx(1 - hits.mean())


def test_what_is_shown(undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = status.trial(read(undisturbed), 1)
    losses = [fold["metrics"]["val_loss"] for fold in found["folds"]]
    assert found["sd"]["val_loss"] == pytest.approx(np.std(losses, ddof=1))
    assert typed("show", undisturbed, 1) == 0
    text = capsys.readouterr().out
    assert "\nfolds:\n  0: val loss " in text and "\n  sd: val loss " in text
    assert typed("status", undisturbed) == 0
    assert "(3 folds: " in capsys.readouterr().out
    assert typed("check", undisturbed.parent / "study.yaml") == 0
    text = capsys.readouterr().out
    assert "2 epochs for each of 3 folds" in text and "30 epochs charged" in text


def test_a_failed_training_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = {**DIGITS["search_space"], "lr": {"float": [1e18, 1e19]}}
    finished(digits(tmp_path, search_space=space, stop={"trials": 1}), tmp_path / "q")
    assert typed("show", tmp_path / "q", 0) == 0
    text = capsys.readouterr().out
    assert "trial 0: diverged: fold 0: " in text and "\n  2: diverged: " in text
    assert "Traceback" in text and "Diverged" in (view.log_of(Followed(tmp_path / "q"), 0) or "")


def test_under_way_is_the_mean_of_the_trainings(tmp_path: Path) -> None:
    path = digits(tmp_path, task={**DIGITS["task"], "epochs": 4})
    seen: list[int] = []

    class Looks(StopsAfter):
        def progressed(self, progress: Any) -> None:
            seen.append(progress.epoch)
            super().progressed(progress)

    with Study(load_study(path), tmp_path / "q") as study:
        run(study, InlineExecutor(), observer=Looks(6))
    assert seen[:6] == [(epochs + 1) // 3 for epochs in range(6)]
    shown = view.state(Followed(tmp_path / "q"))["running"]
    assert [(row["trial"], bool(row["points"])) for row in shown] == [(0, len(seen) % 4 > 0)]
    ((trial, progress),) = status.under_way(read(tmp_path / "q"))
    assert trial.id == 0 and progress is not None and progress.epoch == seen[-1]


@pytest.mark.parametrize("word", ["fold", "repeat"])
def test_no_network_is_the_trial_s(word: str, undisturbed: Path, tmp_path: Path) -> None:
    from hpogen.analysis.ensemble import check_task
    from hpogen.study.retrained import plan_again
    from hpogen.study.sizes import plan_sizes

    directory = undisturbed
    if word == "repeat":
        task = {**DIGITS["task"], "dataset": REPEATS}
        finished(digits(tmp_path, task=task, stop={"trials": 2}), directory := tmp_path / "q")
        assert read(directory).history.charged == 8
        assert not [*(directory / "trials").glob("*.val_losses.npy")]
    number = 3 if word == "fold" else 2
    with pytest.raises(UserError, match=f"was trained in {number} {word}s: no network"):
        hpogen.load(directory)
    study = read(directory)
    with pytest.raises(UserError, match=f"a trial of {number} {word}s has no one network that an"):
        check_task(study)
    with pytest.raises(UserError, match=f"--subset: a trial of {number} {word}s has no one"):
        plan_again(study, 0)
    with pytest.raises(UserError, match=f"--at: a trial of {number} {word}s has no one network"):
        plan_sizes(study, [0.05, 0.1], 1)
    spec = load_study(directory.parent / "study.yaml")
    with pytest.raises(UserError, match=f"a trial of {number} {word}s keeps no weights"):
        [*add_measures(spec, directory, ["gsnr"], "cpu")]


def test_retrain_trains_once_on_everything(undisturbed: Path, tmp_path: Path) -> None:
    from hpogen.study.retrained import plan as plan_retrain

    (spec, *_) = plan_retrain(read(undisturbed), 1).values()
    assert spec.task.parts.number == 1
    with Study(spec, tmp_path / "retrained") as study:
        assert run(study).end == "finished"
        assert study.history.charged == 2


def test_fork_reuses_the_outcomes(undisturbed: Path, tmp_path: Path) -> None:
    from hpogen.running.fork import fork

    path = digits(tmp_path, objective="val", searcher="random")
    found = fork(undisturbed, path, tmp_path / "q")
    assert (found.reused, found.to_train, found.task) == (5, 0, "")
    task = {**DIGITS["task"], "dataset": REPEATS}
    other = fork(undisturbed, digits(tmp_path / "b", task=task, objective="val"), tmp_path / "c")
    assert other.reused == 0 and other.task.startswith("dataset.validation")
