"""The statistics against scipy and against their definitions."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hpogen.analysis.statistics import (
    bootstrap,
    effect_size,
    expanded,
    holm,
    kendall,
    mean,
    mean_interval,
    paired_permutation,
    pearson,
    smallest_p,
    tau_b,
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
@settings(deadline=None)  # on a busy machine
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


@settings(deadline=None)  # on a busy machine
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


def brute_force_p(differences: np.ndarray, weights: np.ndarray) -> float:
    """Over all exchanges, in exact arithmetic: the differences are whole numbers."""
    shares = [Fraction(float(w)).limit_denominator(1000) for w in weights]
    terms = [int(d) * share for d, share in zip(differences, shares, strict=True)]
    observed = abs(sum(terms))
    signs = itertools.product([1, -1], repeat=len(terms))
    sums = [abs(sum(s * t for s, t in zip(row, terms, strict=True))) for row in signs]
    return sum(x >= observed for x in sums) / len(sums)


@pytest.mark.parametrize("seed", range(6))
def test_arrangements_that_tie_are_counted_whatever_the_rounding(seed: int) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.integers(-4, 5, size=9)  # of images: errors are multiples of 1/1000
    weights = np.repeat([1 / 3, 1 / 6], [3, 6])
    first = 0.1 + counts / 1000
    second = np.full(9, 0.1)
    assert paired_permutation(first, second, weights) == pytest.approx(
        brute_force_p(counts, weights), abs=1e-12
    )


def test_ties_with_a_mean_near_zero_are_counted_too() -> None:
    counts = np.array([668, -127, -43, -329, -394, 56, -352, 46, 146, 327, 154, -150])
    p = paired_permutation(0.1 + counts / 1000, np.full(12, 0.1))
    assert p == pytest.approx(brute_force_p(counts, np.ones(12)), abs=1e-12)


def test_strata_of_unequal_size_have_equal_say() -> None:
    first = np.array([5.0, 5.0, -3.0, -3.0, -3.0, -3.0, -3.0, -3.0])
    weights = np.repeat([1 / 2, 1 / 6], [2, 6])
    equal = paired_permutation(first, np.zeros(8))
    weighted = paired_permutation(first, np.zeros(8), weights)
    assert equal == pytest.approx(brute_force_p(first, np.ones(8)))
    assert weighted == pytest.approx(brute_force_p(first, weights))
    assert equal != weighted


@pytest.mark.parametrize("n", [2, 5, 8, 16])
def test_the_smallest_p_is_that_of_pairs_that_all_agree(n: int) -> None:
    differences = np.arange(1.0, n + 1)
    assert paired_permutation(differences, np.zeros(n)) == smallest_p(differences) == 2.0 ** (1 - n)


def test_ties_leave_less_to_be_exchanged() -> None:
    differences = np.array([0.0, 0.0, 1.0, 2.0, 3.0])
    assert paired_permutation(differences, np.zeros(5)) == smallest_p(differences) == 0.25
    assert paired_permutation(np.zeros(5), np.zeros(5)) == smallest_p(np.zeros(5)) == 1.0


def test_of_random_exchanges_the_observed_one_is_counted() -> None:
    differences = np.arange(1.0, 31.0)
    assert paired_permutation(differences, np.zeros(30), resamples=99) == pytest.approx(0.01)
    assert smallest_p(differences, resamples=99) == pytest.approx(0.01)
    assert smallest_p(differences) == pytest.approx(1 / 20_001)


def test_strata_are_resampled_within_themselves() -> None:
    x = np.array([0.0, 0.0, 0.0, 7.0, 7.0, 7.0, 7.0])
    interval = bootstrap(mean(x), (3, 4))
    assert interval is not None and interval.low == interval.high == 4.0
    mixed = bootstrap(mean(x), 7)
    assert mixed is not None and mixed.low < 3 < 5 < mixed.high


def test_a_stratified_interval_is_that_of_its_resamples() -> None:
    generator = np.random.default_rng(7)
    x, weights = generator.normal(size=9), np.repeat([1 / 8, 1 / 10], [4, 5])
    interval = bootstrap(mean(x, weights), (4, 5), level=0.9, resamples=4000, seed=3)
    means = [
        np.mean([generator.choice(x[:4], 4).mean(), generator.choice(x[4:], 5).mean()])
        for _ in range(8000)
    ]
    assert interval is not None
    low, high = np.quantile(means, [0.05, 0.95])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.03)


@pytest.mark.parametrize("n", [5, 10, 40])
def test_expanded_intervals_of_means_are_about_students(n: int) -> None:
    x = np.random.default_rng(n).normal(size=n)
    interval = mean_interval(x, resamples=20_000)
    low, high = stats.ttest_1samp(x, 0).confidence_interval()
    assert interval is not None
    assert interval.high - interval.low == pytest.approx(high - low, rel=0.2)
    plain = bootstrap(mean(x), n, resamples=20_000)
    assert plain is not None and plain.high - plain.low < interval.high - interval.low


def test_the_expanded_level_by_hand() -> None:
    alpha = 2 * stats.norm.cdf(-np.sqrt(10 / 9) * stats.t.ppf(0.975, 9))
    assert expanded([10]) == pytest.approx(1 - alpha)
    assert 0.95 < expanded([10, 10]) < expanded([10]) < expanded([4]) <= 1


def test_of_fewer_than_five_there_is_no_interval() -> None:
    assert mean_interval([1.0, 2.0, 3.0, 4.0]) is None
    assert mean_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is not None
    assert mean_interval([1.0, 2.0, 3.0, 4.0, 5.0], None, (3, 2)) is None
    strata = mean_interval(X[:8], np.ones(8), (4, 4), seed=1)
    assert strata == bootstrap(mean(X[:8]), (4, 4), level=expanded((4, 4)), seed=1)


def test_effect_sizes() -> None:
    x = np.random.default_rng(8).normal(0.5, 1, size=12)
    assert effect_size([x]) == pytest.approx(x.mean() / x.std(ddof=1))
    shifted = [x[:6] + 3, x[6:] - 3]  # the tasks' own means are no part of the deviation
    pooled = np.sqrt((x[:6].var(ddof=1) + x[6:].var(ddof=1)) / 2)
    assert effect_size(shifted) == pytest.approx(np.mean([d.mean() for d in shifted]) / pooled)
    assert effect_size([[0.1, 0.1, 0.1]]) is None
    assert effect_size([[0.1], [0.3]]) is None


@pytest.mark.parametrize("levels", [1, 2, 3, 30, 10**9])
@pytest.mark.parametrize("n", [2, 3, 8, 501, 3000])
def test_tau_b_is_that_of_scipy_to_the_last_bit(n: int, levels: int) -> None:
    generator = np.random.default_rng([n, levels])
    for _ in range(20 if n < 100 else 2):
        x = generator.integers(levels, size=n) / 7
        for y in (x + generator.integers(levels, size=n), x, -x, generator.standard_normal(n)):
            expected = stats.kendalltau(x, y).statistic
            assert np.array_equal(tau_b(x, y), expected, equal_nan=True)
