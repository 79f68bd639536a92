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
REFERENCE, ORACLE = "val", "oracle (subset)"  # what each arm is set against; what is no arm
WARNED = "warned of "  # before a measure: whether a search says that it is not to be trusted
Errors = dict[str, dict[int, float]]  # of an arm: by task, by search seed
Rows = Mapping[tuple[str, str], Errors]  # by arm and labels
Contrasts = Mapping[tuple[str, str], Contrast]  # by arm and labels, against the reference


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
    against = judged(answers, primary, at)
    tables = _arms(answers, against), _follows(answers, against, primary, at)
    for part in (*tables, _tasks(answers, primary, at), _warnings(answers, at)):
        print("", *part, sep="\n")
    _draw_tasks(answers, primary, at, out)
    _draw_arms(answers, against, out)


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


def judged(answers: Answers, primary: tuple[str, str], at: str) -> Contrasts:
    """Each arm against the reference with as many labels.

    Holm's correction is over all of them but the primary contrast and the oracle, which is no arm.
    """
    found = {
        (arm, n): one
        for arm in answers.arms()
        for n in answers.labels()
        if arm != REFERENCE
        and (one := contrast((arm, REFERENCE), answers.of(arm, n), answers.of(REFERENCE, n)))
    }
    alone = {(primary[0], at), *((ORACLE, n) for n in answers.labels())}
    family = [key for key in found if key not in alone]
    adjusted = holm([found[key].p for key in family])
    return found | {k: replace(found[k], p_holm=p) for k, p in zip(family, adjusted, strict=True)}


def _arms(answers: Answers, against: Contrasts) -> Iterator[str]:
    """Arms × labels: the mean error over tasks, and the difference from the reference."""
    labels = answers.labels()
    yield f"| arm | {' | '.join(f'{n} labels' for n in labels)} | disasters | worst task |"
    yield "|---" * (len(labels) + 3) + "|"
    for arm in answers.arms():
        cells = [_cell(arm, answers.of(arm, n), against.get((arm, n))) for n in labels]
        own = [against[arm, n] for n in labels if (arm, n) in against]
        worst = max(own, key=_worst, default=None)
        said = f"{worst.worst_task or 'only one'} {_worst(worst):+.2f}" if worst else ""
        yield f"| {arm} | {' | '.join(cells)} | {_disasters(answers, arm)} | {said} |"


def _follows(
    answers: Answers, against: Contrasts, primary: tuple[str, str], at: str
) -> Iterator[str]:
    """Each arm beside the rule that would make it a default: `registered.md`, "What follows"."""
    yield (
        f"| arm, {at} labels | difference | p | better, equal, worse | tasks worse | "
        "all labels | a default |"
    )
    yield "|---" * 7 + "|"
    for (arm, n), one in against.items():
        if n != at or arm == ORACLE:
            continue
        first, second = answers.of(arm, n), answers.of(REFERENCE, n)
        means = np.array([_mean(first[t]) - _mean(second[t]) for t in first])
        shares = ", ".join(f"{share:.2f}" for share in signed_rank(means))
        many, whole = int((means > WORSE).sum()), against.get((arm, "all"))
        better = one.separable and one.difference <= -WORSE and many <= FEW * len(means)
        becomes = "yes" if better and whole is not None and _not_worse(whole) else "no"
        yield (
            f"| {arm} | {_between(one)} | {_p(one.decisive_p)} | {shares} | "
            f"{many} of {len(means)} | {_between(whole) if whole else ''} | "
            f"{'above' if arm == primary[0] else becomes} |"
        )


def _not_worse(one: Contrast) -> bool:
    """Whether the interval reaches below 0."""
    return one.interval is not None and one.interval.low < 0


def _worst(one: Contrast) -> float:
    return one.difference if one.worst_difference is None else one.worst_difference


def _cell(arm: str, errors: Errors, against: Contrast | None) -> str:
    if not errors:
        return ""
    mean = f"{np.mean([_mean(own) for own in errors.values()]):.2f}"
    if against is None:
        return mean
    star = "*" if against.separable and arm != ORACLE else ""
    return f"{mean} ({against.difference:+.2f}{star})"


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
    oracle = answers.of(ORACLE, at, alone=False)
    for task, own in first.items():
        values = (own, second[task], default[task], oracle[task])
        a, b, c, d = (_mean(value) for value in values)
        yield f"| {task} | {a:.2f} | {b:.2f} | {a - b:+.2f} | {c:.2f} | {d:.2f} |"


def _warnings(answers: Answers, at: str) -> Iterator[str]:
    """How often "do not trust this measure here" was right: its arm was worse than `val`."""
    for measure, arm in (("agn", "agn+val auto"), ("margin_q50", "one_se_margin")):
        told = answers.of(WARNED + measure, at, alone=False)
        own, val = (answers.of(name, at, alone=False) for name in (arm, REFERENCE))
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


def _draw_tasks(answers: Answers, primary: tuple[str, str], at: str, out: Path) -> None:
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


def _draw_arms(answers: Answers, against: Contrasts, out: Path) -> None:
    """Each arm's difference from the reference, by labels, with 95 % intervals."""
    labels = answers.labels()
    arms = [*dict.fromkeys(arm for arm, _ in against)][::-1]
    figure, panels = pyplot.subplots(
        1,
        len(labels),
        sharex=True,
        sharey=True,
        squeeze=False,
        figsize=(2.4 * len(labels) + 2, 0.3 * len(arms) + 1.2),
        layout="constrained",
    )
    for axes, n in zip(panels[0], labels, strict=True):
        for y, arm in enumerate(arms):
            if (one := against.get((arm, n))) is None:
                continue
            if one.interval:
                axes.plot((one.interval.low, one.interval.high), (y, y), color="black", lw=1)
            fill = "white" if arm == ORACLE else "black"
            axes.plot(one.difference, y, "o", mfc=fill, color="black", ms=5)
        axes.axvline(0, color="black", lw=0.5)
        axes.axvspan(-ROPE, ROPE, color="lightgrey", alpha=0.5, lw=0)
        axes.set_title(f"{n} labels", fontsize=10)
    panels[0][0].set_yticks(range(len(arms)), arms)
    figure.supxlabel(f"points of test error beside {REFERENCE}", fontsize=10)
    figure.savefig(out / "arms.png", dpi=120)


def _said(one: Contrast) -> str:
    return f"{_between(one, ' points')}, p {_p(one.p)}"


def _between(one: Contrast, unit: str = "") -> str:
    between = one.interval and f"[{one.interval.low:+.2f}, {one.interval.high:+.2f}]"
    return f"{one.difference:+.2f}{unit} {between or '(no interval)'}"


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _mean(values: Mapping[int, Any]) -> float:
    return float(np.mean([*values.values()]))
