"""What a study's events add up to: its trials, the epochs charged and trained, its scales.

The Study applies every event that it writes; readers of a folder apply the same events.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from hpogen.constraint import Constraint
from hpogen.errors import shortened
from hpogen.objective import Location
from hpogen.record import events, ledger
from hpogen.record.ledger import LEDGER, Corrupt, Event
from hpogen.record.records import Firsts, Key, Record, Records, State, key_of
from hpogen.trial import ONE, Parts, Rung, exact, plain

__all__ = [
    "Alike",
    "History",
    "Key",
    "Record",
    "Records",
    "State",
    "Table",
    "checked",
    "go_on",
    "key_of",
    "read",
]

NUMBER = re.compile(r"[0-9]+")


@dataclass
class Alike:
    """The trials that failed of the same, numbers aside; `text` is the latest one's."""

    first: int
    latest: int
    text: str  # `error: ValueError: why`
    count: int = 1

    def add(self, trial: int, text: str) -> None:
        self.first, self.count = min(self.first, trial), self.count + 1
        if trial > self.latest:
            self.latest, self.text = trial, text


@dataclass(frozen=True)
class Table:
    """Metrics of the candidates of a rung, trial by trial: NaN where one of them has not that."""

    rung: Rung
    trials: array[int]
    metrics: Mapping[str, array[float]]


@dataclass
class History:
    """The state of a study after its events, in memory."""

    lines: int = 0  # how many of the ledger it is after
    header: Event = field(default_factory=dict)
    records: Records = field(default_factory=list[Record])
    stop: dict[str, Any] = field(default_factory=dict)  # numbers, or None
    parts: Parts = ONE  # the trainings that a trial is
    constraints: tuple[Constraint, ...] = ()
    ended: str = ""  # by which of its other limits the search has ended
    ran: float = 0.0  # seconds, as far as that is written down
    locations: dict[Rung, dict[str, Location]] = field(default_factory=dict)
    spent: int | Fraction = 0  # the epochs charged, exactly
    done: int | Fraction = 0  # the epochs trained, exactly
    reused: int = 0
    looks: int = 0  # how often somebody was shown audit figures
    running: set[int] = field(default_factory=set)  # the trials without an outcome, but duplicates
    held: set[int] = field(default_factory=set)
    # With an index, these two are of the trials that came since: who writes reads the ledger.
    twins: dict[int, list[int]] = field(default_factory=dict)  # the duplicates of a trial
    cohorts: dict[tuple[int | None, Rung], list[int]] = field(default_factory=dict)  # their trials
    duplicates: int = 0
    repeats: int = 0
    order: list[int] = field(default_factory=list)  # the trials as they were told
    pruned: int = 0
    failures: dict[str, Alike] = field(default_factory=dict)  # by their text without numbers
    infeasible: Counter[Rung] = field(default_factory=Counter)  # of the search's trials
    over: int | Fraction = 0  # what the trials that have an outcome are charged, exactly
    fractions: set[float | None] = field(default_factory=set)  # of the data, of what was told
    leaders: dict[str, list[int]] = field(default_factory=dict)  # of an index: see `contenders`
    table: Table | None = None  # of an index: see `selection.table`
    settled: int = 0  # of how many of the trials that were told these two are
    firsts: Firsts = field(default_factory=dict[Key, int])

    @property
    def id(self) -> str:
        """The study's, by which its files are known; empty where it is older than ids."""
        return str(self.header.get("id", ""))

    @property
    def seed(self) -> int:
        """The study's, by which those of its trials are made."""
        return int(self.header["spec"].get("seed", 0))

    @property
    def charged(self) -> int | float:
        """Epochs on the study's subset; on another part of the data they count by its samples."""
        return plain(self.spent)

    @property
    def trained(self) -> int | float:
        """The same of the epochs that were really trained."""
        return plain(self.done)

    @property
    def subset(self) -> float:
        """The fraction of the training set that an epoch is counted in."""
        return float(self.header.get("declared", {}).get("subset", 1.0))

    def cost(self, rung: Rung) -> int | Fraction:
        """What a trial of that rung is charged, in epochs, exactly."""
        return self.parts.number * self.epochs(rung)

    def epochs(self, rung: Rung) -> int | Fraction:
        """What one training of that rung comes to, in epochs on the subset."""
        return rung.epochs if rung.data is None else exact(rung.epochs, rung.data, self.subset)

    def charge(self, record: Record) -> int | Fraction:
        """What that trial is charged: all of its budget, but for what it ended before."""
        rung, spared = record.trial.rung, record.outcome.spared if record.outcome else 0
        return self.cost(rung) - (self.epochs(rung._replace(epochs=spared)) if spared else 0)

    def contenders(self, rule: str) -> Iterable[Record]:
        """All trials; where an index knows the answer of that rule, this and those told since.

        For rules by which a trial's figure is the same whatever the others are.
        """
        if rule not in self.leaders:
            return self.records
        trials = {*self.leaders[rule], *self.order[self.settled :]}
        return [self.records[trial] for trial in sorted(trials)]

    def apply(self, event: Event) -> None:
        """Bring the state forward by one event. Raises ValueError where it does not follow."""
        getattr(self, f"_{event['kind']}")(event)
        self.lines += 1

    def told(self) -> list[Record]:
        return [record for record in self.records if record.state == "told"]

    def _record(self, event: Event) -> Record:
        """The trial that the event is about."""
        if event["trial"] >= len(self.records):
            raise ValueError(f"trial {event['trial']} has not been asked")
        return self.records[event["trial"]]

    def _study(self, event: Event) -> None:
        if self.header:
            raise ValueError("the ledger has begun already")
        self.header = event
        self.stop = dict(event["spec"]["stop"])
        self.parts = Parts(**event.get("declared", {}).get("parts", {}))
        given = event["spec"].get("constraints", {})
        self.constraints = tuple(Constraint.of(metric, text) for metric, text in given.items())

    def _extended(self, event: Event) -> None:
        self.stop, self.ended = dict(event["stop"]), ""

    def _ended(self, event: Event) -> None:
        self.ended = event["why"]

    @property
    def hours(self) -> float:
        """The same as `ran`, in hours."""
        return self.ran / 3600

    def _ran(self, event: Event) -> None:
        self.ran = event["seconds"]

    def _asked(self, event: Event) -> None:
        record = Record.asked(event, self.parts)
        trial = record.trial
        if trial.id != len(self.records):
            raise ValueError(f"trial {trial.id} is asked as number {len(self.records)}")
        if trial.parent is not None and trial.parent >= trial.id:
            raise ValueError(f"its parent, trial {trial.parent}, has not been asked")
        first = self.firsts.setdefault(key_of(trial), trial.id)
        if first == trial.id:
            self.running.add(trial.id)
        else:
            record.twin = first
            self.twins.setdefault(first, []).append(trial.id)
            self.duplicates += 1
        self.records.append(record)
        self.cohorts.setdefault((trial.cohort, trial.rung), []).append(trial.id)
        self.repeats += record.repeat
        self.spent += self.cost(trial.rung)

    def _part(self, event: Event) -> None:
        record, part = self._record(event), event["part"]
        if record.state != "running" or part in record.parts:
            raise ValueError(f"training {part} of trial {event['trial']} has ended already")
        if part >= record.trainings.number:
            raise ValueError(f"got training {part} of trial {event['trial']}, which it has not")
        record.apply(event, self.constraints)

    def _held(self, event: Event) -> None:
        record = self._record(event)
        if record.state != "running":
            raise ValueError(f"trial {event['trial']} has ended already")
        record.apply(event, self.constraints)
        self.over += self.charge(record)
        self.running.discard(event["trial"])
        self.held.add(event["trial"])

    def _told(self, event: Event) -> None:
        record, trial = self._record(event), event["trial"]
        if record.state == "told":
            raise ValueError(f"trial {trial} has been told already")
        self.over -= self.charge(record) if record.outcome else 0
        record.apply(event, self.constraints)
        charged = self.charge(record)
        self.over += charged
        self.spent += charged - self.cost(record.trial.rung)
        epochs = record.outcome.epochs if record.outcome else None
        self.done += self.epochs(record.trial.rung._replace(epochs=epochs or 0))
        self.running.discard(trial)
        self.held.discard(trial)
        self.order.append(trial)
        self.fractions.add(record.trial.data)
        self.infeasible[record.trial.rung] += not record.feasible and not record.repeat
        self.pruned += record.pruned
        if record.failure and not record.pruned:
            text = f"{record.failure.kind}: {record.failure.text}"
            alike = self.failures.get(NUMBER.sub("", text))
            if alike is None:
                self.failures[NUMBER.sub("", text)] = Alike(trial, trial, text)
            else:
                alike.add(trial, text)

    def _reused(self, event: Event) -> None:
        record = self._record(event)
        self.reused += not record.reused
        record.apply(event, self.constraints)

    def _measured(self, event: Event) -> None:
        self._record(event).apply(event, self.constraints)

    def _scale(self, event: Event) -> None:
        self.locations[events.rung_of(event)] = events.locations_of(event)

    def _looked(self, _: Event) -> None:
        self.looks += 1

    def _lost(self, event: Event) -> None:
        self._record(event).apply(event, self.constraints)


def read(directory: Path) -> History:
    """The state of a study's folder, whether it runs or not.

    Raises UserError without one, and naming the line where one is not understood.
    """
    return checked(ledger.read(directory), directory / LEDGER)


def checked(lines: Iterable[Event], path: Path) -> History:
    """The state after the events that were read from a file. Raises Corrupt naming the line."""
    history = History()
    go_on(history, lines, path)
    return history


@ledger.without_collection()
def go_on(history: History, lines: Iterable[Event], path: Path) -> None:
    """Bring a state forward by the next events of a file. Raises Corrupt naming the line."""
    for number, event in enumerate(lines, history.lines + 1):
        try:
            if number == 1 and event["kind"] != "study":
                raise ValueError("no study has begun")
            events.check(event)
            history.apply(event)
        except ValueError as error:
            raise Corrupt(
                f"{shortened(path)}:{number}: this line is not understood ({error}): upgrade "
                "hpogen if a newer one wrote it, else restore the file from a copy, or start a "
                "new study with --dir"
            ) from None
