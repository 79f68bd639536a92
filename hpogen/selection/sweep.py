"""The α of `alpha: swept`: how much a measure is to weigh beside validation loss, found afterwards.

`choosing.py` asks it of the finished trials of a study whose search ran on validation loss alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hpogen.objective import locate
from hpogen.selection.evidence import Losses

Array = NDArray[np.float64]

PARTS = (0.0, *(2.0**k for k in range(-5, 3)))  # 0, 1/32, 1/16, … 4
HALVINGS = 20
FEWEST = 4  # samples, and trials


def swept(values: Sequence[float], losses: Losses) -> float:
    """α for the scores α · `values` + mean loss of n trials; `losses` (n, N) per validation sample.

    It is one of `PARTS` times the spread of the mean losses over that of the values (n,), which are
    infinite where they are not defined.

    Cross-fitting over halves: validation is halved at random; with each α one half chooses a trial
    by its score and the other half judges that, and the other way round; twenty times. The estimate
    of an α is the mean over all samples of the losses by which they judged. The answer is the least
    α that is not separable from the best one, by the one-standard-error rule on paired differences:
    a measure has to show that it helps. Without four trials and four samples it is 0.

    Why halves, and not the bias-corrected estimate of bootstrap samples (Tsamardinos, Greasidou and
    Borboudakis 2018): both choose by a mean of variance 2σ²/N, but of a bootstrap sample only the
    37 % that were not drawn judge, and each α has other trials to judge by how often they were. A
    half judges by all of its samples, each sample judges equally often, and none that has chosen.
    That validation has half its samples to choose by is the price: α is that of noise twice as
    large as the answer's, too large rather than too small.

    What validation hides, validation can hardly confirm. On 200 planted searches each (n 40 and
    100, N 30 to 1,000; one setting of them in `tests/test_alpha.py`) α was 0 in 61 to 72 % where
    the values are noise, which cost up to 7 % of the regret, and above 0 in 60 to 82 % where they
    tell the truth, which saved 23 to 43 %; where trials differed more (n 32), 54 % and nothing.
    """
    n, samples = losses.shape
    known = np.isfinite(values)
    if min(int(known.sum()), n, samples) < FEWEST:
        return 0.0
    x = np.where(known, values, np.inf)
    mean = losses.mean(axis=1, dtype=np.float64)
    alphas = (
        np.array(PARTS) * locate(mean[known].tolist()).spread / locate(x[known].tolist()).spread
    )
    judged = _cross_fitted(alphas, x, losses)
    best = judged[int(judged.mean(axis=1).argmin())]
    return next(
        float(alpha) for alpha, own in zip(alphas, judged, strict=True) if not separable(own - best)
    )


def _cross_fitted(alphas: Array, x: Array, losses: Losses) -> Array:
    """(A, N): the mean loss of what the halves that a sample is not in have chosen with each α."""
    generator = np.random.default_rng(0)
    samples = losses.shape[1]
    exact = losses.astype(np.float64)
    with np.errstate(invalid="ignore"):
        weighed = np.where(np.isfinite(x), alphas[:, None] * x, np.inf)  # (A, n), also for α = 0
    halves = np.zeros((2 * HALVINGS, samples), dtype=bool)
    for i in range(HALVINGS):
        halves[2 * i, generator.permutation(samples)[: samples // 2]] = True
        halves[2 * i + 1] = ~halves[2 * i]
    means = exact @ halves.T.astype(np.float64) / halves.sum(axis=1)  # (n, halves)
    judged = np.zeros((len(alphas), samples))
    for mean, chooses in zip(means.T, halves, strict=True):
        choices = (mean + weighed).argmin(axis=1)  # (A,)
        judged += np.where(chooses, 0.0, exact[choices])
    return judged / HALVINGS


def separable(differences: Losses) -> bool:
    """Whether the mean of paired differences (N,) exceeds one standard error, sd(d) / √N.

    Breiman et al. 1984, §3.4.3, on differences.
    """
    n = len(differences)
    return n > 1 and bool(differences.mean() > differences.std(ddof=1) / math.sqrt(n))
