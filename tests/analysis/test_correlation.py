"""Judging measures on study folders with known outcomes: values, parts, who is left out."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from analysis.studies import Made, made, study
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hpogen.analysis.correlation import Judgement, halves, judge, sign_error
from hpogen.analysis.statistics import holm
from hpogen.analysis.trials import TARGETS, finished_trials
from hpogen.errors import UserError
from hpogen.study.read import read
from hpogen.trial import Failure

N = 21


def trials(seed: int = 0, n: int = N) -> list[Made]:
    """`good` follows the gap with noise, `noise` nothing, `flat` is constant, `rare` often absent.

    Training accuracies are all different.
    """
    generator = np.random.default_rng(seed)
    accuracy = 0.5 + generator.permutation(n) / (2 * n)
    gap = generator.uniform(0, 0.3, n)
    good = 10 * gap + generator.normal(0, 0.5, n)
    noise = generator.normal(size=n)
    return [
        made(
            {"lr": 0.1 + i},
            accuracy[i],
            accuracy[i] - gap[i],
            loss=1 - accuracy[i],
            good=good[i],
            noise=noise[i],
            flat=1.0,
            **({"rare": noise[i]} if i % 5 == 2 else {}),
        )
        for i in range(n)
    ]


def judged(folder: Path, **keys: object) -> Judgement:
    return judge(study(folder, trials(), **keys), ["good", "noise", "flat", "rare"], resamples=200)


def test_coefficients_and_p_values_are_those_of_scipy(tmp_path: Path) -> None:
    finished = trials()
    judgement = judged(tmp_path)
    truth = {
        "audit_gap_loss": [a["loss"] - m["train_loss"] for _, m, a in finished],
        "audit_gap_error": [m["train_accuracy"] - a["accuracy"] for _, m, a in finished],
        "audit_error": [1 - a["accuracy"] for _, _, a in finished],
    }
    assert truth.keys() == {*TARGETS}
    for target, gaps in truth.items():
        for c in judgement.select(target):
            if c.measure in ("good", "noise"):
                x = [m[c.measure] for _, m, _ in finished]
                tau, r = stats.kendalltau(x, gaps), stats.pearsonr(x, gaps)
                assert c.kendall and c.pearson and c.trials == N
                assert (c.kendall.value, c.kendall.p) == pytest.approx((tau.statistic, tau.pvalue))
                assert (c.pearson.value, c.pearson.p) == pytest.approx((r.statistic, r.pvalue))
                for found in (c.kendall, c.pearson):
                    assert found.interval is not None
                    assert found.interval.low <= found.value <= found.interval.high


def test_holm_is_over_the_measures_that_have_a_value(tmp_path: Path) -> None:
    family = judged(tmp_path).select("audit_error", "top")
    for kind in ("kendall", "pearson"):
        found = [c for f in family if (c := getattr(f, kind)) is not None]
        assert len(found) in (2, 3)  # `flat` has none, `rare` only with three trials in the half
        assert [c.p_holm for c in found] == pytest.approx(holm([c.p for c in found]))


def test_a_constant_has_no_coefficient_and_missing_values_are_left_out(tmp_path: Path) -> None:
    by_name = {c.measure: c for c in judged(tmp_path).select("audit_error")}
    assert by_name["flat"].kendall is None and by_name["flat"].pearson is None
    assert by_name["flat"].trials == N
    assert by_name["rare"].trials == 4 and by_name["rare"].kendall is not None


def test_the_halves_are_by_training_accuracy_and_leave_out_the_middle(tmp_path: Path) -> None:
    finished = trials()
    order = sorted(range(N), key=lambda i: -finished[i][1]["train_accuracy"])
    judgement = judged(tmp_path)
    for part, chosen in (("top", order[:10]), ("bottom", order[11:])):
        c = next(c for c in judgement.select("audit_error", part) if c.measure == "good")
        x = [finished[i][1]["good"] for i in chosen]
        y = [1 - finished[i][2]["accuracy"] for i in chosen]
        assert c.trials == 10 and c.kendall is not None
        assert c.kendall.value == pytest.approx(stats.kendalltau(x, y).statistic)
    assert judgement.tied_at_median == 0


def test_equal_training_accuracies_are_split_by_loss_and_counted(tmp_path: Path) -> None:
    finished = [
        made({"lr": i}, accuracy, 0.5, loss=loss, m=float(i))
        for i, (accuracy, loss) in enumerate(
            [(1.0, 0.5), (0.9, 0.6), (1.0, 0.1), (1.0, 0.2), (0.8, 0.7), (1.0, 0.4)]
        )
    ]
    folder = study(tmp_path, finished)
    parts, tied = halves(finished_trials(read(folder)))
    assert parts["top"].tolist() == [2, 3, 5]
    assert parts["bottom"].tolist() == [0, 1, 4]
    assert parts["all"].tolist() == [0, 1, 2, 3, 4, 5]
    assert tied == 4
    assert judge(folder, ["m"], resamples=50).tied_at_median == 4


def test_only_comparable_trials_are_judged_and_the_others_counted(tmp_path: Path) -> None:
    good = trials(n=6)
    without = (good[0][0] | {"lr": 50.0}, good[0][1], {})
    finished = [good[0], good[0], good[1], Failure("diverged", "NaN"), *good[2:], without]
    folder = study(tmp_path, finished, budgets=[4, 4, 2, 4, 4, 4, 4, 4, 4])
    found = finished_trials(read(folder))
    assert found.numbers == (0, 4, 5, 6, 7)
    assert found.budget == 4
    assert found.left_out == {
        "duplicate": 1,
        "of a smaller budget": 1,
        "failed": 1,
        "without audit": 1,
    }
    assert judge(folder, resamples=50).trials == 5


@pytest.mark.parametrize("searcher", ["cmaes", "bohb", "asha", "optuna"])
def test_trials_of_an_adaptive_searcher_are_only_described(tmp_path: Path, searcher: str) -> None:
    judgement = judged(tmp_path, searcher=searcher)
    assert judgement.descriptive
    for c in judgement.correlations:
        for found in (c.kendall, c.pearson):
            assert found is None or (found.p is None and found.p_holm is None)
    assert judgement.searcher == searcher


@pytest.mark.parametrize("searcher", ["random", "grid"])
def test_trials_that_nothing_chose_have_p_values(tmp_path: Path, searcher: str) -> None:
    judgement = judged(tmp_path, searcher=searcher)
    assert not judgement.descriptive
    assert all(c.kendall.p is not None for c in judgement.correlations if c.kendall)


def test_the_seed_decides_and_every_metric_is_judged_by_default(tmp_path: Path) -> None:
    folder = study(tmp_path, trials())
    first, again, other = (judge(folder, resamples=60, seed=s) for s in (0, 0, 1))
    assert first == again != other
    names = {"train_accuracy", "train_loss", "good", "noise", "flat", "rare"}
    assert {c.measure for c in first.correlations} == names


def slow_sign_error(values: list[float], truth: list[float], images: int) -> float:
    """Dziugaite et al. 2020 over all ordered pairs, one at a time."""
    total = wrong = 0.0
    for i, j in itertools.permutations(range(len(values)), 2):
        delta = abs(truth[i] - truth[j])
        weight = max(0.0, 1 - 2 * math.exp(-2 * images * (delta / 2) ** 2)) ** 2
        sign = np.sign(values[i] - values[j]) * np.sign(truth[i] - truth[j])
        total += weight
        wrong += weight * (1 - sign) / 2
    return wrong / total


@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), min_size=2, max_size=9),
    st.sampled_from([100, 1000, 10_000]),
)
def test_the_sign_error_is_that_of_its_definition(
    points: list[tuple[int, float]], images: int
) -> None:
    values, truth = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    value, pairs = sign_error(values, truth, images)
    if value is None:
        assert pairs == 0
    else:
        assert value == pytest.approx(slow_sign_error([*values], [*truth], images))


def test_trials_without_the_measure_are_in_no_pair() -> None:
    values, truth = np.array([math.nan, 2.0, 1.0]), np.array([0.0, 0.9, 0.1])
    assert sign_error(values, truth, 10**8) == (0.0, 1.0)


def test_pairs_that_the_audit_cannot_tell_apart_weigh_nothing() -> None:
    values, truth = np.array([1.0, 2.0, 3.0]), np.array([0.200, 0.201, 0.9])
    assert sign_error(values, truth, 1000)[0] == 0
    assert sign_error(np.array([2.0, 1.0, 3.0]), truth, 1000)[0] == 0  # 0.1 % of 1,000 is noise
    assert sign_error(np.array([2.0, 1.0, 3.0]), truth, 10**8)[0] == pytest.approx(1 / 3)
    assert sign_error(np.ones(3), truth, 10**8)[0] == 0.5
    assert sign_error(-truth, truth, 10**8)[0] == 1
    assert sign_error(truth[:2], truth[:2], 1000) == (None, 0.0)


def test_how_many_audit_images_there_are_is_told_or_found(tmp_path: Path) -> None:
    finished = [made({"lr": i}, 0.9, k / 360, m=0.0) for i, k in enumerate([301, 288, 323])]
    assert finished_trials(read(study(tmp_path / "a", finished, audit=250))).audit_images == 250
    assert finished_trials(read(study(tmp_path / "b", finished))).audit_images == 360
    irrational = [made({"lr": i}, 0.9, 1 / math.pi**i, m=0.0) for i in range(1, 4)]
    folder = study(tmp_path / "c", irrational)
    assert finished_trials(read(folder)).audit_images is None
    assert judge(folder, ["m"], resamples=50).sign_errors == ()


def test_mistakes_are_named(tmp_path: Path) -> None:
    folder = study(tmp_path / "a", trials())
    with pytest.raises(UserError, match="metric 'goood' is unknown; did you mean 'good'"):
        judge(folder, ["goood"])
    with pytest.raises(UserError, match="target 'gap' is unknown"):
        finished_trials(read(folder)).target("gap")
    with pytest.raises(UserError, match="there is no study here"):
        judge(tmp_path / "b")
    without = study(tmp_path / "c", [({"lr": 1}, {"train_loss": 1.0}, {})])
    with pytest.raises(UserError, match=r"no trial can be judged \(1 without audit\)"):
        judge(without)
