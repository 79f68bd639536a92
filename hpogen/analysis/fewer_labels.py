"""What rules would have chosen with fewer validation images, from the kept per-sample losses.

`rescoring.py` asks. From where on a measure pays can be read from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpogen.analysis.choices import Rule, Trials
from hpogen.analysis.statistics import LEVEL, Array, Interval
from hpogen.errors import UserError
from hpogen.selection import Evidence
from hpogen.selection.evidence import thinned

ACCURACIES = frozenset({"val_accuracy", "gap_accuracy"})  # not to be had from losses


@dataclass(frozen=True)
class AtLabels:
    """What a rule chooses with that many validation images, over random sub-samples of them.

    `held_out` is the mean audit error (or loss) of the choices, `interval` their middle 95 %.
    `better` and `worse` are the shares of the sub-samples in which the choice has a smaller or
    larger one than that of validation loss alone. `trial` is chosen most often.
    """

    rule: str
    images: int
    subsamples: int
    trial: int
    share: float
    held_out: float | None = None
    interval: Interval | None = None
    better: float | None = None
    worse: float | None = None


def over_labels(
    trials: Trials, rules: Sequence[Rule], sizes: Sequence[int], subsamples: int, seed: int
) -> tuple[AtLabels, ...]:
    """Each rule at each of the `sizes`, on the same random sub-samples. Raises UserError.

    `subsamples` of each size are drawn without replacement, one where that is all there are. Rules
    that are given twice, or have `lost` something, are left out.
    """
    rules = [rule for rule in dict.fromkeys(rules) if not lost(rule)]
    found: list[AtLabels] = []
    for size in sorted(set(sizes)):
        chosen: dict[Rule, list[int | None]] = {rule: [] for rule in rules}
        for evidence in _subsamples(trials, size, subsamples, seed):
            for rule, choices in chosen.items():
                choices.append(trials.chosen(rule, evidence))
        alone = next((chosen[r] for r in rules if r.selection == "val_loss"), None)
        for rule in rules:
            if (row := _at_labels(trials, rule, size, chosen[rule], alone)) is not None:
                found.append(row)
    return tuple(found)


def lost(rule: Rule) -> list[str]:
    """What the rule looks at and the losses of the last epoch do not tell."""
    looked_at = rule.objective.metrics if rule.selection == "score" else {rule.selection}
    return sorted(looked_at & (ACCURACIES | {"noise_cut"}))


def require_losses(rule: Rule, directory: Path) -> None:
    """Raise UserError for a rule that needs more of a validation image than its loss."""
    if found := lost(rule):
        what = "the curves" if found[0] == "noise_cut" else found[0]
        raise UserError(
            f"{directory}: --validation: {rule.label} needs {what} of fewer images, but only the "
            "last epoch's losses are kept of each: ask without --validation"
        )


def _subsamples(trials: Trials, size: int, number: int, seed: int) -> Iterator[Evidence]:
    """What may be looked at with that many validation images, drawn without replacement."""
    losses = trials.losses()
    images = losses.shape[1]
    if not 1 <= size <= images:
        raise UserError(
            f"{trials.study.directory}: --validation: got {size}, expected 1 to {images}, the "
            "validation images that the study has"
        )
    for drawn in draws(images, size, number, seed):
        yield thinned(trials.evidence, losses, drawn)


def draws(images: int, size: int, number: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Random sub-samples (size,) of so many images, without replacement; one of all of them."""
    generator = np.random.default_rng([seed, size])
    for _ in range(1 if size == images else number):
        yield np.sort(generator.choice(images, size, replace=False))


def _at_labels(
    trials: Trials,
    rule: Rule,
    size: int,
    chosen: Sequence[int | None],
    alone: Sequence[int | None] | None,
) -> AtLabels | None:
    known = [i for i in chosen if i is not None]
    if len(known) < len(chosen):
        return None  # the rule chooses nothing here
    most = max(set(known), key=lambda i: (known.count(i), -i))
    row = AtLabels(
        rule=rule.label,
        images=size,
        subsamples=len(known),
        trial=trials.records[most].trial.id,
        share=known.count(most) / len(known),
    )
    if trials.truth is None:
        return row
    truths = _truths(trials, known)
    low, high = np.quantile(truths, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    row = replace(row, held_out=float(truths.mean()), interval=Interval(float(low), float(high)))
    if alone is None or rule.selection == "val_loss":
        return row
    others = _truths(trials, [i for i in alone if i is not None])
    better, worse = float((truths < others).mean()), float((truths > others).mean())
    return replace(row, better=better, worse=worse)


def _truths(trials: Trials, chosen: Sequence[int]) -> Array:
    return np.array([trials.held_out(i) for i in chosen], dtype=np.float64)
