"""The sparsity paper's Figure 2: how removing units hurts, by the share of random labels.

    scripts/papers/sparsity_evolution.py [--scale small|paper] [--out FOLDER] [--data FOLDER]

Trains VGG-16 by one recipe on labels of which 0, 0.2, … 1 are random
(studies/papers/sparsity-evolution.yaml) and draws E(n) and E_r(n) of the first class, and
(ζ_j, κ_j) of all classes. Small: a VGG-16 of a quarter of the width on a twenty-fifth of
Fashion-MNIST. The study stays in the folder: an interrupted run goes on, a finished one is drawn
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import Beside, Run, begin, call, options
from matplotlib import colormaps, pyplot
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy import stats
from sparsity_parts import ablation, curves, draw_curves, noise, trained

from hpogen import history
from hpogen.errors import UserError

CLASS = 0  # the one whose curves are drawn, by its place; the paper does not say which it has
COLORS = "rainbow_r"  # from red to purple, as the paper's


@dataclass(frozen=True)
class Network:
    """One of the six: the share of random labels, how well it fits, its `Ablation.record`."""

    corruption: float
    train_accuracy: float
    audit_accuracy: float
    zeta: float
    kappa: float
    seconds: float
    record: Mapping[str, Any]

    @property
    def gap(self) -> float:
        return self.train_accuracy - self.audit_accuracy


def overrides(run: Run) -> list[str]:
    """What a scale changes in the study, which is at the paper's."""
    if run.scale == "paper":
        return []
    if run.scale == "tiny":
        return [
            noise(run, 40),
            "task.model.width=2",
            "task.epochs=4",
            "search_space.batch_size=10",
        ]
    return [
        "task.dataset={name: fashion-mnist, subset: 0.04, validation: 0, audit: 5000}",
        "task.model.width=16",
        "task.epochs=80",
        "search_space.batch_size=32",
    ]


def networks(directory: Path) -> list[Network]:
    """By the share of random labels. Raises UserError where one of them failed."""
    found = []
    for record in history.read(directory).records:
        if record.outcome is None or record.outcome.failure is not None:
            raise UserError(f"{directory}: trial {record.trial.id} failed: see its log")
        metrics, audit = record.outcome.metrics, record.outcome.audit
        found.append(
            Network(
                corruption=float(record.trial.config["corruption"]),
                train_accuracy=metrics["train_accuracy"],
                audit_accuracy=audit["accuracy"],
                zeta=metrics["zeta"],
                kappa=metrics["kappa"],
                seconds=record.outcome.seconds["total"],
                record=ablation(directory, record.trial.id),
            )
        )
    return sorted(found, key=lambda network: network.corruption)


def per_class(network: Network) -> list[dict[str, Any]]:
    """One row per class: its images, ζ_j and κ_j, and the turning points as shares of M."""
    record, rows = network.record, []
    for place, label in enumerate(record["classes"]):
        found = curves(record, place)
        first, last = found.turning_points
        rows.append(
            {
                "corruption": network.corruption,
                "class": label,
                "images": record["samples"][place],
                "zeta": record["zeta"][place],
                "kappa": record["kappa"][place],
                "n0": first / record["units"],
                "n0r": last / record["units"],
                "reaches_chance": int(found.reaches_chance),
            }
        )
    return rows


def mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.mean([row[name] for row in rows]))


def summary(found: Sequence[Network]) -> list[dict[str, Any]]:
    """One row per network: accuracies and the classes' means."""
    rows = []
    for network in found:
        classes = per_class(network)
        rows.append(
            {
                "corruption": network.corruption,
                "train_accuracy": network.train_accuracy,
                "test_accuracy": network.audit_accuracy,
                "gap": network.gap,
                **{name: mean(classes, name) for name in ("zeta", "kappa", "n0", "n0r")},
                "sd_zeta": float(np.std([row["zeta"] for row in classes])),
                "sd_kappa": float(np.std([row["kappa"] for row in classes])),
                "classes_above_chance": sum(not row["reaches_chance"] for row in classes),
                "seconds": round(network.seconds, 1),
            }
        )
    return rows


def compared(rows: Sequence[Mapping[str, Any]]) -> list[Beside]:
    """The paper gives no numbers here, but directions: n0 and ζ rise, n0r and κ fall."""
    figures = []
    for name, direction in (
        ("n0", "rises"),
        ("n0r", "falls"),
        ("zeta", "rises"),
        ("kappa", "falls"),
    ):
        values = [row[name] for row in rows]
        for row in (rows[0], rows[-1]):
            share = row["corruption"]
            figures.append(Beside(f"{name}, {share:.0%} random labels", row[name], None))
        constant = np.ptp(values) == 0
        rank = None if constant else float(stats.spearmanr(range(len(values)), values).statistic)
        what = f"{name}: Spearman with the share, {len(rows)} networks"
        figures.append(Beside(what, rank, None, f"the paper: {direction}"))
    lowest = min(row["train_accuracy"] for row in rows)
    figures.append(Beside("lowest training accuracy", lowest, None, "the paper: almost 1"))
    return figures


def draw(found: Sequence[Network], title: str) -> Figure:
    """Left: the curves of one class of each network (2A); right: all classes (2B)."""
    figure = pyplot.figure(figsize=(12, 5))
    grid = figure.add_gridspec(3, 5, height_ratios=(1, 1, 0.08))
    panels = [figure.add_subplot(grid[i // 3, i % 3]) for i in range(len(found))]
    for axes, network in zip(panels, found, strict=True):
        draw_curves(axes, curves(network.record, CLASS), f"{network.corruption:.0%} random labels")
    for axes in panels[3:]:
        axes.set_xlabel("units removed, n")
    for axes in panels[::3]:
        axes.set_ylabel("accuracy on the class")
    scatter = figure.add_subplot(grid[:2, 3:])
    colors = ScalarMappable(Normalize(0, 1), COLORS)
    for network in found:
        record = network.record
        color = colormaps[COLORS](network.corruption)
        scatter.scatter(record["zeta"], record["kappa"], color=color, s=18)
        scatter.scatter(network.zeta, network.kappa, color=color, s=90, edgecolors="black")
    scatter.set(xlabel="ζ of a class", ylabel="κ of a class", title="all classes; ringed: means")
    figure.colorbar(colors, ax=scatter, label="share of random labels")
    handles, labels = panels[0].get_legend_handles_labels()
    legend = figure.add_subplot(grid[2, :], frame_on=False, xticks=[], yticks=[])
    legend.legend(handles, labels, loc="center", ncols=len(labels), frameon=False)
    figure.suptitle(title)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    run = begin("sparsity_evolution", options(__doc__).parse_args(arguments))
    found = networks(trained(run, "sparsity-evolution", overrides(run)))
    units, images = found[0].record["units"], sum(found[0].record["samples"])
    data = run.pick(tiny="noise", small="Fashion-MNIST", paper="CIFAR-100")
    run.sizes = {
        "data": data,
        "training images": images,
        "model": f"vgg16 with BatchNorm, {units} units in block5_conv3",
        "epochs": run.pick(tiny=4, small=60, paper=200),
        "training seconds": round(sum(network.seconds for network in found)),
        "worst rounding of ζ by the grid of n": found[0].record["interpolation_error"]["zeta"],
    }
    rows = summary(found)
    run.table([row for network in found for row in per_class(network)])
    run.table(rows, "_networks")
    run.picture(draw(found, f"VGG-16, {units} units, {images:,} images of {data}; class {CLASS}"))
    run.figures = compared(rows)
    run.finish()


if __name__ == "__main__":
    call(main)
