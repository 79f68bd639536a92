"""What `hpogen rescore` tells: what other rules choose of the same trials, as text and data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from hpogen.analysis.choices import Choice
from hpogen.analysis.fewer_labels import AtLabels
from hpogen.analysis.pruning import Pruned
from hpogen.analysis.rescoring import AtAlpha, Rescoring
from hpogen.report.table import grid
from hpogen.report.text import BLANK, count, error_text, next_lines, number, paragraph, rung, tally
from hpogen.report.verdict import LIMIT, command
from hpogen.trial import Rung

SUGGESTED = (50, 250, 1000)  # validation images


def rescore_data(found: Rescoring) -> dict[str, Any]:
    """All of it, as data that goes through JSON."""
    data = dataclasses.asdict(found)
    if found.pruning is None:
        del data["pruning"]
    if not found.caution:
        del data["caution"]
    return data


def rescore_page(found: Rescoring, directory: str, width: int, program: str) -> list[str]:
    """The choices side by side, at other alphas, with fewer labels; then the next command."""
    trials, budget = count(found.trials, "trial"), rung(Rung(found.budget, found.data))
    about = f"{found.study}: chosen anew among {trials} of {budget}"
    lines = paragraph(" ".join([f"{about}, proposed by {found.searcher}.", *_limits(found)]), width)
    shown = (found.asked, found.own, found.validation, found.oracle)
    choices = {choice.rule: choice for choice in shown if choice}.values()
    rows = [(_marked(choice, found.own.rule), choice) for choice in choices]
    lines += ["", *_choices(found, rows, "rule", width)]
    if found.pruning is not None:
        lines += ["", *paragraph(pruned(found.pruning), width)]
    if found.alphas:
        lines += ["", f" {found.weighed}, with another α"]
        lines += _choices(found, ranges(found.alphas), "α", width)
    if found.labels:
        lines += ["", *_labels(found, width), "", *paragraph(" ".join(pays(found)), width)]
    lines += ["", *paragraph(LIMIT, width)]
    return lines + next_lines([_next(found, directory, program)])


def pruned(found: Pruned) -> str:
    """What a rule would have saved and lost, in two sentences."""
    if found.lost is None:
        worse = "the best is 0: no share of it can be told"
    else:
        worse = f"{found.lost:.1%} worse" if found.left > found.best else "nothing is lost"
    share = found.charged / found.whole
    return (
        f"With prune: {found.rule} (after {count(found.after, 'epoch')}) {len(found.pruned)} of "
        f"{count(found.trials, 'trial')} would have ended early, and "
        f"{tally(found.charged)} of {count(found.whole, 'epoch')} been charged ({share:.0%}). "
        f"The best score left is {number(found.left)} (trial {found.choice.trial}), of all trials "
        f"{number(found.best)} (trial {found.best_choice.trial}): {worse}."
    )


def _limits(found: Rescoring) -> list[str]:
    said = []
    if found.adaptive:
        said.append(
            f"Selection only: {found.searcher} proposed these trials for the study's own "
            "objective; with another it would have tried others."
        )
    if not found.judged_by:
        said.append(f"Without audit figures ({found.audit_key}) no choice can be judged.")
    if found.caution:
        said.append(found.caution)
    if found.labels and _left_out(found, found.own.rule):
        said.append(f"Fewer labels cannot be asked of {found.own.rule}.")
    return said


def _left_out(found: Rescoring, rule: str) -> bool:
    return rule not in {row.rule for row in found.labels}


def _marked(choice: Choice, own: str) -> str:
    return f"{choice.rule} (the study's own)" if choice.rule == own else choice.rule


def _choices(
    found: Rescoring, rows: Sequence[tuple[str, Choice]], title: str, width: int
) -> list[str]:
    cells = [
        {
            title: name,
            "trial": BLANK if choice.trial is None else str(choice.trial),
            "val loss": BLANK if choice.val_loss is None else number(choice.val_loss),
            found.judged_by or "audit": held_out(found, choice.held_out),
        }
        for name, choice in rows
    ]
    return grid(cells, width)


def ranges(alphas: Iterable[AtAlpha]) -> list[tuple[str, Choice]]:
    """The choices by alpha, neighbours with the same choice in one row."""
    rows = []
    for _, group in groupby(alphas, key=lambda at: at.choice.trial):
        same = list(group)
        ends = dict.fromkeys(number(at.alpha) for at in (same[0], same[-1]))
        rows.append((" to ".join(ends), same[0].choice))
    return rows


def held_out(found: Rescoring, x: float | None) -> str:
    """`8.9 %`, or a loss; a dash where there is no audit."""
    return BLANK if x is None else error_text(x, found.judged_by)


def _labels(found: Rescoring, width: int) -> list[str]:
    images = count(found.validation_images or 0, "validation image")
    most = max(row.subsamples for row in found.labels)
    over = f"over {count(most, 'random sub-sample')} of the {images}"
    cells = [
        {
            "labels": f"{row.images:,}",
            "rule": row.rule,
            found.judged_by or "audit": held_out(found, row.held_out),
            "middle 95 %": _interval(found, row),
            "better": _share(row.better),
            "worse": _share(row.worse),
            "mostly trial": f"{row.trial} ({row.share:.0%})",
        }
        for row in found.labels
    ]
    title = f"With fewer labels, {over}; better and worse than validation loss alone"
    return [*paragraph(title, width), *grid(cells, width, ["mostly trial"])]


def _interval(found: Rescoring, row: AtLabels) -> str:
    if row.interval is None:
        return BLANK
    low, high = (held_out(found, x) for x in (row.interval.low, row.interval.high))
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def _share(x: float | None) -> str:
    return BLANK if x is None else f"{x:.0%}"


def pays(found: Rescoring) -> list[str]:
    """For each rule a sentence: with how many labels it chooses better than validation loss."""
    alone = {row.images: row.held_out for row in found.labels if row.better is None}
    said = []
    for rule in dict.fromkeys(row.rule for row in found.labels if row.better is not None):
        sizes: dict[str, list[str]] = {"smaller": [], "equal": [], "larger": []}
        for row in found.labels:
            other = alone.get(row.images)
            if row.rule == rule and row.held_out is not None and other is not None:
                sizes[_compared(row.held_out, other)].append(f"{row.images:,}")
        parts = [f"{word} with {_listed(n)}" for word, n in sizes.items() if n]
        if parts:
            first, *others = parts
            against = f"The mean {found.judged_by} of {rule}, against validation loss alone,"
            said.append(f"{'; '.join([f'{against} is {first} labels', *others])}.")
    return said


def _compared(own: float, other: float) -> str:
    if abs(own - other) <= 1e-9 * max(abs(own), abs(other)):
        return "equal"
    return "smaller" if own < other else "larger"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _next(found: Rescoring, directory: str, program: str) -> str:
    images = found.validation_images or 0
    sizes = [size for size in SUGGESTED if size < images]
    if not found.labels and sizes:
        return command(program, "rescore", directory, "--validation", ",".join(map(str, sizes)))
    return command(program, "best", directory)
