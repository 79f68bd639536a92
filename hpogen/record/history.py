"""What a study's events add up to: its trials, the epochs charged and trained, its scales.

The Study applies every event that it writes; readers of a folder apply the same events.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hpogen.errors import KEPT, shortened
from hpogen.objective import Location
from hpogen.record import ledger, lines
from hpogen.record.ledger import LEDGER, Corrupt, Event
from hpogen.trial import Failure, Outcome, Proposal, Trial, canonical

State = Literal["running", "held", "told"]
Key = tuple[str, int, int]


@dataclass
class Record:
    """One trial of a study and what is known of it."""

    trial: Trial
    state: State = "running"
    outcome: Outcome | None = None
    score: float = math.inf  # inf until told, and for a failed trial
    twin: int | None = None  # the earlier trial of the same config, budget and replicate
    lost: int = 0  # how often its worker died
    repeat: bool = False  # the study's own re-evaluation: the searcher neither asks nor hears of it
    reused: str = ""  # where a trial of another study, whose outcome it has, stands: `STUDY/7`

    @property
    def failure(self) -> Failure | None:
        return self.outcome.failure if self.outcome else None


def key_of(trial: Proposal) -> Key:
    """What makes two trials duplicates of each other."""
    return (canonical(trial.config), trial.budget, trial.replicate)


@dataclass
class History:
    """The state of a study after its events, in memory."""

    header: Event = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    stop: dict[str, int | None] = field(default_factory=dict)
    locations: dict[int, dict[str, Location]] = field(default_factory=dict)
    charged: int = 0  # epochs
    trained: int = 0  # epochs
    duplicates: int = 0
    reused: int = 0
    _first: dict[Key, int] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The study's, by which its files are known; empty where it is older than ids."""
        return str(self.header.get("id", ""))

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

    def _extended(self, event: Event) -> None:
        self.stop = dict(event["stop"])

    def _asked(self, event: Event) -> None:
        trial = trial_of(event)
        if trial.id != len(self.records):
            raise ValueError(f"trial {trial.id} is asked as number {len(self.records)}")
        if trial.parent is not None and trial.parent >= trial.id:
            raise ValueError(f"its parent, trial {trial.parent}, has not been asked")
        twin = self._first.setdefault(key_of(trial), trial.id)
        repeat = event.get("repeat", False)
        record = Record(trial, twin=None if twin == trial.id else twin, repeat=repeat)
        self.records.append(record)
        self.charged += trial.budget
        self.duplicates += record.twin is not None

    def _held(self, event: Event) -> None:
        record = self._record(event)
        if record.state != "running":
            raise ValueError(f"trial {event['trial']} has ended already")
        record.state = "held"
        record.outcome = outcome_of(event)

    def _told(self, event: Event) -> None:
        record = self._record(event)
        if record.state == "told":
            raise ValueError(f"trial {event['trial']} has been told already")
        record.state = "told"
        record.outcome = outcome_of(event)
        record.score = math.inf if event["score"] is None else event["score"]
        self.trained += record.outcome.epochs or 0

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
        self.locations[event["budget"]] = {
            metric: Location(numbers["center"], numbers["spread"])
            for metric, numbers in event["metrics"].items()
        }

    def _lost(self, event: Event) -> None:
        self._record(event).lost += 1


def replay(events: Iterable[Event]) -> History:
    """The state after the events."""
    history = History()
    for event in events:
        history.apply(event)
    return history


def read(directory: Path) -> History:
    """The state of a study's folder, whether it runs or not.

    Raises UserError without one, and naming the line where one is not understood.
    """
    return checked(ledger.read(directory), directory / LEDGER)


def checked(events: Iterable[Event], path: Path) -> History:
    """The state after the events that were read from a file. Raises Corrupt naming the line."""
    history = History()
    for number, event in enumerate(events, 1):
        try:
            if number == 1 and event["kind"] != "study":
                raise ValueError("no study has begun")
            lines.check(event)
            history.apply(event)
        except ValueError as error:
            raise Corrupt(
                f"{shortened(path)}:{number}: this line is not understood ({error}): upgrade "
                "hpogen if a newer one wrote it, else restore the file from a copy, or start a "
                "new study with --dir"
            ) from None
    return history


def asked(trial: Trial, repeat: bool = False) -> Event:
    """`repeat`: the study asks it on its own account, see `hpogen.study.repeats`."""
    return {
        "kind": "asked",
        "trial": trial.id,
        "config": dict(trial.config),
        "budget": trial.budget,
        "parent": trial.parent,
        "cohort": trial.cohort,
        "replicate": trial.replicate,
        "seed": trial.seed,
        **({"repeat": True} if repeat else {}),
    }


def trial_of(event: Event) -> Trial:
    return Trial(
        config=event["config"],
        budget=event["budget"],
        parent=event["parent"],
        cohort=event["cohort"],
        replicate=event["replicate"],
        id=event["trial"],
        seed=event["seed"],
    )


def _body(outcome: Outcome) -> dict[str, Any]:
    failure = outcome.failure
    return {
        "metrics": dict(outcome.metrics),
        "audit": dict(outcome.audit),
        "epochs": outcome.epochs,
        "seconds": dict(outcome.seconds),
        "failure": {"kind": failure.kind, "text": failure.text} if failure else None,
        "code": outcome.code,
    }


def held(outcome: Outcome) -> Event:
    return {"kind": "held", "trial": outcome.trial, **_body(outcome)}


def told(outcome: Outcome, score: float) -> Event:
    finite = score if math.isfinite(score) else None
    return {"kind": "told", "trial": outcome.trial, "score": finite, **_body(outcome)}


def reused(trial: int, study: str, of: int) -> Event:
    return {"kind": "reused", "trial": trial, "study": study, "of": of}


def lost(trial: int, text: str) -> Event:
    return {"kind": "lost", "trial": trial, "text": shortened(text, KEPT)}


def scale(budget: int, locations: Mapping[str, Location]) -> Event:
    numbers = {m: {"center": at.center, "spread": at.spread} for m, at in locations.items()}
    return {"kind": "scale", "budget": budget, "metrics": numbers}


def outcome_of(event: Event) -> Outcome:
    failure = event["failure"]
    return Outcome(
        trial=event["trial"],
        metrics=event["metrics"],
        audit=event["audit"],
        seconds=event["seconds"],
        epochs=event["epochs"],
        failure=Failure(failure["kind"], failure["text"]) if failure else None,
        code=event.get("code", ""),
    )
