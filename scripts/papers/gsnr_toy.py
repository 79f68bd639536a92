"""The GSNR paper's Figure 5 and Table 1: GSNR rises where features are learnt, not where frozen.

    scripts/papers/gsnr_toy.py [--scale small|paper] [--out FOLDER]

A net of 2 inputs, 20 hidden units and 1 output learns y = x₀x₁ + ε (ε up to ±0.01) from 200 samples
by full-batch gradient descent, with its first layer free or frozen. It is so small that both scales
run it at the paper's size, from 20 seeds where the paper shows one run. GSNR is that of eq. 25, of
the 20 weights of the second layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from common import Beside, Run, begin, call, options
from gsnr_toy_nets import ToyNets, draw
from matplotlib import pyplot
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

Values = NDArray[np.float64]

UNITS, SAMPLES, NOISE = 20, 200, 0.01  # the paper's
RATE = 0.05  # ours: the paper names none
SHOWN = 5  # features in the paper's Table 1
THEIR_START, THEIR_PEAK = (
    (0.11 + 0.11 + 0.07 + 0.21 + 0.33) / 5,
    (0.47 + 0.44 + 0.40 + 0.27 + 0.53) / 5,
)  # mean |c| over Table 1


@dataclass(frozen=True)
class Curves:
    """What was seen at `steps` (T,) of S seeds; the first of the two is free, the second frozen."""

    steps: NDArray[np.int64]
    gsnr: Values  # (2, S, T, N); NaN where no sample activates the unit
    features: Values  # (2, S, T, N), the correlation of each feature with y; NaN likewise
    train: Values  # (2, S, T)
    test: Values  # (2, S, T)


def correlations(features: Tensor, y: Tensor) -> Tensor:
    """Pearson's, of features (M, n, N) with targets (M, n) over the n samples: (M, N)."""
    a = features - features.mean(1, keepdim=True)
    b = y - y.mean(1, keepdim=True)
    return (b[:, None] @ a)[:, 0] / (a.square().sum(1) * b.square().sum(1, keepdim=True)).sqrt()


def gsnr(mean: Tensor, second: Tensor) -> Tensor:
    """g²/ρ² (eq. 25) from the mean gradient and the mean of its square."""
    return mean.square() / (second - mean.square())


def steps_shown(last: int) -> NDArray[np.int64]:
    """From 0 to the last step, about evenly on a logarithmic axis."""
    return np.unique(np.append(0, np.geomspace(1, last, 150).round().astype(int)))


def train(seeds: int, last: int, tested: int, device: str) -> Curves:
    """Two nets per seed with the same weights and data, all of them at once."""
    started = [ToyNets.alike(1, UNITS, seed, device) for seed in range(seeds)]
    nets = ToyNets.joined(started * 2)
    first = torch.tensor([1.0] * seeds + [0.0] * seeds, device=device, dtype=torch.float64)
    x, y = (torch.cat([part, part]) for part in draw(seeds, SAMPLES, NOISE, 1, device))
    test_x, test_y = draw(1, tested, NOISE, 2, device)
    shared = test_x.expand(2 * seeds, -1, -1), test_y.expand(2 * seeds, -1)
    steps = steps_shown(last)
    wanted, seen = set(steps.tolist()), []
    for now in range(last + 1):
        if now in wanted:
            mean, second = nets.moments(x, y)
            ratio, c = gsnr(mean.w2, second.w2), correlations(nets.hidden(shared[0]), shared[1])
            losses = nets.loss(x, y)[:, None], nets.loss(*shared)[:, None]
            seen.append(torch.cat([ratio, c, *losses], 1).cpu())  # (2S, 2N + 2)
        nets.descend(nets.gradient(x, y), RATE, first)
    table = torch.stack(seen, 1).reshape(2, seeds, len(steps), -1).numpy()  # (2, S, T, 2N + 2)
    return Curves(steps, table[..., :UNITS], table[..., UNITS:-2], table[..., -2], table[..., -1])


@dataclass(frozen=True)
class Peak:
    """A feature of a free net at the start and at the highest point of its GSNR curve."""

    seed: int
    feature: int
    gsnr_start: float
    gsnr_peak: float
    step_peak: int
    c_start: float
    c_peak: float


def peaks(curves: Curves, seed: int) -> list[Peak]:
    """Of all features that have a curve, the one whose GSNR rises most first."""
    found = []
    for feature in range(curves.gsnr.shape[-1]):
        curve, c = curves.gsnr[0, seed, :, feature], curves.features[0, seed, :, feature]
        if not np.isfinite(curve[0]) or not np.isfinite(c[0]):
            continue
        at = int(np.nanargmax(curve))
        start, top = float(curve[0]), float(curve[at])
        found.append(
            Peak(seed, feature, start, top, int(curves.steps[at]), float(c[0]), float(c[at]))
        )
    return sorted(found, key=lambda peak: peak.gsnr_start - peak.gsnr_peak)


def tell(run: Run, curves: Curves) -> None:
    """Our figures beside the paper's, and the tables of curves and of features."""
    every = [peaks(curves, seed) for seed in range(curves.gsnr.shape[1])]
    run.table([vars(peak) for found in every for peak in found], "_features")
    means = np.nanmean(curves.gsnr, 3)  # (2, S, T), over the weights
    run.table(rows(curves, means))
    for name, its in zip(("free", "frozen"), means, strict=True):
        start, top, end = its[:, 0].mean(), its.max(1).mean(), its[:, -1].mean()
        theirs = "rises" if name == "free" else "falls at first, stays low"
        risen = (its.max(1) > 2 * its[:, 0]).mean()
        run.figures += [
            Beside(f"{name}: mean GSNR at the start", float(start), None, f"paper: {theirs}"),
            Beside(f"{name}: its highest, mean over seeds", float(top), None),
            Beside(f"{name}: at the end", float(end), None),
            Beside(f"{name}: share of seeds that more than double", float(risen), None),
        ]
    for what, chosen, theirs_too in (
        ("5 largest rises of seed 0", every[0][:SHOWN], True),
        ("5 largest rises of each seed", [p for its in every for p in its[:SHOWN]], True),
        ("all features, all seeds", [p for its in every for p in its], False),
    ):
        start = np.mean([abs(peak.c_start) for peak in chosen])
        top = np.mean([abs(peak.c_peak) for peak in chosen])
        theirs_start, theirs_top = (THEIR_START, THEIR_PEAK) if theirs_too else (None, None)
        note = "paper: mean over the five of Table 1" if theirs_too else ""
        run.figures += [
            Beside(f"{what}: mean |c| at t0", float(start), theirs_start, note),
            Beside(f"{what}: mean |c| at t_max", float(top), theirs_top, note),
        ]


def rows(curves: Curves, means: Values) -> list[dict[str, float]]:
    """One per step, with means over seeds."""
    parts = {"gsnr": means, "train_loss": curves.train, "test_loss": curves.test}  # (2, S, T)
    return [
        {
            "step": int(step),
            **{
                f"{name}_{kind}": float(values[column, :, at].mean())
                for name, values in parts.items()
                for column, kind in enumerate(("free", "frozen"))
            },
        }
        for at, step in enumerate(curves.steps)
    ]


def draw_curves(run: Run, curves: Curves) -> None:
    """The three panels of Figure 5; steps are logarithmic, 0 stands at 1/2."""
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(14, 4.2))
    x = np.maximum(curves.steps, 0.5)
    for kind, name, colour in ((0, "free", "tab:red"), (1, "frozen", "tab:blue")):
        its = np.nanmean(curves.gsnr[kind], 2)  # (S, T)
        low, middle_line, high = np.quantile(its, [0.1, 0.5, 0.9], axis=0)
        left.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
        left.plot(x, middle_line, color=colour, label=f"first layer {name}")
        middle.plot(x, np.median(curves.train[kind], 0), color=colour, label=f"{name}, training")
        middle.plot(x, np.median(curves.test[kind], 0), "--", color=colour, label=f"{name}, test")
    left.set_title(f"mean GSNR of the second layer\nmedian and 10–90 % of {len(its)} seeds")
    middle.set_title("loss (ŷ − y)², median over seeds")
    _single(right, curves, x)
    for axes, label in ((left, "GSNR"), (middle, "loss"), (right, "GSNR")):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel(f"steps of gradient descent, rate {RATE:g}")
        axes.set_ylabel(label)
        axes.legend(fontsize=8)
    left.axhline(1 / SAMPLES, color="grey", lw=0.8, ls=":")
    figure.suptitle(f"Toy regression y = x₀x₁ + ε, {SAMPLES} samples, {UNITS} hidden units")
    run.picture(figure)


def _single(axes: Axes, curves: Curves, x: Values) -> None:
    """Figure 5c: the curves of one net, the five highest named."""
    order = [peak.feature for peak in peaks(curves, 0)]
    for place, feature in enumerate(order):
        curve = curves.gsnr[0, 0, :, feature]
        if place < SHOWN:
            axes.plot(x, curve, lw=1.6, zorder=2, label=f"feature {feature}")
        else:
            axes.plot(x, curve, lw=1, zorder=1, color="lightgrey")
    axes.set_title("GSNR of single weights, free, seed 0\n(grey: not among the five largest rises)")
    axes.set_ylim(bottom=1e-5)


def main(arguments: Sequence[str] | None = None) -> None:
    run = begin("gsnr_toy", options(__doc__).parse_args(arguments))
    torch.set_num_threads(1)  # many small products: a second thread costs more than it gives
    seeds, last = (
        run.pick(tiny=2, small=20, paper=20),
        run.pick(tiny=30, small=20_000, paper=20_000),
    )
    tested = run.pick(tiny=500, small=10_000, paper=10_000)
    run.sizes = {
        "data": "y = x0 x1 + e", "samples": SAMPLES, "tested": tested, "hidden": UNITS,
        "noise": NOISE, "seeds": seeds, "steps": last, "rate": RATE,
    }  # fmt: skip
    curves = train(seeds, last, tested, run.device)
    tell(run, curves)
    draw_curves(run, curves)
    run.finish()


if __name__ == "__main__":
    call(main)
