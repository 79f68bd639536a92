"""What the evidence comes to: from the answers' test errors to tables, statistics and pictures.

`evidence.py` calls it. Percentages are points of test error; below 0 the first arm is better.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from hpogen.analysis.contrasts import Contrast, contrast
from hpogen.analysis.statistics import holm

matplotlib.use("Agg")
from matplotlib import pyplot

ROPE = 0.1  # points: a smaller difference is practically none
LEAST, WORSE, FEW = 0.3, 0.1, 2 / 12  # the target, in points; the share of tasks that may be worse
DRAWS = 20_000
WARNED = "warned of "  # before a measure: whether a search says that it is not to be trusted
Errors = dict[str, dict[int, float]]  # of an arm: by task, by search seed
Rows = Mapping[tuple[str, str], Errors]  # by arm and labels


@dataclass(frozen=True)
class Answers:
    """All that was read: of the tasks that differ in data, and of all."""

    rows: Rows
    kin: Mapping[str, str]  # of each task; empty for one that counts in the primary contrast

    def of(self, arm: str, labels: str, alone: bool = True) -> Errors:
        found = self.rows.get((arm, labels), {})
        return {task: own for task, own in found.items() if not (alone and self.kin[task])}

    def arms(self) -> list[str]:
        return [*dict.fromkeys(a for a, _ in self.rows if not a.startswith((WARNED, "default")))]

    def labels(self) -> list[str]:
        return [*dict.fromkeys(labels for _, labels in self.rows if labels != "none")]


def read(paths: Mapping[str, Path], kin: Mapping[str, str]) -> Answers:
    """The answers of a block of seeds, by task."""
    rows: dict[tuple[str, str], Errors] = {}
    for task, path in paths.items():
        with open(path, newline="") as file:
            head, *lines = csv.reader(file)
        for arm, labels, *values in lines:
            pairs = zip(head[2:], values, strict=True)
            told = {int(seed): float(value) for seed, value in pairs if value}
            points = 1 if arm.startswith(WARNED) else 100
            rows.setdefault((arm, labels), {})[task] = {s: points * x for s, x in told.items()}
    return Answers(rows, kin)


def show(answers: Answers, again: Answers, primary: tuple[str, str], at: str, out: Path) -> None:
    """Print the verdict as Markdown, and draw it into the folder."""
    for name, found in (("First", answers), ("Second", again)):
        for line in _primary(found, primary, at, name):
            print(line)
    if not answers.rows:
        return
    for part in (_arms(answers), _tasks(answers, primary, at), _warnings(answers, at)):
        print("", *part, sep="\n")
    _draw(answers, primary, at, out)


def _primary(found: Answers, primary: tuple[str, str], at: str, block: str) -> Iterator[str]:
    first, second = (found.of(arm, at) for arm in primary)
    if (main := contrast(primary, first, second, primary=True)) is None:
        return
    means = np.array([_mean(first[t]) - _mean(second[t]) for t in first])
    left, rope, right = signed_rank(means)
    many = int((means > WORSE).sum())
    reached = main.difference <= -LEAST and main.p < 0.05 and many <= FEW * len(means)
    yield (
        f"**{block} block, {primary[0]} − {primary[1]}, {at} labels: {_said(main)}**; {main.tasks} "
        f"tasks, {main.pairs} pairs, {main.wins}/{main.ties}/{main.losses}; worse by more than "
        f"{WORSE} on {many} tasks (worst: {main.worst_task}, {_worst(main):+.2f}); "
        f"Wilcoxon on task means {_p(main.wilcoxon_p)}; better, practically equal, worse with "
        f"probability {left:.2f}, {rope:.2f}, {right:.2f}; the target is "
        f"{'reached' if reached else 'missed'}."
    )


def _arms(answers: Answers) -> Iterator[str]:
    """Arms × labels: the mean error over tasks, and the difference from `val` with as many."""
    labels = answers.labels()
    yield f"| arm | {' | '.join(f'{n} labels' for n in labels)} | disasters | worst task |"
    yield "|---" * (len(labels) + 3) + "|"
    found = {
        (arm, n): contrast((arm, "val"), answers.of(arm, n), answers.of("val", n))
        for arm in answers.arms()
        for n in labels
    }
    family = {key: one for key, one in found.items() if one and key[0] != "val"}
    adjusted = holm([one.p for one in family.values()])
    family = {k: replace(c, p_holm=p) for (k, c), p in zip(family.items(), adjusted, strict=True)}
    for arm in answers.arms():
        cells = [_cell(answers.of(arm, n), family.get((arm, n))) for n in labels]
        against = [family[arm, n] for n in labels if (arm, n) in family]
        worst = max(against, key=_worst, default=None)
        said = f"{worst.worst_task or 'only one'} {_worst(worst):+.2f}" if worst else ""
        yield f"| {arm} | {' | '.join(cells)} | {_disasters(answers, arm)} | {said} |"


def _worst(one: Contrast) -> float:
    return one.difference if one.worst_difference is None else one.worst_difference


def _cell(errors: Errors, against: Contrast | None) -> str:
    if not errors:
        return ""
    mean = f"{np.mean([_mean(own) for own in errors.values()]):.2f}"
    if against is None:
        return mean
    return f"{mean} ({against.difference:+.2f}{'*' if against.separable else ''})"


def _disasters(answers: Answers, arm: str) -> str:
    """How often an answer is worse than the default configuration, over labels and tasks."""
    default = answers.of("default", "none", alone=False)
    worse = [
        value > default[task][seed]
        for n in answers.labels()
        for task, own in answers.of(arm, n, alone=False).items()
        for seed, value in own.items()
    ]
    return f"{np.mean(worse):.1%}"


def _tasks(answers: Answers, primary: tuple[str, str], at: str) -> Iterator[str]:
    yield f"| task | {primary[0]} | {primary[1]} | difference | default | oracle (subset) |"
    yield "|---" * 6 + "|"
    first, second = (answers.of(arm, at, alone=False) for arm in primary)
    default = answers.of("default", "none", alone=False)
    oracle = answers.of("oracle (subset)", at, alone=False)
    for task, own in first.items():
        values = (own, second[task], default[task], oracle[task])
        a, b, c, d = (_mean(value) for value in values)
        yield f"| {task} | {a:.2f} | {b:.2f} | {a - b:+.2f} | {c:.2f} | {d:.2f} |"


def _warnings(answers: Answers, at: str) -> Iterator[str]:
    """How often "do not trust this measure here" was right: its arm was worse than `val`."""
    for measure, arm in (("agn", "agn+val auto"), ("margin_q50", "one_se_margin")):
        told = answers.of(WARNED + measure, at, alone=False)
        own, val = (answers.of(name, at, alone=False) for name in (arm, "val"))
        cases = [(told[t][s] > 0, own[t][s] - val[t][s]) for t in told for s in told[t]]
        counts = []
        for is_warned in (True, False):
            gaps = np.array([gap for warned, gap in cases if warned == is_warned])
            better, worse = int((gaps < 0).sum()), int((gaps > 0).sum())
            counts.append(f"{worse} worse and {better} better of {len(gaps)}")
        yield f"- {measure} ({arm} against val): warned: {counts[0]}; not warned: {counts[1]}."


def signed_rank(means: NDArray[np.float64], rope: float = ROPE) -> tuple[float, float, float]:
    """The probabilities that the first is better, practically equal, worse on a further task.

    The Bayesian signed-rank test of Benavoli, Corani, Demšar and Zaffalon 2017 (JMLR 18), with one
    pseudo-observation of no difference, of weight 1/2.
    """
    z = np.concatenate([[0.0], means])
    sums = z[:, None] + z
    weights = np.random.default_rng(0).dirichlet([0.5, *[1.0] * len(means)], DRAWS)
    parts = [sums < -2 * rope, np.abs(sums) <= 2 * rope, sums > 2 * rope]
    shares = np.stack([np.einsum("ni,ij,nj->n", weights, p.astype(float), weights) for p in parts])
    best = np.bincount(shares.argmax(0), minlength=3) / DRAWS
    return float(best[0]), float(best[1]), float(best[2])


def _draw(answers: Answers, primary: tuple[str, str], at: str, out: Path) -> None:
    """The primary contrast task by task, with 95 % intervals."""
    first, second = (answers.of(arm, at, alone=False) for arm in primary)
    found: list[tuple[str, Contrast]] = [
        (task, one)
        for task in first
        if (one := contrast(primary, {task: first[task]}, {task: second[task]}))
    ]
    found.sort(key=lambda pair: pair[1].difference)
    figure, axes = pyplot.subplots(figsize=(7, 0.3 * len(found) + 1.2), layout="constrained")
    for y, (task, one) in enumerate(found):
        kin = bool(answers.kin[task])
        if one.interval:
            axes.plot(
                (one.interval.low, one.interval.high),
                (y, y),
                color="grey" if kin else "black",
                lw=1,
            )
        axes.plot(one.difference, y, "o", mfc="white" if kin else "black", color="black", ms=5)
    axes.axvline(0, color="black", lw=0.5)
    axes.axvspan(-ROPE, ROPE, color="lightgrey", alpha=0.5, lw=0)
    axes.set_yticks(range(len(found)), [task for task, _ in found])
    axes.set_xlabel(f"{primary[0]} − {primary[1]}, {at} labels: points of test error")
    figure.savefig(out / "primary.png", dpi=120)


def _said(one: Contrast) -> str:
    between = one.interval and f"[{one.interval.low:+.2f}, {one.interval.high:+.2f}]"
    return f"{one.difference:+.2f} points {between or '(no interval)'}, p {_p(one.p)}"


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _mean(values: Mapping[int, Any]) -> float:
    return float(np.mean([*values.values()]))
