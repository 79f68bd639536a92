"""One trial of a study and what is known of it; all of them, as the History has them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, overload

from hpogen.constraint import Constraint, violation
from hpogen.record import events
from hpogen.record.ledger import Event
from hpogen.trial import ONE, Failure, Outcome, Parts, Proposal, Rung, Trial, canonical

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

    @classmethod
    def asked(cls, event: Event, trainings: Parts) -> Record:
        """Of the event that asked it; whether it is a duplicate, the history knows."""
        repeat = event.get("repeat", False)
        return cls(events.trial_of(event), repeat=repeat, trainings=trainings)

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
        return not self.excess or violation(self.excess) == 0

    @property
    def pruned(self) -> bool:
        """Whether the study has ended it before its budget, by what others came to."""
        return self.failure is not None and self.failure.kind == "pruned"

    def apply(self, event: Event, constraints: Iterable[Constraint]) -> None:
        """Bring it forward by an event behind the one that asked it; what that means for a study
        is the history's."""
        match event["kind"]:
            case "part":
                self.parts[event["part"]] = events.outcome_of(event)
            case "held":
                self.state, self.outcome = "held", events.outcome_of(event)
            case "told":
                self.state, self.outcome = "told", events.outcome_of(event)
                self.score = math.inf if event["score"] is None else event["score"]
                self.scores = tuple(event.get("scores", ()))
                if self.failure is None:
                    self.excess = {c.metric: c.excess(self.outcome.metrics) for c in constraints}
            case "reused":
                self.reused = f"{event['study']}/{event['of']}"
            case "measured" if self.outcome is not None:
                metrics = {**self.outcome.metrics, **event["metrics"]}
                self.outcome = replace(self.outcome, metrics=metrics)
            case "lost":
                self.losses[event.get("part")] += 1


def key_of(trial: Proposal) -> Key:
    """What makes two trials duplicates of each other."""
    return (canonical(trial.config), trial.rung, trial.replicate)


class Records(Protocol):
    """The trials by number: a list, or those of an index (`record/stored.py`)."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Record]: ...
    def __reversed__(self) -> Iterator[Record]: ...
    @overload
    def __getitem__(self, i: int) -> Record: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Record]: ...
    def append(self, record: Record) -> None: ...


class Firsts(Protocol):
    """The first trial of each key: a dict, or that of an index."""

    def setdefault(self, key: Key, trial: int, /) -> int: ...
