"""GSNR, OSGR and sign agreement over all parameters against explicit per-sample gradients."""

from __future__ import annotations

import pytest
import torch
from nets import NETS, Untouched, make, per_sample_gradients, samples
from torch import Tensor, nn

from hpogen.measures.network_moments import gsnr, network_moments, osgr, same_sign

N = 40  # more than the 30 that signs are counted from


def alike(name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Samples of one class: their gradients agree, so that OSGR is not clipped."""
    x, y = samples(name, N, dtype)
    return x, torch.zeros_like(y)


def batches(name: str, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    x, y = alike(name, dtype)
    return [(x[:25], y[:25]), (x[25:], y[25:]), (x[:0], y[:0])]


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
def test_moments_are_those_of_per_sample_gradients(
    name: str, dtype: torch.dtype, error: float
) -> None:
    model = make(name, dtype)
    g = per_sample_gradients(model, *alike(name, dtype))  # (N, P)
    g = g[:, (g != 0).any(0)]
    m, rho = g.mean(0), g.var(0, correction=0)
    kept = rho > 1e-12 * g.square().mean(0)
    ratios = m[kept] ** 2 / rho[kept]
    given = gsnr(model, batches(name, dtype))
    assert given["gsnr"] == pytest.approx(float(ratios.mean()), rel=error)
    assert given["gsnr_median"] == pytest.approx(float(ratios.quantile(0.5)), rel=error)
    ratio = float((m[kept] ** 2).sum() / rho[kept].sum())
    assert given["gsnr_ratio"] == pytest.approx(ratio, rel=error)

    a, b = float(g.square().sum(1).mean()), float(m.square().sum())
    expected = 1 - (a - b) / (N * b)
    assert expected > -1
    assert osgr(model, batches(name, dtype)) == pytest.approx(expected, rel=error, abs=error)


@pytest.mark.parametrize("name", ["residual", "words", "direct"])
def test_signs_are_those_of_per_sample_gradients(name: str) -> None:
    model = make(name)
    g = per_sample_gradients(model, *alike(name, torch.float64)).sign()
    nonzero = g.abs().sum(0)
    counted = nonzero >= 30
    positive = (nonzero + g.sum(0))[counted] / 2
    share = torch.maximum(positive, nonzero[counted] - positive) / nonzero[counted]
    assert same_sign(model, batches(name, torch.float64)) == pytest.approx(float(share.mean()))


def test_everything_is_left_as_it_was() -> None:
    model = make("residual")
    untouched = Untouched(model)
    network_moments(model, batches("residual", torch.float64))
    assert untouched()


def test_no_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        gsnr(make("residual"), [])


def test_nothing_to_train_is_no_signal() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 4)).double().requires_grad_(False)
    assert gsnr(model, [samples("residual", N)])["gsnr"] == 0
    assert osgr(model, [samples("residual", N)]) == 0
