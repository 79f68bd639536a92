"""Which running trials of a study end before their budget, as its `prune` says.

The Study shows each epoch here, or each training of a trial that is several. That a trial is
pruned stands in its `told` line, and is never decided again; that it goes on stands nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hpogen.objective import Location, Objective
from hpogen.record import folder
from hpogen.record.history import History, Record
from hpogen.record.provenance import code_of, digest, digests
from hpogen.study.parts import composed
from hpogen.study.read import AnyStudy
from hpogen.trial import Failure, Outcome, Progress, Trial

if TYPE_CHECKING:
    from hpogen.searchers.pruners import Pruner

Row = Mapping[str, Any]


class Pruning:
    """The trials of a study before its rule; nothing for a study without `prune`.

    Duplicates and the study's own repeats take no part.
    """

    def __init__(self, study: AnyStudy) -> None:
        self._study = study
        self._rule = study.spec.prune
        self._rows: dict[int, list[Row]] = {}  # of running trials, not shown to the rule yet

    @cached_property
    def _pruner(self) -> Pruner:
        from hpogen.searchers.pruners import Pruner

        assert self._rule is not None
        return Pruner(self._rule.rule, self._rule.after, self._rule.options)

    def progressed(self, progress: Progress) -> Outcome | None:
        """How the trial ends where it is pruned with this epoch; None: it goes on."""
        record = self._study.history.records[progress.trial]
        if not self._judges(record) or record.trainings.number > 1:
            return None
        rows = self._rows.setdefault(progress.trial, [])
        rows.append({"epoch": progress.epoch, "metrics": progress.metrics})
        return self._ended(record, progress.epoch)

    def resumed(self, record: Record) -> Outcome | None:
        """The same of a trial that was running, with the last epoch that was received.

        A study may have been killed between that and the decision.
        """
        if not self._judges(record) or record.trainings.number > 1:
            return None
        rows = self._rows[record.trial.id] = self._curve(record)
        return self._ended(record, rows[-1]["epoch"]) if rows else None

    def training_ended(self, record: Record) -> Outcome | None:
        """How a trial of several trainings ends where it is pruned after those that have ended."""
        failed = any(outcome.failure for outcome in record.parts.values())
        if not self._judges(record) or failed or record.under_way is None:
            return None
        values = self._of_trainings(record)
        if not values or not self._pruner.report(record.trial.id, values):
            return None
        good = [record.parts[part] for part in sorted(record.parts)]
        whole = composed(record.trial.id, good, record.trainings.word)
        left = record.trainings.number - len(good)
        done = f"{len(good)} of {record.trainings.number} {record.trainings.word}s"
        return replace(
            whole,
            spared=whole.spared + left * record.trial.budget,
            failure=self._why(sum(values.values()) / len(values), done),
        )

    def told(self, record: Record) -> None:
        """Compare others with it from now on."""
        if not self._judges(record):
            return
        rows = self._rows.pop(record.trial.id, None)
        if record.trainings.number > 1:
            values = self._of_trainings(record)
        else:
            values = self._values(record.trial, self._curve(record) if rows is None else rows)
        self._pruner.report(record.trial.id, values)
        comparable = record.failure is None and record.feasible
        self._pruner.end(record.trial.id, record.score if comparable else None)

    def _judges(self, record: Record) -> bool:
        return self._rule is not None and record.twin is None and not record.repeat

    def _curve(self, record: Record) -> list[Row]:
        study = self._study
        return [*folder.received_curve(study.directory, record.trial.id, study.history.id)]

    def _values(self, trial: Trial, rows: Iterable[Row]) -> dict[int, float]:
        spec, history = self._study.spec, self._study.history
        return running(spec.objective, rows, trial, history)

    def _of_trainings(self, record: Record) -> dict[int, float]:
        """By number of the training, of those that have ended well."""
        return values_of_trainings(self._study.spec.objective, record, self._study.history)

    def _ended(self, record: Record, epoch: int) -> Outcome | None:
        trial = record.trial
        values = self._values(trial, self._rows[trial.id])
        if values:
            self._rows[trial.id] = []
        prunes = self._pruner.report(trial.id, values)
        if not prunes or epoch not in values or epoch >= trial.budget:
            return None
        rows = [row for row in self._curve(record) if row["epoch"] <= epoch]
        sources = digest(digests(self._study.spec.sources))
        return Outcome(
            trial.id,
            rows[-1]["metrics"],
            seconds=_total([row["seconds"] for row in rows]),
            epochs=epoch,
            failure=self._why(values[epoch], f"{epoch} of {trial.budget} epochs"),
            code=code_of(sources, rows[-1]["device"].split()[0]),
            spared=trial.budget - epoch,
        )

    def _why(self, value: float, done: str) -> Failure:
        assert self._rule is not None
        finished = self._pruner.finished
        text = f"{self._rule.rule} rule after {done}: {value:.6g}, beside {finished} finished"
        return Failure("pruned", text)


def running(
    objective: Objective, rows: Iterable[Row], trial: Trial, history: History
) -> dict[int, float]:
    """The objective after each epoch of a curve, by epoch, as if it were the trial's budget.

    Sums over epochs are divided by the epochs so far where the scale divides them. Empty while a
    `standard` scale of the rung is not known; an epoch without one of the metrics is left out.
    """
    locations: Mapping[str, Location] = history.locations.get(trial.rung, {})
    if not {*objective.standardized()} <= locations.keys():
        return {}
    found = {}
    for row in rows:
        if objective.metrics <= row["metrics"].keys():
            try:
                found[row["epoch"]] = objective.score(
                    row["metrics"], row["epoch"], locations, data=trial.data
                )
            except ValueError:  # it has no logarithm
                continue
    return found


def values_of_trainings(objective: Objective, record: Record, history: History) -> dict[int, float]:
    """The objective of each training of a trial that has ended well, by its number."""
    found = {}
    for part, outcome in record.parts.items():
        row = {"epoch": record.trial.budget - outcome.spared, "metrics": outcome.metrics}
        for value in running(objective, [row], record.trial, history).values():
            found[part] = value
    return found


def _total(seconds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    found: Counter[str] = Counter()
    for each in seconds:
        found.update(each)
    return dict(found)
