"""The order on the subset against that of retrained nets, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from analysis.searches import AGN, Made, search
from scipy import stats

from hpogen.analysis.comparison import compare
from hpogen.analysis.validity import transfer
from hpogen.report.compare import compare_page
from hpogen.study.read import read_all
from hpogen.tasks.errors import ERRORS

DEFAULT = {"lr": 0.01, "momentum": 0.6}
HALF, THIRD = ({**DEFAULT, "lr": 0.01 / k} for k in (2, 3))


def retrained(home: Path, audits: list[float]) -> Path:
    """Three searches whose answers are trials 1, 2 and 1; the baseline is trial 0 of each."""
    losses = [(0.5, 0.1, 0.3), (0.6, 0.4, 0.2), (0.7, 0.3, 0.9)]
    answers = [("trial-1", HALF, 0.95), ("trial-2", THIRD, 0.93), ("trial-1", HALF, 0.97)]
    for seed, (own, (label, config, test)) in enumerate(zip(losses, answers, strict=True)):
        trials = [Made(loss, audit) for loss, audit in zip(own, audits, strict=True)]
        folder = search(home / f"val__seed-{seed}", trials, seed=seed)
        search(folder / "retrain" / label, [Made(audit=test, config=config)])
        search(folder / "retrain" / "baseline-default", [Made(audit=0.80, config=DEFAULT)])
    return home


def test_a_configuration_counts_once_with_its_means(tmp_path: Path) -> None:
    found = transfer(read_all([retrained(tmp_path, [0.7, 0.8, 0.9])]), ERRORS["accuracy"])
    assert found is not None and found.n == 3  # the default, half and third of its lr
    losses, audits, tests = [0.6, 0.2, 0.2], [0.3, 0.2, 0.1], [0.2, 0.04, 0.07]
    assert found.by["val_loss"].kendall == pytest.approx(stats.kendalltau(losses, tests).statistic)
    assert found.by["audit error"].kendall == pytest.approx(
        stats.kendalltau(audits, tests).statistic
    )
    assert found.by["audit error"].regret == pytest.approx(0.07 - 0.04)


def test_it_is_said_on_the_page(tmp_path: Path) -> None:
    lines = compare_page(compare([retrained(tmp_path, [0.7, 0.8, 0.9])]), 300)
    assert (
        " digits, mlp: does the subset's order hold on all of the data? Of 3 retrained "
        "configurations, figures on the subset against test errors: audit error: ρ +0.50, τ +0.33; "
        "val loss: ρ +0.87, τ +0.82"
    ) in lines


def test_without_three_configurations_there_is_no_order(tmp_path: Path) -> None:
    folder = search(tmp_path / "a", [Made()] * 3, objective=AGN)
    assert transfer(read_all([folder]), ERRORS["accuracy"]) is None
    search(folder / "retrain" / "baseline-default", [Made(config=DEFAULT)])
    assert transfer(read_all([folder]), ERRORS["accuracy"]) is None
