"""Greedy selection of an ensemble, beside a slow second implementation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpogen.analysis.greedy import FLOOR, Labels, Pool, Shares, greedy
from hpogen.study.ensemble import Metric

METRICS: Sequence[Metric] = ("loss", "error")


def classifiers(n: int, samples: int, classes: int, seed: int) -> tuple[list[Shares], Labels]:
    """Tables that know something of the labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=samples)
    logits = 2 * generator.standard_normal((n, samples, classes))
    logits[:, np.arange(samples), labels] += 2
    shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return [*shares.astype(np.float16)], labels


def figure(shares: Sequence[Shares], labels: Labels, picks: Sequence[int], metric: Metric) -> float:
    """The mean figure of an ensemble, sample by sample."""
    total = 0.0
    for k, label in enumerate(labels):
        mean = [
            math.fsum(float(shares[i][k, c]) for i in picks) / len(picks)
            for c in range(shares[0].shape[1])
        ]
        if metric == "loss":
            total -= math.log(max(mean[label], FLOOR))
        else:
            total += int(mean.index(max(mean)) != label)
    return total / len(labels)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 5), size=st.integers(1, 4))
def test_each_step_is_the_best_step(metric: Metric, seed: int, n: int, size: int) -> None:
    shares, labels = classifiers(n, 12, 3, seed)
    path = greedy(Pool(shares, labels, metric), size)
    picks: list[int] = []
    for pick, value in path:
        steps = [figure(shares, labels, [*picks, i], metric) for i in range(n)]
        assert value == pytest.approx(min(steps), abs=1e-12)
        assert steps[pick] == pytest.approx(min(steps), abs=1e-12)
        picks.append(pick)
    assert path[-1][1] == min(value for _, value in path)
    every = [
        figure(shares, labels, multiset, metric)
        for k in range(1, size + 1)
        for multiset in combinations_with_replacement(range(n), k)
    ]
    assert min(every) - 1e-12 <= path[-1][1] <= figure(shares, labels, picks[:1], metric) + 1e-12


@pytest.mark.parametrize("metric", METRICS)
def test_of_two_picks_it_is_the_best_pair_with_the_first(metric: Metric) -> None:
    shares, labels = classifiers(6, 40, 4, 1)
    pool = Pool(shares, labels, metric)
    alone = [figure(shares, labels, [i], metric) for i in range(6)]
    first = alone.index(min(alone))
    pairs = [figure(shares, labels, [first, i], metric) for i in range(6)]
    (one, _), *second = greedy(pool, 2)
    assert one == first
    assert [pick for pick, _ in second] == ([pairs.index(min(pairs))] * (min(pairs) < min(alone)))


@pytest.mark.parametrize("metric", METRICS)
def test_of_equals_the_earliest_and_the_smallest(metric: Metric) -> None:
    (own, other), labels = classifiers(2, 30, 3, 2)
    path = greedy(Pool([own, own, own], labels, metric), 4)
    assert [pick for pick, _ in path] == [0]
    doubled = [other, other, own, own]
    assert greedy(Pool(doubled, labels, metric), 1)[0][0] in (0, 2)


def test_what_only_harms_is_not_added() -> None:
    labels = np.array([0, 1, 0, 1])
    good = np.where(np.eye(2)[labels] == 1, 0.9, 0.1).astype(np.float16)
    bad = (1 - good).astype(np.float16)
    assert [pick for pick, _ in greedy(Pool([bad, good], labels, "loss"), 5)] == [1]


@pytest.mark.parametrize("metric", METRICS)
def test_drawn_samples_count_as_often_as_they_are_drawn(metric: Metric) -> None:
    shares, labels = classifiers(4, 20, 3, 3)
    drawn = np.random.default_rng(0).integers(20, size=20)
    found = greedy(Pool(shares, labels, metric), 4, drawn)
    twin = greedy(Pool([own[drawn] for own in shares], labels[drawn], metric), 4)
    assert [pick for pick, _ in found] == [pick for pick, _ in twin]
    assert [v for _, v in found] == pytest.approx([v for _, v in twin])


def test_losses_and_misses_of_an_ensemble_are_those_of_its_mean() -> None:
    shares, labels = classifiers(5, 50, 4, 4)
    for metric in METRICS:
        pool = Pool(shares, labels, metric)
        picks = (0, 2, 2, 4)
        assert pool.loss(picks) == pytest.approx(figure(shares, labels, picks, "loss"))
        assert pool.wrong(picks).mean() == figure(shares, labels, picks, "error")
