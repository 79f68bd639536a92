"""A race of finalists: its bounds against published ones, its errors, and when it ends."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from hpogen.selection.race import (
    ALONE,
    INDIFFERENT,
    NO_FINALIST,
    USED_UP,
    Runs,
    _gap,
    _noise,
    _spread,
    crossing,
    levels,
    race,
)

Array = NDArray[np.float64]
TIMES = np.arange(1, 6) / 5


def made(
    seed: int, means: list[float], *, seeds: int = 6, samples: int = 60, spread: float = 0.05
) -> list[Runs]:
    """Of each finalist (seeds, samples): heavy-tailed losses, a shift per run."""
    draw = np.random.default_rng(seed).standard_normal
    hard, unlike = draw(samples), draw((len(means), 1, samples))
    losses = np.exp(1.2 * hard + 0.3 * unlike + 0.3 * draw((len(means), seeds, samples)))
    shifts = spread * draw((len(means), seeds, 1))
    return [m * (own + shift) for m, own, shift in zip(means, losses, shifts, strict=True)]


@pytest.mark.parametrize(
    ("spent", "bounds"),
    [
        # Lan and DeMets (1983), five looks at one-sided 0.025: O'Brien and Fleming's, Pocock's
        (
            2 * stats.norm.sf(stats.norm.isf(0.0125) / np.sqrt(TIMES)),
            [4.8769, 3.3570, 2.6803, 2.2898, 2.0310],
        ),
        (0.025 * np.log(1 + (np.e - 1) * TIMES), [2.4380, 2.4268, 2.4102, 2.3966, 2.3860]),
    ],
)
def test_the_bounds_are_the_published_ones(spent: Array, bounds: list[float]) -> None:
    assert stats.norm.isf(crossing(TIMES, spent)) == pytest.approx(bounds, abs=1e-4)


def test_the_looks_spend_alpha_and_no_more() -> None:
    motion = np.random.default_rng(0).standard_normal((200_000, 9)).cumsum(1)
    motion += np.random.default_rng(1).standard_normal(
        (200_000, 1)
    )  # the run before the first look
    z = motion / np.sqrt(np.arange(2, 11))
    crossed = (z > stats.norm.isf(levels(0.05, 10))).any(axis=1).mean()
    assert crossed == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 200_000))
    assert levels(0.05, 2) == pytest.approx([0.05])
    assert levels(0.05, 1) == ()


def test_the_variance_is_that_of_the_difference() -> None:
    """Over many worlds: new runs and new samples, the losses of two finalists."""
    gaps = []
    for seed in range(400):
        own, best = made(seed, [1.0, 1.0], seeds=4, samples=40, spread=0.2)
        gaps.append(_gap(own, best, _spread([own, best])))
    true = np.var([gap.difference for gap in gaps])
    assert np.mean([gap.variance.value for gap in gaps]) == pytest.approx(true, rel=0.2)


def test_the_noise_is_what_neither_run_nor_sample_explains() -> None:
    draw = np.random.default_rng(0).standard_normal
    runs = draw((5, 1)) + 3 * draw((1, 4000)) + 0.5 * draw((5, 4000))
    assert _noise(runs) == pytest.approx(0.25, rel=0.05)
    assert _noise(runs[:, :1] + runs[:1]) == pytest.approx(0, abs=1e-12)


def test_degrees_of_freedom_where_finalists_spread_alike_and_where_one_does() -> None:
    draw = np.random.default_rng(0).standard_normal
    alike = [_spread([*draw((5, 3, 1))]).freedom for _ in range(300)]
    assert 6 < np.mean(alike) <= 8  # of the 10 that there are
    one = [_spread([50 * draw((3, 1)), *draw((4, 3, 1))]).freedom for _ in range(300)]
    assert np.median(one) == pytest.approx(2, abs=0.2)
    two = [_spread([*draw((2, 3, 1))]).freedom for _ in range(20)]
    assert two == [2] * 20


@pytest.mark.parametrize("count", [2, 4])
def test_equal_finalists_seldom_have_a_winner(count: int) -> None:
    """`scripts/bench/race.py` in small."""
    won = [race(made(seed, [1.0] * count), 6).winner is not None for seed in range(60)]
    assert sum(won) <= stats.binom.isf(0.001, 60, 0.05)


def test_one_configuration_under_two_names_is_told_from_samples_alone_and_not_from_seeds() -> None:
    """Its runs differ by their seed on all samples: a test over samples calls that a difference."""
    draw = np.random.default_rng(3).standard_normal
    hard = np.exp(draw(1000))
    runs = [hard + 0.3 * draw((5, 1)) + 0.01 * draw((5, 1000)) for _ in range(2)]
    paired = [stats.ttest_rel(runs[0][r], runs[1][r]).pvalue for r in range(5)]
    assert max(paired) < 1e-6
    assert race(runs, 5).winner is None


def test_a_clear_best_wins_early() -> None:
    runs = made(0, [1.0, 1.5, 1.6, 2.0], samples=400)
    found = race(runs, 6)
    assert (found.best, found.winner, found.left, found.why) == (0, 0, (0,), ALONE)
    gaps = [gap for gap in found.out.values() if gap]
    assert len(gaps) == 3 and all(gap.seeds < 6 and 0 < gap.low < gap.high for gap in gaps)
    truth = [float(runs[i].mean() - runs[0].mean()) for i in found.out]
    assert all(gap.low < t < gap.high for gap, t in zip(gaps, truth, strict=True))


def test_it_goes_on_with_the_same_decisions_whatever_has_been_run_since() -> None:
    """Runs arrive one by one and in any order; those out have had some in flight."""
    whole = made(1, [1.0, 1.05, 1.3, 2.0], samples=300)
    reached = [2] * 4
    steps = []
    while not (now := race([own[:s] for own, s in zip(whole, reached, strict=True)], 6)).why:
        steps.append(now)
        reached[now.left[0 if len(steps) % 2 else -1]] += 1
        reached = [min(s, 6) for s in reached]
    assert steps and now == race(whole, 6)
    assert all(earlier.out.items() <= now.out.items() for earlier in steps)


def test_it_waits_for_all_that_are_left() -> None:
    first, second, third = made(2, [1.0, 1.0, 1.0])
    assert race([first, second, third[:1]], 6) == race([first[:2], second[:1], third[:1]], 6)
    begun = race([first[:1], second[:1], third[:0]], 6)
    assert (begun.left, begun.best, begun.why) == ((0, 1, 2), None, "")


def test_how_a_race_ends_without_a_winner() -> None:
    runs = made(4, [1.0, 1.0])
    found = race(runs, 6)
    assert (found.why, found.winner, found.left) == (USED_UP, None, (0, 1))
    (gap,) = found.behind.values()
    assert gap.low <= 0 < gap.high and gap.difference >= 0
    assert race(runs, 6, indifference=gap.high + 1).why == INDIFFERENT
    assert race([own[:1] for own in runs], 1).why == USED_UP


def test_one_that_diverged_is_out() -> None:
    first, second = made(5, [1.0, 1.0])
    broken = second.copy()
    broken[1, 3] = np.nan
    for other in (None, broken):
        found = race([first, other], 6)
        assert (found.winner, found.out, found.why) == (0, {1: None}, ALONE)
    assert race([None, None], 6).why == NO_FINALIST


def test_a_task_without_chance_is_decided_by_its_samples() -> None:
    same = np.tile(np.random.default_rng(0).random(50), (3, 1))
    assert race([same, same], 3).why == USED_UP
    assert race([same, same + 0.01], 3).winner == 0


def test_losses_on_other_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got losses of shapes \(2, 5\), \(2, 6\)"):
        race([np.ones((2, 5)), np.ones((2, 6))], 3)
