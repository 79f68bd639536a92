"""The sparsity paper's Figures 3, 5 and 6: the generalization gap from ζ and κ, and from margins.

    python scripts/papers/sparsity_gap.py [--model vgg16|mobilenet|resnet34] [--scale small|paper]
        [--out FOLDER] [--data FOLDER] [--workers N]

Trains networks drawn from the paper's recipes (studies/papers/sparsity-MODEL.yaml), keeps those
that fit their training set, as the paper's do, and fits ĝ = aζ + bκ + c to their gaps: once to all,
and 100 times to nine tenths, to estimate the gaps of the others. Beside it the same with quartile
features of margins in place of ζ and κ. Small: narrow networks on a two-hundredth of Fashion-MNIST,
all with BatchNorm and without augmentation, since the others do not fit so soon.
The study stays in the folder: an interrupted run goes on, a finished one is drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import Beside, Run, begin, call, options, pearson
from gap_model import SPLITS, GapModelTest, assess, fit, random_splits
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from running import train
from scipy import stats
from sparsity_parts import FITS, noise

from hpogen.analysis.trials import FinishedTrials, finished_trials
from hpogen.errors import Refusal
from hpogen.measures.network_margins import FEATURES, LAYERS
from hpogen.record import history
from hpogen.study.read import read

Array = NDArray[np.float64]
Metrics = Mapping[str, Array]

WIDTHS = {  # tiny, small
    "vgg16": (4, 8),
    "mobilenet": (0.05, 0.25),
    "resnet34": (2, 8),
}
THEIR_FITTED = {"vgg16": None, "mobilenet": 0.074, "resnet34": 0.122}  # SSR of all (Figures 5, 6)
THEIR_HELD_OUT = 8  # networks, of 80 VGG-16s (Figure 3)
SPARSITY = ("zeta", "kappa")
LABELS = {"zeta": "ζ", "kappa": "κ", "gap": "training − test accuracy"}
# without the upper fence, which follows from the quartiles wherever a margin lies above it
INPUT_MARGINS = tuple(f"margin_input_{name}" for name in FEATURES if name != "upper")
LAYER_MARGINS = tuple(
    f"margin_layers_{layer}_{name}" for layer in range(1, LAYERS + 1) for name in FEATURES
)
NAMES = {"ζ and κ": SPARSITY, "margins, 3 layers": LAYER_MARGINS, "margins, input": INPUT_MARGINS}


@dataclass(frozen=True)
class Family:
    """n networks of one architecture: their gaps (n,) and what is to tell them."""

    gaps: Array
    metrics: Metrics

    def __len__(self) -> int:
        return len(self.gaps)

    def of(self, names: Sequence[str]) -> Metrics:
        return {name: self.metrics[name] for name in names}

    def assessed(self, names: Sequence[str]) -> GapModelTest | None:
        """None where the networks do not determine so many coefficients."""
        try:
            return assess(self.of(names), self.gaps)
        except Refusal:
            return None


def overrides(run: Run, model: str) -> list[str]:
    """What a scale changes in the study, which is at the paper's."""
    if run.scale == "paper":
        return []
    tiny, small = WIDTHS[model]
    if run.scale == "tiny":
        return [
            noise(run, 40),
            f"task.model.width={tiny}",
            "task.epochs=6",
            "search_space.batch_size={choice: [10, 20]}",
            "stop.trials=12",
        ]
    return [
        "task.dataset={name: fashion-mnist, subset: 0.005, validation: 0, audit: 2000}",
        f"task.model.width={small}",
        f"task.epochs={60 if model == 'vgg16' else 30}",
        "search_space.batch_size={choice: [16, 32, 64]}",
        # in so few epochs networks fit neither augmented images nor, without BatchNorm, any
        "search_space.augment={choice: [none], default: none}",
        "search_space.rotate=0.0",
        *(["search_space.batch_norm={choice: [true], default: true}"] if model == "vgg16" else []),
        *(["stop.trials=56"] if model == "resnet34" else []),  # 80 take a quarter of an hour
    ]


def family(trials: FinishedTrials, least: float = 0.0) -> Family:
    """The networks whose training accuracy is at least so high."""
    kept = trials.metrics["train_accuracy"] >= least
    metrics = {name: values[kept] for name, values in trials.metrics.items()}
    return Family(trials.target("audit_gap_error")[kept], metrics)


def constant_residuals(gaps: Array, held_out: int) -> list[float]:
    """The sums of squared residuals when each estimate is the mean of the gaps fitted to."""
    return [
        float(np.square(gaps[test] - gaps[train].mean()).sum())
        for test, train in random_splits(len(gaps), held_out)
    ]


def per_network(residuals: Sequence[float], held_out: int) -> float:
    """The root of the mean squared residual of one network: free of how many are held out."""
    return float(np.sqrt(np.mean(residuals) / held_out))


def of_sparsity(model: str, networks: Family, what: str) -> list[Beside]:
    """ζ and κ on a family: fitted to all, then held out; the paper's figures where it has them."""
    test = networks.assessed(SPARSITY)
    if test is None:
        return [Beside(f"{what}: too few networks, or ζ or κ is constant", None, None)]
    gaps, vgg = networks.gaps, model == "vgg16"
    fitted = float(np.square(test.model.predict(networks.metrics) - gaps).sum())
    constant = float(np.square(gaps - gaps.mean()).sum())
    return [
        Beside(f"{what}: Pearson of estimate and gap", test.pearson, 0.979 if vgg else None),
        *(alone(networks, what, name) for name in SPARSITY),
        Beside(f"{what}: SSR of all, fitted to them", fitted, THEIR_FITTED[model], "in-sample"),
        Beside(f"{what}: the same, guessing the mean gap", constant, None, "in-sample"),
        *held_out(test, gaps, what, vgg),
    ]


def alone(networks: Family, what: str, name: str) -> Beside:
    """Pearson's r of ζ or κ and the gap, with the p value of r = 0."""
    values = networks.metrics[name]
    r = pearson(values, networks.gaps)
    p = "" if r is None else f"p {stats.pearsonr(values, networks.gaps).pvalue:.2g}"
    return Beside(f"{what}: Pearson of {LABELS[name]} and the gap", r, None, p)


def held_out(test: GapModelTest, gaps: Array, what: str, vgg: bool) -> list[Beside]:
    """The 100 splits; the paper has them for VGG-16: one of 0.023, and all below 0.035."""
    held = test.held_out
    note = f"{held} held out" + (f", the paper: {THEIR_HELD_OUT}, one split" if vgg else "")
    bound = f"{held} held out" + (", the paper: its bound" if vgg else "")
    return [
        Beside(
            f"{what}: SSR, median of 100 splits",
            float(np.median(test.residuals)),
            0.023 if vgg else None,
            note,
        ),
        Beside(
            f"{what}: SSR, largest of 100 splits",
            max(test.residuals),
            0.035 if vgg else None,
            bound,
        ),
        Beside(
            f"{what}: error per network held out",
            per_network(test.residuals, held),
            per_network([0.023], THEIR_HELD_OUT) if vgg else None,
            "root of the mean square" + ("; the paper: from its SSR" if vgg else ""),
        ),
        Beside(
            f"{what}: the same held out, guessing the mean gap",
            per_network(constant_residuals(gaps, held), held),
            None,
        ),
    ]


def of_margins(model: str, networks: Family, what: str) -> list[Beside]:
    figures = []
    for name, features in (("3 hidden layers", LAYER_MARGINS), ("input", INPUT_MARGINS)):
        test = networks.assessed(features)
        here = f"{what}: margins, {name}"
        theirs = (0.75, 0.5) if model == "vgg16" else (None, None)
        if test is None:
            note = f"{len(networks)} networks do not determine {len(features)} coefficients"
            figures.append(Beside(here, None, theirs[0], note))
            continue
        ssr, held = float(np.median(test.residuals)), test.held_out
        their_error = per_network([0.5], THEIR_HELD_OUT) if model == "vgg16" else None
        figures += [
            Beside(f"{here}, Pearson", test.pearson, theirs[0]),
            Beside(f"{here}, median SSR", ssr, theirs[1], f"{held} held out"),
            Beside(f"{here}, error per network", per_network(test.residuals, held), their_error),
        ]
    return figures


def rows(trials: FinishedTrials, least: float) -> list[dict[str, Any]]:
    """One row per network: its recipe, its gap, what is measured."""
    gaps = trials.target("audit_gap_error")
    names = sorted({name for config in trials.configs for name in config})
    found: list[dict[str, Any]] = []
    for i, config in enumerate(trials.configs):
        metrics = {name: float(values[i]) for name, values in trials.metrics.items()}
        measured = {name: metrics[name] for name in (*SPARSITY, *INPUT_MARGINS, *LAYER_MARGINS)}
        found.append(
            {
                "trial": trials.numbers[i],
                **{name: config.get(name) for name in names},
                "train_accuracy": metrics["train_accuracy"],
                "fits": metrics["train_accuracy"] >= least,
                "gap": float(gaps[i]),
                **measured,
            }
        )
    return found


def draw(networks: Family, others: Family, title: str) -> Figure:
    """The paper's Figure 3, A to E; gray: networks that do not fit their training set."""
    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7.5))
    panels: list[Axes] = [*axes.flat]
    pairs = (("zeta", "kappa"), ("zeta", "gap"), ("kappa", "gap"))
    for panel, pair in zip(panels, pairs, strict=False):
        points = [{**one.metrics, "gap": one.gaps} for one in (others, networks)]
        x, y = pair
        panel.scatter(points[0][x], points[0][y], color="0.8", s=14, label="does not fit")
        colors = networks.gaps
        shown = panel.scatter(points[1][x], points[1][y], c=colors, cmap="rainbow_r", label="fits")
        panel.set(xlabel=LABELS[x], ylabel=LABELS[y])
    figure.colorbar(shown, ax=panels[0], label=LABELS["gap"])
    panels[0].legend(fontsize="small")
    for panel, (name, features) in zip(panels[3:], [*NAMES.items()][:2], strict=False):
        draw_estimates(panel, networks, features, name)
    draw_residuals(panels[5], networks)
    figure.suptitle(title)
    return figure


def draw_estimates(axes: Axes, networks: Family, features: Sequence[str], name: str) -> None:
    """Estimated against true gaps of the first split: a model of nine tenths, and the others."""
    axes.set(xlabel=f"true gap ({LABELS['gap']})", ylabel="estimated gap", title=name)
    test = networks.assessed(features)
    if test is None:
        axes.text(0.5, 0.5, "not determined", ha="center", transform=axes.transAxes)
        return
    gaps = networks.gaps
    held, kept = next(random_splits(len(gaps), test.held_out))
    model = fit({key: values[kept] for key, values in networks.of(features).items()}, gaps[kept])
    estimates = model.predict(networks.of(features))
    ends = [gaps.min(), gaps.max()]
    axes.plot(ends, ends, color="0.6", linewidth=1, label="y = x")
    axes.scatter(gaps[kept], estimates[kept], s=18, color="tab:blue", label="fitted to")
    axes.scatter(gaps[held], estimates[held], s=30, color="tab:red", label="held out")
    axes.legend(fontsize="small")


def draw_residuals(axes: Axes, networks: Family) -> None:
    """Figure 3D, with the other features and the mean gap beside ζ and κ."""
    labels, values = [], []
    for name, features in NAMES.items():
        if (test := networks.assessed(features)) is not None:
            labels.append(name.replace(", ", ",\n"))
            values.append(test.residuals)
            held = test.held_out
    if not values:
        return
    labels.append("mean gap")
    values.append(tuple(constant_residuals(networks.gaps, held)))
    axes.boxplot([*values], tick_labels=labels, whis=(0, 100))
    axes.set(ylabel=f"SSR of {held} networks held out", title=f"{SPLITS} splits", yscale="log")
    axes.tick_params(axis="x", labelsize="small")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, workers=True)
    parser.add_argument("--model", choices=sorted(WIDTHS), default="vgg16", help="whose networks")
    given = parser.parse_args(arguments)
    model: str = given.model
    run = begin(f"sparsity_gap_{model}", given)
    least = run.pick(tiny=0.0, small=FITS, paper=FITS)
    (directory,) = train(run, {f"sparsity-{model}": overrides(run, model)})
    trials = finished_trials(read(directory))
    networks, everything = family(trials, least), family(trials)
    seconds = [
        r.outcome.seconds.get("total", 0.0) for r in history.read(directory).records if r.outcome
    ]
    data = run.pick(tiny="noise", small="Fashion-MNIST", paper="CIFAR-100")
    run.sizes = {
        "data": data,
        "networks": len(trials),
        "left out": dict(trials.left_out),
        "of training accuracy": f"at least {least}: {len(networks)}",
        "epochs": trials.budget,
        "training seconds": round(sum(seconds)),
    }
    run.table(rows(trials, least))
    what = f"{len(networks)} that fit"
    title = f"{model}, {len(networks)} of {len(trials)} networks fit, {data}"
    run.picture(draw(networks, everything, title))
    run.figures = [
        Beside("networks that fit", len(networks), 80 if model == "vgg16" else None),
        Beside("smallest gap", float(networks.gaps.min()), 0.294 if model == "vgg16" else None),
        Beside("largest gap", float(networks.gaps.max()), 0.987 if model == "vgg16" else None),
        *of_sparsity(model, networks, what),
        *of_margins(model, networks, what),
        *of_sparsity(model, everything, f"all {len(everything)}"),
    ]
    run.finish()


if __name__ == "__main__":
    call(main)
