"""Which rule finds what is good: against scipy and counting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from analysis.searches import AGN, Made, search
from scipy import stats

from hpogen.analysis.validity import averaged, of_study, validity
from hpogen.objective import Location, Objective, Term
from hpogen.study.read import read_all
from hpogen.tasks.errors import ERRORS
from hpogen.trial import Rung

RULE = np.random.default_rng(0).normal(size=30)
TRUTH = np.round(0.2 + 0.05 * RULE + 0.05 * np.random.default_rng(1).normal(size=30), 2)  # ties


def test_a_rule_by_scipy_and_by_counting() -> None:
    found = validity(RULE, TRUTH)
    assert found is not None and found.n == 30
    assert found.spearman == pytest.approx(stats.spearmanr(RULE, TRUTH).statistic)
    assert found.kendall == pytest.approx(stats.kendalltau(RULE, TRUTH).statistic)
    ranked = sorted(range(30), key=lambda i: TRUTH[i])
    for k in (5, 10):
        lowest = sorted(range(30), key=lambda i: RULE[i])[:k]
        highest = sorted(range(30), key=lambda i: -RULE[i])[:k]
        assert found.overlap[k] == sum(i in ranked[:k] for i in lowest) / k
        drawn = [np.random.default_rng(i).permutation(30)[:k] for i in range(2000)]
        hits = np.mean([sum(int(i) in ranked[:k] for i in draw) for draw in drawn]) / k
        assert found.chance[k] == pytest.approx(hits, abs=0.01)
        assert found.overlap_highest[k] == sum(i in ranked[:k] for i in highest) / k
    assert found.regret == pytest.approx(TRUTH[RULE.argmin()] - TRUTH.min())
    assert found.regret_highest == pytest.approx(TRUTH[RULE.argmax()] - TRUTH.min())


def test_the_truth_itself_is_the_best_rule() -> None:
    found = validity(TRUTH, TRUTH)
    assert found is not None
    assert (found.spearman, found.kendall) == pytest.approx((1.0, 1.0))
    assert found.overlap == {5: 1.0, 10: 1.0} and found.regret == 0


def test_a_constant_has_no_correlation_and_few_trials_no_best_ten() -> None:
    found = validity(np.ones(6), TRUTH[:6])
    assert found is not None and found.spearman is None and found.kendall is None
    assert set(found.overlap) == {5}
    assert validity(RULE[:2], TRUTH[:2]) is None


OBJECTIVES = [
    Objective((Term("val_loss", 1.0),), "val"),
    Objective((Term("agn", -1.0), Term("val_loss", 0.5)), "mixed"),
    Objective((Term("agn", 1.0, "log"), Term("val_loss", 1.0)), "log", frozenset({"agn"})),
    Objective((Term("agn", 1.0, "rank"), Term("val_loss", 9.0, "rank")), "rank"),
    Objective((Term("agn", 1.0, "standard"), Term("val_loss", 1.0, "standard")), "standard"),
    Objective((Term("zeta", 1.0),), "zeta"),
]


def trials(n: int = 14) -> list[Made]:
    generator = np.random.default_rng(3)
    loss, agn, audit = generator.uniform(0.1, 0.9, size=(3, n))
    rows = zip(loss, agn, audit, strict=True)
    return [Made(float(a), float(c), {"agn": float(b)}) for a, b, c in rows]


def judged(directory: Path, made: list[Made], **keys: Any) -> dict[str, Any]:
    [study] = read_all([search(directory, made, objective=AGN, **keys)])
    return of_study(study, OBJECTIVES, ERRORS["accuracy"])


def test_every_objective_and_metric_of_the_same_trials(tmp_path: Path) -> None:
    made = trials()
    found = judged(tmp_path, [*made, Made(audit=None), Made(0.01, budget=2)])
    loss, agn = (
        np.array(x) for x in zip(*((m.val_loss, m.metrics["agn"]) for m in made), strict=True)
    )
    errors = 1 - np.array([m.audit for m in made])

    def standard(x: np.ndarray) -> np.ndarray:
        center = np.median(x)
        return (x - center) / (1.4826 * np.median(np.abs(x - center)))

    scores = {
        "val": loss,
        "mixed": 0.5 * loss - agn,
        "log": np.log(agn / 4) + loss,
        "rank": stats.rankdata(agn) + 9 * stats.rankdata(loss),
        "standard": standard(agn) + standard(loss),
        "agn": agn,
        "val_loss": loss,
    }
    assert set(found) == set(scores)  # not zeta, which these trials do not have
    for name, values in scores.items():
        assert found[name].n == 14
        assert found[name].spearman == pytest.approx(stats.spearmanr(values, errors).statistic)
        assert found[name].regret == pytest.approx(errors[values.argmin()] - errors.min())


def test_a_rule_that_is_not_defined_is_left_out(tmp_path: Path) -> None:
    negative = [*trials(), Made(metrics={"agn": -1.0})]
    assert "log" not in judged(tmp_path, negative)
    assert "mixed" in judged(tmp_path, negative)


def test_a_frozen_scale_is_used(tmp_path: Path) -> None:
    [study] = read_all([search(tmp_path, trials(), objective=AGN)])
    study.history.locations[Rung(4)] = {"agn": Location(0.0, 1e-9), "val_loss": Location(0.0, 1.0)}
    found = of_study(study, OBJECTIVES, ERRORS["accuracy"])
    assert found["standard"].kendall == pytest.approx(found["agn"].kendall)  # it decides alone


def test_averages_are_over_seeds_not_over_studies() -> None:
    rules = [validity(RULE[i : i + 10], TRUTH[i : i + 10]) for i in (0, 10, 20)]
    one, two, three = (rule for rule in rules if rule is not None)
    found = averaged("x", True, {0: [one, one, one], 1: [two, three]})
    assert found.regret is not None and found.regret.n == 2
    assert found.regret.mean == pytest.approx((one.regret + (two.regret + three.regret) / 2) / 2)
    assert found.overlap[5] is not None and found.overlap[10] is None
    assert averaged("x", True, {0: [one]}).regret.interval is None  # type: ignore[union-attr]
