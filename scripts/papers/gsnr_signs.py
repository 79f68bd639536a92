"""The GSNR paper's Figure 6 and the weights W_j of its eq. 22, on MNIST.

    python scripts/papers/gsnr_signs.py [--scale small|paper] [--out FOLDER] [--data FOLDER]

M nets of Table 2 are trained from the same weights, each on its own set, by full-batch gradient
descent. At every step, and in every layer: the correlation of the weights with the change of their
gradient in that step (6a), and the share of weights whose sign is opposite to their gradient's
among those that have a gradient (6b), of all weights and of the tenth that is largest. At some
epochs: how W_j = E g_j²/Σ E g² is spread over the parameters, and eq. 22 from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from common import Beside, Run, begin, call, options
from gsnr_sides import Setting, Work, batches, descend, gradients_of, new_net, on_all_cores, pool
from matplotlib import pyplot
from numpy.typing import NDArray
from torch import Tensor

from hpogen.measures.network_moments import network_moments

Values = NDArray[np.float64]

LARGEST = (1.0, 0.1)  # parts of a layer's weights, by absolute value
EARLY = 0.1  # the part of the epochs that is called early
THEIR_OPPOSITE = 0.8  # "nearly 80 %" of the largest tenth, Figure 6b


@dataclass(frozen=True)
class Followed:
    """What one training gives: T epochs, L layers with weights, all and the largest tenth."""

    correlation: Values  # (T, L, 2), of W with Δg
    opposite: Values  # (T, L, 2), of the weights whose gradient is not 0
    zero: Values  # (T, L), the share of weights whose gradient is 0: of units that are dead
    losses: Values  # (T,)
    means: Values  # (E, P), the mean gradients at the chosen epochs
    variances: Values  # (E, P), ρ²


def follow(job: tuple[Work, int]) -> Followed:
    """Train on the set of that number to the last of the epochs."""
    work, number = job
    setting = work.setting
    images = pool(setting.data, setting.noise, work.tested, work.seed, work.device)
    data = images.training_set(setting.n, work.seed, number)
    net = new_net(setting.data, setting.channels, data[0], work.seed)
    parameters = list(net.parameters())
    weights = [at for at, parameter in enumerate(parameters) if parameter.ndim > 1]
    last, correlations, opposites, zeros = max(work.epochs), [], [], []
    losses, moments = [], []
    loss, gradients = gradients_of(net, data)
    for epoch in range(last + 1):
        if epoch in work.epochs:
            found = network_moments(net, batches(data), signs=False)
            moments.append((found.mean, found.second / found.count - found.mean.square()))
        before = [parameters[at].detach().clone() for at in weights]
        signs = zip(before, (gradients[at] for at in weights), strict=True)
        opposites.append([opposite(w, g) for w, g in signs])
        zeros.append([float((gradients[at] == 0).double().mean()) for at in weights])
        losses.append(loss)
        descend(net, gradients, work.rate)
        loss, after = gradients_of(net, data)
        changes = [after[at] - gradients[at] for at in weights]
        correlations.append([correlation(w, c) for w, c in zip(before, changes, strict=True)])
        gradients = after
    means, variances = (torch.stack(same).cpu().numpy() for same in zip(*moments, strict=True))
    return Followed(
        np.array(correlations),
        np.array(opposites),
        np.array(zeros),
        np.array(losses),
        means,
        variances,
    )


def largest(weight: Tensor, part: float) -> Tensor:
    """The places of that part of the weights that is largest, at least one, in the flat tensor."""
    kept = math.ceil(part * weight.numel())
    return weight.abs().flatten().topk(kept).indices


def opposite(weight: Tensor, gradient: Tensor) -> tuple[float, ...]:
    """The share with W·g < 0 of the weights where it is not 0: of all, of the largest tenth.

    The paper compares them with "the opposite": a unit that no image activates is on neither side.
    """
    product = (weight * gradient).flatten()
    chosen = [product[largest(weight, part)] for part in LARGEST]
    return tuple(float((its[its != 0] < 0).double().mean()) for its in chosen)


def correlation(weight: Tensor, change: Tensor) -> tuple[float, ...]:
    """Pearson's of W with Δg, of all weights and of the largest tenth."""
    found = []
    for part in LARGEST:
        places = largest(weight, part)
        both = torch.stack([weight.flatten()[places], change.flatten()[places]]).double()
        found.append(float(torch.corrcoef(both)[0, 1]))
    return tuple(found)


@dataclass(frozen=True)
class Weights:
    """Eq. 22 at an epoch: W (P,) falling, and the one-step ratio from it and from eq. 19."""

    epoch: int
    w: Values
    mean_gsnr: float  # of r_j over parameters
    weighted_gsnr: float  # Σ W_j r_j
    eq22: float
    eq19: float
    plugged: float  # eq. 22 with the r_j of eq. 25, g_D²/ρ²


def weights_of(epoch: int, means: Values, variances: Values, n: int) -> Weights:
    """From M training sets' gradients and variances, (M, P) each.

    r_j = (E g_j² − ρ_j²/n)/ρ_j², as the line after eq. 21 says; parameters whose gradient never
    varies have no r_j, and no weight.
    """
    squares, noise = np.mean(means**2, 0), np.mean(variances, 0)
    varies = noise > 1e-12 * squares.max()
    squares, noise = squares[varies], noise[varies]
    w = squares / squares.sum()
    r = squares / noise - 1 / n
    return Weights(
        epoch,
        np.sort(w)[::-1],
        mean_gsnr=float(r.mean()),
        weighted_gsnr=float((w * r).sum()),
        eq22=float(1 - (w / (r + 1 / n)).sum() / n),
        eq19=float(1 - noise.sum() / (n * squares.sum())),
        plugged=float(1 - (w / (squares / noise + 1 / n)).sum() / n),
    )


def top_share(w: Values, part: float) -> float:
    """What the largest part of the parameters has of ΣW = 1."""
    return float(w[: math.ceil(part * len(w))].sum())


def layers(count: int) -> list[str]:
    return ["convolution 1", "convolution 2", "linear 1", "linear 2"][:count]


def tell_signs(run: Run, found: Sequence[Followed]) -> None:
    """The table of Figure 6 and its figures, means over the M nets."""
    c, share = (
        np.mean([getattr(f, name) for f in found], 0) for name in ("correlation", "opposite")
    )
    zero = np.mean([f.zero for f in found], 0)  # (T, L)
    loss = np.mean([f.losses for f in found], 0)
    names = layers(c.shape[1])
    run.table(
        [
            {"epoch": epoch, "train_loss": loss[epoch], "layer": name,
             "correlation_all": c[epoch, at, 0], "correlation_top10": c[epoch, at, 1],
             "opposite_all": share[epoch, at, 0], "opposite_top10": share[epoch, at, 1],
             "zero_gradient": zero[epoch, at]}
            for epoch in range(len(c))
            for at, name in enumerate(names)
        ]
    )  # fmt: skip
    early = max(1, round(EARLY * len(c)))
    for at, name in enumerate(names):
        dead = Beside(f"{name}: share of weights with gradient 0, end", float(zero[-1, at]), None)
        run.figures.append(dead)
        for column, part in enumerate(("all", "top 10 %")):
            run.figures += [
                Beside(f"{name}, {part}: correlation, early", float(c[:early, at, column].mean()),
                       None, f"first {early} epochs; paper: negative, more so in the top 10 %"),
                Beside(f"{name}, {part}: opposite signs, end", float(share[-1, at, column]),
                       THEIR_OPPOSITE if column else None,
                       "paper: nearly 80 %" if column else "paper: above half"),
            ]  # fmt: skip


def tell_weights(run: Run, spread: Sequence[Weights]) -> None:
    """The table of W_j; the paper shows none."""
    rows = [
        {"epoch": its.epoch, "parameters": len(its.w), "top_1_percent": top_share(its.w, 0.01),
         "top_10_percent": top_share(its.w, 0.1), "effective_number": 1 / float((its.w**2).sum()),
         "mean_gsnr": its.mean_gsnr, "weighted_gsnr": its.weighted_gsnr, "eq22": its.eq22,
         "eq19": its.eq19, "eq22_with_eq25": its.plugged}
        for its in spread
    ]  # fmt: skip
    run.table(rows, "_weights")
    for row in rows:
        at = f"W_j, epoch {row['epoch']}"
        run.figures += [
            Beside(f"{at}: share of the top 1 % of parameters", row["top_1_percent"], None),
            Beside(f"{at}: share of the top 10 %", row["top_10_percent"], None),
            Beside(f"{at}: mean GSNR", row["mean_gsnr"], None),
            Beside(f"{at}: GSNR weighted by W_j", row["weighted_gsnr"], None),
            Beside(f"{at}: eq. 22, which equals eq. 19", row["eq22"], None),
            Beside(f"{at}: eq. 22 with the r of eq. 25", row["eq22_with_eq25"], None),
        ]  # fmt: skip


def draw_signs(run: Run, work: Work, found: Sequence[Followed]) -> None:
    """Both panels of Figure 6."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.4))
    for axes, name in ((left, "correlation"), (right, "opposite")):
        values = np.mean([getattr(f, name) for f in found], 0)  # (T, L, 2)
        for at, layer in enumerate(layers(values.shape[1])):
            axes.plot(values[:, at, 0], color=f"C{at}", label=f"{layer}, all weights")
            axes.plot(values[:, at, 1], "--", color=f"C{at}", label=f"{layer}, largest 10 %")
        axes.set_xlabel("epoch (step of full-batch gradient descent)")
    left.axhline(0, color="grey", lw=0.8)
    left.set_ylabel("correlation of Δg with W")
    right.axhline(0.5, color="grey", lw=0.8)
    right.axhline(THEIR_OPPOSITE, color="grey", lw=0.8, ls=":")
    right.set_ylabel("share with W·g < 0 of weights with a gradient\n(dotted: the paper's 80 %)")
    right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(_title("Figure 6", work))
    run.picture(figure)


def draw_weights(run: Run, work: Work, spread: Sequence[Weights]) -> None:
    """How much of ΣW = 1 the largest W_j have."""
    figure, axes = pyplot.subplots(figsize=(6.6, 4.4))
    for its in spread:
        part = np.arange(1, len(its.w) + 1) / len(its.w)
        axes.plot(part, np.cumsum(its.w), label=f"epoch {its.epoch}")
    axes.plot(part, part, ":", color="grey", label="all alike")
    axes.set_xscale("log")
    axes.set_xlabel("share of the parameters, largest W_j first")
    axes.set_ylabel("their share of Σ W_j")
    axes.legend()
    axes.set_title(_title("Weights of eq. 22", work), fontsize=10)
    run.picture(figure, "_weights")


def _title(what: str, work: Work) -> str:
    its = work.setting
    return (
        f"{what}: {its.data}, {its.n} images, p = {its.channels}, rate {work.rate:g}, "
        f"mean of {work.sets} nets"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    run = begin("gsnr_signs", options(__doc__).parse_args(arguments))
    data = run.pick(tiny="digits", small="mnist", paper="mnist")
    n, channels = run.pick(tiny=(60, 2), small=(1000, 6), paper=(10_000, 20))
    epochs = run.pick(tiny=(0, 2, 5), small=(0, 20, 100, 200), paper=(0, 20, 100, 200))
    sets = run.pick(tiny=3, small=10, paper=10)
    work = Work(Setting(data, n, 0.0, channels), sets, epochs, 1, run.device, rate=0.1)
    run.sizes = {
        "data": data, "images": n, "p": channels, "epochs": max(epochs), "sets": sets,
        "rate": work.rate,
    }  # fmt: skip
    found = on_all_cores(run, follow, [(work, number) for number in range(sets)])
    means, variances = (np.stack([getattr(f, k) for f in found]) for k in ("means", "variances"))
    spread = [weights_of(e, means[:, i], variances[:, i], n) for i, e in enumerate(epochs)]
    tell_signs(run, found)
    tell_weights(run, spread)
    draw_signs(run, work, found)
    draw_weights(run, work, spread)
    run.finish()


if __name__ == "__main__":
    call(main)
