"""What a study's events add up to: its trials, the epochs charged and trained, its scales.

The Study applies every event that it writes; readers of a folder apply the same events.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from hpogen.constraint import Constraint, violation
from hpogen.errors import shortened
from hpogen.objective import Location
from hpogen.record import events, ledger
from hpogen.record.ledger import LEDGER, Corrupt, Event
from hpogen.trial import (
    ONE,
    Failure,
    Outcome,
    Parts,
    Proposal,
    Rung,
    Trial,
    canonical,
    exact,
    plain,
)

State = Literal["running", "held", "told"]
Key = tuple[str, Rung, int]


@dataclass
class Record:
    """One trial of a study and what is known of it."""

    trial: Trial
    state: State = "running"
    outcome: Outcome | None = None
    score: float = math.inf  # inf until told, and for a failed trial that was not pruned
    scores: tuple[float, ...] = ()  # of a Pareto objective, finite; the first is `score`
    twin: int | None = None  # the earlier trial of the same config, rung and replicate
    trainings: Parts = ONE  # how many it is
    parts: dict[int, Outcome] = field(default_factory=dict)  # of those that have ended
    losses: Counter[int | None] = field(default_factory=Counter)  # deaths of workers, by part
    repeat: bool = False  # the study's own re-evaluation: the searcher neither asks nor hears of it
    reused: str = ""  # where a trial of another study, whose outcome it has, stands: `STUDY/7`
    excess: dict[str, float] = field(default_factory=dict)  # of a finished one: see `violation`

    @property
    def lost(self) -> int:
        """How often its worker, or that of one of its trainings, died."""
        return self.losses.total()

    @property
    def under_way(self) -> int | None:
        """The number of the first of several trainings that has not ended; None of a single one."""
        return next((part for part in self.trainings.each if part not in self.parts), None)

    @property
    def failure(self) -> Failure | None:
        return self.outcome.failure if self.outcome else None

    @property
    def feasible(self) -> bool:
        """Whether it satisfies the study's constraints, as far as it has finished."""
        return violation(self.excess) == 0

    @property
    def pruned(self) -> bool:
        """Whether the study has ended it before its budget, by what others came to."""
        return self.failure is not None and self.failure.kind == "pruned"


def key_of(trial: Proposal) -> Key:
    """What makes two trials duplicates of each other."""
    return (canonical(trial.config), trial.rung, trial.replicate)


@dataclass
class History:
    """The state of a study after its events, in memory."""

    header: Event = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    stop: dict[str, Any] = field(default_factory=dict)  # numbers, or None
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
    twins: dict[int, list[int]] = field(default_factory=dict)  # the duplicates of a trial
    _first: dict[Key, int] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The study's, by which its files are known; empty where it is older than ids."""
        return str(self.header.get("id", ""))

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

    @property
    def parts(self) -> Parts:
        """The trainings that a trial is."""
        return Parts(**self.header.get("declared", {}).get("parts", {}))

    def cost(self, rung: Rung) -> int | Fraction:
        """What a trial of that rung is charged, in epochs, exactly."""
        return self.parts.number * self.epochs(rung)

    def epochs(self, rung: Rung) -> int | Fraction:
        """What one training of that rung comes to, in epochs on the subset."""
        return rung.epochs if rung.data is None else exact(rung.epochs, rung.data, self.subset)

    def charge(self, record: Record) -> int | Fraction:
        """What that trial is charged: all of its budget, but for what it ended before."""
        rung, spared = record.trial.rung, record.outcome.spared if record.outcome else 0
        return self.cost(rung) - self.epochs(rung._replace(epochs=spared))

    @property
    def duplicates(self) -> int:
        return sum(map(len, self.twins.values()))

    def apply(self, event: Event) -> None:
        """Bring the state forward by one event. Raises ValueError where it does not follow."""
        getattr(self, f"_{event['kind']}")(event)

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
        trial = events.trial_of(event)
        if trial.id != len(self.records):
            raise ValueError(f"trial {trial.id} is asked as number {len(self.records)}")
        if trial.parent is not None and trial.parent >= trial.id:
            raise ValueError(f"its parent, trial {trial.parent}, has not been asked")
        record = Record(trial, repeat=event.get("repeat", False), trainings=self.parts)
        first = self._first.setdefault(key_of(trial), trial.id)
        if first == trial.id:
            self.running.add(trial.id)
        else:
            record.twin = first
            self.twins.setdefault(first, []).append(trial.id)
        self.records.append(record)
        self.spent += self.cost(trial.rung)

    def _part(self, event: Event) -> None:
        record, part = self._record(event), event["part"]
        if record.state != "running" or part in record.parts:
            raise ValueError(f"training {part} of trial {event['trial']} has ended already")
        if part >= record.trainings.number:
            raise ValueError(f"got training {part} of trial {event['trial']}, which it has not")
        record.parts[part] = events.outcome_of(event)

    def _held(self, event: Event) -> None:
        record = self._record(event)
        if record.state != "running":
            raise ValueError(f"trial {event['trial']} has ended already")
        record.state, record.outcome = "held", events.outcome_of(event)
        self.running.discard(event["trial"])
        self.held.add(event["trial"])

    def _told(self, event: Event) -> None:
        record = self._record(event)
        if record.state == "told":
            raise ValueError(f"trial {event['trial']} has been told already")
        record.state, record.outcome = "told", events.outcome_of(event)
        record.score = math.inf if event["score"] is None else event["score"]
        record.scores = tuple(event.get("scores", ()))
        if record.failure is None:
            metrics = record.outcome.metrics
            record.excess = {c.metric: c.excess(metrics) for c in self.constraints}
        self.spent += self.charge(record) - self.cost(record.trial.rung)
        self.done += self.epochs(record.trial.rung._replace(epochs=record.outcome.epochs or 0))
        self.running.discard(event["trial"])
        self.held.discard(event["trial"])

    def _reused(self, event: Event) -> None:
        record = self._record(event)
        self.reused += not record.reused
        record.reused = f"{event['study']}/{event['of']}"

    def _measured(self, event: Event) -> None:
        record = self._record(event)
        if record.outcome is not None:
            metrics = {**record.outcome.metrics, **event["metrics"]}
            record.outcome = replace(record.outcome, metrics=metrics)

    def _scale(self, event: Event) -> None:
        self.locations[events.rung_of(event)] = events.locations_of(event)

    def _looked(self, _: Event) -> None:
        self.looks += 1

    def _lost(self, event: Event) -> None:
        self._record(event).losses[event.get("part")] += 1


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


def go_on(history: History, lines: Iterable[Event], path: Path, before: int = 0) -> None:
    """Bring a state forward by the events behind the first `before` lines of a file.

    Raises Corrupt naming the line.
    """
    for number, event in enumerate(lines, before + 1):
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
