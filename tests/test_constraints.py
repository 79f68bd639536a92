"""Bounds that the answer keeps: what is infeasible is told as such, counted, and never chosen."""

from __future__ import annotations

import importlib.util
import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from analysis.rescored import made_study, made_trials
from toys import by_trial, essence, study_file, typed

from hpogen.analysis.answers import answer
from hpogen.analysis.rescoring import rescore
from hpogen.analysis.truth import truth_of
from hpogen.constraint import Constraint, violation
from hpogen.errors import UserError
from hpogen.record import ledger
from hpogen.record.history import History
from hpogen.report.verdict import verdict
from hpogen.running.fork import fork
from hpogen.running.runner import run
from hpogen.searchers.constrained import BEHIND, behind, share
from hpogen.searchers.optuna import OptunaSearcher
from hpogen.space import Space
from hpogen.spec import load_study
from hpogen.spec.schema import schema
from hpogen.study.finalists import ranking
from hpogen.study.read import Folder, read
from hpogen.study.standing import standing
from hpogen.study.status import best, status
from hpogen.study.status import trial as trial_of
from hpogen.study.study import Study

SEVERE = {"gap_loss": "<= -0.3"}  # x <= 0.2, beside the bowl's bottom at 0.3


def finished(path: Path, directory: Path) -> list[dict[str, Any]]:
    with Study(load_study(path), directory) as study:
        assert run(study).end == "finished"
    return ledger.read(directory)


def searched(tmp_path: Path, **keys: Any) -> Folder:
    finished(study_file(tmp_path / "yaml", **keys), tmp_path / "q")
    return read(tmp_path / "q")


def test_a_bound_and_how_far_it_is_missed() -> None:
    at_most, at_least = Constraint.of("gap", "<=0.20"), Constraint.of("n", ">= 1e3")
    assert at_most.text == "<= 0.2" and at_least.text == ">= 1000.0"
    assert at_most.excess({"gap": 0.3}) == pytest.approx(0.5)
    assert at_most.excess({"gap": 0.2}) == 0
    assert at_least.excess({"n": 250.0}) == 0.75 and at_least.excess({"n": 2000.0}) == -1
    assert Constraint.of("gap", "<= 0").excess({"gap": 0.3}) == 0.3
    assert at_most.excess({}) == math.inf
    assert violation({"a": 0.5, "b": -3.0, "c": 0.25}) == 0.75


MISTAKES: dict[str, Any] = {
    "constraints.gap_loss: got 0.2, expected <= or >= and a number, as in '<= 0.2'": {
        "gap_loss": 0.2
    },
    "constraints.gap_loss: got '< 0.2', expected <= or >=": {"gap_loss": "< 0.2"},
    "constraints.gap_loss: got '<= inf', expected <= or >=": {"gap_loss": "<= inf"},
    "audit is for analysis only: no constraint can name 'audit_error'": {"audit_error": "<= 0.1"},
    "metric 'gap_los' is unknown": {"gap_los": "<= 0.1"},
    "constraints: got {}, expected at least 1 values": {},
    "constraints: got '<= 0.2', expected a mapping": "<= 0.2",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_what_is_wrong_is_said_in_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_study(study_file(tmp_path, constraints=MISTAKES[text]))
    assert text in str(error.value) and "\n" not in str(error.value)


def test_check_and_schema_know_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = study_file(tmp_path, constraints={"gap_loss": "<=0.20"})
    assert typed("check", path) == 0
    assert "within:     gap_loss <= 0.2\n" in capsys.readouterr().out
    assert "constraints" in schema()["properties"]
    record = load_study(path).record()
    assert record["constraints"] == {"gap_loss": "<= 0.2"}
    assert "constraints" not in load_study(study_file(tmp_path)).record()


@pytest.mark.parametrize(
    "searcher",
    [
        "random",
        {"name": "cmaes", "population": 4},
        {"name": "pso", "population": 4},
        {"name": "optuna", "sampler": "TPESampler", "n_startup_trials": 4},
        {"name": "optuna", "sampler": "RandomSampler"},
    ],
)
def test_the_answer_is_the_best_of_the_feasible(searcher: Any, tmp_path: Path) -> None:
    study = searched(tmp_path, searcher=searcher, constraints=SEVERE, stop={"trials": 24})
    records = study.history.records
    good = [r for r in records if r.outcome and r.outcome.metrics["gap_loss"] <= -0.3]
    assert 0 < len(good) < 24
    feasible = [r for r in good if r.twin is None]
    assert [r.trial.id for r in study.finished] == [r.trial.id for r in feasible]
    least = min(feasible, key=lambda record: record.score)
    assert best(study)["trial"] == least.trial.id
    assert min(records, key=lambda record: record.score).trial.id != least.trial.id
    assert status(study)["infeasible"] == 24 - len(good)
    found = verdict(study, "over", [], 200)
    assert f"{24 - len(good)} infeasible" in "\n".join(found)
    bad = next(r.trial.id for r in records if not r.feasible)
    assert trial_of(study, bad)["infeasible"].startswith("gap_loss ")
    assert rescore(study).own.trial == least.trial.id


def test_where_nothing_satisfies_the_verdict_says_how_far_the_nearest_is(tmp_path: Path) -> None:
    study = searched(tmp_path, constraints={"gap_loss": "<= -0.6", "agn": "<= 1"})
    metrics = {r.trial.id: r.outcome.metrics for r in study.history.records if r.outcome}

    def far(trial: int) -> float:
        gap, agn = metrics[trial]["gap_loss"], metrics[trial]["agn"]
        return max(gap + 0.6, 0) / 0.6 + max(agn - 1, 0)

    nearest = min(metrics, key=far)
    now = standing(study)
    assert now.best is None and now.infeasible == 12
    text = " ".join(" ".join(verdict(study, "over", [], 400)).split())
    own = metrics[nearest]
    expected = (
        f"none of 12 finished trials satisfies the constraints; the nearest is trial {nearest}: "
        f"gap_loss {own['gap_loss']:.6g}, expected <= -0.6; agn {own['agn']:.6g}, expected <= 1"
    )
    assert expected in text
    with pytest.raises(UserError, match=f"there is no answer yet: none of 12.*trial {nearest}"):
        best(study)
    assert typed("best", tmp_path / "q") == 2


def test_a_study_with_constraints_goes_on_bit_for_bit(tmp_path: Path) -> None:
    searcher = {"name": "optuna", "n_startup_trials": 3}
    path = study_file(tmp_path, searcher=searcher, constraints=SEVERE, stop={"trials": 8})
    whole = finished(path, tmp_path / "whole")
    lines = (tmp_path / "whole" / ledger.LEDGER).read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines), 2):
        directory = tmp_path / str(cut)
        directory.mkdir()
        (directory / ledger.LEDGER).write_bytes(b"".join(lines[:cut]))
        assert essence(finished(path, directory)) == essence(whole), f"cut behind line {cut}"


def test_other_constraints_are_another_study(tmp_path: Path) -> None:
    finished(study_file(tmp_path, constraints=SEVERE), tmp_path / "q")
    finished(study_file(tmp_path, constraints={"gap_loss": "<=-0.30"}), tmp_path / "q")  # the same
    with pytest.raises(UserError, match=r"constraints\.gap_loss: .*begun with"):
        Study(load_study(study_file(tmp_path, constraints={"gap_loss": "<= 0.1"})), tmp_path / "q")


def test_a_fork_judges_old_outcomes_by_its_own(tmp_path: Path) -> None:
    study = searched(tmp_path)
    new = study_file(tmp_path / "new", constraints=SEVERE)
    assert fork(tmp_path / "q", new, tmp_path / "n").reused == 12
    forked = read(tmp_path / "n")
    assert best(study)["trial"] != best(forked)["trial"]
    assert best(forked)["metrics"]["gap_loss"] <= -0.3
    assert all(r.feasible for r in forked.finished) and len(forked.finished) < 12


def test_no_selection_takes_an_infeasible_trial(tmp_path: Path) -> None:
    metrics, losses, audits = made_trials(0, 20, 30)
    home = made_study(tmp_path, metrics, losses, audits, constraints={"train_loss": ">= 0.5"})
    study = read(home)
    allowed = {i for i, own in enumerate(metrics) if own["train_loss"] >= 0.5}
    assert 0 < len(allowed) < 20
    truth = truth_of([study])
    for selection in ("val_loss", "one_se_margin", "shrunk"):
        found = rescore(study, selection=selection)
        assert {found.own.trial, (found.asked or found.own).trial} <= allowed
        assert found.oracle is not None and found.oracle.trial in allowed
    assert {record.trial.id for record in ranking(study)} == allowed
    judged = answer(study, truth, {})
    assert judged is not None and judged.trial in allowed
    assert judged.oracle == min(1 - audits[i]["accuracy"] for i in allowed)


def test_what_a_constraint_names_is_measured(tmp_path: Path) -> None:
    dataset = {"name": "digits", "subset": 0.2, "validation": 100}
    keys = {
        "task": {"dataset": dataset, "model": {"name": "mlp", "depth": 1}, "epochs": 1},
        "search_space": {"width": {"int": [4, 64], "default": 8}, "lr": 0.1},
        "plugins": [],
        "stop": {"trials": 4},
        "constraints": {"parameters": "<= 2000"},
    }
    study = searched(tmp_path, **keys)
    for record in study.history.records:
        assert record.outcome is not None
        width = int(record.trial.config["width"] or 0)
        assert record.outcome.metrics["parameters"] >= 64 * width
        assert record.feasible == (record.outcome.metrics["parameters"] <= 2000)


def test_finite_scores_come_behind_all_feasible_ones() -> None:
    assert behind(3.0, {"a": -1.0, "b": 0.0}) == 3.0
    far, near = behind(0.0, {"a": 2.0}), behind(9.0, {"a": 0.5, "b": 0.1})
    assert BEHIND < near < far < 2.1 * BEHIND
    assert share({"a": math.inf}) == 1.0 and share({"a": 1.0}) == 0.5


NUMBERS: Mapping[str, Any] = {"x": {"float": [0.0, 1.0]}, "y": {"float": [0.0, 1.0]}}


@pytest.mark.parametrize(
    ("sampler", "options", "trials"),
    [
        ("TPESampler", {"n_startup_trials": 5}, 25),
        ("GPSampler", {"n_startup_trials": 3}, 6),
        ("NSGAIISampler", {"population_size": 6}, 25),
        ("NSGAIIISampler", {"population_size": 6}, 25),
    ],
)
def test_optuna_proposes_what_a_bare_loop_with_constraints_does(
    sampler: str, options: dict[str, Any], trials: int
) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searcher = OptunaSearcher(Space.parse(NUMBERS), (9,), 3, sampler=sampler, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental samplers
        made = getattr(optuna.samplers, sampler)(seed=3, **options)
    bare = optuna.create_study(sampler=made)
    distributions = dict.fromkeys("xy", optuna.distributions.FloatDistribution(0, 1))
    for number in range(trials):
        drawn, proposal = bare.ask(distributions), searcher.ask()
        assert proposal.config == drawn.params
        x, y = drawn.params["x"], drawn.params["y"]
        drawn.set_constraint("sum", 0.9 - x - y)
        bare.tell(drawn, x + 2 * y)
        searcher.tell_constrained(number, x + 2 * y, {"sum": 0.9 - x - y})


@pytest.mark.parametrize("sampler", ["TPESampler", "GPSampler"])
def test_failures_beside_constraints(sampler: str) -> None:
    """Each trial has as many constraints, as GP wants it; a failed one breaks them all."""
    options = {"n_startup_trials": 2}
    searcher = OptunaSearcher(Space.parse(NUMBERS), (9,), 0, sampler=sampler, **options)
    for number in range(5):
        searcher.ask()
        if number in (0, 3):
            searcher.tell(number, math.inf)
        else:
            searcher.tell_constrained(number, float(number), {"a": 0.1 * number, "b": -1.0})
    told = searcher._pool._study.trials
    assert all({*trial.constraints} == {"a", "b"} for trial in told)
    assert all(min(told[i].constraints.values()) > 0 for i in (0, 3))


def test_optunas_other_samplers_hear_of_a_score_behind() -> None:
    if importlib.util.find_spec("cmaes") is None:
        pytest.skip("the package cmaes is not installed")
    searcher = OptunaSearcher(Space.parse(NUMBERS), (9,), 0, sampler="CmaEsSampler")
    for number, excess in enumerate([-1.0, 3.0, 1.0, -2.0]):
        searcher.ask()
        searcher.tell_constrained(number, float(number), {"a": excess})
    searcher.ask()
    searcher.tell(4, math.inf)
    told = [trial.value for trial in searcher._pool._study.trials]
    assert told == [0.0, 0.75, 0.5, 3.0, 6.0]


@pytest.mark.parametrize("searcher", ["bohb", "hyperband", "asha"])
def test_rungs_promote_feasible_trials_first(searcher: str, tmp_path: Path) -> None:
    if searcher == "bohb":
        pytest.importorskip("hpbandster")
    options = {} if searcher == "asha" else {"brackets": 3}
    study = searched(
        tmp_path,
        task={"name": "bowl", "epochs": 4},
        searcher={"name": searcher, **options},
        budgets={"min": 1, "max": 4, "eta": 2},
        constraints={"gap_loss": "<= -0.1"},
        stop={"trials": 30},
    )
    records = study.history.records
    for cohort in {r.trial.cohort for r in records if searcher != "asha"}:
        own = [r for r in records if r.trial.cohort == cohort]
        up = {r.trial.parent for r in records if r.trial.parent is not None}
        left = [r for r in own if r.trial.id not in up and r.feasible]
        if left and any(r.trial.id in up for r in own):
            assert all(r.feasible for r in own if r.trial.id in up)
    assert any(not r.feasible for r in records)
    assert best(study)["metrics"]["gap_loss"] <= -0.1


def test_no_improvement_counts_feasible_scores_alone(tmp_path: Path) -> None:
    keys = {"constraints": {"gap_loss": "<= -9"}, "stop": {"trials": 12, "no_improvement": 3}}
    study = searched(tmp_path, **keys)
    assert study.history.ended == "no_improvement" and len(study.history.records) == 3


HEARS = """
import json
from pathlib import Path
from hpogen import Proposal
from hpogen.plugins import searcher

@searcher("mine")
class Mine:
    def __init__(self, space, budgets, seed, *, enqueue=(), hears: bool = False):
        self.budget, self.asked, self.heard = budgets[-1], 0, []
        if hears:
            self.tell_constrained = self.hear

    def ask(self):
        self.asked += 1
        return Proposal({"x": self.asked / 8, "y": 10}, self.budget)

    def hear(self, *told):
        self.heard.append(told)
        Path("heard.json").write_text(json.dumps(self.heard))

    tell = hear
"""


@pytest.mark.parametrize("hears", [False, True])
def test_a_searcher_of_ones_own(
    hears: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yaml").mkdir()
    (tmp_path / "yaml" / "mine.py").write_text(HEARS)
    searcher = {"name": "mine", "hears": hears}
    keys = {"plugins": ["bowl.py", "mine.py"], "stop": {"trials": 6}, "constraints": SEVERE}
    study = searched(tmp_path, searcher=searcher, **keys)
    heard = json.loads((tmp_path / "heard.json").read_text())
    assert len(heard) == 6
    for (number, score, *excess), record in zip(heard, study.history.records, strict=True):
        assert number == record.trial.id
        if hears:
            assert (score, excess) == (record.score, [record.excess])
        else:
            assert (score == record.score) == record.feasible
            assert record.feasible or score > BEHIND


def test_the_ledger_of_a_study_without_constraints_is_as_before(tmp_path: Path) -> None:
    finished(study_file(tmp_path), tmp_path / "q")
    text = (tmp_path / "q" / ledger.LEDGER).read_text()
    assert "constraints" not in text and "excess" not in text
    header = {"kind": "study", "spec": {"stop": {}, "constraints": {"gap_loss": "about 3"}}}
    with pytest.raises(ValueError, match="'about 3'"):
        History().apply(header)


def test_told_lines_are_the_same_with_constraints(tmp_path: Path) -> None:
    """Random proposals do not heed them: the score stays the objective's."""
    plain = by_trial(finished(study_file(tmp_path / "a"), tmp_path / "p"), "told")
    bound = by_trial(
        finished(study_file(tmp_path / "b", constraints=SEVERE), tmp_path / "q"), "told"
    )
    assert plain == bound
    assert np.isfinite([line["score"] for line in bound.values()]).all()
