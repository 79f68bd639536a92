"""Whether the order that a search sees on its subset is that of nets trained on all of the data.

Of the configurations that `hpogen retrain` has trained. `tables.py` asks for each task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpogen.analysis.answers import Truth, held_out
from hpogen.analysis.statistics import Array
from hpogen.analysis.validity import Validity, validity
from hpogen.study.read import Folder
from hpogen.study.retrained import retrained
from hpogen.trial import canonical


@dataclass(frozen=True)
class Transfer:
    """n retrained configurations: their figures on the subset against their test errors.

    `by` has the validation loss (`val_loss`) and the audit error or loss, where all of them have
    it. A configuration of several searches counts once, with its means.
    """

    n: int
    by: Mapping[str, Validity]


def transfer(studies: Sequence[Folder], truth: Truth | None) -> Transfer | None:
    """Of all retrained configurations of a task's studies; None for fewer than three of them."""
    figures: dict[str, list[Mapping[str, float]]] = {}
    for study in studies:
        for config, found in _retrained(study, truth):
            figures.setdefault(config, []).append(found)
    names = {"val_loss", *([truth] if truth else [])}
    shared = [n for n in sorted(names) if all(n in f for fs in figures.values() for f in fs)]
    tests = _means(figures, "test error")
    by = {name: validity(_means(figures, name), tests) for name in shared}
    known = {name: found for name, found in by.items() if found is not None}
    return Transfer(len(figures), known) if known else None


def _means(figures: Mapping[str, Sequence[Mapping[str, float]]], name: str) -> Array:
    return np.array([np.mean([found[name] for found in of]) for of in figures.values()])


def _retrained(study: Folder, truth: Truth | None) -> Iterator[tuple[str, dict[str, float]]]:
    """Each retrained configuration that has finished on the subset, with its figures."""
    records = {canonical(r.trial.config): r for r in reversed(study.finished)}
    for found in retrained(study):
        config = canonical(found.choice.config)
        tested = found.mean(lambda run: run.error)
        record = records.get(config)
        if tested is None or record is None or record.outcome is None:
            continue
        figures = {"test error": tested}
        if "val_loss" in record.outcome.metrics:
            figures["val_loss"] = record.outcome.metrics["val_loss"]
        if truth is not None and (error := held_out(record, truth)) is not None:
            figures[truth] = error
        yield config, figures
