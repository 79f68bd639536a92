"""The linear gap model: known coefficients are found, splits are as said."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from analysis.studies import made, study
from scipy import stats

from hpogen.errors import Refusal, UserError

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

from gap_model import assess, assess_study, fit, random_splits

N = 40
RANDOM = np.random.default_rng(0).normal(size=(3, N))
METRICS = {"zeta": 0.3 + RANDOM[0] / 10, "kappa": 1000 + RANDOM[1]}  # in very different units
EXACT = 2 * METRICS["zeta"] - 0.003 * METRICS["kappa"] + 5
GAPS = EXACT + RANDOM[2] / 20


def test_an_exact_line_is_found() -> None:
    model = fit(METRICS, EXACT)
    assert model.coefficients == pytest.approx({"zeta": 2, "kappa": -0.003})
    assert model.intercept == pytest.approx(5)
    new = {"kappa": [0.0, 1000.0], "zeta": [1.0, 0.0], "unused": [0, 0]}
    assert model.predict(new) == pytest.approx([7, 2])


def test_the_fit_is_that_of_least_squares() -> None:
    design = np.column_stack([*METRICS.values(), np.ones(N)])
    expected = np.linalg.solve(design.T @ design, design.T @ GAPS)
    model = fit(METRICS, GAPS)
    assert [*model.coefficients.values(), model.intercept] == pytest.approx(expected, rel=1e-5)


def test_splits_hold_out_a_tenth_and_their_residuals_are_added_up() -> None:
    result = assess(METRICS, GAPS, splits=100)
    assert (result.trials, result.held_out, len(result.residuals)) == (40, 4, 100)
    assert result.pearson == pytest.approx(
        stats.pearsonr(fit(METRICS, GAPS).predict(METRICS), GAPS)[0]
    )
    assert result.pearson_held_out is not None and 0.9 < result.pearson_held_out < 1
    # noise of 1/20: 4 held-out residuals of (1 + 3/36)/400 each
    assert np.mean(result.residuals) == pytest.approx(4 * (1 + 3 / 36) / 400, rel=0.3)
    assert result == assess(METRICS, GAPS, splits=100)
    assert result.residuals != assess(METRICS, GAPS, splits=100, seed=1).residuals
    exact = assess(METRICS, EXACT, splits=10)
    assert max(exact.residuals) < 1e-20


def test_what_is_held_out_is_not_fitted() -> None:
    """With one trial held out at a time, an outlier's residual is that of leaving it out."""
    gaps = EXACT.copy()
    gaps[7] += 100
    result = assess(METRICS, gaps, held_out=0.01, splits=200)
    assert result.held_out == 1
    assert max(result.residuals) == pytest.approx(100**2)


def test_the_splits_are_those_that_a_model_is_assessed_on() -> None:
    residuals = []
    for test, train in random_splits(N, 4):
        assert sorted([*test, *train]) == [*range(N)] and len(test) == 4
        model = fit({name: x[train] for name, x in METRICS.items()}, GAPS[train])
        estimates = model.predict({name: x[test] for name, x in METRICS.items()})
        residuals.append(np.square(estimates - GAPS[test]).sum())
    assert residuals == pytest.approx(assess(METRICS, GAPS).residuals)


def test_three_metrics_and_one() -> None:
    assert fit({**METRICS, "third": RANDOM[2]}, GAPS).coefficients["third"] == pytest.approx(1 / 20)
    assert len(fit({"zeta": METRICS["zeta"]}, GAPS).coefficients) == 1


def test_trials_that_do_not_determine_the_model_are_refused() -> None:
    for metrics in (
        {name: x[:2] for name, x in METRICS.items()},
        {"zeta": METRICS["zeta"], "flat": np.ones(N)},
        {"zeta": METRICS["zeta"], "twice": 1 - 2 * METRICS["zeta"]},
    ):
        with pytest.raises(Refusal, match="do not determine"):
            fit(metrics, GAPS[: len(next(iter(metrics.values())))])
    with pytest.raises(UserError, match="needs metrics: kappa"):
        fit(METRICS, GAPS).predict({"zeta": [1.0]})


def test_a_study_is_tested_on_its_trials_that_have_the_metrics(tmp_path: Path) -> None:
    zeta, kappa = 0.3 + RANDOM[0] / 50, 0.5 + RANDOM[1] / 50
    gaps = zeta - kappa / 2 + 0.1
    given = [made({"lr": i}, 0.9, 0.9 - gaps[i], zeta=zeta[i], kappa=kappa[i]) for i in range(N)]
    given[0][1].pop("kappa")
    result = assess_study(study(tmp_path, given), splits=5)
    assert result.trials == N - 1
    assert result.model.coefficients == pytest.approx({"zeta": 1, "kappa": -0.5})
    assert result.pearson == pytest.approx(1)
