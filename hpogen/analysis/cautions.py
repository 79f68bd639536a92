"""What is not to be trusted in a study, as far as that can be told without its audit.

The verdict under a run, `best`, `compare` and the report say it. No audit figure is read: to see
it is no look that would be counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hpogen.analysis.statistics import sign, tau_b
from hpogen.selection import SELECTIONS, table
from hpogen.study.read import AnyStudy

FEWEST = 16  # trials, of which the better-fitted half has 8
FITS = ("train_", "val_", "gap_")  # how losses and accuracies begin, and what is between them
COSTS = frozenset({"parameters", "macs", "seconds_per_epoch", "latency"})  # wanted small themselves
MOST = 3  # folders named in a clause


@dataclass(frozen=True)
class Turned:
    """A measure whose τ-b with validation loss has one sign on all trials, another on a half."""

    measure: str
    on_all: float
    on_half: float  # the better-fitted one
    trials: int  # all


def cautions(studies: Sequence[AnyStudy]) -> list[str]:
    """Clauses: the learned objectives that were used by force, the measures that have `turned`."""
    learned = [study.spec.objective.learned for study in studies]
    forced = sorted({model.caution for model in learned if model and model.caution})
    return [
        *(f"do not trust a learned objective here: {text}" for text in forced),
        *_of_measures(studies),
    ]


def turned(study: AnyStudy) -> list[Turned]:
    """Of the measures that the study's objective or selection names.

    The better-fitted half has the smaller training losses, without the middle one of an odd number.
    A τ below 0.05 in size has no sign. Nothing is said of a measure that fewer than 16 trials have
    together with both losses.
    """
    return [one for name in named(study) if (one := _turned(study, name)) is not None]


def named(study: AnyStudy) -> list[str]:
    """The measures that the objective or the selection names: no losses, accuracies, or costs."""
    names = study.spec.objective.metrics | SELECTIONS[study.spec.selection].needs
    return sorted(name for name in names - COSTS if not name.startswith(FITS))


def _turned(study: AnyStudy, measure: str) -> Turned | None:
    columns = (measure, "val_loss", "train_loss")
    _, rows = table(study.history, study.spec.ladder[-1], columns)
    rows = rows[~np.isnan(rows).any(axis=1)]
    if len(rows) < FEWEST:
        return None
    values, loss, fit = rows.T  # (n,) each
    half = np.argsort(fit, kind="stable")[: len(rows) // 2]
    on_all = tau_b(values, loss)
    on_half = tau_b(values[half], loss[half])
    if sign(on_all) * sign(on_half) != -1:
        return None
    return Turned(measure, on_all, on_half, len(rows))


def _of_measures(studies: Sequence[AnyStudy]) -> Iterator[str]:
    found = [(study, one) for study in studies for one in turned(study)]
    for name in sorted({one.measure for _, one in found}):
        own = [(study, one) for study, one in found if one.measure == name]
        where, evidence = "here", ""
        if len(studies) == 1:
            evidence = f" ({_evidence(own[0][1])})"
        else:
            naming = sum(name in named(study) for study in studies)
            folders = [str(study.directory) for study, _ in own[:MOST]] + ["…"] * (len(own) > MOST)
            where = f"in {len(own)} of {naming} searches with it ({', '.join(folders)})"
        yield (
            f"do not trust {name} {where}: its sign is not the same on all trials and on the "
            f"better-fitted half{evidence}"
        )


def _evidence(one: Turned) -> str:
    text = (
        f"Kendall's τ with validation loss: {one.on_all:+.2f} on {one.trials} trials, "
        f"{one.on_half:+.2f} on {one.trials // 2}"
    )
    return text.replace("-", "−")
