"""What the evidence comes to: from the answers' test errors to tables and statistics.

`evidence.py` calls it; `evidence_pictures.py` draws the same. Percentages are points of test error;
below 0 the first arm is better.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpogen.analysis.contrasts import Contrast, contrast
from hpogen.analysis.statistics import holm

ROPE = 0.1  # points: a smaller difference is practically none
LEAST, WORSE, FEW = 0.3, 0.1, 2 / 12  # the target, in points; the share of tasks that may be worse
MUCH = 5  # points: what a collapse makes
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


def show(answers: Answers, again: Answers, primary: tuple[str, str], at: str) -> Contrasts:
    """Print the verdict as Markdown; each arm of the first block against the reference."""
    blocks = {"First block": answers, "Second block": again}
    for name, found in {**blocks, "Both blocks (not registered)": both(answers, again)}.items():
        for line in _primary(found, primary, at, name):
            print(line)
    if not answers.rows:
        return {}
    against = judged(answers, primary, at)
    tables = _arms(answers, against), _follows(answers, against, primary, at)
    seen = _tasks(answers, again, primary, at), _extremes(blocks, primary, at)
    for part in (*tables, *seen, _warnings(answers, at)):
        print("", *part, sep="\n")
    return against


def both(answers: Answers, again: Answers) -> Answers:
    """What both blocks have answers of, with the seeds of both."""
    rows = {
        key: {t: {**own, **again.rows[key][t]} for t, own in errors.items() if t in again.rows[key]}
        for key, errors in answers.rows.items()
        if key in again.rows
    }
    return Answers(rows, answers.kin)


def _primary(found: Answers, primary: tuple[str, str], at: str, block: str) -> Iterator[str]:
    first, second = (found.of(arm, at) for arm in primary)
    if (main := contrast(primary, first, second, primary=True)) is None:
        return
    means = np.array([_mean(first[t]) - _mean(second[t]) for t in first])
    left, rope, right = signed_rank(means)
    many = int((means > WORSE).sum())
    reached = main.difference <= -LEAST and main.p < 0.05 and many <= FEW * len(means)
    yield (
        f"**{block}, {primary[0]} − {primary[1]}, {at} labels: {_said(main)}**; {main.tasks} "
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


def _tasks(answers: Answers, again: Answers, primary: tuple[str, str], at: str) -> Iterator[str]:
    """Mean errors by task; behind them the difference in the second block, where there is one."""
    head = f"{primary[0]} | {primary[1]} | difference | default | oracle (subset)"
    yield f"| task | {head} | second block: {primary[0]} | {primary[1]} | difference |"
    yield "|---" * 9 + "|"
    first, second = (answers.of(arm, at, alone=False) for arm in primary)
    default = answers.of("default", "none", alone=False)
    oracle = answers.of(ORACLE, at, alone=False)
    for task, own in first.items():
        values = (own, second[task], default[task], oracle[task])
        a, b, c, d = (_mean(value) for value in values)
        cells = f"{a:.2f} | {b:.2f} | {a - b:+.2f} | {c:.2f} | {d:.2f}"
        later = [again.of(arm, at).get(task) for arm in primary]
        e, f = (_mean(value) if value else None for value in later)
        seen = "|  |  |  |" if e is None or f is None else f"| {e:.2f} | {f:.2f} | {e - f:+.2f} |"
        yield f"| {task} | {cells} {seen}"


def _extremes(blocks: Mapping[str, Answers], primary: tuple[str, str], at: str) -> Iterator[str]:
    """Of the primary contrast: how many searches differ by much, and how many are disasters."""
    for name, found in blocks.items():
        first, second = (found.of(arm, at) for arm in primary)
        default = found.of("default", "none")
        cases = [(first[t][s], second[t][s], default[t][s]) for t in first for s in first[t]]
        if not cases:
            continue
        a, b, c = np.array(cases).T
        yield (
            f"- {name}, {len(a)} searches: {primary[0]} better by more than {MUCH} points in "
            f"{int((a < b - MUCH).sum())}, worse in {int((a > b + MUCH).sum())}; disasters "
            f"{int((a > c).sum())}, of {primary[1]} {int((b > c).sum())}."
        )


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


def _said(one: Contrast) -> str:
    return f"{_between(one, ' points')}, p {_p(one.p)}"


def _between(one: Contrast, unit: str = "") -> str:
    between = one.interval and f"[{one.interval.low:+.2f}, {one.interval.high:+.2f}]"
    return f"{one.difference:+.2f}{unit} {between or '(no interval)'}"


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _mean(values: Mapping[int, Any]) -> float:
    return float(np.mean([*values.values()]))
