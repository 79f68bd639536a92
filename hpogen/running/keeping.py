"""Keeps the weights of a study's best trials while it runs, and deletes the others'.

The runner tells which trials were told, and when to tidy up: after the ledger has their lines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hpogen.errors import UserError
from hpogen.record import folder
from hpogen.record.history import Record
from hpogen.selection import SELECTIONS, best_first, candidates
from hpogen.study.study import Study
from hpogen.trial import WEIGHTS

SPARE = 10  # trials whose weights stay while the study runs, where later ones change the order


class BestWeights:
    """The weights in the folder of one study. Nothing for a task, or a study, that keeps none."""

    def __init__(self, study: Study) -> None:
        self._study, spec = study, study.spec
        self._top = spec.checkpoints.top
        self._wanted = spec.task.keeps_weights and spec.checkpoints.keep == "best"
        ranks = any(term.scale == "rank" for term in spec.objective.terms)
        self._settled = SELECTIONS[spec.selection].alone and not ranks  # the order of two trials
        self._there = folder.trials_with(study.directory, WEIGHTS) if self._wanted else set[int]()

    def told(self, record: Record) -> None:
        """The trial has been told: its weights may be there."""
        if self._wanted and record.twin is None and record.failure is None:
            self._there.add(record.trial.id)

    def tidy(self, *, over: bool = False) -> None:
        """Delete the weights of trials that are told and not among the best; `over`: at the end.

        What cannot be deleted now is tried again the next time.
        """
        if not self._there or (len(self._there) <= self._top and not over):
            return
        with contextlib.suppress(UserError):  # a selection lacks a file: nothing can be compared
            for trial in [*self._others(self._top if over or self._settled else self._spared)]:
                with contextlib.suppress(OSError):
                    folder.drop_kept(self._study.directory, trial, WEIGHTS)
                    self._there.discard(trial)

    @property
    def _spared(self) -> int:
        return max(self._top, SPARE)

    def _others(self, count: int) -> Iterator[int]:
        """The trials with weights that are told and not among the first `count`."""
        history, spec = self._study.history, self._study.spec
        rivals = candidates(history, spec.budgets[-1])
        if self._settled:
            rivals = [record for record in rivals if record.trial.id in self._there]
        best = best_first(history, rivals, spec.objective, spec.selection, self._study.directory)
        kept = {record.trial.id for record in best[:count]}
        for trial in self._there - kept:
            if trial >= len(history.records) or history.records[trial].state == "told":
                yield trial
