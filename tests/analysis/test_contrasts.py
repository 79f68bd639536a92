"""One arm against another: by hand, against scipy, and over thousands of simulated comparisons."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from hpogen.analysis.contrasts import ALPHA, Contrast, contrast, pairwise, primary_of
from hpogen.analysis.statistics import holm
from hpogen.errors import UserError

Array = np.ndarray


def errors(values: Array, task: str = "t") -> dict[str, dict[int, float]]:
    return {task: {seed: float(x) for seed, x in enumerate(values)}}


def of(first: Array, second: Array) -> Contrast:
    found = contrast(("A", "B"), errors(first), errors(second))
    assert found is not None
    return found


def test_a_contrast_by_hand() -> None:
    first = {"t": {0: 0.10, 1: 0.20, 2: 0.30, 9: 0.90}, "only": {0: 0.5}}
    second = {"t": {2: 0.31, 1: 0.20, 0: 0.13, 7: 0.00}}
    found = contrast(("A", "B"), first, second)
    assert found is not None
    assert (found.pairs, found.tasks) == (3, 1)  # seeds 0, 1, 2 of the task that both have
    assert found.difference == pytest.approx((-0.03 + 0 - 0.01) / 3)
    assert (found.wins, found.ties, found.losses) == (2, 1, 0)
    assert found.p == found.smallest_p == 0.5  # of four arrangements two are as extreme
    d = np.array([-0.03, 0, -0.01])
    assert found.effect == pytest.approx(d.mean() / d.std(ddof=1))
    assert found.interval is None  # of three
    assert found.worst_task is found.worst_difference is found.wilcoxon_p is None


def test_tasks_have_equal_say_and_the_worst_is_named() -> None:
    first = {**errors(np.array([0.1, 0.1, 0.1, 0.1]), "easy"), **errors(np.array([0.5]), "hard")}
    second = {**errors(np.array([0.2, 0.2, 0.2, 0.2]), "easy"), **errors(np.array([0.3]), "hard")}
    found = contrast(("A", "B"), first, second)
    assert found is not None
    assert found.difference == pytest.approx((-0.1 + 0.2) / 2)
    assert (found.worst_task, found.worst_difference) == ("hard", pytest.approx(0.2))
    assert (found.wins, found.losses, found.pairs, found.tasks) == (4, 1, 5, 2)


def test_p_and_interval_give_tasks_equal_say_too() -> None:
    strata = {"few": np.array([0.5, 0.4]), "many": np.array([-0.3, -0.2, -0.3, -0.25, -0.3, -0.35])}
    first = {task: dict(enumerate(map(float, d))) for task, d in strata.items()}
    second = {task: dict.fromkeys(range(len(d)), 0.0) for task, d in strata.items()}
    found = contrast(("A", "B"), first, second)
    assert found is not None and found.interval is not None
    signs = np.array(list(itertools.product([1, -1], repeat=8)))
    flipped = [signs[:, :2] @ strata["few"] / 2, signs[:, 2:] @ strata["many"] / 6]
    means = np.abs(np.mean(flipped, axis=0))
    assert found.p == pytest.approx((means >= abs(found.difference) - 1e-12).mean())
    assert found.interval.low < found.difference < found.interval.high
    assert found.interval.high <= 0.15  # (0.5 − 0.2) / 2 at most: resampled within tasks


def test_without_a_shared_seed_there_is_nothing_to_say() -> None:
    assert contrast(("A", "B"), {"t": {0: 0.1}}, {"t": {1: 0.1}}) is None
    assert contrast(("A", "B"), {"t": {0: 0.1}}, {"u": {0: 0.1}}) is None


def test_what_decides_is_p_at_five_percent_after_holm_where_there_is_holm() -> None:
    found = of(np.zeros(6), np.ones(6))
    assert replace(found, p=0.05).separable and not replace(found, p=0.0501).separable
    assert not replace(found, p=0.05, p_holm=0.0501).separable
    assert replace(found, p=0.04, p_holm=0.05).separable


def test_one_pair_is_no_evidence() -> None:
    found = of(np.array([0.1]), np.array([0.5]))
    assert found.p == 1.0 and found.interval is None and not found.separable


def test_rounding_makes_no_wins() -> None:
    found = of(np.array([0.1 + 0.2, 0.3]), np.array([0.3, 0.1 + 0.2]))
    assert (found.wins, found.ties, found.losses, found.p) == (0, 2, 0, 1.0)


@pytest.mark.parametrize(("tasks", "there"), [(9, False), (10, True)])
def test_wilcoxon_over_task_means_from_ten_tasks_on(tasks: int, there: bool) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(2, tasks, 3))
    first, second = ({str(t): dict(enumerate(v[t])) for t in range(tasks)} for v in values)
    found = contrast(("A", "B"), first, second)
    assert found is not None
    expected = stats.wilcoxon(values[0].mean(1), values[1].mean(1)).pvalue
    assert found.wilcoxon_p == (pytest.approx(expected) if there else None)


def test_holm_is_over_all_pairs_but_the_primary_one() -> None:
    generator = np.random.default_rng(1)
    arms = {name: errors(generator.normal(0.1 * i, 0.1, size=8)) for i, name in enumerate("ABCD")}
    found = pairwise(arms, ("D", "A"))
    main, *others = found
    assert (main.first, main.second, main.primary, main.p_holm) == ("D", "A", True, None)
    assert len(others) == 5 and not any({c.first, c.second} == {"A", "D"} for c in others)
    assert [c.p_holm for c in others] == holm([c.p for c in others])
    assert all(c.separable == ((c.p_holm or 0) <= ALPHA) for c in others)
    assert len(pairwise(arms)) == 6 and not any(c.primary for c in pairwise(arms))


def test_a_declared_contrast_names_two_arms() -> None:
    arms = ["cmaes__agn+val-log", "random__val", "a - b"]
    assert primary_of("random__val - cmaes__agn+val-log", arms) == (arms[1], arms[0])
    assert primary_of("a - b - random__val", arms) == ("a - b", "random__val")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("random__vol - a", "arm 'random__vol' is unknown; did you mean 'random__val'? (a, random"),
        ("a - random__vol", "arm 'random__vol' is unknown"),
        ("a", "primary: got 'a', expected two arms, 'A - B', of: a, random__val"),
        ("a - a", "expected two arms"),
    ],
)
def test_a_contrast_of_unknown_arms_is_refused_with_the_nearest(text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        primary_of(text, ["a", "random__val"])
    assert said in str(error.value)


# What is found over many simulated comparisons: luck of the search seed, shared by both arms, luck
# of each arm's own, and audit errors that are whole numbers of 1,000 images.


def simulated(generator: np.random.Generator, n: int, effect: float) -> tuple[Array, Array]:
    """Errors of two arms; `effect` in standard deviations of a paired difference."""
    shared = generator.normal(0.1, 0.02, size=n)
    own = generator.normal(0, 0.01, size=(2, n))
    own[0] += effect * 0.01 * np.sqrt(2)
    first, second = np.round((shared + own) * 1000) / 1000
    return first, second


def rate(count: int, found: Callable[[np.random.Generator], bool], seed: int) -> float:
    generator = np.random.default_rng(seed)
    return float(np.mean([found(generator) for _ in range(count)]))


def above(expected: float, count: int) -> float:
    """The 99.9 % point of a share of so many simulations whose chance is `expected`."""
    return float(stats.binom.ppf(0.999, count, expected)) / count


@pytest.mark.parametrize(
    ("n", "count"),
    [
        (8, 1000),
        pytest.param(5, 6000, marks=pytest.mark.slow),
        pytest.param(10, 6000, marks=pytest.mark.slow),
        pytest.param(20, 500, marks=pytest.mark.slow),  # random exchanges
    ],
)
def test_identical_arms_are_called_separable_in_at_most_five_percent(n: int, count: int) -> None:
    false = rate(count, lambda g: of(*simulated(g, n, 0.0)).separable, seed=n)
    assert false <= above(ALPHA, count)
    if 2.0 ** (1 - n) <= ALPHA / 4:  # and not far less: the test is no mere refusal
        assert false > 0.02


@pytest.mark.parametrize("count", [60, pytest.param(800, marks=pytest.mark.slow)])
def test_among_five_identical_arms_hardly_ever_a_pair_is(count: int) -> None:
    def any_found(generator: np.random.Generator) -> bool:
        shared = generator.normal(0.1, 0.02, size=8)
        arms = {name: errors(shared + generator.normal(0, 0.01, size=8)) for name in "ABCDE"}
        return any(c.separable for c in pairwise(arms))

    assert rate(count, any_found, seed=1) <= above(ALPHA, count)


@pytest.mark.parametrize(
    ("n", "effect", "count"),
    [
        (10, 1.0, 400),
        pytest.param(10, 0.5, 3000, marks=pytest.mark.slow),
        pytest.param(10, 1.5, 3000, marks=pytest.mark.slow),
        pytest.param(20, 0.7, 500, marks=pytest.mark.slow),
    ],
)
def test_a_planted_difference_is_found_with_the_power_computed(
    n: int, effect: float, count: int
) -> None:
    """That of the paired t-test, which the permutation test reaches for normal differences.

    Computed before the simulation from the non-central t distribution; the tolerance is three
    points for the approximation and the simulation's own 99.9 % interval.
    """
    critical = stats.t.ppf(1 - ALPHA / 2, n - 1)
    shifted = stats.nct(df=n - 1, nc=effect * np.sqrt(n))
    power = float(shifted.sf(critical) + shifted.cdf(-critical))
    found = rate(count, lambda g: of(*simulated(g, n, effect)).separable, seed=n)
    tolerance = 0.03 + 3.3 * np.sqrt(power * (1 - power) / count)
    assert found == pytest.approx(power, abs=tolerance)


def test_intervals_hold_the_true_difference_as_often_as_they_say() -> None:
    def holds(generator: np.random.Generator) -> bool:
        interval = of(*simulated(generator, 8, 0.0)).interval
        return interval is not None and interval.low <= 0 <= interval.high

    assert rate(400, holds, seed=3) > 0.9
