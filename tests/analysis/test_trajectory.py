"""The answer so far, against a study that has told no more; curves, seconds, who sees the audit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis.searches import AGN, Made, random_trials, search
from toys import replay

from hpogen.analysis import trajectory as module
from hpogen.analysis.answers import answer, seconds, siblings_of
from hpogen.analysis.comparison import compare
from hpogen.analysis.trajectory import POINTS, Curve, Trajectory, curve, incumbents, trajectory
from hpogen.errors import UserError
from hpogen.record import ledger
from hpogen.record.folder import trial_stem
from hpogen.study.read import Folder, read_all
from hpogen.study.standing import chosen
from hpogen.study.status import best
from hpogen.tasks.errors import ERRORS
from hpogen.trial import Failure

RANKS = {"terms": [{"metric": "agn", "scale": "rank"}, {"metric": "val_loss", "scale": "rank"}]}
FAILED = Made(failure=Failure("diverged", "the loss is NaN"), seconds={"total": 0.5})
CHOOSERS: dict[str, dict[str, Any]] = {
    "score": {"objective": AGN},
    "log": {"objective": {**AGN, "scale": "log"}},
    "val_loss": {"objective": AGN, "selection": "val_loss"},
    "val_accuracy": {"selection": "val_accuracy"},
    "ranks": {"searcher": "cmaes", "objective": RANKS},
    "noise_cut": {"selection": "noise_cut", "stop": {"trials": 40}},
    "one_se_margin": {"selection": "one_se_margin"},
    "shrunk": {"selection": "shrunk"},
}


def read(directory: Path) -> Folder:
    [study] = read_all([directory])
    return study


def a_search(directory: Path, **keys: Any) -> Path:
    """Told in another order than asked, with failures, a duplicate, smaller budgets and ties."""
    generator = np.random.default_rng(5)
    margins = generator.uniform(size=14)
    trials = [
        replace(m, metrics={**m.metrics, "margin_q50": float(x)})
        for m, x in zip(random_trials(4, 14), margins, strict=True)
    ]
    trials[2] = FAILED
    trials[5] = replace(trials[5], budget=2, val_loss=0.0)
    trials[9] = replace(trials[4], config={"lr": 0.01 / 5, "momentum": 0.6})  # trial 4 again
    trials[11] = trials[12]  # equal numbers, another configuration
    order = [int(i) for i in generator.permutation(14)]
    order.remove(9)
    order.insert(order.index(4) + 1, 9)  # a duplicate is told after its twin
    search(directory, trials, order=order, **keys)
    (directory / "trials").mkdir()
    for number in range(14):
        losses = generator.exponential(size=40).astype(np.float32)
        path = trial_stem(directory, number).with_suffix(".val_losses.npy")
        np.save(path, losses)
    return directory


@pytest.mark.parametrize("name", CHOOSERS)
def test_an_incumbent_is_the_answer_of_a_study_that_has_told_no_more(
    tmp_path: Path, name: str
) -> None:
    study = read(a_search(tmp_path, **CHOOSERS[name]))
    events = ledger.read(tmp_path)
    told = [i for i, event in enumerate(events) if event["kind"] == "told"]
    found = incumbents(study)
    assert len(found) == len(told) == 14
    for record, end in zip(found, told, strict=True):
        try:
            expected = best(replace(study, history=replay(events[: end + 1])))["trial"]
        except UserError:  # no answer yet
            expected = None
        assert (record.trial.id if record else None) == expected
    assert found[-1] is chosen(study)
    assert len({r.trial.id for r in found if r}) > 1  # or there would be nothing to see


def test_few_answers_are_sought_where_each_takes_all_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read(a_search(tmp_path, **CHOOSERS["ranks"]))
    every = incumbents(study)
    monkeypatch.setattr(module, "STEPS", 3)
    thinned = incumbents(study)
    assert [thinned[i] for i in (4, 8, 13)] == [every[i] for i in (4, 8, 13)]
    assert thinned[:4] == [None] * 4 and thinned[5:8] == [every[4]] * 3


def test_epochs_and_seconds_add_up_in_the_order_of_being_told(tmp_path: Path) -> None:
    trials = [Made(0.5, 0.8), replace(FAILED, budget=4), Made(0.3, 0.9, seconds={"total": 3.0})]
    trials.append(Made(0.1, None, budget=2))
    study = read(search(tmp_path, trials, order=[2, 0, 3, 1]))
    found = trajectory(study, ERRORS["accuracy"], {})
    assert found.epochs.tolist() == [4, 8, 10, 14]
    assert found.seconds.tolist() == [3.0, 4.0, 5.0, 5.5]
    assert found.truth == pytest.approx([0.1] * 4)
    assert found.oracle == pytest.approx([0.1] * 4)


def test_the_oracle_is_the_best_of_all_finished_trials_so_far(tmp_path: Path) -> None:
    trials = [FAILED, Made(0.5, 0.8), Made(0.6, 0.95), Made(0.4, 0.7), Made(0.3, None)]
    found = trajectory(read(search(tmp_path, trials)), ERRORS["accuracy"], {})
    assert found.truth == pytest.approx([np.inf, 0.2, 0.2, 0.3, np.nan], nan_ok=True)
    assert found.oracle == pytest.approx([np.inf, 0.2, 0.05, 0.05, 0.05])


def test_what_a_sibling_trained_costs_what_it_took_there(tmp_path: Path) -> None:
    search(tmp_path / "a", [Made(seconds={"total": 7.0, "measures": 2.0})])
    search(tmp_path / "b", [Made(reused=("a", 0)), Made()], objective=AGN)
    search(tmp_path / "c", [Made(reused=("gone", 0))], objective=AGN, seed=1)
    studies = {s.name: s for s in read_all([tmp_path])}
    siblings = siblings_of([*studies.values()])
    assert siblings_of([studies["b"]])[tmp_path / "a"].records == siblings[tmp_path / "a"].records
    assert seconds(studies["b"], siblings)[0] == {"total": 7.0, "measures": 2.0}
    given = answer(studies["b"], ERRORS["accuracy"], siblings)
    assert given is not None
    assert (given.seconds, given.measures, given.charged, given.trained) == (8.0, 2.0, 8, 4)
    other = answer(studies["c"], ERRORS["accuracy"], siblings)
    assert other is not None and other.seconds == 0.0


def steps(epochs: list[float], truth: list[float], oracle: list[float] | None = None) -> Trajectory:
    columns = (np.array(epochs), np.array(epochs) * 10, (None,) * len(epochs), np.array(truth))
    return Trajectory(*columns, np.array(oracle or truth))


def of(*searches: Trajectory, axis: Any = "epochs") -> Curve:
    found = curve(searches, axis)
    assert found is not None
    return found


def test_a_curve_by_hand() -> None:
    found = of(
        steps([4, 8, 12], [0.4, 0.2, 0.2], [0.4, 0.1, 0.1]),
        steps([4, 8, 12], [np.inf, 0.3, 0.1], [np.inf, 0.3, 0.1]),
        steps([6, 12], [0.5, 0.6]),
    )
    assert found.x == (8, 12) and found.seeds == 3  # from 8 epochs on, all have answers
    assert found.median == pytest.approx((0.3, 0.2))
    assert found.low == pytest.approx((0.25, 0.15)) and found.high == pytest.approx((0.4, 0.4))
    assert found.oracle == pytest.approx((0.3, 0.1))


def test_a_search_that_has_ended_keeps_its_answer() -> None:
    found = of(steps([1, 2], [0.4, 0.2]), steps([1, 2, 3], [0.3, 0.3, 0.1]), axis="seconds")
    assert found.x == (10, 20, 30)
    assert found.median == pytest.approx((0.35, 0.25, 0.15))


def test_where_an_answer_has_no_audit_there_is_no_point() -> None:
    found = of(steps([1, 2, 3], [0.4, np.nan, 0.2], [0.4, 0.3, 0.2]), steps([1], [0.2]))
    assert found.x == (1, 3) and found.median == pytest.approx((0.3, 0.2))


def test_long_curves_are_thinned_and_empty_ones_left_out() -> None:
    generator = np.random.default_rng(0)
    long = steps([*range(1, 1001)], [float(x) for x in generator.random(1000)])
    found = of(long, steps([1.0], [np.nan]), steps([2.0], [np.inf]))
    assert found.seeds == 1 and len(found.x) == POINTS
    at = [long.truth[int(x) - 1] for x in found.x]
    assert found.median == pytest.approx(at)
    assert curve([steps([1.0], [np.nan])], "epochs") is None and curve([], "epochs") is None


@pytest.mark.parametrize("name", CHOOSERS)
def test_nothing_that_chooses_sees_the_audit(tmp_path: Path, name: str) -> None:
    """Other audit figures, and the same choices all along."""
    found = []
    for folder in ("as it was", "poisoned"):
        directory = a_search(tmp_path / folder, **CHOOSERS[name])
        if folder == "poisoned":
            poison(directory)
        study = read(directory)
        [row] = compare([directory]).tasks[0].rows
        trials = [record and record.trial.id for record in incumbents(study)]
        found.append((row.answers[0].trial, trials, row.answers[0].truth))
    assert found[0][:2] == found[1][:2]
    assert found[0][2] != found[1][2]


def poison(directory: Path) -> None:
    """Put other audit figures in a ledger's place."""
    events = ledger.read(directory)
    for event in events:
        if event["kind"] == "told" and event["audit"]:
            accuracy = (event["audit"]["accuracy"] * 7.3 + 1) % 1
            event["audit"] = {"accuracy": accuracy, "loss": 1 - accuracy}
    lines = [ledger.encode(event, seq) for seq, event in enumerate(events)]
    (directory / ledger.LEDGER).write_bytes(b"".join(lines))
