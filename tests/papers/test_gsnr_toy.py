"""The toy's closed forms against autograd, and the script at its tiny scale."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import gsnr_toy
import gsnr_toy_nets
from gsnr_sides import Setting, Work
from gsnr_toy_nets import ToyNets, draw


def some_nets(count: int = 3, units: int = 5) -> ToyNets:
    return ToyNets.joined([ToyNets.alike(1, units, seed, "cpu") for seed in range(count)])


def plain_loss(parts: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Of one net: x (n, 2), y (n,)."""
    w1, b1, w2, b2 = parts
    return ((torch.relu(x @ w1.T + b1) @ w2 + b2 - y) ** 2).mean()


def test_moments_are_those_of_per_sample_autograd() -> None:
    nets = some_nets()
    x, y = draw(3, 7, 0.5, 4, "cpu")
    mean, second = nets.moments(x, y)
    gradient = nets.gradient(x, y)
    for m in range(3):
        parts = [part[m].clone().requires_grad_() for part in nets.parts]
        each = [
            torch.autograd.grad(plain_loss(parts, x[m, i : i + 1], y[m, i : i + 1]), parts)
            for i in range(7)
        ]
        for place, its in enumerate(zip(*each, strict=True)):
            gradients = torch.stack(its)
            torch.testing.assert_close(mean.parts[place][m], gradients.mean(0))
            torch.testing.assert_close(second.parts[place][m], gradients.square().mean(0))
            torch.testing.assert_close(gradient.parts[place][m], gradients.mean(0))
        assert float(nets.loss(x, y)[m]) == pytest.approx(
            float(plain_loss(parts, x[m], y[m]).detach())
        )


def test_a_frozen_first_layer_stays_and_the_rest_descends() -> None:
    nets = ToyNets.alike(2, 5, 0, "cpu")
    x, y = draw(2, 30, 0.01, 1, "cpu")
    before, loss = [part.clone() for part in nets.parts], nets.loss(x, y)
    gradient = nets.gradient(x, y)
    nets.descend(gradient, 0.01, torch.tensor([1.0, 0.0], dtype=torch.float64))
    for layer, (old, new, g) in enumerate(zip(before, nets.parts, gradient.parts, strict=True)):
        torch.testing.assert_close(new[0], old[0] - 0.01 * g[0])
        torch.testing.assert_close(new[1], old[1] - (0.0 if layer < 2 else 0.01) * g[1])
    assert (nets.loss(x, y) < loss).all()


def test_initial_weights_of_a_given_size_have_it_and_no_biases() -> None:
    nets = ToyNets.alike(2, 10_000, 0, "cpu", 0.1)
    for weight in (nets.w1, nets.w2):
        assert torch.equal(weight[0], weight[1])
        assert float(weight[0].std()) == pytest.approx(0.1, rel=0.03)
    assert not nets.b1.any() and not nets.b2.any()


def test_the_data_are_as_the_paper_says() -> None:
    x, y = draw(2, 5000, 0.3, 0, "cpu")
    rest = y - x[..., 0] * x[..., 1]
    assert x.abs().max() <= 1 and rest.abs().max() <= 0.3
    assert float(x.var()) == pytest.approx(1 / 3, abs=0.02)
    assert float(rest.var()) == pytest.approx(0.3**2 / 3, abs=0.002)
    assert not torch.equal(x[0], x[1])


def test_the_sides_of_the_toy_are_those_of_its_own_nets() -> None:
    """One set, tested on nothing else: eqs. 19 and 23 by hand."""
    work = Work(Setting("toy", 40, 0.2, 6), 2, (0,), 500, "cpu")
    (found,) = gsnr_toy_nets.points(work)
    nets = ToyNets.alike(2, 6, 0, "cpu")
    (x, y), (tx, ty) = draw(2, 40, 0.2, 2, "cpu"), draw(1, 500, 0.2, 1, "cpu")
    shared = tx.expand(2, -1, -1), ty.expand(2, -1)
    mean, second = (
        torch.cat([p.flatten(1) for p in m.parts], 1) for m in nets.moments(x, y)
    )  # (M, P)
    rho, squares = (second - mean**2).mean(0).sum(), (mean**2).mean(0).sum()
    before = nets.loss(x, y), nets.loss(*shared)
    nets.descend(nets.gradient(x, y), work.rate)
    after = nets.loss(x, y), nets.loss(*shared)
    assert found.rhs == pytest.approx(float(1 - rho / (40 * squares)))
    left = (after[1] - before[1]).sum() / (after[0] - before[0]).sum()
    assert found.lhs == pytest.approx(float(left))


def test_correlations_and_gsnr_are_numpys() -> None:
    generator = torch.Generator().manual_seed(0)
    h, y = torch.rand(2, 50, 3, generator=generator), torch.rand(2, 50, generator=generator)
    c = gsnr_toy.correlations(h, y)
    for m in range(2):
        for k in range(3):
            expected = np.corrcoef(h[m, :, k].numpy(), y[m].numpy())[0, 1]
            assert float(c[m, k]) == pytest.approx(expected, abs=1e-5)
    g = torch.tensor([1.0, 3.0])
    assert float(gsnr_toy.gsnr(g.mean(), g.square().mean())) == pytest.approx(4.0)


def test_features_are_ordered_by_their_rise_and_dead_ones_left_out() -> None:
    steps, nan = np.arange(3), np.nan
    gsnr = np.array([[5.0, 1, 2], [0.1, 4.0, 0.3], [nan, nan, nan], [1.0, 1.5, 1.2]]).T
    c = np.array([[0.1, 0.2, 0.3], [0.4, -0.5, 0.6], [nan, nan, nan], [0.7, 0.8, 0.9]]).T
    nothing = np.zeros((2, 1, 3))
    curves = gsnr_toy.Curves(
        steps, np.stack([gsnr] * 2)[:, None], np.stack([c] * 2)[:, None], nothing, nothing
    )
    found = gsnr_toy.peaks(curves, 0)
    assert [peak.feature for peak in found] == [1, 3, 0]
    assert (found[0].step_peak, found[0].c_start, found[0].c_peak) == (1, 0.4, -0.5)
    assert (found[2].gsnr_start, found[2].gsnr_peak) == (5.0, 5.0)


def test_tiny(tmp_path: Path) -> None:
    gsnr_toy.main(["--scale", "tiny", "--out", str(tmp_path), "--device", "cpu"])
    with open(tmp_path / "gsnr_toy.csv") as file:
        table = list(csv.DictReader(file))
    for start in gsnr_toy.STARTS:
        rows = [row for row in table if row["start"] == start]
        assert [int(row["step"]) for row in rows] == gsnr_toy.steps_shown(30).tolist()
        first, last = rows[0], rows[-1]
        assert first["gsnr_free"] == first["gsnr_frozen"]  # the same weights and data
        assert last["gsnr_free"] != last["gsnr_frozen"]
        assert float(last["train_loss_free"]) < float(first["train_loss_free"])
    figures = {
        f["what"]: f for f in json.loads((tmp_path / "gsnr_toy.json").read_text())["figures"]
    }
    table1 = figures["N(0, 0.1²), 5 largest rises of seed 0: mean |c| at t_max"]
    assert table1["theirs"] == pytest.approx(0.422)
    assert (tmp_path / "gsnr_toy.png").stat().st_size > 1000
    assert (tmp_path / "gsnr_toy_features.csv").exists()
