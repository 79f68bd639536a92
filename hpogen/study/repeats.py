"""The trials that a study asks on its own account, at its end: the best ones, trained again.

They belong to its finalists, or to the selection `noise_cut`, and are charged like any trial, from
what the study keeps of its `stop`; the searcher neither proposes nor hears of them. They come in
rounds, whose trials run side by side. The Study calls all of this.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpogen.record.history import History, Record, key_of
from hpogen.searchers.base import Searcher
from hpogen.searchers.constrained import tell_constrained
from hpogen.selection import candidates, front
from hpogen.selection.evidence import REPEATS, TOP, late_loss
from hpogen.study.finalists import final, searched
from hpogen.study.read import AnyStudy
from hpogen.trial import Proposal, Rung


class Engine:
    """A study's searcher, in the study's numbers.

    To a searcher, its k-th proposal is trial k; the trials that the study repeats have numbers in
    between, of which it knows nothing. Of rungs on parts of the data it knows integers alone.
    """

    def __init__(self, searcher: Searcher, rung: Callable[[int], Rung]) -> None:
        self._searcher: Any = searcher
        self._rung = rung  # of a budget, as the searcher knows it
        self._trials: list[int] = []  # of its k-th proposal
        self._numbers: dict[int, int] = {}  # the other way round

    def ask(self) -> Proposal | None:
        proposal: Proposal | None = self._searcher.ask()
        if proposal is None:
            return None
        rung = self._rung(proposal.budget)
        if proposal.parent is None and rung == proposal.rung:
            return proposal
        parent = None if proposal.parent is None else self._trials[proposal.parent]
        return replace(proposal, budget=rung.epochs, data=rung.data, parent=parent)

    def asked(self, trial: int) -> None:
        """The last proposal has become that trial."""
        self._numbers[trial] = len(self._trials)
        self._trials.append(trial)

    def tell(self, record: Record, history: History) -> None:
        """The score of a trial that was told; of a pruned one also how far it came."""
        if record.trial.id not in self._numbers:
            return
        number = self._numbers[record.trial.id]
        if record.scores:
            self._searcher.tell_scores(number, record.scores, record.excess)
        elif record.excess:
            tell_constrained(self._searcher, number, record.score, record.excess)
        elif not record.pruned:
            self._searcher.tell(number, record.score)
        elif (tell_pruned := getattr(self._searcher, "tell_pruned", None)) is not None:
            tell_pruned(number, record.score, int(history.charge(record)))
        else:
            self._searcher.tell(number, math.inf)


class Repeats:
    """What a study still has to repeat; nothing without finalists and `noise_cut`."""

    def __init__(self, study: AnyStudy) -> None:
        self._study = study
        self._left: deque[Proposal] = deque()  # of the round in play

    def next(self) -> Proposal | None:
        """The next repeat, once the search has ended: with it, nothing more of it is asked.

        None while a trial of the search runs, or one of the round in play, and when all is done.
        """
        study = self._study
        if not study.spec.reserve.trials:
            return None
        if not self._left and len(study.history.order) == len(study.history.records):
            self._left.extend(due(study))
        return self._left.popleft() if self._left and searched(study.history) else None


def due(study: AnyStudy) -> list[Proposal]:
    """The repeats of the round in play that have not been asked; empty: there is nothing more.

    A function of the trials that have been told and asked: a study that was interrupted goes on
    with the same.
    """
    race = final(study)
    if race is not None:
        proposals: Sequence[Proposal] = race.due
    else:
        proposals = noise_cut(study.history, study.spec.ladder[-1], study.directory)
    there = {key_of(record.trial) for record in study.history.records}
    return [proposal for proposal in proposals if key_of(proposal) not in there]


def noise_cut(history: History, rung: Rung, directory: Path) -> list[Proposal]:
    """The only round of that selection: the configurations with the least late validation loss.

    First replicate 1 of each, from the best one on, then replicate 2.
    """
    records = [r for r in candidates(history, rung) if r.trial.replicate == 0]
    if any(record.scores for record in records):
        records = [records[i] for i in front([record.scores for record in records])]
    losses = [late_loss(record, directory, history.id) for record in records]
    best = sorted(range(len(records)), key=losses.__getitem__)[:TOP]
    return [
        Proposal(records[i].trial.config, rung.epochs, replicate=replicate, data=rung.data)
        for replicate in range(1, REPEATS + 1)
        for i in best
    ]


def is_over(study: AnyStudy) -> bool:
    """Whether nothing is left to repeat, where all that was asked has been told."""
    if study.spec.finalists is not None:
        return not due(study)
    if not study.spec.reserve.trials:
        return True
    repeats = sum(record.repeat for record in study.history.records)
    return repeats >= REPEATS * min(TOP, len(candidates(study.history, study.spec.ladder[-1])))
