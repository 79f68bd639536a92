"""The GSNR paper's Figure 4: GSNR while a net learns real labels, and random ones.

    python scripts/papers/gsnr_labels.py [--scale small|paper] [--workers N]
        [--out FOLDER] [--data FOLDER]

Runs studies/papers/gsnr-labels-simple.yaml (4a, and the same-sign share of 4c; from torch's initial
weights and from small ones) and gsnr-labels-resnet18.yaml (4b); small: on 3,000 and 600 images of
Fashion-MNIST, with narrower nets, from two seeds. GSNR is the mean of eq. 25 over all parameters.
The values before the first step, which no study has, are computed from the same weights and images.
A stopped run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Beside, Run, begin, call, options
from matplotlib import pyplot
from matplotlib.axes import Axes
from numpy.typing import NDArray
from running import train

from hpogen.errors import UserError
from hpogen.measures.network_moments import network_moments
from hpogen.record.folder import read_curve
from hpogen.record.history import read
from hpogen.spec import StudySpec
from hpogen.study.open import open_study
from hpogen.study.study import Study
from hpogen.training.recipe import begin as begin_trial
from hpogen.training.task import ImageClassification
from hpogen.trial import RunningTrial, Trial

ARMS = {  # Figure 4a and c; not in the paper; 4b
    "simple": "simple net, torch's initial weights",
    "small-start": "simple net, initial weights N(0, 0.01²)",
    "resnet18": "ResNet-18",
}
LABELS = ("real", "random")
NAMES = ("gsnr", "same_sign", "train_loss", "train_accuracy")
THEIR_SIGNS = (0.50, 0.56)  # the same-sign share at the start and at the end, "about", Figure 4c
Row = dict[str, Any]
Values = NDArray[np.float64]


def overrides(run: Run) -> dict[str, list[str]]:
    """What the scale changes in each of the studies' files."""
    files = {f"gsnr-labels-{name}": [] for name in ("simple", "resnet18")}
    return files if run.scale == "paper" else {file: _smaller(run, file) for file in files}


def _smaller(run: Run, file: str) -> list[str]:
    simple, tiny = file.endswith("simple"), run.scale == "tiny"
    data = {"name": "digits" if tiny else "fashion-mnist", "validation": 0, "audit": 0}
    data["subset"] = run.pick(tiny=0.1, small=0.05 if simple else 0.01)
    if not simple:
        models = f"[{{name: resnet18, width: {2 if tiny else 8}}}]"
    elif tiny:
        models = "[{name: mlp, label: simple}, {name: mlp, width: 8, label: small-start}]"
    else:
        net = "name: gsnr-mnist, channels: 10"
        models = f"[{{{net}, label: simple}}, {{{net}, initial_sd: 0.01, label: small-start}}]"
    measures = ["gsnr", "same_sign"] if simple else ["gsnr"]
    samples = ", samples: 60" if tiny else ""
    listed = ", ".join(f"{{name: {name}{samples}}}" for name in measures)
    return [
        *(f"task.dataset.{key}={value}" for key, value in data.items()),
        f"task.epochs={3 if tiny else 100 if simple else 50}",
        f"task.measures=[{listed}]",
        f"matrix={{task.model: {models}, seed: [0, 1]}}",
    ]


def curve(study: Study, trial: Trial, device: str) -> list[Row]:
    """A row per epoch, the first before any training."""
    return [
        {"epoch": 0, **initial(study, trial, device)},
        *(
            {"epoch": row["epoch"], **row["metrics"]}
            for row in read_curve(study.directory, trial.id)
        ),
    ]


def initial(study: Study, trial: Trial, device: str) -> dict[str, float]:
    """GSNR and the same-sign share of the weights that the trial began with."""
    task = study.spec.task
    if not isinstance(task, ImageClassification):
        raise UserError(f"{study.directory}: expected image classification, got {task.name!r}")
    home = study.directory / "initial"
    given = RunningTrial(**asdict(trial), start_epoch=0, home=home, device=device)
    recipe, state = begin_trial(task, given, study.wanted)
    samples = task.measures[0].samples
    moments = network_moments(state.model, recipe.batches(recipe.data.subset).sample(samples))
    return {"gsnr": moments.gsnr, "same_sign": moments.same_sign}


def rows(specs: Mapping[Path, StudySpec], device: str) -> list[Row]:
    """A row per net, seed, labels and epoch."""
    found = []
    for directory, spec in specs.items():
        _, net, _ = directory.name.split("__")
        with open_study(spec, directory) as study:
            for record in read(directory).told():
                labels = LABELS[record.trial.config["corruption"] == 1.0]
                found += [
                    {"net": net, "seed": spec.seed, "labels": labels, "epoch": row["epoch"]}
                    | {name: row.get(name) for name in NAMES}
                    for row in curve(study, record.trial, device)
                ]
    return found


def curves(table: Sequence[Row], net: str, labels: str, name: str) -> tuple[Values, Values]:
    """Epochs (T,) and values (S, T) of the S seeds, where there are values."""
    chosen = [row for row in table if (row["net"], row["labels"]) == (net, labels)]
    kept = [row for row in chosen if row[name] is not None]
    epochs = sorted({row["epoch"] for row in kept})
    values = np.array([row[name] for row in kept]).reshape(-1, len(epochs))
    return np.array(epochs, float), values


def tell(run: Run, table: Sequence[Row]) -> None:
    run.table(table)
    for net in ARMS:
        both = {labels: curves(table, net, labels, "gsnr")[1] for labels in LABELS}
        for labels, values in both.items():
            run.figures += of_gsnr(f"{net}, {labels} labels", values)
            loss = curves(table, net, labels, "train_loss")[1][:, -1].mean()
            what = f"{net}, {labels} labels: training loss at the end"
            run.figures.append(Beside(what, float(loss), None, "paper: goes to zero"))
        real, random = (its[:, 1:] for its in both.values())
        above = np.append((real > random).all(0), False)  # (T,), in all seeds
        ratio = float(real.mean() / random.mean())
        run.figures += [
            Beside(f"{net}: mean GSNR, real over random", ratio, None, "paper: clearly above 1"),
            Beside(f"{net}: first epochs with real above random", float(above.argmin()), None),
        ]
    for net, theirs in (("simple", THEIR_SIGNS), ("small-start", THEIR_SIGNS)):
        for labels in LABELS:
            signs = curves(table, net, labels, "same_sign")[1].mean(0)
            for when, at in (("before training", 0), ("at the end", -1)):
                paper = theirs[at] if labels == "real" else None
                what = f"{net}, {labels} labels: same sign {when}"
                run.figures.append(Beside(what, float(signs[at]), paper))


def of_gsnr(label: str, values: Values) -> list[Beside]:
    """Of the curves (S, T) of one net and one kind of labels, means over seeds."""
    mean = values.mean(0)
    top = int(mean[1:].argmax()) + 1
    risen = int((values[:, 1:].max(1) > values[:, 0]).sum())
    return [
        Beside(f"{label}: GSNR before training", float(mean[0]), None),
        Beside(f"{label}: GSNR after an epoch", float(mean[1]), None),
        Beside(f"{label}: highest GSNR after that", float(mean[top]), None, f"epoch {top}"),
        Beside(f"{label}: GSNR at the end", float(mean[-1]), None),
        Beside(f"{label}: seeds that rise above the start", risen, None, f"of {len(values)}"),
    ]


def draw(run: Run, table: Sequence[Row], counts: Mapping[str, int]) -> None:
    """The three panels of Figure 4, and the small start's beside 4a."""
    figure, panels = pyplot.subplots(2, 2, figsize=(11, 8.4))
    for axes, (net, title) in zip(panels.flat, ARMS.items(), strict=False):
        _panel(axes, table, net, "gsnr")
        axes.axhline(1 / counts[net], color="grey", lw=0.8, ls=":", label="no signal: 1/n")
        axes.set(title=f"{title}\n{counts[net]:,} samples", ylabel="mean GSNR", yscale="log")
    last = panels.flat[-1]
    _panel(last, table, "simple", "same_sign")
    _panel(last, table, "small-start", "same_sign", "--", ", small start")
    last.set(title="simple net", ylabel="share of samples of one sign")
    for axes in panels.flat:
        axes.legend(fontsize=8)
    seeds = len({row["seed"] for row in table})
    figure.suptitle(
        f"Figure 4 of the GSNR paper: real and random labels of {run.sizes['data']}\n"
        f"{seeds} seeds: each, and their mean"
    )
    run.picture(figure)


def _panel(
    axes: Axes, table: Sequence[Row], net: str, name: str, style: str = "-", of: str = ""
) -> None:
    for labels, colour in zip(LABELS, ("tab:red", "tab:blue"), strict=True):
        epochs, values = curves(table, net, labels, name)
        axes.plot(epochs, values.T, style, color=colour, lw=0.5, alpha=0.5)
        axes.plot(epochs, values.mean(0), style, color=colour, label=f"{labels} labels{of}")
    axes.set_xlabel("epoch (0: before training)")


def main(arguments: Sequence[str] | None = None) -> None:
    run = begin("gsnr_labels", options(__doc__, workers=True).parse_args(arguments))
    torch.set_num_threads(1)
    specs = train(run, overrides(run))
    counts = {}
    for directory, spec in specs.items():
        net, task = directory.name.split("__")[1], spec.task
        assert isinstance(task, ImageClassification)
        size = task.dataset.subset_size() or 0
        counts[net] = min(size, task.measures[0].samples or size)
        options_of = "".join(f", {k} {v}" for k, v in task.model.options().items())
        run.sizes |= {
            "data": task.dataset.name,
            net: f"{task.model.name}{options_of}",
            f"{net} images": size,
            f"{net} epochs": task.epochs,
        }
    table = rows(specs, run.device)
    run.sizes["seeds"] = len({row["seed"] for row in table})
    tell(run, table)
    draw(run, table, counts)
    run.finish()


if __name__ == "__main__":
    call(main)
