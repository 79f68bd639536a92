"""The GSNR paper's Figure 4: GSNR while a net learns real labels, and random ones.

    scripts/papers/gsnr_labels.py [--scale small|paper] [--out FOLDER] [--data FOLDER]

Runs studies/papers/gsnr-labels-simple.yaml (4a, and the same-sign share of 4c) and
gsnr-labels-resnet18.yaml (4b); small: on 3,000 and 600 images of Fashion-MNIST, with narrower
nets. GSNR is the mean of eq. 25 over all parameters. The values before the first step, which
no study has, are computed from the same weights and images. A stopped run goes on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import torch
from common import STUDIES, Beside, Run, begin, call, options
from matplotlib import pyplot
from matplotlib.axes import Axes

from hpogen.errors import UserError
from hpogen.executors.inline import InlineExecutor
from hpogen.folder import read_curve
from hpogen.history import read
from hpogen.measures.network_moments import network_moments
from hpogen.opening import open_study
from hpogen.runner import run_all
from hpogen.study import Study
from hpogen.training.recipe import begin as begin_trial
from hpogen.training.settings import ImageClassification
from hpogen.trial import RunningTrial, Trial

ARMS = ("simple", "resnet18")  # Figure 4a and c; 4b
THEIR_SIGNS = (0.50, 0.56)  # the same-sign share at the start and at the end, "about", Figure 4c
Row = dict[str, Any]


def overrides(run: Run, arm: str) -> list[str]:
    """What the scale changes in an arm's study."""
    simple = arm == "simple"
    if run.scale == "paper":
        return []
    if run.scale == "tiny":
        data = {"name": "digits", "subset": 0.1, "validation": 0, "audit": 0}
        model = "mlp" if simple else "{name: resnet18, width: 2}"
        epochs, options = 3, ", samples: 60"
    else:
        subset = 0.05 if simple else 0.01
        data = {"name": "fashion-mnist", "subset": subset, "validation": 0, "audit": 0}
        model = "{name: gsnr-mnist, channels: 10}" if simple else "{name: resnet18, width: 8}"
        epochs, options = 100 if simple else 50, ""
    measures = ["gsnr", "same_sign"] if simple else ["gsnr"]
    listed = ", ".join(f"{{name: {name}{options}}}" for name in measures)
    changes = {f"task.dataset.{key}": value for key, value in data.items()}
    changes |= {"task.model": model, "task.epochs": epochs, "task.measures": f"[{listed}]"}
    return [f"{key}={value}" for key, value in changes.items()]


def trained(run: Run) -> dict[str, Study]:
    """The studies of all arms, run to their ends."""
    with ExitStack() as stack:
        studies = {
            arm: stack.enter_context(
                open_study(
                    STUDIES / f"gsnr-labels-{arm}.yaml",
                    run.out / f"gsnr_labels_{run.scale}" / arm,
                    overrides(run, arm),
                )
            )
            for arm in ARMS
        }
        for arm, result in zip(
            ARMS, run_all(list(studies.values()), InlineExecutor(run.device)), strict=True
        ):
            if result.end != "finished":
                raise UserError(f"the study of {arm} ended otherwise: {result.end} {result.text}")
    return studies


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


def rows(studies: dict[str, Study], device: str) -> list[Row]:
    names = ("gsnr", "same_sign", "train_loss", "train_accuracy")
    return [
        {
            "net": arm,
            "labels": "random" if record.trial.config["corruption"] else "real",
            "epoch": row["epoch"],
            **{name: row.get(name) for name in names},
        }
        for arm, study in studies.items()
        for record in read(study.directory).told()
        for row in curve(study, record.trial, device)
    ]


def column(table: Sequence[Row], net: str, labels: str, name: str) -> tuple[list[int], list[float]]:
    """Epochs and values of one curve, where it has values."""
    chosen = [row for row in table if (row["net"], row["labels"]) == (net, labels)]
    kept = [row for row in chosen if row[name] is not None]
    return [row["epoch"] for row in kept], [row[name] for row in kept]


def tell(run: Run, table: Sequence[Row]) -> None:
    run.table(table)
    for net in ARMS:
        means = {}
        for labels in ("real", "random"):
            values = column(table, net, labels, "gsnr")[1]
            means[labels] = sum(values[1:]) / len(values[1:])
            loss = column(table, net, labels, "train_loss")[1][-1]
            top = values.index(max(values))
            run.figures += [
                Beside(f"{net}, {labels} labels: GSNR before training", values[0], None),
                Beside(f"{net}, {labels} labels: highest GSNR", max(values), None, f"epoch {top}"),
                Beside(f"{net}, {labels} labels: GSNR at the end", values[-1], None),
                Beside(f"{net}, {labels} labels: training loss at the end", loss, None,
                       "paper: goes to zero"),
            ]  # fmt: skip
        ratio = means["real"] / means["random"]
        run.figures.append(
            Beside(f"{net}: mean GSNR, real over random", ratio, None, "paper: clearly above 1")
        )
    for labels, theirs in (("real", THEIR_SIGNS), ("random", (None, None))):
        signs = column(table, "simple", labels, "same_sign")[1]
        run.figures += [
            Beside(f"simple, {labels}: same sign before training", signs[0], theirs[0]),
            Beside(f"simple, {labels}: same sign at the end", signs[-1], theirs[1]),
        ]


def draw(run: Run, table: Sequence[Row], counts: dict[str, int]) -> None:
    """The three panels of Figure 4."""
    figure, panels = pyplot.subplots(1, 3, figsize=(14, 4.2))
    data, n = run.sizes["data"], counts
    for axes, net, name, chance in (
        (panels[0], "simple", "gsnr", 1 / n["simple"]),
        (panels[1], "resnet18", "gsnr", 1 / n["resnet18"]),
        (panels[2], "simple", "same_sign", 0.5 + 0.4 / math.sqrt(n["simple"])),
    ):
        _panel(axes, table, net, name)
        axes.axhline(chance, color="grey", lw=0.8, ls=":", label="no signal")
        axes.set_title(f"{run.sizes[net]}\n{n[net]:,} samples of {data}", fontsize=10)
        axes.set_ylabel("mean GSNR" if name == "gsnr" else "share of samples of one sign")
        axes.legend(fontsize=8)
    figure.suptitle("Figure 4 of the GSNR paper: real and random labels")
    run.picture(figure)


def _panel(axes: Axes, table: Sequence[Row], net: str, name: str) -> None:
    for labels, colour in (("real", "tab:red"), ("random", "tab:blue")):
        axes.plot(*column(table, net, labels, name), color=colour, label=f"{labels} labels")
    axes.set_xlabel("epoch (0: before training)")
    if name == "gsnr":
        axes.set_yscale("log")


def main(arguments: Sequence[str] | None = None) -> None:
    run = begin("gsnr_labels", options(__doc__).parse_args(arguments))
    torch.set_num_threads(1)
    studies = trained(run)
    counts = {}
    for arm, study in studies.items():
        task = study.spec.task
        if isinstance(task, ImageClassification):
            size = task.dataset.subset_size() or 0
            counts[arm] = min(size, task.measures[0].samples or size)
            run.sizes |= {
                "data": task.dataset.name,
                arm: ", ".join(
                    [task.model.name, *(f"{k} {v}" for k, v in task.model.options().items())]
                ),
            }
            run.sizes |= {f"{arm} images": size, f"{arm} epochs": task.epochs}
    table = rows(studies, run.device)
    tell(run, table)
    draw(run, table, counts)
    run.finish()


if __name__ == "__main__":
    call(main)
