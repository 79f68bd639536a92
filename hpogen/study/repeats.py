"""The trials that a study asks on its own account, at its end: the best ones, trained again.

They belong to the selection `noise_cut` and are charged like any trial, from what the study keeps
of its `stop`; the searcher neither proposes nor hears of them. The Study calls all of this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hpogen.record.history import History, key_of
from hpogen.searchers.base import Searcher
from hpogen.selection import SELECTIONS, candidates
from hpogen.selection.evidence import REPEATS, TOP, late_loss
from hpogen.spec import StudySpec
from hpogen.trial import Proposal, Rung


class Engine:
    """A study's searcher, in the study's numbers.

    To a searcher, its k-th proposal is trial k; the trials that the study repeats have numbers in
    between, of which it knows nothing. Of rungs on parts of the data it knows integers alone.
    """

    def __init__(self, searcher: Searcher, rung: Callable[[int], Rung]) -> None:
        self._searcher = searcher
        self._rung = rung  # of a budget, as the searcher knows it
        self._trials: list[int] = []  # of its k-th proposal
        self._numbers: dict[int, int] = {}  # the other way round

    def ask(self) -> Proposal | None:
        proposal = self._searcher.ask()
        if proposal is None:
            return None
        budget, data = self._rung(proposal.budget)
        parent = None if proposal.parent is None else self._trials[proposal.parent]
        return replace(proposal, budget=budget, data=data, parent=parent)

    def asked(self, trial: int) -> None:
        """The last proposal has become that trial."""
        self._numbers[trial] = len(self._trials)
        self._trials.append(trial)

    def tell(self, trial: int, score: float) -> None:
        if trial in self._numbers:
            self._searcher.tell(self._numbers[trial], score)


class Repeats:
    """What a study still has to repeat; nothing for another selection than `noise_cut`."""

    def __init__(self, spec: StudySpec, directory: Path) -> None:
        self._wanted = bool(SELECTIONS[spec.selection].reserve)
        self._rung = spec.ladder[-1]
        self._directory = directory
        self._left: deque[Proposal] | None = None

    def next(self, history: History) -> Proposal | None:
        """The next repeat, once the search has ended: with it, nothing more of it is asked.

        None while a trial of the search runs, and when all is done.
        """
        if not self._wanted or not _all_told(history):
            return None
        if self._left is None:
            self._left = deque(due(history, self._rung, self._directory))
        return self._left.popleft() if self._left else None


def due(history: History, rung: Rung, directory: Path) -> list[Proposal]:
    """The repeats of the configurations with the least late validation loss that are not there.

    First replicate 1 of each, from the best one on, then replicate 2. Function of the search's
    trials and of which repeats have been asked: a study that was interrupted goes on with the same.
    """
    records = [r for r in candidates(history, rung) if r.trial.replicate == 0]
    losses = [late_loss(record, directory, history.id) for record in records]
    best = sorted(range(len(records)), key=losses.__getitem__)[:TOP]
    there = {key_of(record.trial) for record in history.records}
    proposals = [
        Proposal(records[i].trial.config, rung.epochs, replicate=replicate, data=rung.data)
        for replicate in range(1, REPEATS + 1)
        for i in best
    ]
    return [p for p in proposals if key_of(p) not in there]


def is_over(history: History, rung: Rung) -> bool:
    """Whether as many repeats were asked as there is to repeat."""
    repeats = sum(record.repeat for record in history.records)
    return repeats >= REPEATS * min(TOP, len(candidates(history, rung)))


def _all_told(history: History) -> bool:
    return all(record.state == "told" for record in history.records if not record.repeat)
