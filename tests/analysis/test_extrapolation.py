"""Learning curves continued to more data: against sums that are written out, and for coverage."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import integrate, optimize, special

from hpogen.analysis import extrapolation
from hpogen.analysis.extrapolation import Curve, extrapolate

SIZES = np.array([0.05, 0.1, 0.2, 0.4, 1.0])


def curves_of(seed: int, count: int, noise: float = 0.03) -> np.ndarray[Any, Any]:
    """Losses (count, sizes) of the model's own form."""
    random = np.random.default_rng(seed)
    g = np.exp(random.normal(np.log(0.6), 0.4, (count, 1)))
    rho = special.expit(random.normal(-1, 1, (count, 1)))
    at_one = np.exp(random.normal(-1, 0.5, (count, 1)))
    losses = at_one * (rho + (1 - rho) * SIZES**-g)
    return losses * np.exp(noise * random.standard_normal(losses.shape))  # type: ignore[no-any-return]


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A grid that is small enough to be written out: 3 · 2 · 5 · 3 cells."""
    extrapolation._axes.cache_clear()
    monkeypatch.setattr(extrapolation, "EXPONENTS", np.array([0.3, 0.8, 2.0]))
    monkeypatch.setattr(extrapolation, "OFFSETS", np.array([0.1, 0.6]))
    monkeypatch.setattr(extrapolation, "NOISES", np.array([0.02, 0.1, 0.4]))
    yield
    extrapolation._axes.cache_clear()


def written_out(curves: list[Curve], size: float) -> tuple[list[list[float]], float]:
    """The quantiles of the first two curves, and the order's probability, cell by cell.

    The likelihood of a cell is integrated over s by quadrature.
    """
    axes = extrapolation._axes()
    hyper = np.stack(
        [
            np.einsum("i,j,k,l->ijkl", *rows).ravel()
            for rows in product(*(axis.weights for axis in axes))
        ]
    )  # (H, cells)
    log = np.array([sum(each) for each in product(*(axis.log_prior for axis in axes))])
    largest = max(max(curve.sizes) for curve in curves)
    grids = (
        extrapolation.EXPONENTS, extrapolation.OFFSETS, extrapolation.SHIFTS, extrapolation.NOISES
    )  # fmt: skip
    cells = [*product(*grids)]

    def shape(n: float, g: float, rho: float, d: float) -> float:
        return math.log(rho + (1 - rho) * ((n / largest + d) / (1 + d)) ** -g)

    evidence, means, variances = [], [], []
    for curve in curves:
        rows = []
        for g, rho, d, sigma in cells:
            left = [
                math.log(y) - shape(n, g, rho, d)
                for n, y in zip(curve.sizes, curve.losses, strict=True)
            ]
            middle, count = float(np.mean(left)), len(left)

            def density(s: float, left: list[float] = left, sigma: float = sigma) -> float:
                squares = sum((x - s) ** 2 for x in left)
                return math.exp(-squares / (2 * sigma**2)) / sigma ** len(left)

            whole, _ = integrate.quad(density, middle - 3, middle + 3, points=[middle], limit=200)
            fall = shape(size, g, rho, d)
            spread = sigma**2 * (1 + 1 / count) + (extrapolation.FORM * fall) ** 2
            rows.append((whole, fall + middle, spread))
        found = np.array(rows).T
        evidence.append(found[0]), means.append(found[1]), variances.append(found[2])
    totals = [hyper @ one for one in evidence]
    common = np.exp(log - log.max()) * np.prod([t / t.max() for t in totals], axis=0)
    common /= common.sum()
    quantiles = []
    for c in (0, 1):
        weights = ((common / totals[c])[:, None] * hyper * evidence[c]).sum(0)
        mean, spread = means[c], np.sqrt(variances[c])

        def share(x: float, w: Any = weights, m: Any = mean, s: Any = spread) -> float:
            return float(w @ special.ndtr((x - m) / s))

        quantiles.append(
            [
                math.exp(optimize.brentq(lambda x, q=q: share(x) - q, -20, 20))
                for q in (0.025, 0.5, 0.975)
            ]
        )
    moments = []
    for c in (0, 1):
        own = hyper * evidence[c] / totals[c][:, None]
        mean = own @ means[c]
        moments.append((mean, own @ (means[c] ** 2 + variances[c]) - mean**2))
    (m0, v0), (m1, v1) = moments
    return quantiles, float(common @ special.ndtr((m1 - m0) / np.sqrt(v0 + v1)))


def test_the_sums_are_those_that_are_written_out(coarse: None) -> None:
    losses = curves_of(3, 3)
    curves = [Curve(SIZES[:3], own[:3]) for own in losses[:2]]
    curves.append(Curve([0.1, 0.2, 0.2], [*losses[2, 1:3], losses[2, 2] * 1.1]))
    quantiles, order = written_out(curves, 1.0)
    found = extrapolate(curves, 1.0)
    for one, (low, median, high) in zip(found.predictions, quantiles, strict=True):
        assert one.loss == pytest.approx(median, rel=1e-4)
        assert one.interval.low == pytest.approx(low, rel=1e-4)
        assert one.interval.high == pytest.approx(high, rel=1e-4)
    assert found.order == pytest.approx(order, abs=1e-6)


def test_intervals_hold_what_they_should() -> None:
    held = []
    for seed in range(6):
        losses = curves_of(seed, 8)
        found = extrapolate([Curve(SIZES[:-1], own[:-1]) for own in losses], 1.0, 8)
        held += [
            one.interval.low <= truth <= one.interval.high
            for one, truth in zip(found.predictions, losses[:, -1], strict=True)
        ]
    assert len(held) == 48 and sum(held) >= 44  # of 48 at 95 %, fewer has a chance of 1 %


def test_more_curves_narrow_the_interval() -> None:
    losses = curves_of(0, 12, noise=0.01)

    def width(count: int) -> float:
        (one,) = extrapolate([Curve(SIZES[2:4], own[2:4]) for own in losses[:1]] + [
            Curve(SIZES, own) for own in losses[1:count]
        ], 1.0, 1).predictions  # fmt: skip
        return math.log(one.interval.high / one.interval.low)

    assert width(12) < 0.6 * width(1)


def test_the_order_of_two() -> None:
    first, second = (Curve(SIZES[:-1], own[:-1]) for own in curves_of(5, 2))
    there, back = extrapolate([first, second], 1.0), extrapolate([second, first], 1.0)
    assert there.order is not None and back.order is not None
    assert there.order + back.order == pytest.approx(1, abs=1e-9)
    assert extrapolate([first, first], 1.0).order == pytest.approx(0.5, abs=1e-9)
    assert extrapolate([first], 1.0, 1).order is None
    worse = Curve(first.sizes, 3 * np.asarray(first.losses))
    assert (extrapolate([first, worse], 1.0).order or 0) > 0.9


def test_nothing_is_drawn_and_units_do_not_matter() -> None:
    curves = [Curve(SIZES[:-1], own[:-1]) for own in curves_of(7, 3)]
    assert extrapolate(curves, 1.0) == extrapolate(curves, 1.0)
    images = [Curve([1000 * n for n in c.sizes], [2 * y for y in c.losses]) for c in curves]
    one, other = extrapolate(curves, 1.0), extrapolate(images, 1000)
    for a, b in zip(one.predictions, other.predictions, strict=True):
        assert b.loss == pytest.approx(2 * a.loss, rel=1e-4)
    assert one.order == pytest.approx(other.order)


def test_a_curve_that_rises_is_not_thought_to_fall() -> None:
    rising = Curve([0.1, 0.2, 0.4], [0.2, 0.3, 0.45])
    (one,) = extrapolate([rising], 1.0, 1).predictions
    assert one.interval.low < 0.45 < one.interval.high


BAD: list[tuple[list[Curve], float, str]] = [
    ([Curve([0.1, 0.1], [1.0, 1.1])], 1.0, "two sizes"),
    ([Curve([0.1, 0.2], [1.0, math.nan])], 1.0, "finite"),
    ([Curve([0.1, 0.2], [1.0, 0.0])], 1.0, "above 0"),
    ([Curve([0.1, 0.4], [1.0, 0.5])], 0.3, "size 0.3 is below 0.4"),
]


@pytest.mark.parametrize(("curves", "size", "text"), BAD)
def test_what_has_no_curve(curves: list[Curve], size: float, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        extrapolate(curves, size)
