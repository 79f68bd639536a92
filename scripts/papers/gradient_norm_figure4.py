"""The gradient-norm paper's Figure 4: how the nets train that searches by Val and by AGN choose.

    python scripts/papers/gradient_norm_figure4.py [--workers N] [--scale small|paper]

Runs the matrix `studies/papers/figure4.yaml` (random search and CMA-ES by validation loss, CMA-ES
by AGN with the training loss), trains each choice and the default on the full training set and
draws training and test loss by epoch. Small: Fashion-MNIST at 14×14, 2,000 images, a network in
network for ResNet-20, 64 epochs for 160, a quarter of the batch sizes; 32 trials as the paper.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import STUDIES, Beside, Run, begin, call, options
from gradient_norm_paper import in_print
from gradient_norm_searches import (
    NET,
    SMALL,
    TINY,
    Found,
    searched,
    small_dataset,
    with_matrix,
)
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from hpogen.errors import UserError
from hpogen.study.retrained import Retrained

PANELS = {  # by the study's label; the default has been trained beside each of them
    "default": "(a)",
    "random__val": "(b)",
    "cmaes__val": "(c)",
    "cmaes__agn+train-0.1": "(d)",
}
FILE = STUDIES / "figure4.yaml"
EPOCHS = 64  # of the small scale
PAPER_GAP, PAPER_GAP_AGN, PAPER_PEAK = 0.325, 0.259, 7.0  # sections A.3, Figure 4


@dataclass(frozen=True)
class Curves:
    """Mean losses by epoch, (trainings, epochs): of the training steps, and on the test set."""

    train: NDArray[np.float64]
    test: NDArray[np.float64]

    @property
    def gap(self) -> float:
        """Test loss − training loss after the last epoch, mean over the trainings."""
        return float((self.test - self.train)[:, -1].mean())

    @property
    def peak(self) -> float:
        """The largest test loss of any training after any epoch."""
        return float(self.test.max())

    @property
    def peak_epoch(self) -> int:
        """The epoch, from 1, after which that is."""
        return int(self.test.max(0).argmax()) + 1

    @property
    def step(self) -> float:
        """By how much the test loss changes from an epoch to the next, mean of the sizes."""
        return float(np.abs(np.diff(self.test)).mean())


def curves(retrained: Retrained) -> Curves:
    """Raises UserError when no training has finished."""
    if not retrained.runs:
        raise UserError(f"{retrained.directory}: every training failed")
    rows = [run.curve for run in retrained.runs]
    train = [[row["metrics"]["train_loss_online"] for row in curve] for curve in rows]
    test = [[row["audit"]["loss"] for row in curve] for curve in rows]
    return Curves(np.array(train), np.array(test))


def overrides(run: Run) -> list[str]:
    """What `--set` would be given to bring the paper's matrix to the scale."""
    if run.scale == "paper":
        return []
    tiny = run.scale == "tiny"
    dataset = {"name": "digits"} if tiny else small_dataset(run, "fashion-mnist")
    dataset = {**dataset, "subset": 0.2, "validation": 200, "audit": 400}
    dataset.pop("label", None)
    model = {key: value for key, value in (TINY if tiny else NET).items() if key != "label"}
    epochs, trials, population = (4, 4, 2) if tiny else (EPOCHS, 32, 8)
    searchers = ["random", {"name": "cmaes", "population": population}]
    return [
        with_matrix(FILE, {"searcher": searchers}),
        f"task.dataset={json.dumps(dataset)}",
        f"task.model={json.dumps(model)}",
        f"task.epochs={epochs}",
        f"task.schedule.milestones=[{epochs // 2}, {epochs * 3 // 4}]",
        f"stop.epochs={epochs * trials}",
        *([] if tiny else SMALL),
    ]


def by_panel(found: Iterable[Found]) -> dict[str, Retrained]:
    """The retrained nets of each panel, in the paper's order."""
    studies = {one.label: one for one in found}
    default = next(iter(studies.values())).default
    return {label: default if label == "default" else studies[label].answer for label in PANELS}


def title_of(label: str) -> str:
    return f"{PANELS[label]} {in_print(label.replace('__', ' '))}"


def draw(run: Run, panels: Mapping[str, Curves], title: str) -> None:
    figure, axes = pyplot.subplots(2, 2, figsize=(9.5, 6.5), sharex=True, sharey=True)
    for axis, (label, found) in zip(axes.flat, panels.items(), strict=True):
        _panel(axis, found)
        axis.set_title(title_of(label), size=10)
    for axis in axes[1]:
        axis.set_xlabel("epoch")
    for axis in axes[:, 0]:
        axis.set_ylabel("cross-entropy (nats)")
    axes[0, 0].legend(loc="upper right", fontsize=8)
    figure.suptitle(f"Gradient-norm paper, Figure 4, {title}", size=11)
    run.picture(figure)


def _panel(axis: Axes, found: Curves) -> None:
    epochs = np.arange(1, found.test.shape[1] + 1)
    for name, losses, colour in (
        ("training (mean of the steps)", found.train, "tab:blue"),
        ("test", found.test, "tab:orange"),
    ):
        axis.plot(epochs, losses.mean(0), color=colour, label=name)
        axis.fill_between(epochs, losses.min(0), losses.max(0), color=colour, alpha=0.2)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.tick_params(which="both", labelsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)


def figures(panels: Mapping[str, Curves]) -> list[Beside]:
    """Ours beside the few numbers of section A.3."""
    default, agn = panels["default"], panels["cmaes__agn+train-0.1"]
    saved = 100 * (1 - agn.gap / default.gap) if default.gap > 0 else None
    peaks = {"cmaes__val": PAPER_PEAK}
    return [
        Beside("Default: final gap (nats)", default.gap, PAPER_GAP),
        Beside("CMA-ES (AGN+Train): final gap (nats)", agn.gap, PAPER_GAP_AGN),
        Beside("… smaller than the default's by (%)", saved, 20.3),
        *(
            Beside(f"{in_print(label.replace('__', ' '))}: {what}", value, theirs, note)
            for label, found in panels.items()
            for what, value, theirs, note in (
                ("final training loss", float(found.train[:, -1].mean()), None, ""),
                ("final test loss", float(found.test[:, -1].mean()), None, ""),
                ("largest test loss", found.peak, peaks.get(label), f"epoch {found.peak_epoch}"),
                ("mean change of the test loss per epoch", found.step, None, ""),
            )
        ),
    ]


def rows(panels: Mapping[str, Curves]) -> list[dict[str, Any]]:
    return [
        {"panel": label, "training": i, "epoch": epoch + 1, "train_loss": a, "test_loss": b}
        for label, found in panels.items()
        for i, pair in enumerate(zip(found.train, found.test, strict=True))
        for epoch, (a, b) in enumerate(zip(*pair, strict=True))
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    run = begin("gradient_norm_figure4", options(__doc__, workers=True).parse_args(arguments))
    seeds = run.pick(tiny=1, small=3, paper=3)
    found = searched(run, FILE, overrides(run), seeds)
    retrained = by_panel(found)
    panels = {label: curves(one) for label, one in retrained.items()}
    data = run.pick(tiny="digits", small="Fashion-MNIST 14×14, 2,000 images", paper="Fashion-MNIST")
    run.sizes = {"data": data, "retrained": seeds}
    run.table(rows(panels))
    run.table([{"panel": x, **one.choice.config} for x, one in retrained.items()], "_chosen")
    draw(run, panels, f"{data}: retrained on the full training set, n = {seeds} (mean, range)")
    run.figures = figures(panels)
    run.finish()


if __name__ == "__main__":
    call(main)
