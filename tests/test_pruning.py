"""Trials that are ended early: what is recorded, told and charged; replay decides nothing."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from toys import ShuffledExecutor, StopsAfter, by_trial, essence, study_file, typed

from hpogen.analysis.choices import Trials
from hpogen.analysis.pruning import would_prune
from hpogen.errors import UserError
from hpogen.executors.base import Executor
from hpogen.objective import Objective, Term
from hpogen.record import folder, ledger
from hpogen.record.history import History
from hpogen.running.runner import run
from hpogen.searchers.generations import Generations
from hpogen.searchers.optuna import Pool
from hpogen.space import Point, Space
from hpogen.spec import load_study
from hpogen.study.pruning import running
from hpogen.study.read import read
from hpogen.study.status import status
from hpogen.study.study import Study
from hpogen.trial import Trial

EPOCHS = 12
MEDIAN = {"rule": "median", "after": 3}
RULES: Sequence[Mapping[str, Any]] = (
    MEDIAN,
    {"rule": "percentile", "percentile": 25.0, "after": 2, "interval_steps": 3},
    {"rule": "asha", "after": 2, "reduction_factor": 2},
)
STANDARD = {"terms": [{"metric": "val_loss", "scale": "standard"}], "standard_after": 6}


def toy(directory: Path, prune: Mapping[str, Any] | str | None = MEDIAN, **keys: Any) -> Path:
    task = {"name": "bowl", "epochs": EPOCHS}
    return study_file(directory, **{"task": task, "stop": {"trials": 24}, "prune": prune, **keys})


def finished(path: Path, directory: Path, executor: Executor | None = None) -> list[dict[str, Any]]:
    with Study(load_study(path), directory) as study:
        assert run(study, executor).end == "finished"
    return ledger.read(directory)


def pruned(events: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    told = by_trial(events, "told")
    return {n: e for n, e in told.items() if e["failure"] and e["failure"]["kind"] == "pruned"}


@pytest.mark.parametrize("prune", RULES, ids=lambda rule: str(rule["rule"]))
def test_a_pruned_trial(prune: Mapping[str, Any], tmp_path: Path) -> None:
    """It is told its last score, ends with that epoch, and is charged up to there."""
    events = finished(toy(tmp_path, prune), tmp_path / "run")
    found, history = pruned(events), read(tmp_path / "run").history
    assert 5 <= len(found) < 23
    for number, event in found.items():
        epoch, rows = event["epochs"], folder.read_curve(tmp_path / "run", number)
        assert prune["after"] <= epoch < EPOCHS and event["spared"] == EPOCHS - epoch
        assert [row["epoch"] for row in rows] == [*range(1, epoch + 1)]
        assert event["metrics"] == rows[-1]["metrics"]
        assert event["score"] == rows[-1]["metrics"]["val_loss"]
        seconds = next(e["seconds"] for e in events if e["kind"] == "told" and e["trial"] == number)
        assert seconds["total"] == sum(row["seconds"]["total"] for row in rows)
        assert f"{prune['rule']} rule after {epoch} of 12 epochs" in event["failure"]["text"]
    left = EPOCHS * (24 - len(found))
    assert history.charged == history.trained == left + sum(e["epochs"] for e in found.values())


def test_the_answer_is_a_trial_that_finished(tmp_path: Path) -> None:
    """A pruned one may have the smallest number of all: a sum over fewer epochs."""
    objective = {"terms": [{"metric": "agn"}]}
    finished(toy(tmp_path, {"rule": "asha", "after": 2}, objective=objective), tmp_path / "run")
    study = read(tmp_path / "run")
    records = study.history.records
    assert min(records, key=lambda record: record.score).pruned
    best, told = status(study)["best"], status(study)
    assert not records[best["trial"]].pruned
    assert told["pruned"] == sum(record.pruned for record in records) and not told["failed"]


@pytest.mark.parametrize("prune", RULES, ids=lambda rule: str(rule["rule"]))
def test_rescoring_says_what_the_study_does(prune: Mapping[str, Any], tmp_path: Path) -> None:
    """A random search proposes the same whatever is pruned."""
    finished(toy(tmp_path, None), tmp_path / "whole")
    events = finished(toy(tmp_path, prune), tmp_path / "pruned")
    study, real = read(tmp_path / "whole"), read(tmp_path / "pruned")
    assert real.spec.prune is not None
    said = would_prune(study, Trials(study), real.spec.prune)
    assert said.pruned == {number: event["epochs"] for number, event in pruned(events).items()}
    assert (said.charged, said.whole) == (real.history.charged, study.history.charged)
    assert said.left == min(record.score for record in real.finished)
    assert said.best == min(record.score for record in study.finished)
    with pytest.raises(UserError, match="has pruned trials itself"):
        would_prune(real, Trials(real), real.spec.prune)


@pytest.mark.parametrize("objective", [{"preset": "val"}, STANDARD], ids=["val", "standard"])
@pytest.mark.parametrize("prune", RULES, ids=lambda rule: str(rule["rule"]))
@pytest.mark.parametrize("searcher", ["cmaes", "optuna"])
def test_interrupted_it_goes_on_as_it_would_have(
    searcher: str, prune: Mapping[str, Any], objective: Any, tmp_path: Path
) -> None:
    path = toy(tmp_path, prune, searcher=searcher, objective=objective, stop={"trials": 18})
    whole = finished(path, tmp_path / "whole")
    assert pruned(whole)
    end, times = "", 0
    while end != "finished":
        with Study(load_study(path), tmp_path / "run") as study:
            end = run(study, observer=StopsAfter(17)).end
        times += 1
    assert times > 3
    assert essence(ledger.read(tmp_path / "run")) == essence(whole)


def test_killed_between_an_epoch_and_the_decision(tmp_path: Path) -> None:
    """The row is on the disk, the line is not: it is decided when the study is opened."""
    path = toy(tmp_path)
    events = finished(path, tmp_path / "whole")
    lines = (tmp_path / "whole" / ledger.LEDGER).read_bytes().splitlines(keepends=True)
    for number, event in pruned(events).items():
        at = next(i for i, e in enumerate(events) if e["kind"] == "told" and e["trial"] == number)
        shutil.copytree(tmp_path / "whole", tmp_path / str(number))
        (tmp_path / str(number) / ledger.LEDGER).write_bytes(b"".join(lines[:at]))
        with Study(load_study(path), tmp_path / str(number)):
            pass
        assert essence(ledger.read(tmp_path / str(number))) == essence(events[: at + 1])
        assert event["failure"]["kind"] == "pruned"


@pytest.mark.parametrize("seed", range(3))
def test_decided_once_whatever_the_order_of_the_workers(seed: int, tmp_path: Path) -> None:
    """What was recorded is never decided again, though others have told more since."""
    path = toy(tmp_path, searcher="optuna", stop={"trials": 40})
    events = finished(path, tmp_path / "run", ShuffledExecutor(seed))
    assert 5 <= len(pruned(events)) < 39 and len(by_trial(events, "told")) == 40
    before = (tmp_path / "run" / ledger.LEDGER).read_bytes()
    with Study(load_study(path), tmp_path / "run") as study:
        assert study.next() is None
    assert (tmp_path / "run" / ledger.LEDGER).read_bytes() == before
    lines = before.splitlines(keepends=True)
    for cut in range(5, len(lines), 17):
        (tmp_path / "run" / ledger.LEDGER).write_bytes(b"".join(lines[:cut]))
        with Study(load_study(path), tmp_path / "run") as study:
            again = ledger.read(tmp_path / "run")
            assert essence(again[:cut]) == essence(events[:cut])
            assert {event["kind"] for event in again[cut:]} <= {"told"}
            assert study.history.charged <= read(tmp_path / "run").history.charged


def test_a_duplicate_of_a_pruned_trial_is_pruned(tmp_path: Path) -> None:
    bad = {"x": 1.0, "y": 1000}
    good = [{"x": 0.3, "y": 10 - i} for i in range(6)]
    path = toy(tmp_path, enqueue=[*good, bad, bad], stop={"trials": 8})
    found = pruned(finished(path, tmp_path / "run"))
    assert {6, 7} <= {*found}
    assert (found[7]["epochs"], found[7]["spared"]) == (0, found[6]["spared"])
    assert found[7]["score"] == found[6]["score"]


def test_repeats_are_trained_to_their_end(tmp_path: Path) -> None:
    path = toy(tmp_path, {"rule": "asha", "after": 2}, selection="noise_cut")
    finished(path, tmp_path / "run")
    repeats = [record for record in read(tmp_path / "run").history.records if record.repeat]
    assert repeats and not any(record.pruned for record in repeats)


def test_with_patience_a_trial_that_improves_is_let_go_on(tmp_path: Path) -> None:
    """The bowl's loss falls all the time: only a trial that has stopped falling is pruned."""
    events = finished(toy(tmp_path, {**MEDIAN, "patience": 1}), tmp_path / "run")
    assert not pruned(events)


def test_a_running_objective() -> None:
    """Sums are divided by the epochs so far; what lacks a metric has no score."""
    terms = (Term("agn", 2.0, "per_epoch"), Term("val_loss", 1.0))
    objective = Objective(terms, "", sums=frozenset({"agn"}))
    rows: list[dict[str, Any]] = [
        {"epoch": 1, "metrics": {"agn": 3.0, "val_loss": 1.0}},
        {"epoch": 2, "metrics": {"val_loss": 0.5}},
        {"epoch": 3, "metrics": {"agn": 6.0, "val_loss": 0.25}},
    ]
    trial = Trial(config={}, budget=9, id=0, seed=0)
    assert running(objective, rows, trial, History()) == {1: 7.0, 3: 4.25}
    standard = Objective((Term("val_loss", 1.0, "standard"),), "")
    assert running(standard, rows, trial, History()) == {}


class Told:
    """An engine that keeps what it is told."""

    def __init__(self) -> None:
        self.scores: list[Sequence[float]] = []

    def ask(self) -> Sequence[Point]:
        return [Space.parse(X).encode({"x": x}) for x in (0.1, 0.2, 0.3, 0.4)]

    def tell(self, points: Sequence[Point], scores: Sequence[float]) -> None:
        self.scores.append([*scores])


X: Mapping[str, Any] = {"x": {"float": [0.0, 1.0], "default": 0.5}}


def test_a_generation_ranks_pruned_trials_behind_the_finished() -> None:
    """The furthest first, then the least score; failed ones are the last."""
    engine = Told()
    generations = Generations(Space.parse(X), 9, (), engine)
    for _ in range(4):
        generations.ask()
    generations.tell_pruned(3, -9.0, 2)
    generations.tell(0, 5.0)
    generations.tell(2, math.inf)
    generations.tell_pruned(1, 7.0, 6)
    assert engine.scores == [[5.0, 6.0, math.inf, 7.0]]
    for _ in range(4):
        generations.ask()
    for trial, score in ((4, 1.0), (5, 3.0)):
        generations.tell(trial, score)
    generations.tell_pruned(6, 0.5, 4)
    generations.tell_pruned(7, 0.25, 4)
    assert engine.scores[1] == [1.0, 3.0, 13.0, 9.0]  # worse than all that ever finished


@pytest.mark.parametrize(
    ("sampler", "options", "state"),
    [
        ("TPESampler", {}, "PRUNED"),
        ("CmaEsSampler", {"consider_pruned_trials": True}, "PRUNED"),
        ("CmaEsSampler", {}, "COMPLETE"),
        ("RandomSampler", {}, "COMPLETE"),
    ],
)
def test_optuna_hears_of_pruned_trials(sampler: str, options: dict[str, Any], state: str) -> None:
    if sampler == "CmaEsSampler":
        pytest.importorskip("cmaes")
    space = Space.parse({"x": X["x"], "y": X["x"]})
    pool = Pool("optuna", space, 9, 0, (), sampler, options)
    for _ in range(3):
        pool.ask()
    pool.tell(0, 1.0)
    pool.tell(2, 3.0)
    pool.tell_pruned(1, 0.5, 4)
    trial = pool._study.trials[1]
    assert trial.state == optuna.trial.TrialState[state]
    if state == "PRUNED":
        assert trial.intermediate_values == {4: 0.5}
    else:
        assert trial.value is not None and trial.value > 3.0


SEARCHER = """
import json
from pathlib import Path
from hpogen import Proposal
from hpogen.plugins import searcher

@searcher("mine")
class Mine:
    def __init__(self, space, budgets, seed, *, enqueue=(), hears: bool = False):
        self.space, self.budget, self.asked, self.heard = space, budgets[-1], 0, []
        if hears:
            self.tell_pruned = lambda *told: self.hear(*told)

    def ask(self):
        self.asked += 1
        return Proposal({"x": 0.3, "y": 10 + 60 * (self.asked % 13)}, self.budget)

    def hear(self, *told):
        self.heard.append(told)
        Path("heard.json").write_text(json.dumps(self.heard).replace("Infinity", '"inf"'))

    tell = hear
"""


@pytest.mark.parametrize("hears", [False, True])
def test_a_searcher_of_ones_own(
    hears: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `tell_pruned` a pruned trial is told as a failed one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(SEARCHER)
    searcher = {"name": "mine", "hears": hears}
    path = toy(tmp_path, searcher=searcher, plugins=["bowl.py", "mine.py"], stop={"trials": 13})
    found = pruned(finished(path, tmp_path / "run"))
    heard = {told[0]: told[1:] for told in json.loads((tmp_path / "heard.json").read_text())}
    assert found and len(heard) == 13
    for number, event in found.items():
        assert heard[number] == ([event["score"], event["epochs"]] if hears else ["inf"])


FOLDS: dict[str, Any] = {
    "task": {
        "dataset": {"name": "digits", "subset": 0.2, "validation": {"folds": 6}},
        "model": {"name": "mlp", "width": 8, "depth": 1},
        "epochs": 2,
    },
    "search_space": {"lr": {"float": [1e-6, 1.0], "log": True, "default": 0.1}},
    "enqueue": [{"lr": 0.1}, {"lr": 1e-6}, {"lr": 0.2}, {"lr": 2e-6}],
    "stop": {"trials": 4},
    "prune": "wilcoxon",
    "plugins": [],
}


def test_folds_are_pruned_by_wilcoxon(tmp_path: Path) -> None:
    """After four folds that are all worse than the best trial's, p is 1/16."""
    path = study_file(tmp_path, **FOLDS)
    events = finished(path, tmp_path / "run")
    found, parts = pruned(events), [e["trial"] for e in events if e["kind"] == "part"]
    assert [*found] == [1, 3]
    for number, event in found.items():
        assert parts.count(number) == 4
        assert (event["epochs"], event["spared"]) == (8, 4)
        assert "wilcoxon rule after 4 of 6 folds" in event["failure"]["text"]
    assert read(tmp_path / "run").history.charged == 2 * 12 + 2 * 8
    lines = (tmp_path / "run" / ledger.LEDGER).read_bytes().splitlines(keepends=True)
    at = next(i for i, e in enumerate(events) if e["kind"] == "told" and e["trial"] == 1)
    (tmp_path / "run" / ledger.LEDGER).write_bytes(b"".join(lines[:at]))
    assert essence(finished(path, tmp_path / "run")) == essence(events)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"prune": "medan"}, "prune: 'medan' is unknown; did you mean 'median'?"),
        (
            {"prune": {"rule": "percentile"}},
            "prune.rule: 'percentile' needs one, as in {rule: percentile,",
        ),
        (
            {"prune": {"rule": "median", "reduction_factor": 2}},
            "prune.reduction_factor: is no option of the rule 'median': it has n_startup_trials",
        ),
        (
            {"prune": {**MEDIAN, "min_delta": 0.1}},
            "prune.min_delta: is an option of patience: add it, or drop min_delta",
        ),
        (
            {"prune": {"rule": "median", "after": 12}},
            "prune.after: got 12, but trials have 12 epochs: none could end before; expected less",
        ),
        (
            {"prune": "wilcoxon"},
            "prune.rule: 'wilcoxon' compares trainings of a trial, and it has one: give",
        ),
        (
            {
                "searcher": "asha",
                "budgets": {"min": 3, "max": 12, "eta": 2},
                "objective": {"preset": "val"},
            },
            "prune: searcher 'asha' ends trials early itself, at its rungs: drop prune, or use",
        ),
        (
            {"searcher": "cmaes", "objective": {"terms": [{"metric": "agn", "scale": "rank"}]}},
            "prune: a term with scale: rank is known when its whole cohort has ended",
        ),
        (
            {**FOLDS, "prune": MEDIAN},
            "prune.rule: 'median' compares epochs, and a trial is 6 folds: use rule: wilcoxon",
        ),
        (
            {**FOLDS, "prune": {"rule": "wilcoxon", "n_startup_steps": 6}},
            "prune.n_startup_steps: got 6, but a trial has 6 folds: expected less",
        ),
        (
            {**FOLDS, "prune": {"rule": "wilcoxon", "after": 2}},
            "prune.after: is no option of the rule 'wilcoxon': it has p_threshold, n_startup_steps",
        ),
    ],
)
def test_what_does_not_go_together(keys: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_study(toy(tmp_path, **keys))
    assert re.match(rf".*study\.yaml:\d+:\d+: {re.escape(told)}", str(error.value))
    assert "\n" not in str(error.value)


def test_its_record(tmp_path: Path) -> None:
    """Every default is in it; a study without it has no such key."""
    spec = load_study(toy(tmp_path, "median"))
    assert spec.record()["prune"] == {
        **{"rule": "median", "after": 1, "n_startup_trials": 5},
        **{"interval_steps": 1, "n_min_trials": 1},
    }
    assert spec.with_record(spec.record()) == spec
    assert "prune" not in load_study(toy(tmp_path, None)).record()
    finished(toy(tmp_path, "median"), tmp_path / "run")
    with pytest.raises(UserError, match=r"prune: None, but the study in .* was begun with"):
        Study(load_study(toy(tmp_path, None)), tmp_path / "run")


def test_what_rescore_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(toy(tmp_path, None), tmp_path / "run")
    assert typed("rescore", tmp_path / "run", "--prune", "{rule: median, after: 3}") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "With prune: median (after 3 epochs)" in shown and "nothing is lost" in shown
    assert typed("rescore", tmp_path / "run", "--prune", "median", "--json") == 0
    found = json.loads(capsys.readouterr().out)["pruning"]
    assert 0 < found["charged"] < found["whole"] == 24 * EPOCHS
    assert typed("rescore", tmp_path / "run", "--json") == 0
    assert "pruning" not in json.loads(capsys.readouterr().out)
    assert typed("rescore", tmp_path / "run", "--prune", "[1]") != 0
    assert "--prune: got '[1]', expected a rule" in capsys.readouterr().err


def test_who_takes_its_trials_over(tmp_path: Path) -> None:
    """Optuna has the state, a fork trains pruned trials anew."""
    events = finished(toy(tmp_path), tmp_path / "run")
    storage = f"sqlite:///{tmp_path}/optuna.db"
    assert typed("export", tmp_path / "run", "--to", storage) == 0
    trials = optuna.load_study(study_name=None, storage=storage).trials
    states = {t.number for t in trials if t.state == optuna.trial.TrialState.PRUNED}
    assert states == {*pruned(events)}
    other = toy(tmp_path / "other", None)
    assert typed("fork", tmp_path / "run", other, "--dir", tmp_path / "forked") == 0
    assert read(tmp_path / "forked").history.reused == 24 - len(states)


def test_what_is_shown_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = toy(tmp_path)
    assert typed("check", path) == 0
    assert "prune:      median after 3 epochs" in capsys.readouterr().out
    assert typed("run", path, "--dir", tmp_path / "run") == 0
    shown = capsys.readouterr()
    lines = shown.out + shown.err
    assert "pruned: median rule after" in lines and "24 trials (" in lines and " pruned)" in lines
