"""What arms are set beside: restarts against all subsets, baselines and oracles by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from analysis.searches import AGN, Made, matrix, search
from hypothesis import given, settings
from hypothesis import strategies as st

from hpogen.analysis.comparison import compare
from hpogen.analysis.yardsticks import Yardstick, best_of


@settings(deadline=None)  # on a busy machine
@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), min_size=1, max_size=7),
    st.integers(1, 7),
)
def test_the_best_of_k_restarts_is_the_mean_over_all_subsets(
    searches: list[tuple[int, float]], k: int
) -> None:
    losses, errors = ([x[i] for x in searches] for i in (0, 1))
    chosen = [
        errors[min(subset, key=losses.__getitem__)]
        for subset in itertools.combinations(range(len(searches)), k)
    ]
    value = best_of(k, losses, errors)
    assert value == (pytest.approx(np.mean(chosen)) if chosen else None)


def yardsticks(home: Path) -> dict[str, Yardstick]:
    [task] = compare([home]).tasks
    return {y.label: y for y in task.yardsticks}


def three_arms(home: Path) -> Path:
    """Answers are the trials of validation loss 0.1; the default configuration is trial 0."""
    audits = {"val": (0.90, 0.92, 0.94), "agn": (0.91, 0.93, 0.89), "more": (0.80, 0.80, 0.95)}
    for arm, values in audits.items():
        objective = {"val": "val", "agn": AGN, "more": {**AGN, "alpha": 0.2}}[arm]
        for seed, audit in enumerate(values):
            trials = [Made(0.5, 0.7 + seed / 100), Made(0.1 + seed / 100, audit), Made(0.4, 0.96)]
            search(home / f"{arm}__seed-{seed}", trials, seed=seed, objective=objective)
    return home


def test_by_hand(tmp_path: Path) -> None:
    found = yardsticks(three_arms(tmp_path))
    baseline = found["baseline 'default'"]
    assert baseline.kind == "baseline" and baseline.truth is not None
    assert baseline.truth.mean == pytest.approx(0.29) and baseline.truth.n == 3
    assert baseline.truth.sd == pytest.approx(0.01)
    restarts = found["best of 3 restarts of val"]  # all three: seed 0 has the lowest loss
    assert restarts.truth is not None and restarts.truth.mean == pytest.approx(0.10)
    best = found["oracle: best of the 3 arms"]
    assert best.kind == "oracle" and best.truth is not None
    assert best.truth.mean == pytest.approx(np.mean([0.09, 0.07, 0.05]))
    trials = found["oracle: best of all trials"]
    assert trials.truth is not None and trials.truth.mean == pytest.approx(0.04)


def test_the_arm_is_chosen_by_validation_loss_and_by_nothing_else(tmp_path: Path) -> None:
    alphas = {"a": 0.1, "b": 0.2, "c": 0.3}
    losses = {"a": (0.3, 0.1, 0.2), "b": (0.2, 0.3, 0.2), "c": (0.4, 0.2, 0.5)}
    audits = {"a": (0.90, 0.80, 0.70), "b": (0.60, 0.99, 0.98), "c": (0.95, 0.95, 0.95)}
    for arm, alpha in alphas.items():
        for seed, (loss, audit) in enumerate(zip(losses[arm], audits[arm], strict=True)):
            objective = {**AGN, "alpha": alpha}
            search(tmp_path / f"{arm}__seed-{seed}", [Made(loss, audit)], seed=seed,
                   objective=objective)  # fmt: skip
    chosen = yardsticks(tmp_path)["by val loss: best of the 3 arms"]
    assert chosen.kind == "validated" and chosen.truth is not None and chosen.truth.n == 3
    # seed 0: b, seed 1: a, seed 2: a and b are equal, and a is first though it is worse
    assert chosen.truth.mean == pytest.approx(np.mean([0.40, 0.20, 0.30]))


def test_the_best_of_the_arms_is_of_seeds_that_all_of_them_have(tmp_path: Path) -> None:
    more = three_arms(tmp_path) / "val__seed-7"
    search(more, [Made(0.1, 0.99)], seed=7, stop={"trials": 3})
    best = yardsticks(tmp_path)["oracle: best of the 3 arms"].truth
    assert best is not None and best.n == 3 and best.mean == pytest.approx(0.07)


def test_only_what_chooses_by_validation_loss_is_restarted(tmp_path: Path) -> None:
    assert [y for y in yardsticks(three_arms(tmp_path)) if "restarts" in y] == [
        "best of 3 restarts of val"
    ]


def test_fewer_seeds_than_arms_say_nothing_of_restarts(tmp_path: Path) -> None:
    found = yardsticks(matrix(tmp_path, 1))["best of 2 restarts of val"]
    assert found.kind == "restarts" and found.truth is None
