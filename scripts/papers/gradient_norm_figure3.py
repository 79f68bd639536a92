"""The gradient-norm paper's Figure 3: AGN against the generalization gap of 32 random nets each.

    python scripts/papers/gradient_norm_figure3.py [--scale small|paper] [--workers N]

Four architectures; all nets, and the halves of higher and of lower training accuracy, where the
paper sees a positive and a negative correlation (Observation 1). The gap is eq. 2 with the test
set: test loss − training loss. The paper prints the range of the learning rate and not its scale:
all nets are drawn twice, with the rate on a logarithmic and on a linear scale. AGN against the test
error, the last row of a picture, is not in the paper.

The studies are studies/papers/figure3.yaml. `small` takes 2 % of Fashion-MNIST in place of
CIFAR-10, a tenth of the epochs, a quarter of the batches, and four smaller nets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import FEWEST, STUDIES, Beside, Run, begin, call, options, shown
from gradient_norm_data import sizes
from gradient_norm_searches import with_matrix
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from running import train
from scipy import stats

from hpogen.analysis.correlation import PARTS, Correlation, Judgement, Part, halves, judge
from hpogen.analysis.statistics import Array
from hpogen.analysis.trials import FinishedTrials, finished_trials
from hpogen.study.read import read

P_TOP = {"resnet20": 0.336, "resnet56": 0.039, "resnet110": 0.036, "densenet100": 0.053}
FITTED = 0.88  # training accuracy: what all of the paper's top halves reach
GAP, ERROR = "audit_gap_loss", "audit_error"
HALVES: tuple[tuple[Part, int, str], ...] = (("top", 1, "positively"), ("bottom", -1, "negatively"))
TITLES = {"all": "all", "top": "top half", "bottom": "bottom half"}
ARMS = {"lr-log": "logarithmic", "lr-linear": "linear"}  # scales of the learning rate
SMALL_NETS = [
    "mlp",
    "lenet5",
    {"name": "nin", "width": 16, "blocks": 2, "batch_norm": True},
    {"name": "resnet20", "width": 4},
]
TINY_NETS = ["mlp", {"name": "nin", "width": 4, "blocks": 1}]


@dataclass(frozen=True)
class Study:
    """One architecture's nets in one arm, which are in which part, and the judgement of AGN."""

    net: str
    arm: str
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

    def p(self, target: str, part: Part) -> float | None:
        found = self.correlation(target, part).pearson
        return None if found is None else found.p


def overrides(run: Run) -> list[str]:
    """What is set in the study's file."""
    if run.scale == "paper":
        return []
    data = run.pick(
        tiny="{name: digits, subset: 0.05, validation: 0, audit: test}",
        small="{name: fashion-mnist, subset: 0.02, validation: 0, audit: test}",
    )
    nets = run.pick(tiny=TINY_NETS, small=SMALL_NETS)
    return [
        with_matrix(STUDIES / "figure3.yaml", {"task.model": nets}),
        f"task.dataset={data}",
        f"task.epochs={run.pick(tiny=2, small=16)}",
        f"task.schedule.milestones={run.pick(tiny=[1], small=[8, 12])}",
        "search_space.batch_size={int: [8, 250], log: true, default: 25}",
        f"stop.trials={run.pick(tiny=6, small=32)}",
    ]


def study(path: Path, name: str) -> Study:
    net, arm = name.split("__")
    return Study(net, arm, finished_trials(read(path)), judge(path, ["agn"]))


def compare(run: Run, found: Sequence[Study]) -> None:
    """Put the correlations beside the paper's, which gives their signs and the top halves' p."""
    for one in found:
        run.figures += _of_study(one, P_TOP.get(one.net) if run.scale == "paper" else None)
    for arm in ARMS:
        own = [one for one in found if one.arm == arm]
        for half, sign, word in HALVES:
            right = sum((one.r(GAP, half) or 0) * sign > 0 for one in own)
            what = f"{arm}: nets whose {TITLES[half]} correlates {word}"
            run.figures.append(Beside(what, right, len(P_TOP), f"of {len(own)}"))


def _of_study(one: Study, p_of_paper: float | None) -> Iterator[Beside]:
    name, accuracy = f"{one.net}, {one.arm}", one.trials.metrics["train_accuracy"]
    said = {"all": "", "top": "; the paper: positive", "bottom": "; the paper: negative"}
    for part in PARTS:
        note = f"{len(one.part(part))} nets{said[part]}"
        yield Beside(f"{name}, {TITLES[part]}: r(AGN, gap)", one.r(GAP, part), None, note)
        theirs, note = (p_of_paper, "the paper: 0.036 to 0.336") if part == "top" else (None, "")
        yield Beside(f"{name}, {TITLES[part]}: p", one.p(GAP, part), theirs, note)
    least = float(accuracy[one.part("top")].min())
    what = f"{name}, top half: least training accuracy"
    yield Beside(what, least, FITTED, "the paper: at least")
    number, r, p = well_fitted(accuracy, one.trials.metrics["agn"], one.trials.target(GAP))
    yield Beside(f"{name}, well-fitted: r(AGN, gap)", r, None, f"{number} nets")
    yield Beside(f"{name}, well-fitted: p", p, None)
    yield Beside(f"{name}, all: r(AGN, test error)", one.r(ERROR, "all"), None)
    yield Beside(f"{name}, all: p of that", one.p(ERROR, "all"), None)


def well_fitted(accuracy: Array, agn: Array, gap: Array) -> tuple[int, float | None, float | None]:
    """How many nets reach the paper's training accuracy, and Pearson's r of these with its p.

    None where there are fewer than three.
    """
    chosen = accuracy >= FITTED
    number = int(chosen.sum())
    if number < FEWEST:
        return number, None, None
    found = stats.pearsonr(agn[chosen], gap[chosen])
    return number, float(found.statistic), float(found.pvalue)


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
                    "arm": one.arm,
                    "trial": number,
                    **config,
                    "agn": trials.metrics["agn"][i],
                    "gap": trials.target(GAP)[i],
                    "train_accuracy": trials.metrics["train_accuracy"][i],
                    "test_accuracy": trials.audit[i],
                    "half": half,
                }
            )
    return rows


def correlation_rows(found: Sequence[Study]) -> list[dict[str, Any]]:
    """A row for each study, target and part: Pearson's r with p and 95 % interval, Kendall's τ."""
    rows = []
    for one in found:
        for c in one.judged.correlations:
            r, tau = c.pearson, c.kendall
            interval = r.interval if r else None
            rows.append(
                {
                    "net": one.net,
                    "arm": one.arm,
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


def draw(run: Run, arm: str, found: Sequence[Study], title: str) -> None:
    """A column for each net; rows: all, top half, bottom half, and the test error of all."""
    figure, axes = pyplot.subplots(4, len(found), figsize=(3 * len(found), 11), squeeze=False)
    for column, one in enumerate(found):
        for row, part in enumerate(PARTS):
            _panel(axes[row, column], one, GAP, part)
        _panel(axes[3, column], one, ERROR, "all")
    for row, label in zip(axes, [*["gap: test − training loss"] * 3, "test error"], strict=True):
        row[0].set_ylabel(label)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=2, fontsize=9)
    figure.supxlabel(" ")  # room for the legend
    figure.suptitle(title)
    run.picture(figure, f"_{arm}")


def _panel(axis: Axes, one: Study, target: str, part: Part) -> None:
    chosen, agn, truth = one.part(part), one.trials.metrics["agn"], one.trials.target(target)
    top = np.isin(chosen, one.part("top"))
    for half, color, label in ((top, "C0", "top half"), (~top, "C1", "bottom half")):
        if half.any():
            axis.scatter(agn[chosen[half]], truth[chosen[half]], 18, color=color, label=label)
    axis.set(xscale="log", xlabel="AGN (squared norm)")
    ticks = [float(f"{x:.2g}") for x in np.geomspace(*axis.get_xlim(), 4)[1:-1]]
    axis.set_xticks(ticks, [f"{x:,.0f}" for x in ticks])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_title(f"{one.net}, {TITLES[part]}: r {shown(one.r(target, part))}", fontsize=9)


def main(arguments: Sequence[str] | None = None) -> None:
    run = begin("gradient_norm_figure3", options(__doc__, workers=True).parse_args(arguments))
    specs = train(run, {"figure3": overrides(run)})
    found = [study(path, spec.name) for path, spec in specs.items()]
    run.sizes = sizes(next(iter(specs.values())))
    title = "{data}, {images:,} images, {epochs} epochs".format(**run.sizes)
    run.sizes["left_out"] = {f"{one.net}, {one.arm}": dict(one.trials.left_out) for one in found}
    run.table(trial_rows(found))
    run.table(correlation_rows(found), "_correlations")
    compare(run, found)
    for arm, scale in ARMS.items():
        own = [one for one in found if one.arm == arm]
        what = f"AGN and the gap, learning rate drawn on a {scale} scale"
        draw(run, arm, own, f"{what}\n{title}, scale {run.scale}")
    run.finish()


if __name__ == "__main__":
    call(main)
