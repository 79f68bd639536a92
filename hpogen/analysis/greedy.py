"""Which of some classifiers are better together: greedy selection of an ensemble.

`analysis/ensemble.py` gives it the trials of a study.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpogen.analysis.statistics import Array
from hpogen.study.ensemble import Metric

FLOOR = 2.0**-25  # a probability that is less counts as this: half of float16's least
CACHED = 16  # tables of what the next pick would give

Shares = NDArray[np.float16]
"""(N, C): the probabilities of the classes for each sample."""
Labels = NDArray[np.integer]  # (N,)


class Pool:
    """n members that may be picked, and what their mixtures get wrong.

    `shares` are n tables, (N, C) each. `metric` is what tells of a pick: by `loss` a sample's
    figure is the cross-entropy of the mean probabilities, by `error` whether it is wrong.
    """

    def __init__(self, shares: Sequence[Shares], labels: Labels, metric: Metric) -> None:
        self.n, self.samples = len(shares), len(labels)
        self._shares, self._labels, self._metric = shares, labels, metric
        rows = np.arange(self.samples)
        self._looked_at = [own[rows, labels] for own in shares] if metric == "loss" else shares
        self.after = lru_cache(maxsize=CACHED)(self._after)
        self.wrong = lru_cache(maxsize=CACHED)(self._wrong)

    def _after(self, picks: tuple[int, ...]) -> NDArray[Any]:
        """(n, N): each sample's figure with each of the n picked once more, after `picks`."""
        total = sum((self._looked_at[i].astype(np.float64) for i in picks), np.float64(0))
        means = ((total + own) / (len(picks) + 1) for own in self._looked_at)
        if self._metric == "loss":
            return np.stack([cross_entropy(mean) for mean in means])
        return np.stack([wrong(mean, self._labels) for mean in means])

    def _wrong(self, picks: tuple[int, ...]) -> NDArray[np.bool_]:
        """(N,): whether the ensemble of these picks is wrong on each sample."""
        return wrong(self._mean(picks), self._labels)

    def loss(self, picks: tuple[int, ...]) -> float:
        """The mean cross-entropy of the ensemble of these picks."""
        mean = self._mean(picks)[np.arange(self.samples), self._labels]
        return float(cross_entropy(mean).mean())

    def _mean(self, picks: tuple[int, ...]) -> Array:
        return mean([self._shares[i] for i in picks])


def mean(shares: Sequence[Shares]) -> Array:
    """(N, C): the mean of tables."""
    found: Array = np.mean(np.stack(shares), axis=0, dtype=np.float64)
    return found


def wrong(mean: Array, labels: Labels) -> NDArray[np.bool_]:
    """(N,): whether the class of the largest probability, of equals the first, is another."""
    found: NDArray[np.bool_] = mean.argmax(axis=1) != labels
    return found


def cross_entropy(of_label: Array) -> Array:
    """−log of the labels' probabilities."""
    found: Array = -np.log(np.maximum(of_label, FLOOR))
    return found


def greedy(pool: Pool, size: int, drawn: NDArray[np.intp] | None = None) -> list[tuple[int, float]]:
    """Up to `size` picks with replacement, each with the mean figure after it.

    Each pick is the one after which the mean figure is least, the earliest of equals. Of these
    nested ensembles the one with the least is taken, the smallest of equals (Caruana,
    Niculescu-Mizil, Crew and Ksikes 2004, sections 2 and 2.1). `drawn` are the samples that tell,
    with repeats; None: all, once.
    """
    n = pool.samples
    weights = np.bincount(np.arange(n) if drawn is None else drawn, minlength=n) / n
    path: list[tuple[int, float]] = []
    for _ in range(size):
        means = pool.after(tuple(sorted(pick for pick, _ in path))) @ weights  # (n,)
        pick = int(means.argmin())
        path.append((pick, float(means[pick])))
    least = min(range(size), key=lambda k: path[k][1])
    return path[: least + 1]
