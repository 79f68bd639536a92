"""The sparsity paper's Figure 2: how removing units hurts, by the share of random labels.

    python scripts/papers/sparsity_evolution.py [--scale small|paper] [--out FOLDER] [--data FOLDER]
        [--workers N]

Trains networks by one recipe on labels of which 0, 0.2, … 1 are random
(studies/papers/sparsity-evolution.yaml) and draws E(n) and E_r(n) of the first class, and
(ζ_j, κ_j) of all classes. ζ and κ are told at the first epoch whose training accuracy is 0.97,
where the authors' code stops, and at the end. Small: narrow VGG-16s and, not in the paper, shallow
networks on a hundredth of Fashion-MNIST, from two seeds. The studies stay in the folder: an
interrupted run goes on, a finished one is drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from common import Beside, Run, begin, call, options, pearson
from matplotlib import colormaps, pyplot
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from running import train
from scipy import stats
from sparsity_networks import MEANS, Network, Row, mean, networks, per_class, summary
from sparsity_parts import draw_curves, noise

from hpogen.training.task import ImageClassification

CLASS = 0  # the one whose curves are drawn, by its place; the paper does not say which it has
COLORS = "rainbow_r"  # from red to purple, as the paper's
DIRECTIONS = {"n0": "rises", "n0r": "falls", "zeta": "rises", "kappa": "falls"}  # the paper's


def overrides(run: Run) -> list[str]:
    """What a scale changes in the study, which is at the paper's."""
    if run.scale == "paper":
        return []
    plain = ["search_space.augment=none", "search_space.rotate=0.0"]
    if run.scale == "tiny":
        vgg, shallow, seeds = "width: 2", "width: 8, blocks: 1", [0]
        sizes = [noise(run, 40), "task.epochs=4", "search_space.batch_size=10"]
    else:
        vgg, shallow, seeds = "width: 8", "width: 64, blocks: 2", [0, 1]
        sizes = [
            "task.dataset={name: fashion-mnist, subset: 0.01, validation: 0, audit: 5000}",
            "task.epochs=60",
            "search_space.batch_size=32",
            "search_space.lr=0.02",
            "task.measures=[zeta, {name: zeta_each_epoch, every: 2}]",
        ]
    models = [
        f"{{name: vgg16, {vgg}, batch_norm: true, dropout: 0.0, label: vgg16}}",
        f"{{name: nin, {shallow}, batch_norm: true, label: nin}}",
    ]
    return [*sizes, *plain, f"matrix={{task.model: [{', '.join(models)}], seed: {seeds}}}"]


def spearman(rows: Sequence[Row], name: str) -> float | None:
    """Of the networks of one seed that have the metric, with the share of random labels."""
    pairs = [(row["corruption"], row[name]) for row in rows if row[name] is not None]
    if pearson(*(np.array(pairs).reshape(-1, 2).T)) is None:
        return None
    return float(stats.spearmanr(*np.array(pairs).T).statistic)


def ranks(rows: Sequence[Row], what: str, name: str, direction: str) -> Beside:
    """The median over seeds of a metric's rank correlation with the share; the range in words."""
    seeds = sorted({row["seed"] for row in rows})
    each = [spearman([row for row in rows if row["seed"] == seed], name) for seed in seeds]
    known = [value for value in each if value is not None]
    if not known:
        return Beside(what, None, None, f"the paper: {direction}")
    span = f"{min(known):+.2f} to {max(known):+.2f}, {len(known)} seeds"
    return Beside(what, float(np.median(known)), None, f"{span}; the paper: {direction}")


def compared(rows: Sequence[Row], model: str) -> list[Beside]:
    """The paper gives no numbers here, but directions: n0 and ζ rise, n0r and κ fall."""
    own = [row for row in rows if row["model"] == model]
    shares = sorted({row["corruption"] for row in own})
    figures = []
    for share in shares:
        here = [row for row in own if row["corruption"] == share]
        fits = [row for row in here if row["epoch_when_fit"] is not None]
        of = f"{model}, {share:.0%} random"
        figures += [
            Beside(f"{of}: lowest training accuracy", min(r["train_accuracy"] for r in here), None),
            Beside(f"{of}: gap", mean(here, "gap"), None),
            Beside(
                f"{of}: epoch when it fits", mean(fits, "epoch_when_fit"), None, f"of {len(fits)}"
            ),
            Beside(f"{of}: ζ when it fits", mean(fits, "zeta_when_fit"), None),
            Beside(f"{of}: κ when it fits", mean(fits, "kappa_when_fit"), None),
            *(Beside(f"{of}: {name} at the end", mean(here, name), None) for name in MEANS),
        ]
    for suffix, note in (("", ""), ("_reaching", ", classes reaching chance")):
        for name in ("zeta", "kappa"):
            what = f"{model}: Spearman of {name} when it fits{note}"
            figures.append(ranks(own, what, f"{name}{suffix}_when_fit", DIRECTIONS[name]))
        for name, direction in DIRECTIONS.items():
            what = f"{model}: Spearman of {name} at the end{note}"
            figures.append(ranks(own, what, name + suffix, direction))
    above = sum(row["classes_above_chance"] for row in own)
    figures.append(Beside(f"{model}: classes above chance at the end, all networks", above, None))
    return figures


def draw(found: Sequence[Network], title: str) -> Figure:
    """Left: the curves of one class of each network (2A); right: all classes (2B)."""
    figure = pyplot.figure(figsize=(12, 5))
    grid = figure.add_gridspec(3, 5, height_ratios=(1, 1, 0.08))
    panels = [figure.add_subplot(grid[i // 3, i % 3]) for i in range(len(found))]
    for axes, network in zip(panels, found, strict=True):
        draw_curves(axes, network.ablation, CLASS, f"{network.corruption:.0%} random labels")
    for axes in panels[3:]:
        axes.set_xlabel("units removed, n")
    for axes in panels[::3]:
        axes.set_ylabel("accuracy on the class")
    scatter = figure.add_subplot(grid[:2, 3:])
    colors = ScalarMappable(Normalize(0, 1), COLORS)
    for network in found:
        classes = network.ablation
        color = colormaps[COLORS](network.corruption)
        scatter.scatter(classes.zetas, classes.kappas, color=color, s=18)
        zeta, kappa = classes.zetas.mean(), classes.kappas.mean()
        scatter.scatter(zeta, kappa, color=color, s=90, edgecolors="black")
    scatter.set(xlabel="ζ of a class", ylabel="κ of a class", title="all classes; ringed: means")
    figure.colorbar(colors, ax=scatter, label="share of random labels")
    handles, labels = panels[0].get_legend_handles_labels()
    legend = figure.add_subplot(grid[2, :], frame_on=False, xticks=[], yticks=[])
    legend.legend(handles, labels, loc="center", ncols=len(labels), frameon=False)
    figure.suptitle(title)
    return figure


def draw_means(rows: Sequence[Row], title: str) -> Figure:
    """ζ and κ over the share of random labels, when a network fits and at the end, every seed."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure, grid = pyplot.subplots(2, len(models), figsize=(5 * len(models), 6.5), squeeze=False)
    for column, model in zip(grid.T, models, strict=True):
        own = [row for row in rows if row["model"] == model]
        shares = sorted({row["corruption"] for row in own})
        for axes, name in zip(column, ("zeta", "kappa"), strict=True):
            for suffix, label, color in (
                ("_when_fit", "when it fits", "C1"),
                ("", "at the end", "C0"),
            ):
                known = [row for row in own if row[name + suffix] is not None]
                x, y = ([row[key] for row in known] for key in ("corruption", name + suffix))
                axes.scatter(x, y, s=14, color=color)
                here = [[row for row in known if row["corruption"] == share] for share in shares]
                means = [mean(part, name + suffix) for part in here]
                axes.plot(shares, np.array(means, dtype=float), color=color, label=label)
            axes.set_ylabel("ζ" if name == "zeta" else "κ")
        column[0].set_title(model)
        column[1].set_xlabel("share of random labels")
    grid[0, 0].legend(fontsize="small")
    figure.suptitle(title)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    run = begin("sparsity_evolution", options(__doc__, workers=True).parse_args(arguments))
    torch.set_num_threads(1)
    specs = train(run, {"sparsity-evolution": overrides(run)})
    found = networks(specs)
    tasks = [spec.task for spec in specs.values() if isinstance(spec.task, ImageClassification)]
    data, images = tasks[0].dataset.name, sum(found[0].ablation.samples)
    run.sizes = {
        "data": data,
        "training images": images,
        "epochs": tasks[0].epochs,
        "seeds": len({network.seed for network in found}),
        "training seconds": round(sum(network.seconds for network in found)),
    }
    rows = summary(found)
    for task in {task.model.name: task for task in tasks}.values():
        model = task.model.name
        drawn = [n for n in found if (n.model, n.seed) == (model, found[0].seed)]
        of = drawn[0].ablation
        run.sizes |= {
            model: "".join(f" {k} {v}" for k, v in task.model.options().items()).strip(),
            f"{model} units": of.units,
            f"{model} rounding of ζ, where E falls and E_r has one peak": round(
                of.interpolation_error["zeta"], 4
            ),
        }
        title = f"{model}, {of.units} units, {images:,} images of {data}; at the end, class {CLASS}"
        run.picture(draw(drawn, title), f"_{model}")
        run.figures += compared(rows, model)
    run.table([row for network in found for row in per_class(network)])
    run.table(rows, "_networks")
    seeds = run.sizes["seeds"]
    run.picture(draw_means(rows, f"{images:,} images of {data}: {seeds} seeds and their mean"))
    run.finish()


if __name__ == "__main__":
    call(main)
