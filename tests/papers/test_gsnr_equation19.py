"""Both sides of eq. 19 against per-sample autograd, and the script at its tiny scale."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import gsnr_equation19
import gsnr_sides
from gsnr_sides import Reading, Setting, Work

from hpogen.measures.network_moments import network_moments


def flat(gradients) -> torch.Tensor:
    return torch.cat([g.flatten().double() for g in gradients])


def data(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, 16, 16, generator=generator)
    return x, torch.randint(10, (n,), generator=generator)


def test_a_reading_is_what_per_sample_autograd_and_one_step_give() -> None:
    batch, test, rate = data(12), data(30, 1), 0.01
    net = gsnr_sides.new_net("mnist", 1, batch[0], seed=0)
    twin = gsnr_sides.new_net("mnist", 1, batch[0], seed=0)
    loss = functional.cross_entropy
    parameters = list(twin.parameters())
    each = torch.stack(
        [
            flat(torch.autograd.grad(loss(twin(x[None]), y[None]), parameters))
            for x, y in zip(*batch, strict=True)
        ]
    )
    before = [float(loss(twin(x), y).detach()) for x, y in (batch, test)]
    optimizer = torch.optim.SGD(parameters, lr=rate)
    loss(twin(batch[0]), batch[1]).backward()
    optimizer.step()
    after = [float(loss(twin(x), y).detach()) for x, y in (batch, test)]

    reading = gsnr_sides.read(net, batch, test, rate)

    assert reading.squares == pytest.approx(float(each.mean(0).square().sum()), rel=1e-4)
    assert reading.variances == pytest.approx(float(each.var(0, correction=0).sum()), rel=1e-4)
    assert reading.train == pytest.approx((before[0], after[0]), abs=1e-6)
    assert reading.test == pytest.approx((before[1], after[1]), abs=1e-6)
    assert reading.train[1] < reading.train[0]


def test_with_one_training_set_the_right_side_is_the_measure_osgr() -> None:
    batch = data(200)
    batch = batch[0] + 0.5 * batch[1][:, None, None, None], batch[1]  # some signal: no clipping
    net = gsnr_sides.new_net("mnist", 2, batch[0], seed=1)
    expected = network_moments(net, [batch]).osgr
    reading = gsnr_sides.read(net, batch, batch, 0.001)
    found = gsnr_sides.sides(0, [reading], 200)
    assert -1 < expected < 1
    assert found.rhs == pytest.approx(expected, rel=1e-6)
    assert found.lhs == 1  # tested on the training set itself


def test_means_over_the_sets_come_before_the_ratios() -> None:
    readings = [
        Reading((2.0, 1.0), (2.0, 1.5), squares=1.0, variances=4.0),
        Reading((3.0, 0.0), (3.0, 2.5), squares=3.0, variances=12.0),
    ]
    found = gsnr_sides.sides(7, readings, 8)
    assert found.lhs == pytest.approx((0.5 + 0.5) / (1 + 3))
    assert found.rhs == pytest.approx(1 - 8 / (8 * 2))
    assert (found.epoch, found.train_loss, found.test_loss) == (7, 2.5, 2.5)


def test_batch_norm_has_the_statistics_of_the_training_set_at_the_weights_after_the_step() -> None:
    batch = data(40)
    net = gsnr_sides.new_net("fashion-mnist", 1, batch[0], seed=0)
    gsnr_sides.read(net, batch, data(20, 1), 0.1)
    assert isinstance(net, nn.Sequential)
    norm = net[1]
    inputs = net[0](batch[0])  # (N, C, H, W)
    assert isinstance(norm, nn.BatchNorm2d)
    torch.testing.assert_close(norm.running_mean, inputs.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, inputs.var((0, 2, 3)))


def test_noise_is_in_both_sets_and_leaves_the_right_label_its_chance() -> None:
    clean = gsnr_sides.pool("digits", 0.0, 400, 0, "cpu")
    noisy = gsnr_sides.pool("digits", 0.5, 400, 0, "cpu")
    assert clean.images.shape[1:] == (1, 16, 16)
    for before, after in ((clean.labels, noisy.labels), (clean.test[1], noisy.test[1])):
        changed = float((before != after).double().mean())
        assert changed == pytest.approx(0.45, abs=0.08)
    x, y = clean.training_set(50, 0, 3)
    again, _ = noisy.training_set(50, 0, 3)
    assert torch.equal(x, again) and len(x.unique(dim=0)) == 50
    assert not torch.equal(x, clean.training_set(50, 0, 4)[0])
    assert len(y) == 50


def test_the_sets_begin_with_the_same_weights_and_the_first_epoch_is_before_any_step() -> None:
    work = Work(Setting("digits", 20, 0.0, 1), 2, (0, 2), 50, "cpu")
    first, later = gsnr_sides.points(work)
    images = gsnr_sides.pool("digits", 0.0, 50, 0, "cpu")
    net = gsnr_sides.new_net("digits", 1, images.images[:1], seed=0)
    losses = [
        float(functional.cross_entropy(net(x), y).detach())
        for x, y in (images.training_set(20, 0, number) for number in range(2))
    ]
    assert first.train_loss == pytest.approx(np.mean(losses), abs=1e-6)
    assert later.train_loss < first.train_loss
    assert (first.epoch, later.epoch) == (0, 2)


def test_tiny(tmp_path: Path) -> None:
    gsnr_equation19.main(["--scale", "tiny", "--out", str(tmp_path), "--device", "cpu"])
    with open(tmp_path / "gsnr_equation19.csv") as file:
        rows = list(csv.DictReader(file))
    places = [(r["part"], r["n"], r["noise"], r["channels"], r["epoch"]) for r in rows]
    assert len(places) == len(set(places)) == 2 * 2 * 2 + 2 * 2 * 2
    assert np.isfinite([float(r[k]) for r in rows for k in ("lhs", "rhs", "train_loss")]).all()
    figures = json.loads((tmp_path / "gsnr_equation19.json").read_text())["figures"]
    assert len(figures) == 2 * 2 * 2
    for part in ("mnist", "toy"):
        assert (tmp_path / f"gsnr_equation19_{part}.png").stat().st_size > 1000


def test_the_papers_grids_are_those_of_its_text(tmp_path: Path) -> None:
    run = gsnr_equation19.Run("x", "paper", tmp_path, "cpu")
    mnist, cifar, toy, fast = gsnr_equation19.parts(run)
    widths = (6, 8, 10, 12, 14, 16, 18, 20)
    # §2.4: 280 points
    assert mnist.n == (1000, 2000, 4000, 6000, 8000, 10_000, 15_000)
    assert mnist.noise == (0.0, 0.1, 0.2, 0.3, 0.5) and mnist.channels == widths
    assert mnist.epochs == (20, 100, 500, 2500) and mnist.tested == 10_000
    # A.2: 105 points
    assert cifar.n == (2000, 4000, 6000, 8000, 10_000)
    assert cifar.noise == (0.0, 0.2, 0.4) and cifar.channels == widths[:-1]
    assert cifar.epochs == (20, 100, 500, 1000) and cifar.tested == 10_000
    # A.3: 280 points
    assert toy.n == (50, 100, 300, 600, 1000, 2000, 6000)
    assert toy.noise == (0.2, 2.0, 4.0, 6.0, 8.0) and toy.channels == widths
    assert [len(part.works("cpu")) for part in (mnist, cifar, toy)] == [280, 105, 280]
    assert [part.sets for part in (mnist, cifar, toy)] == [10, 10, 100]
    assert [part.rate for part in (mnist, cifar, toy, fast)] == [0.001, 0.001, 0.001, 0.1]


def test_the_late_part_is_as_far_as_the_papers_later_epochs(tmp_path: Path) -> None:
    run = gsnr_equation19.Run("x", "small", tmp_path, "cpu")
    parts = {part.name: part for part in gsnr_equation19.parts(run)}
    far = [epoch * parts["late"].rate for epoch in parts["late"].epochs]
    assert far == [epoch * parts["mnist"].rate for epoch in gsnr_equation19.LATE[2:]]
