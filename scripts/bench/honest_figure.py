"""How often the interval of an answer's error holds the truth: bias-corrected, and naive.

    .venv/bin/python scripts/bench/honest_figure.py [--searches 500]

A search has trials with true errors, and validation samples that are hard for all of them: trial i
is right on sample k where √ρ·h_k + √(1 − ρ)·e_ik, normal both, lies above its threshold. The trial
with the least validation error is chosen. The truth is that trial's own true error. Naive is
Wilson's interval of its validation error.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from scipy import stats

from hpogen.analysis.figure import bias_corrected, wilson
from hpogen.analysis.statistics import Interval

ALIKE = 0.5  # ρ


@dataclass(frozen=True)
class Coverage:
    """Shares of the searches, and mean errors of the estimates, in points."""

    corrected: float
    naive: float
    corrected_bias: float
    naive_bias: float


def covered(
    trials: int, samples: int, spread: float, searches: int, alike: float = ALIKE, seed: int = 0
) -> Coverage:
    """`spread` is that of the trials' thresholds: 0, all are equally good."""
    generator = np.random.default_rng(seed)
    corrected, naive, errors = [], [], []
    for _ in range(searches):
        thresholds = -1.2 + spread * np.abs(generator.standard_normal(trials))
        hard = np.sqrt(alike) * generator.standard_normal(samples)
        own = np.sqrt(1 - alike) * generator.standard_normal((trials, samples))
        wrong = hard + own < thresholds[:, None]
        shares = wrong.mean(axis=1)
        answer = int(shares.argmin())
        truth = float(stats.norm.cdf(thresholds[answer]))
        weights = wrong.astype(np.float64)
        value, interval = bias_corrected(
            wrong,
            lambda drawn, w=weights: int(
                (w @ np.bincount(drawn, np.ones(samples), samples)).argmin()
            ),
        )
        plain = wilson(float(shares[answer]), samples)
        corrected.append(interval is not None and _holds(interval, truth))
        naive.append(_holds(plain, truth))
        errors.append((value - truth, shares[answer] - truth))
    bias = 100 * np.mean(errors, axis=0)
    return Coverage(
        float(np.mean(corrected)), float(np.mean(naive)), float(bias[0]), float(bias[1])
    )


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--searches", type=int, default=500)
    parser.add_argument("--trials", type=int, nargs="+", default=[8, 32, 128])
    given = parser.parse_args()
    begin = time.perf_counter()
    print(f"{given.searches} searches; coverage in %, bias in points")
    print("trials samples spread  corrected  naive  bias corrected  naive")
    for trials in given.trials:
        for samples in (50, 250, 1000):
            for spread in (0.0, 0.3, 1.0):
                found = covered(trials, samples, spread, given.searches)
                shares = f"{100 * found.corrected:10.1f} {100 * found.naive:6.1f}"
                biases = f"{found.corrected_bias:15.2f} {found.naive_bias:6.2f}"
                print(f"{trials:6} {samples:7} {spread:6.1f} {shares} {biases}", flush=True)
    print(f"\n{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
