"""The signs and weights of the GSNR paper against plain computations, and the tiny scale."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import gsnr_sides
import gsnr_signs
from gsnr_sides import Setting, Work


def test_eq_22_is_eq_19() -> None:
    """Per-sample gradients are drawn, as are M sets of them; one parameter has none."""
    random = np.random.default_rng(0)
    each = random.normal(0.3, 1 + np.arange(6), (4, 25, 6))  # (M, n, P)
    each[:, :, 5] = 0
    means, variances = each.mean(1), each.var(1)
    found = gsnr_signs.weights_of(3, means, variances, 25)
    squares = (means**2).mean(0)
    assert found.eq19 == pytest.approx(1 - variances.mean(0).sum() / (25 * squares.sum()))
    assert found.eq22 == pytest.approx(found.eq19, rel=1e-12)
    assert found.plugged > found.eq22  # eq. 25's r counts the noise of the mean as signal
    assert found.w.sum() == pytest.approx(1) and len(found.w) == 5
    assert (np.diff(found.w) <= 0).all()
    assert found.w[0] == pytest.approx(squares.max() / squares.sum())
    assert gsnr_signs.top_share(found.w, 0.4) == pytest.approx(found.w[:2].sum())


def test_signs_and_correlations_of_all_and_of_the_largest_tenth() -> None:
    generator = torch.Generator().manual_seed(0)
    w, g = torch.randn(5, 8, generator=generator), torch.randn(5, 8, generator=generator)
    order = np.argsort(-np.abs(w.numpy().ravel()))
    flat_w, flat_g = w.numpy().ravel(), g.numpy().ravel()
    for column, kept in ((0, order), (1, order[:4])):
        share = np.mean(np.sign(flat_w[kept]) == -np.sign(flat_g[kept]))
        assert gsnr_signs.opposite(w, g)[column] == pytest.approx(share)
        expected = np.corrcoef(flat_w[kept], flat_g[kept])[0, 1]
        assert gsnr_signs.correlation(w, g)[column] == pytest.approx(expected, abs=1e-6)
    assert gsnr_signs.opposite(w, -w) == (1.0, 1.0)
    some = -w * (w.abs() > w.abs().median())  # the small weights have no gradient
    assert gsnr_signs.opposite(w, some) == (1.0, 1.0)


def test_a_training_is_followed_from_its_first_step() -> None:
    work = Work(Setting("digits", 30, 0.0, 2), 1, (0, 1), 1, "cpu", rate=0.5)
    found = gsnr_signs.follow((work, 0))
    assert found.correlation.shape == found.opposite.shape == (2, 4, 2)
    x, y = gsnr_sides.pool("digits", 0.0, 1, 0, "cpu").training_set(30, 0, 0)
    net = gsnr_sides.new_net("digits", 2, x, 0)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    seen = []
    for _ in range(2):
        optimizer.zero_grad()
        functional.cross_entropy(net(x), y).backward()
        weight = net[-1].weight
        seen.append((weight.detach().clone(), weight.grad.clone()))
        optimizer.step()
    (w, g), (_, after) = seen
    expected = np.corrcoef(w.flatten(), (after - g).flatten())[0, 1]
    assert found.correlation[0, -1, 0] == pytest.approx(expected, abs=1e-4)
    with_gradient = (w * g)[w * g != 0]
    assert found.opposite[0, -1, 0] == pytest.approx(float((with_gradient < 0).double().mean()))
    assert found.zero[0, -1] == pytest.approx(float((g == 0).double().mean()))
    assert found.losses[1] < found.losses[0]
    total = sum(float(p.grad.square().sum()) for p in net.parameters())
    assert (found.means[1] ** 2).sum() == pytest.approx(total, rel=1e-4)
    assert (found.variances >= -1e-12).all()


def test_tiny(tmp_path: Path) -> None:
    gsnr_signs.main(["--scale", "tiny", "--out", str(tmp_path), "--device", "cpu"])
    with open(tmp_path / "gsnr_signs.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 4  # epochs 0 to 5, layers
    shares = [float(row[k]) for row in rows for k in ("opposite_all", "opposite_top10")]
    assert 0.3 < np.mean(shares) < 1 and len(set(shares)) > 20
    with open(tmp_path / "gsnr_signs_weights.csv") as file:
        spread = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in spread] == [0, 2, 5]
    for row in spread:
        assert float(row["eq22"]) == pytest.approx(float(row["eq19"]), rel=1e-9)
        assert 0.01 < float(row["top_1_percent"]) < float(row["top_10_percent"]) < 1
    figures = json.loads((tmp_path / "gsnr_signs.json").read_text())["figures"]
    assert sum(figure["theirs"] == 0.8 for figure in figures) == 4
    for name in ("gsnr_signs.png", "gsnr_signs_weights.png"):
        assert (tmp_path / name).stat().st_size > 1000
