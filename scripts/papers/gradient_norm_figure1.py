"""The gradient-norm paper's Figure 1: does AGN stand for GN?

    python scripts/papers/gradient_norm_figure1.py [--scale small|paper] [--workers N]

a to d: 9 MLPs and 12 LeNets with random hyper-parameters on MNIST; GN (eq. 4: the whole network, at
every iteration) against AGN (eq. 5: the last layer, at each epoch's end), and both against the
generalization gap (eq. 2: validation loss − training loss). e and f: through the training of a
ResNet-20 and a ResNet-56, each epoch's term of GN against its term of AGN, a plot for each
learning rate of the schedule. GN is taken before each step, as in eq. 3.

The studies are studies/papers/figure1-*.yaml. `small` takes 2 % of MNIST, a quarter of the paper's
batches and half of its epochs, GN over 100 of 1,200 images; ResNets of a quarter of the width on
1 % of Fashion-MNIST, in place of CIFAR-100 too, GN over 60 of the 600 images, each trained three
times, where the paper has one training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import Beside, Run, begin, call, kendall, options, pearson, shown
from gradient_norm_data import sizes
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from running import train

from hpogen.record import folder, history
from hpogen.spec import StudySpec

PAPER = {"mlp": 0.962, "lenet5": 0.987}  # Pearson's r of GN and AGN
NAMES = {"mlp": "MLP", "lenet5": "LeNet-5", "resnet20": "ResNet-20", "resnet56": "ResNet-56"}
RESNETS = ("resnet20", "resnet56")
RANGES = ("lr-from-1e-7", "lr-from-1e-3")
SHORT = 30  # an axis of a lower ratio would have, with powers of ten alone, a label or two
FITTED = 0.88  # training accuracy: the paper's Section 3 calls such nets well-fitted


@dataclass(frozen=True)
class Net:
    """One of the MLPs or LeNets; losses are cross-entropies, accuracies shares."""

    net: str
    range: str
    trial: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    iterations: int
    gn: float
    agn: float
    gap: float
    train_accuracy: float


@dataclass(frozen=True)
class Term:
    """What an epoch of a ResNet adds to GN and AGN; trainings and rates (`phase`) count from 0."""

    net: str
    training: int
    phase: int
    epoch: int
    gn: float
    agn: float


def overrides(run: Run) -> dict[str, list[str]]:
    """What is set in each of the studies' files."""
    if run.scale == "paper":
        return {f"figure1-{net}": [] for net in NAMES}
    data = run.pick(
        tiny="{name: digits, subset: 0.05, validation: 100, audit: 0}",
        small="{name: mnist, subset: 0.02, validation: 10000, audit: 0}",
    )
    batches = "{int: [8, 250], log: true, default: 25}"
    samples = run.pick(tiny=10, small=100)
    both = [
        f"task.dataset={data}",
        f"task.epochs={run.pick(tiny=2, small=20)}",
        f"task.measures=[agn, {{name: gn, every: iteration, samples: {samples}}}]",
        f"search_space.batch_size={batches}",
    ]
    files = {"figure1-mlp": both, "figure1-lenet5": both}
    if run.scale == "tiny":
        tiny = "task.model={name: nin, width: 4, blocks: 1}"  # digits are too small for LeNet-5
        files = {"figure1-mlp": [*both, "stop.trials=3"]}
        files["figure1-lenet5"] = [*files["figure1-mlp"], tiny]
    return files | {f"figure1-{net}": _resnet(run, net) for net in RESNETS}


def _resnet(run: Run, net: str) -> list[str]:
    data = run.pick(
        tiny="{name: digits, subset: 0.025, validation: 100, audit: 0}",
        small="{name: fashion-mnist, subset: 0.01, validation: 5000, audit: 0}",
    )
    model = run.pick(tiny="{name: resnet20, width: 2}", small=f"{{name: {net}, width: 4}}")
    samples, config = run.pick(tiny=10, small=60), "momentum: 0.9, weight_decay: 1.0e-4"
    return [
        f"task.dataset={data}",
        f"task.model={model}",
        f"task.epochs={run.pick(tiny=12, small=40)}",
        f"task.schedule.milestones={run.pick(tiny=[6, 9], small=[20, 30])}",
        f"task.measures=[agn, {{name: gn, every: iteration, samples: {samples}}}]",
        f"enqueue=[{{batch_size: 32, lr: 0.1, {config}}}]",
        f"stop.trials={run.pick(tiny=2, small=3)}",  # the one configuration, with other seeds
    ]


def nets(net: str, label: str, path: Path, spec: StudySpec) -> tuple[list[Net], int]:
    """The networks of a study that trained to the end, and how many did not."""
    images, epochs = sizes(spec)["images"], sizes(spec)["epochs"]
    records = history.read(path).told()
    found = []
    for record in records:
        if record.outcome is None or record.failure:
            continue
        config: Mapping[str, Any] = record.trial.config
        metrics = record.outcome.metrics
        found.append(
            Net(
                net=net,
                range=label,
                trial=record.trial.id,
                **config,
                iterations=epochs * iterations(images, config["batch_size"]),
                gn=metrics["gn"],
                agn=metrics["agn"],
                gap=metrics["gap_loss"],
                train_accuracy=metrics["train_accuracy"],
            )
        )
    return found, len(records) - len(found)


def iterations(images: int, batch_size: int) -> int:
    """Per epoch; a last batch of one image is left out, as BatchNorm needs it."""
    whole, rest = divmod(images, min(batch_size, images))
    return whole + (rest > 1)


def terms(net: str, path: Path, spec: StudySpec) -> list[Term]:
    """Each epoch's terms of the sums GN and AGN, from the curves of trials that did not fail."""
    milestones = spec.task.record()["schedule"]["milestones"]
    found: list[Term] = []
    for record in history.read(path).told():
        if record.failure:
            continue
        rows = folder.read_curve(path, record.trial.id)
        sums = [[row["metrics"][name] for row in rows] for name in ("gn", "agn")]
        gn, agn = (np.diff(values, prepend=0).tolist() for values in sums)
        epochs = [int(row["epoch"]) for row in rows]  # from 1
        phases = [sum(epoch > milestone for milestone in milestones) for epoch in epochs]
        parts = zip(phases, epochs, gn, agn, strict=True)
        found += [Term(net, record.trial.id, *part) for part in parts]
    return found


def compare_nets(run: Run, net: str, label: str, found: Sequence[Net]) -> None:
    """Put the correlations of one study beside the paper's."""
    name, x = f"{NAMES[net]}, {label}", [one.agn for one in found]
    fitted = [one for one in found if one.train_accuracy >= FITTED]
    per_iteration = [one.gn / one.iterations for one in found]
    gaps = [one.gap for one in found]
    rows: list[tuple[str, float | None, float | None]] = [
        ("r(GN, AGN)", pearson([one.gn for one in found], x), PAPER[net]),
        ("τ(GN, AGN)", kendall([one.gn for one in found], x), None),
        ("r(GN per iteration, AGN)", pearson(per_iteration, x), None),
        ("r(GN, gap)", pearson([one.gn for one in found], gaps), None),
        ("r(AGN, gap)", pearson(x, gaps), None),
    ]
    if 0 < len(fitted) < len(found):
        gn, agn = [one.gn for one in fitted], [one.agn for one in fitted]
        rows.append((f"r(GN, AGN), the {len(fitted)} well-fitted", pearson(gn, agn), PAPER[net]))
    note = f"{len(found)} nets"
    run.figures += [Beside(f"{name}: {what}", ours, theirs, note) for what, ours, theirs in rows]


def compare_terms(run: Run, net: str, found: Sequence[Term]) -> None:
    """The median and the range over the trainings of what each has at a learning rate."""
    trainings = sorted({term.training for term in found})
    for phase in sorted({term.phase for term in found}):
        pairs = [in_phase(found, training, phase) for training in trainings]
        for name, how in (("r", pearson), ("τ", kendall)):
            values = [value for gn, agn in pairs if (value := how(gn, agn)) is not None]
            what = f"{NAMES[net]}, learning rate {phase + 1}: {name}(GN, AGN)"
            texts = ", ".join(f"{value:.2f}" for value in values)
            note = f"median of trainings with {texts}; the paper: strong, no number"
            run.figures.append(Beside(what, median(values) if values else None, None, note))


def in_phase(found: Sequence[Term], training: int, phase: int) -> tuple[list[float], list[float]]:
    chosen = [term for term in found if (term.training, term.phase) == (training, phase)]
    return [term.gn for term in chosen], [term.agn for term in chosen]


def draw_nets(run: Run, found: Sequence[Net], title: str) -> None:
    """A row for each net: GN and AGN against the gap, GN against AGN."""
    figure, axes = pyplot.subplots(2, 3, figsize=(9.5, 6.4))
    for row, net in zip(axes, PAPER, strict=True):
        own = [one for one in found if one.net == net]
        for axis, x, y in zip(row, ("gn", "agn", "gn"), ("gap", "gap", "agn"), strict=True):
            _scatter(axis, own, x, y)
            axis.set_title(f"{NAMES[net]}: {axis.get_title()}", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=2, fontsize=9)
    figure.suptitle(title)
    figure.supxlabel(" ")  # room for the legend
    run.picture(figure, "_abcd")


def _scatter(axis: Axes, found: Sequence[Net], x: str, y: str) -> None:
    rs = []
    for label, marker, sign in zip(RANGES, "o^", "●▲", strict=True):
        own = [one for one in found if one.range == label]
        xs, ys = ([float(getattr(one, name)) for one in own] for name in (x, y))
        axis.scatter(xs, ys, 22, marker=marker, label=label)
        rs.append(f"{sign} {shown(pearson(xs, ys))}")
    axis.set_title(f"r {rs[0]}, {rs[1]}")
    axis.set(xlabel=f"{x.upper()} (squared norm)", xscale="log")
    if y == "gap":
        axis.set_ylabel("gap: validation − training loss")
    else:
        axis.set(ylabel="AGN (squared norm)", yscale="log")
    for side in (axis.xaxis, axis.yaxis):
        side.set_minor_formatter(NullFormatter())
        least, most = side.get_view_interval()
        if side.get_scale() == "log" and most < SHORT * least:
            side.set_major_locator(LogLocator(subs=(1, 3)))
            side.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def draw_terms(run: Run, found: Sequence[Term], title: str) -> None:
    """A row for each ResNet's first training, a plot for each learning rate; points are epochs."""
    figure, axes = pyplot.subplots(2, 3, figsize=(9.5, 6.4))
    for row, net in zip(axes, RESNETS, strict=True):
        own = [term for term in found if term.net == net]
        for phase, axis in enumerate(row):
            gn, agn = in_phase(own, own[0].training, phase)
            axis.scatter(gn, agn, 22, c=range(len(gn)), cmap="viridis")
            axis.set(xlabel="GN of the epoch (squared norm)", ylabel="AGN of the epoch")
            axis.set_title(f"{NAMES[net]}, rate {phase + 1}: r {shown(pearson(gn, agn))}")
            if max(gn) > 10 * min(gn):
                axis.set(xscale="log", yscale="log")
    figure.suptitle(title, size=10)
    run.picture(figure, "_ef")


def main(arguments: Sequence[str] | None = None) -> None:
    run = begin("gradient_norm_figure1", options(__doc__, workers=True).parse_args(arguments))
    specs = train(run, overrides(run))
    run.sizes = {path.name: sizes(spec) for path, spec in specs.items()}
    points: list[Net] = []
    steps: list[Term] = []
    for path, spec in specs.items():
        net, _, label = path.name.removeprefix("figure1-").partition("__")
        if label:
            found, failed = nets(net, label, path, spec)
            points += found
            run.sizes[path.name]["diverged"] = failed
            compare_nets(run, net, label, found)
        else:
            own = terms(net, path, spec)
            steps += own
            compare_terms(run, net, own)
    run.table([asdict(one) for one in points], "_abcd")
    run.table([asdict(term) for term in steps], "_ef")
    _draw(run, points, steps)
    run.finish()


def _draw(run: Run, points: Sequence[Net], steps: Sequence[Term]) -> None:
    text = "{data}, {images:,} images, {epochs} epochs"
    said = {name: text.format(**values) for name, values in run.sizes.items()}
    mlp = said[f"figure1-mlp__{RANGES[0]}"]  # the LeNets have the same
    draw_nets(run, points, f"GN and AGN: {mlp}, scale {run.scale}")
    rows = [f"{NAMES[net]}: {said[f'figure1-{net}']}" for net in RESNETS]
    how = f"scale {run.scale}, the first training: a point per epoch, dark to bright"
    draw_terms(run, steps, "\n".join([*rows, how]))


if __name__ == "__main__":
    call(main)
