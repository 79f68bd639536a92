"""The GSNR paper's Figure 5 and Table 1: GSNR rises where features are learnt, not where frozen.

    python scripts/papers/gsnr_toy.py [--scale small|paper] [--out FOLDER]

A net of 2 inputs, 20 hidden units and 1 output learns y = x₀x₁ + ε (ε up to ±0.01) from 200 samples
by full-batch gradient descent, with its first layer free or frozen. It is so small that both scales
run it at the paper's size, from 20 seeds where the paper shows one run, and from three sizes of
initial weights, as the paper names none. GSNR is that of eq. 25, of the 20 weights of the second
layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
RISE = 1.5  # a seed's curve is said to rise when it reaches so many times its start
SHOWN = 5  # features in the paper's Table 1
STARTS = {"torch's own": None, "N(0, 0.1²)": 0.1, "N(0, 0.01²)": 0.01}  # of the initial weights
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

    @property
    def means(self) -> Values:
        """The mean GSNR of the second layer, (2, S, T)."""
        return np.asarray(np.nanmean(self.gsnr, 3))


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


def train(seeds: int, last: int, tested: int, device: str, spread: float | None) -> Curves:
    """Two nets per seed with the same weights and data, all of them at once."""
    started = [ToyNets.alike(1, UNITS, seed, device, spread) for seed in range(seeds)]
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


def tell(run: Run, by_start: Mapping[str, Curves]) -> None:
    """Our figures beside the paper's, and the tables of curves and of features."""
    every = {
        name: [peaks(curves, seed) for seed in range(curves.gsnr.shape[1])]
        for name, curves in by_start.items()
    }
    run.table(
        [
            {"start": name, **vars(peak)}
            for name, found in every.items()
            for its in found
            for peak in its
        ],
        "_features",
    )
    run.table([row for name, curves in by_start.items() for row in rows(name, curves)])
    for name, curves in by_start.items():
        run.figures += [*of_means(name, curves), *of_features(name, every[name])]


def of_means(start: str, curves: Curves) -> Iterator[Beside]:
    """Figure 5a: the mean over the weights and the seeds, and how many seeds' curves rise."""
    for kind, its in zip(("free", "frozen"), curves.means, strict=True):
        theirs = "rises" if kind == "free" else "falls at first, stays low"
        mean, label = its.mean(0), f"{start}, {kind}"
        at = int(mean.argmax())
        risen = (its.max(1) >= RISE * its[:, 0]).mean()
        yield Beside(f"{label}: mean GSNR at the start", float(mean[0]), None, f"paper: {theirs}")
        yield Beside(f"{label}: its highest", float(mean[at]), None, f"step {curves.steps[at]:,}")
        yield Beside(f"{label}: at the end", float(mean[-1]), None)
        yield Beside(f"{label}: share of seeds that rise by half", float(risen), None)


def of_features(start: str, found: Sequence[Sequence[Peak]]) -> Iterator[Beside]:
    """Table 1: |c| at the start and where the GSNR of a feature is highest, of free nets."""
    both = (THEIR_START, THEIR_PEAK)
    for what, chosen, theirs in (
        ("5 largest rises of seed 0", found[0][:SHOWN], both),
        ("5 largest rises of each seed", [p for its in found for p in its[:SHOWN]], both),
        ("all features, all seeds", [p for its in found for p in its], (None, None)),
    ):
        note = "" if theirs == (None, None) else "paper: mean over the five of Table 1"
        at_start = float(np.mean([abs(peak.c_start) for peak in chosen]))
        at_peak = float(np.mean([abs(peak.c_peak) for peak in chosen]))
        yield Beside(f"{start}, {what}: mean |c| at t0", at_start, theirs[0], note)
        yield Beside(f"{start}, {what}: mean |c| at t_max", at_peak, theirs[1], note)


def rows(start: str, curves: Curves) -> list[dict[str, str | float]]:
    """One per step, with means over seeds."""
    parts = {"gsnr": curves.means, "train_loss": curves.train, "test_loss": curves.test}
    return [
        {
            "start": start,
            "step": int(step),
            **{
                f"{name}_{kind}": float(values[column, :, at].mean())
                for name, values in parts.items()
                for column, kind in enumerate(("free", "frozen"))
            },
        }
        for at, step in enumerate(curves.steps)
    ]


def draw_curves(run: Run, by_start: Mapping[str, Curves]) -> None:
    """The three panels of Figure 5, a row per kind of initial weights; step 0 stands at 1/2."""
    figure, panels = pyplot.subplots(len(by_start), 3, figsize=(14, 4.2 * len(by_start)))
    for (start, curves), (left, middle, right) in zip(by_start.items(), panels, strict=True):
        x = np.maximum(curves.steps, 0.5)
        for kind, name, colour in ((0, "free", "tab:red"), (1, "frozen", "tab:blue")):
            low, median, high = np.quantile(curves.means[kind], [0.1, 0.5, 0.9], axis=0)
            left.fill_between(x, low, high, color=colour, alpha=0.2, lw=0)
            left.plot(x, median, color=colour, label=f"first layer {name}")
            middle.plot(
                x, np.median(curves.train[kind], 0), color=colour, label=f"{name}, training"
            )
            test = np.median(curves.test[kind], 0)
            middle.plot(x, test, "--", color=colour, label=f"{name}, test")
        left.axhline(1 / SAMPLES, color="grey", lw=0.8, ls=":", label="no signal: 1/n")
        seeds = curves.gsnr.shape[1]
        left.set_title(f"initial weights {start}\nmedian and 10–90 % of {seeds} seeds")
        left.set_ylabel("mean GSNR of the second layer")
        middle.set_title("loss (ŷ − y)², median over seeds")
        middle.set_ylabel("loss")
        _single(right, curves, x)
        for axes in (left, middle, right):
            axes.set(xscale="log", yscale="log")
            axes.set_xlabel(f"steps of gradient descent, rate {RATE:g}")
            axes.legend(fontsize=8, loc="lower left")
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
    axes.set_title("single weights, free, seed 0\n(grey: not among the five largest rises)")
    axes.set_ylabel("GSNR")
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
        "noise": NOISE, "seeds": seeds, "steps": last, "rate": RATE, "starts": [*STARTS],
    }  # fmt: skip
    by_start = {
        name: train(seeds, last, tested, run.device, spread) for name, spread in STARTS.items()
    }
    tell(run, by_start)
    draw_curves(run, by_start)
    run.finish()


if __name__ == "__main__":
    call(main)
