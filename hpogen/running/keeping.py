"""Keeps the weights of a study's best trials while it runs; deletes other weights and checkpoints.

The runner tells which trials were told, and when to tidy up: after the ledger has their lines.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator

from hpogen.errors import UserError
from hpogen.record import folder
from hpogen.record.history import Record
from hpogen.selection import alone, best_first, candidates
from hpogen.study.finalists import final
from hpogen.study.study import Study
from hpogen.trial import WEIGHTS, RunningTrial

SPARE = 10  # trials whose weights stay while the study runs, where later ones change the order
LATEST = 4  # the last ones told, whose weights another study of the pool may soon want to copy


class BestWeights:
    """The weights in the folder of one study. Nothing for a task, or a study, that keeps none."""

    def __init__(self, study: Study, *, shared: bool = False) -> None:
        self._study, spec = study, study.spec
        self._top = spec.checkpoints.top
        self._wanted = spec.task.keeps_weights and spec.checkpoints.keep == "best"
        self._settled = alone(spec.selection, spec.objective)  # the order of two trials
        self._latest = deque[int](maxlen=LATEST if shared else 0)
        self._sure = set[int]()  # they are on the disk
        self._there = folder.trials_with(study.directory, WEIGHTS) if self._wanted else set[int]()

    def told(self, record: Record) -> None:
        """The trial has been told: its weights may be there."""
        trial = record.trial.id
        if self._wanted and folder.has_kept(self._study.directory, trial, WEIGHTS):
            self._there.add(trial)
            self._latest.append(trial)

    def tidy(self, *, over: bool = False) -> None:
        """Delete the weights of trials that are told and not among the best; `over`: at the end.

        What cannot be deleted now is tried again the next time.
        """
        if not self._there or (len(self._there) <= self._top and not over):
            return
        with contextlib.suppress(UserError, OSError):  # a selection lacks a file, or a disk is away
            count = self._top if over or self._settled else max(self._top, SPARE)
            others = {*self._others(count, over)} - (set() if over else {*self._latest})
            if others:
                self._make_sure_of(self._there - others)
            for trial in others:
                folder.drop_kept(self._study.directory, trial, WEIGHTS)
                self._there.discard(trial)

    def _make_sure_of(self, trials: set[int]) -> None:
        """Bring what stays to the disk, and the lines of the ledger by which it does.

        Raises CannotGoOn where another study's folder has come in this one's place.
        """
        self._study.check()
        for trial in trials - self._sure:
            folder.sync_kept(self._study.directory, trial, WEIGHTS)
        self._sure = trials
        self._study.sync()

    def _others(self, count: int, over: bool) -> Iterator[int]:
        """The trials with weights that are told and not among the first `count`."""
        records = self._study.history.records
        for trial in self._there - self._kept(count, over):
            if trial >= len(records) or records[trial].state == "told":
                yield trial

    def _kept(self, count: int, over: bool) -> set[int]:
        """The first `count` of the search, and the runs of finalists while they race.

        At the end of a race only the best run of each of the first finalists.
        """
        history, spec = self._study.history, self._study.spec
        race = final(self._study) if over else None
        if race is not None and race.leader is not None:
            return {f.network.trial.id for f in race.order()[:count] if f.network}
        known = [history.records[i] for i in sorted(self._there) if i < len(history.records)]
        rivals = candidates(history, spec.ladder[-1], known if self._settled else None)
        best = best_first(history, rivals, spec.objective, spec.selection, self._study.directory)
        racing = history.records if spec.finalists and not over else ()
        runs = (record.trial.id for record in racing if record.repeat)
        return {*runs, *(record.trial.id for record in best[:count])}


def discard(study: Study, trial: RunningTrial, *, over: bool = False) -> None:
    """Delete what a trial kept for going on, unless a rung above may continue it before the end."""
    if study.spec.may_go_on(trial.rung) and not over:
        return
    if trial.checkpoints or trial.home.exists():
        study.spec.task.discard(trial)
        with contextlib.suppress(OSError):  # not empty: the user's own files stay
            trial.home.rmdir()


def sweep(study: Study) -> None:
    """At the end of a study nothing is promotable any more."""
    if study.spec.checkpoints.of_all:
        return
    for record in study.history.records:
        if study.spec.may_go_on(record.trial.rung):
            for part in study.history.parts.each:
                discard(study, study.given(record.trial.id, part), over=True)
