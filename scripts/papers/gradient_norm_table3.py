"""The gradient-norm paper's Table 3: which measures tell how nets of many architectures generalize.

    python scripts/papers/gradient_norm_table3.py [--workers N] [--scale small|paper]

Trains the grids `studies/papers/table3-vgg.yaml` (96 VGG-like nets) and `table3-nin.yaml` (54
networks in network), tasks 1 and 2 of the competition PGDL, and scores each measure by the
competition's conditional mutual information, beside what random numbers score. The paper's Jacobian
norm stands beside the form of the competition's starting kit. Small:
Fashion-MNIST for CIFAR-10 and MNIST for SVHN at 14×14, 600 images, a sixteenth of the channels,
smaller batches, 48 epochs, NiNs with BatchNorm.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import STUDIES, Beside, Run, begin, call, options
from gradient_norm_searches import small_dataset
from grids import Grid, grid_of
from matplotlib import pyplot
from pgdl import pair_scores

from hpogen.analysis.statistics import Array
from hpogen.analysis.trials import finished_trials
from hpogen.cli.drive import drive
from hpogen.errors import UserError
from hpogen.spec import load_study
from hpogen.study.read import read

FILES = {"vgg": STUDIES / "table3-vgg.yaml", "nin": STUDIES / "table3-nin.yaml"}
PAPER = {  # Table 3
    "vc_dim": ("VC dimension", 0.019598841),
    "jacobian_square": ("Jacobian (PGDL's mean square)", 2.061258975),
    "jacobian_norm": ("Jacobian (mean norm)", None),
    "agn_last": ("AGN (of the last epoch)", 3.955067687),
    "distance_init": ("Distance to θ0", 4.921479998),
    "sharpness_pacbayes": ("Sharpness (PAC-Bayes)", 10.66711408),
    "sharpness": ("Sharpness (a step of SAM)", None),
}
GAP = "audit_gap_error"  # training accuracy − test accuracy
FINAL = ("jacobian_square", "sharpness_pacbayes")  # are computed at the end only
DEAR = ("jacobian_square", "jacobian_norm", "sharpness_pacbayes", "sharpness")
DRAWS = 200  # of random numbers
SUBSET = 0.3  # 600 of the small scale's 2,000 images
SPACES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {  # what differs from the YAML
    "small": {
        "vgg": {
            "width": {"choice": [16, 32]},
            "weight_decay": {"choice": [0.0, 0.01]},
            "batch_size": {"choice": [8, 32, 128]},
            "lr": 0.02,
        },
        "nin": {
            "width": 16,
            "batch_norm": {"choice": [True]},  # twelve layers stay at chance without
            "weight_decay": {"choice": [0.0, 0.01]},
            "batch_size": {"choice": [8, 64, 128]},
            "lr": 0.05,
        },
    },
    "tiny": {
        "vgg": {
            "width": {"choice": [4, 8]},
            "blocks": {"choice": [1, 2]},
            "dense": 1,
            "dropout": {"choice": [0.0, 0.5]},
            "weight_decay": 0.0,
            "batch_size": 32,
            "lr": 0.05,
        },
        "nin": {
            "width": 4,
            "blocks": {"choice": [1, 2]},
            "dropout": {"choice": [0.0, 0.25]},
            "weight_decay": 0.0,
            "batch_size": {"choice": [32, 64]},
            "lr": 0.05,
        },
    },
}


@dataclass(frozen=True)
class Models:
    """A task's trained models: what was measured, and their gaps, (n,) each."""

    grid: Grid
    measures: Mapping[str, Array]
    gap: Array
    train_accuracy: Array

    def score(self, values: Array) -> float:
        """In [0, 100]: the minimum over the pairs of hyper-parameters."""
        return 100 * min(pair_scores(self.grid, values, self.gap).values())


def overrides(run: Run, task: str) -> list[str]:
    """What `--set` would be given to bring a grid to the scale."""
    if run.scale == "paper":
        return []
    tiny = run.scale == "tiny"
    if tiny:
        dataset: dict[str, Any] = {"name": "digits", "subset": 0.1}
    else:
        dataset = small_dataset(run, {"vgg": "fashion-mnist", "nin": "mnist"}[task])
        dataset |= {"subset": SUBSET}
        del dataset["label"]
    epochs, samples = (4, 50) if tiny else (48, 200)
    measures = [
        {
            "name": name,
            **({} if name in FINAL else {"every": epochs}),
            **({"samples": samples} if name in DEAR else {}),
        }
        for name in PAPER
    ]
    space = [f"search_space.{k}={json.dumps(v)}" for k, v in SPACES[run.scale][task].items()]
    return [
        f"task.dataset={json.dumps({**dataset, 'validation': 0, 'audit': 'test'})}",
        f"task.epochs={epochs}",
        f"task.schedule.milestones=[{epochs // 4}, {epochs // 2}, {epochs * 3 // 4}]",
        f"task.measures={json.dumps(measures)}",
        *space,
        *(["stop.trials=8"] if tiny else []),
    ]


def trained(run: Run) -> dict[str, Models]:
    """Both grids, in one pool. Raises UserError when they were interrupted."""
    home = run.out / "table3"
    specs = {home / task: load_study(file, overrides(run, task)) for task, file in FILES.items()}
    ends = drive(specs, home, run.where(), "")
    if unfinished := [end for end in ends if end != "finished"]:
        raise UserError(f"{home}: {unfinished[0]}: the same command goes on with it")
    return {task: models(home / task) for task in FILES}


def models(directory: Path) -> Models:
    """Raises Refusal, naming what is missing, where a model of the grid has failed."""
    found = finished_trials(read(directory))
    measures = {name: found.measure(name) for name in PAPER}
    accuracy = found.metrics["train_accuracy"]
    return Models(grid_of(found), measures, found.target(GAP), accuracy)


def chance(tasks: Mapping[str, Models], draws: int) -> Array:
    """The scores of random numbers in the place of a measure, (tasks, draws)."""
    generator = np.random.default_rng(0)
    return np.array(
        [
            [found.score(generator.standard_normal(len(found.gap))) for _ in range(draws)]
            for found in tasks.values()
        ]
    )


def draw(run: Run, scores: Mapping[str, Mapping[str, float]], limit: float, title: str) -> None:
    """Ours and the paper's score of each measure, and what one in twenty random ones exceeds."""
    figure, axis = pyplot.subplots(figsize=(8, 4.5))
    places = np.arange(len(PAPER))
    means = [float(np.mean([*scores[name].values()])) for name in PAPER]
    theirs = [score or 0.0 for _, score in PAPER.values()]
    for shift, values, colour, label in (
        (-0.2, means, "tab:blue", "ours (mean of both tasks)"),
        (0.2, theirs, "tab:orange", "paper"),
    ):
        bars = axis.barh(places + shift, values, 0.38, color=colour, label=label)
        texts = ["" if label == "paper" and not v else f"{v:.2f}" for v in values]
        axis.bar_label(bars, texts, padding=3, fontsize=8)
    axis.axvline(limit, color="gray", linestyle=":", label="95 % of random numbers score less")
    axis.set_yticks(places, [name for name, _ in PAPER.values()])
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set_xlabel("PGDL score (0 to 100)")
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.14), ncol=3)
    axis.set_title(f"Gradient-norm paper, Table 3\n{title}", size=10)
    run.picture(figure)


def rows(tasks: Mapping[str, Models]) -> list[dict[str, Any]]:
    """A row per model, with what was measured; scores can be had from it anew."""
    return [
        {
            "task": task, "cell": " ".join(map(str, cell)), "gap": found.gap[model],
            "train_accuracy": found.train_accuracy[model],
            **{name: values[model] for name, values in found.measures.items()},
        }
        for task, found in tasks.items()
        for cell, model in zip(cells(found.grid), found.grid.order, strict=True)
    ]  # fmt: skip


def cells(grid: Grid) -> list[tuple[object, ...]]:
    """The values of the hyper-parameters of each cell, the last one varying fastest."""
    axes = np.meshgrid(*[np.arange(len(v)) for v in grid.values.values()], indexing="ij")
    index = np.stack([axis.ravel() for axis in axes], axis=1)
    return [tuple(v[i] for v, i in zip(grid.values.values(), row, strict=True)) for row in index]


def main(arguments: Sequence[str] | None = None) -> None:
    run = begin("gradient_norm_table3", options(__doc__, workers=True).parse_args(arguments))
    tasks = trained(run)
    scores = {
        name: {task: found.score(found.measures[name]) for task, found in tasks.items()}
        for name in PAPER
    }
    random = chance(tasks, run.pick(tiny=5, small=DRAWS, paper=DRAWS))
    limit = float(np.quantile(random.mean(0), 0.95))
    limits = dict(zip(tasks, np.quantile(random, 0.95, axis=1), strict=True))
    counts = {task: len(found.gap) for task, found in tasks.items()}
    run.sizes = {"models": counts, "random draws": random.shape[1]}
    run.table(rows(tasks))
    data = run.pick(
        tiny="digits", small="Fashion-MNIST and MNIST 14×14, 600 images", paper="CIFAR-10, SVHN"
    )
    draw(run, scores, limit, f"{data}: {counts['vgg']} VGG-like nets, {counts['nin']} NiNs")
    run.figures = [
        Beside(label, float(np.mean([*scores[name].values()])), theirs, _by_task(scores[name]))
        for name, (label, theirs) in PAPER.items()
    ]
    run.figures += [
        Beside("random numbers, mean", float(random.mean()), None),
        Beside("random numbers, 95 % point", limit, None, _by_task(limits)),
        *(Beside(f"{x}: median gap", float(np.median(y.gap)), None) for x, y in tasks.items()),
        *(
            Beside(f"{x}: median training accuracy", float(np.median(y.train_accuracy)), None)
            for x, y in tasks.items()
        ),
    ]
    run.finish()


def _by_task(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{task} {score:.2f}" for task, score in scores.items())


if __name__ == "__main__":
    call(main)
