"""The gradient-norm paper's Figure 3: AGN against the generalization gap of 32 random nets each.

    scripts/papers/gradient_norm_figure3.py [--scale small|paper] [--workers N]

Four architectures; all nets, and the halves of higher and of lower training accuracy, where the
paper sees a positive and a negative correlation (Observation 1). The gap is eq. 2 with the test
set: test loss − training loss. The last row, AGN against the test error, is not in the paper.

The studies are studies/papers/figure3.yaml. `small` takes 3 % of Fashion-MNIST in place of
CIFAR-10, a tenth of the epochs, a quarter of the batches, and four smaller nets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import Beside, Run, begin, call, options
from gradient_norm_runs import shown, train
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from hpogen.analysis.correlation import PARTS, Correlation, Judgement, Part, halves, judge
from hpogen.analysis.statistics import Array
from hpogen.analysis.trials import FinishedTrials, finished_trials

P_TOP = {"resnet20": 0.336, "resnet56": 0.039, "resnet110": 0.036, "densenet100": 0.053}
FITTED = 0.88  # training accuracy: what all of the paper's top halves reach
GAP, ERROR = "audit_gap_loss", "audit_error"
HALVES: tuple[tuple[Part, int, str], ...] = (("top", 1, "positively"), ("bottom", -1, "negatively"))
TITLES = {"all": "all", "top": "top half", "bottom": "bottom half"}
SMALL_NETS = (
    "[mlp, lenet5, {name: nin, width: 16, blocks: 2, batch_norm: true}, {name: resnet20, width: 4}]"
)


@dataclass(frozen=True)
class Study:
    """One architecture's nets, which of them are in which part, and hpogen's judgement of AGN."""

    net: str
    trials: FinishedTrials
    judged: Judgement

    def part(self, part: Part) -> Array:
        """The indices of the part's trials."""
        return np.asarray(halves(self.trials)[0][part])

    def correlation(self, target: str, part: Part) -> Correlation:
        return self.judged.select(target, part)[0]

    def r(self, target: str, part: Part) -> float | None:
        found = self.correlation(target, part).pearson
        return None if found is None else found.value


def overrides(run: Run) -> list[str]:
    """What is set in the study's file."""
    if run.scale == "paper":
        return []
    data = run.pick(
        tiny="{name: digits, subset: 0.05, validation: 0, audit: test}",
        small="{name: fashion-mnist, subset: 0.03, validation: 0, audit: test}",
    )
    nets = run.pick(tiny="[mlp, {name: nin, width: 4, blocks: 1}]", small=SMALL_NETS)
    return [
        f"task.dataset={data}",
        f"task.epochs={run.pick(tiny=2, small=16)}",
        f"task.schedule.milestones={run.pick(tiny=[1], small=[8, 12])}",
        "search_space.batch_size={int: [8, 250], log: true, default: 25}",
        f"stop.trials={run.pick(tiny=6, small=32)}",
        f"matrix={{task.model: {nets}}}",
    ]


def study(net: str, path: Path) -> Study:
    return Study(net, finished_trials(path), judge(path, ["agn"]))


def compare(run: Run, found: Sequence[Study]) -> None:
    """Put the correlations beside the paper's, which gives their signs and the top halves' p."""
    for one in found:
        for part in PARTS:
            said = {"top": "; the paper: positive", "bottom": "; the paper: negative"}.get(part, "")
            note = f"{len(one.part(part))} nets{said}"
            what = f"{one.net}, {TITLES[part]}: r(AGN, gap)"
            run.figures.append(Beside(what, one.r(GAP, part), None, note))
        top = one.correlation(GAP, "top").pearson
        theirs = P_TOP.get(one.net) if run.scale == "paper" else None
        note = "" if theirs is not None else "the paper: 0.036 to 0.336"
        ours = None if top is None else top.p
        run.figures.append(Beside(f"{one.net}, top half: p", ours, theirs, note))
        fit = float(one.trials.metrics["train_accuracy"][one.part("top")].min())
        what = f"{one.net}, top half: least training accuracy"
        run.figures.append(Beside(what, fit, FITTED, "the paper: at least"))
        what = f"{one.net}, all: r(AGN, test error)"
        run.figures.append(Beside(what, one.r(ERROR, "all"), None))
    for half, sign, word in HALVES:
        right = sum((one.r(GAP, half) or 0) * sign > 0 for one in found)
        what = f"nets whose {TITLES[half]} correlates {word}"
        run.figures.append(Beside(what, right, len(P_TOP), f"of {len(found)}"))


def trial_rows(found: Sequence[Study]) -> list[dict[str, Any]]:
    """A row for each trained net."""
    rows = []
    for one in found:
        trials, (parts, _) = one.trials, halves(one.trials)
        for i, (number, config) in enumerate(zip(trials.numbers, trials.configs, strict=True)):
            half = next((part for part in ("top", "bottom") if i in parts[part]), "")
            rows.append(
                {
                    "net": one.net,
                    "trial": number,
                    **config,
                    "agn": trials.metrics["agn"][i],
                    "gap": trials.target(GAP)[i],
                    "train_accuracy": trials.metrics["train_accuracy"][i],
                    "test_accuracy": trials.audit_accuracy[i],
                    "half": half,
                }
            )
    return rows


def correlation_rows(found: Sequence[Study]) -> list[dict[str, Any]]:
    """A row for each net, target and part: Pearson's r with p and 95 % interval, Kendall's τ."""
    rows = []
    for one in found:
        for c in one.judged.correlations:
            r, tau = c.pearson, c.kendall
            interval = r.interval if r else None
            rows.append(
                {
                    "net": one.net,
                    "target": c.target,
                    "part": c.part,
                    "nets": c.trials,
                    "r": r and r.value,
                    "low": interval and interval.low,
                    "high": interval and interval.high,
                    "p": r and r.p,
                    "tau": tau and tau.value,
                    "tau_p": tau and tau.p,
                }
            )
    return rows


def draw(run: Run, found: Sequence[Study], title: str) -> None:
    """A column for each net; rows: all, top half, bottom half, and the test error of all."""
    figure, axes = pyplot.subplots(4, len(found), figsize=(3 * len(found), 11), squeeze=False)
    for column, one in enumerate(found):
        for row, part in enumerate(PARTS):
            _panel(axes[row, column], one, GAP, part)
        _panel(axes[3, column], one, ERROR, "all")
    for row, label in zip(axes, [*["gap: test − training loss"] * 3, "test error"], strict=True):
        row[0].set_ylabel(label)
    figure.suptitle(title)
    run.picture(figure)


def _panel(axis: Axes, one: Study, target: str, part: Part) -> None:
    chosen, agn, truth = one.part(part), one.trials.metrics["agn"], one.trials.target(target)
    top = np.isin(chosen, one.part("top"))
    for half, color, label in ((top, "C0", "top half"), (~top, "C1", "bottom half")):
        if half.any():
            axis.scatter(agn[chosen[half]], truth[chosen[half]], 18, color=color, label=label)
    axis.set(xscale="log", xlabel="AGN (squared norm)")
    ticks = [float(f"{x:.2g}") for x in np.geomspace(*axis.get_xlim(), 5)[1:-1]]
    axis.set_xticks(ticks, [f"{x:,.0f}" for x in ticks])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_title(f"{one.net}, {TITLES[part]}: r {shown(one.r(target, part))}", fontsize=9)
    if part == "all" and target == GAP:
        axis.legend(fontsize=8)


def main(arguments: Sequence[str] | None = None) -> None:
    run = begin("gradient_norm_figure3", options(__doc__, workers=True).parse_args(arguments))
    specs = train(run, {"figure3": overrides(run)})
    found = [study(spec.name, path) for path, spec in specs.items()]
    task = next(iter(specs.values())).task.record()
    left_out = {one.net: dict(one.trials.left_out) for one in found}
    data, images = task["dataset"]["name"], _images(task["dataset"])
    run.sizes = {"data": data, "images": images, "epochs": task["epochs"], "left_out": left_out}
    run.table(trial_rows(found))
    run.table(correlation_rows(found), "_correlations")
    compare(run, found)
    what = f"{data}, {images:,} images, {task['epochs']} epochs, scale {run.scale}"
    draw(run, found, f"AGN and the generalization gap: {what}")
    run.finish()


def _images(mapping: dict[str, Any]) -> int:
    """How many images the studies train on."""
    from hpogen.training.dataset import Dataset

    return Dataset.model_validate(mapping).subset_size() or 0


if __name__ == "__main__":
    call(main)
