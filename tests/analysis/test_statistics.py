"""The statistics against scipy and against their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hpogen.analysis.statistics import (
    bootstrap,
    holm,
    kendall,
    mean,
    paired_permutation,
    pearson,
)

X = np.random.default_rng(0).normal(size=24)
Y = np.round(X + np.random.default_rng(1).normal(size=24), 1)  # with ties
SCIPY = {
    kendall: lambda x, y: stats.kendalltau(x, y).statistic,
    pearson: lambda x, y: stats.pearsonr(x, y).statistic,
}


@pytest.mark.parametrize("ours", SCIPY)
def test_of_a_resample_the_coefficient_is_scipys(ours) -> None:
    draws = np.random.default_rng(2).integers(0, 24, size=(20, 24))
    counts = np.stack([np.bincount(draw, minlength=24) for draw in draws]).astype(float)
    expected = [SCIPY[ours](X[draw], Y[draw]) for draw in draws]
    np.testing.assert_allclose(ours(X, Y)(counts), expected, rtol=1e-12)


@pytest.mark.parametrize("ours", SCIPY)
@given(values=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=3, max_size=9))
def test_with_any_ties_too(ours, values: list[tuple[int, int]]) -> None:
    x, y = np.array(values, dtype=float).T
    value = float(ours(x, y)(np.ones((1, len(x))))[0])
    if np.ptp(x) and np.ptp(y):
        assert value == pytest.approx(SCIPY[ours](x, y), abs=1e-12)
    else:
        assert np.isnan(value)


def test_intervals_are_those_of_scipys_percentile_bootstrap() -> None:
    for ours, theirs in SCIPY.items():
        interval = bootstrap(ours(X, Y), 24, resamples=4000, seed=1)
        expected = stats.bootstrap(
            (X, Y),
            lambda x, y, f=theirs: f(x, y),
            paired=True,
            vectorized=False,
            method="percentile",
            n_resamples=500,
            rng=np.random.default_rng(2),
        ).confidence_interval
        assert interval is not None
        assert (interval.low, interval.high) == pytest.approx(
            (expected.low, expected.high), abs=0.06
        )


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    x = np.random.default_rng(3).normal(3, 2, size=400)
    interval = bootstrap(mean(x), 400, level=0.9, resamples=4000)
    half = 1.645 * x.std() / 20
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(
        (x.mean() - half, x.mean() + half), abs=0.02
    )


def test_the_seed_decides_the_interval() -> None:
    first, again, other = (bootstrap(kendall(X, Y), 24, seed=s) for s in (0, 0, 1))
    assert first == again != other


def test_an_undefined_statistic_has_no_interval() -> None:
    assert bootstrap(pearson(X, np.ones(24)), 24) is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=6),
    st.sampled_from([0.01, 0.05, 0.2]),
)
def test_holm_rejects_what_the_step_down_procedure_rejects(p: list[float], alpha: float) -> None:
    rejected = set()
    for step, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if (len(p) - step) * p[i] > alpha:
            break
        rejected.add(i)
    assert {i for i, adjusted in enumerate(holm(p)) if adjusted <= alpha} == rejected


def test_few_pairs_are_permuted_exactly() -> None:
    first, second = X[:8], X[:8] + np.random.default_rng(4).normal(0.4, 0.5, size=8)
    gap = first - second
    means = [abs(np.mean(gap * signs)) for signs in itertools.product([1, -1], repeat=8)]
    exact = np.mean([m >= abs(gap.mean()) - 1e-12 for m in means])
    assert paired_permutation(first, second) == pytest.approx(exact)


def test_many_pairs_are_permuted_by_chance_from_a_seed() -> None:
    noise = np.random.default_rng(5).normal(size=60)
    shift = (noise - noise.mean()) / noise.std() + 0.25
    p = paired_permutation(shift, np.zeros(60), seed=3)
    assert p == paired_permutation(shift, np.zeros(60), seed=3)
    assert p == pytest.approx(stats.ttest_1samp(shift, 0).pvalue, abs=0.02)


def test_one_pair_says_nothing() -> None:
    assert paired_permutation([1.0], [0.0]) == 1.0


@pytest.mark.parametrize("second", [[], [1.0]])
def test_unpaired_numbers_are_an_error(second: list[float]) -> None:
    with pytest.raises(ValueError, match="two equal, non-empty rows"):
        paired_permutation([] if not second else [1.0, 2.0], second)
