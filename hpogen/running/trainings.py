"""Which trainings of a study come next: a trial is one of them, or several folds or repeats.

The runner asks it for jobs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from hpogen.study.study import Study
from hpogen.trial import Progress


class Trainings:
    """Those of the trials that a study has asked for and that are to be submitted, in order."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._left: deque[tuple[int, int | None]] = deque()
        self._epochs: dict[int, dict[int, int]] = {}  # by trial and number of the training

    def __bool__(self) -> bool:
        return bool(self._left)

    def add(self, trial: int) -> None:
        """Of several trainings those that have not ended."""
        history = self._study.history
        ended = history.records[trial].parts
        self._left.extend((trial, part) for part in history.parts.each if part not in ended)

    def drop(self, trial: int) -> None:
        """Those of a trial that are not to be trained any more."""
        self._left = deque(training for training in self._left if training[0] != trial)

    def pop(self) -> tuple[int, int | None]:
        """The trial, and the number of its training."""
        return self._left.popleft()

    def of_all(self, progress: Progress, part: int | None) -> Progress:
        """The same with the epochs of the whole trial: in the mean of its trainings."""
        if part is None:
            return progress
        history, epochs = self._study.history, self._epochs.setdefault(progress.trial, {})
        ended = history.records[progress.trial].parts
        epochs |= {number: outcome.epochs or 0 for number, outcome in ended.items()}
        epochs[part] = progress.epoch
        return replace(progress, epoch=sum(epochs.values()) // history.parts.number)
