"""The lines of a ledger, kind by kind: what each holds, written and read.

The Study writes with the functions here, `history.py` reads. A line with a right checksum may
still be another program's, or a newer hpogen's: it is checked before it is believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from hpogen.errors import KEPT, quoted, shortened
from hpogen.objective import Location
from hpogen.record.ledger import Event
from hpogen.trial import Failure, FailureKind, Outcome, Rung, Trial

STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")
OPEN = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")
LARGEST = 2**63 - 1

Count = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Number = Annotated[float, Field(strict=True)]
Numbers = dict[str, Number]
Share = Annotated[float, Field(gt=0, le=1)]
Values = dict[str, bool | int | float | str | None]
Stop = dict[str, Positive | Annotated[float, Field(strict=True, gt=0)] | None]
Words = dict[str, str]
Machine = dict[str, str | int]


@with_config(OPEN)
class Part(TypedDict):
    name: str


@with_config(OPEN)
class Spec(TypedDict):
    """What of a study's spec is used before the spec itself is read."""

    stop: Stop
    name: str
    task: Part
    searcher: Part
    plugins: NotRequired[list[str]]
    enqueue: NotRequired[list[Values]]
    constraints: NotRequired[Words]


class Several(TypedDict):
    number: Positive
    word: Literal["fold", "repeat"]


class Declared(TypedDict):
    metrics: list[str]
    sums: list[str]
    keeps_losses: bool
    ranks_only: bool
    observed: NotRequired[list[str]]
    step_sums: NotRequired[list[str]]
    subset: NotRequired[Share]
    parts: NotRequired[Several]
    judged_by: NotRequired[str]
    retrains: NotRequired[bool]


class Forked(TypedDict):
    """Where a study has its configurations from, and what its YAML itself enqueues."""

    study: str
    enqueue: list[Values]


class Began(TypedDict):
    """The first line; `ledger.study_id` knows where the id stands in it."""

    kind: Literal["study"]
    format: NotRequired[int]
    id: NotRequired[Annotated[str, Field(pattern="^[0-9a-f]+$")]]
    spec: Spec
    declared: NotRequired[Declared]
    plugins: NotRequired[Words]
    versions: NotRequired[Words]
    machine: NotRequired[Machine]
    files: NotRequired[Words]
    forked: NotRequired[Forked]


class Asked(TypedDict):
    """A `Trial`, whose `id` is `trial` here; `repeat`: see `hpogen.study.repeats`.

    Without `data` where a trial trains on the study's subset.
    """

    kind: Literal["asked"]
    trial: Count
    config: Values
    budget: Positive
    parent: Count | None
    cohort: Count | None
    replicate: Count
    seed: Count
    data: NotRequired[Share]
    repeat: NotRequired[bool]


class Failed(TypedDict):
    kind: FailureKind
    text: str


class Ended(TypedDict):
    """An `Outcome` without its files, which stand beside the curve."""

    trial: Count
    metrics: Numbers
    audit: Numbers
    epochs: Count | None
    seconds: Numbers
    failure: Failed | None
    code: NotRequired[str]
    spared: NotRequired[Positive]


class Held(Ended):
    kind: Literal["held"]


class PartEnded(Ended):
    """One of the trainings that the trial is; without its files, which stand beside its curve."""

    kind: Literal["part"]
    part: Count


class Told(Ended):
    kind: Literal["told"]
    score: Number | None
    scores: NotRequired[Annotated[list[Number], Field(min_length=2)]]  # the first is `score`


class Standard(TypedDict):
    """A `Location`."""

    center: Number
    spread: Annotated[Number, Field(gt=0)]


class Scale(TypedDict):
    kind: Literal["scale"]
    budget: Positive
    data: NotRequired[Share]
    metrics: dict[str, Standard]


class Extended(TypedDict):
    kind: Literal["extended"]
    stop: Stop


class Finished(TypedDict):
    """The search has ended before its trials and epochs; a raised `stop` takes that back."""

    kind: Literal["ended"]
    why: Literal["hours", "no_improvement", "duplicates"]


class Ran(TypedDict):
    """How long the study has run so far, in all of its runs."""

    kind: Literal["ran"]
    seconds: Annotated[float, Field(strict=True, ge=0)]


class Reused(TypedDict):
    kind: Literal["reused"]
    trial: Count
    study: str
    of: Count


class Lost(TypedDict):
    kind: Literal["lost"]
    trial: Count
    text: str
    part: NotRequired[Count]


class Measured(TypedDict):
    kind: Literal["measured"]
    trial: Count
    metrics: Numbers


class Looked(TypedDict):  # somebody was shown audit figures, by that command
    kind: Literal["looked"]
    command: str


Line = Annotated[
    Began
    | Asked
    | PartEnded
    | Held
    | Told
    | Scale
    | Extended
    | Finished
    | Ran
    | Reused
    | Lost
    | Measured
    | Looked,
    Field(discriminator="kind"),
]
_LINE: TypeAdapter[Any] = TypeAdapter(Line, config=STRICT)


def check(event: Event) -> None:
    """Raise ValueError, in words, for an event that is none of these."""
    try:
        _LINE.validate_python(event)
    except ValidationError as error:
        raise ValueError(_words(error, event)) from None


def _words(error: ValidationError, event: Event) -> str:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        return f"its kind {quoted(event.get('kind'))} is unknown"
    key = ".".join(shortened(part) for part in first["loc"][1:])
    if first["type"] == "missing":
        return f"its key {key} is missing"
    if first["type"] == "extra_forbidden":
        return f"its key {key} is unknown"
    return f"{key}: got {quoted(first['input'])}, {first['msg'][:1].lower()}{first['msg'][1:]}"


def asked(trial: Trial, repeat: bool = False) -> Event:
    own = plain_fields(trial, "id", *(("data",) if trial.data is None else ()))
    line = {"kind": "asked", "trial": trial.id, **own}
    return {**line, "repeat": True} if repeat else line


def trial_of(line: Event) -> Trial:
    own = line.copy()
    del own["kind"]
    own.pop("repeat", None)
    return Trial(id=own.pop("trial"), **own)


def part(number: int, outcome: Outcome) -> Event:
    """How training `number` of the outcome's trial has ended."""
    return {"kind": "part", **_ended(outcome), "part": number}


def held(outcome: Outcome) -> Event:
    return {"kind": "held", **_ended(outcome)}


def told(outcome: Outcome, score: float, scores: Sequence[float] = ()) -> Event:
    """Infinity is null."""
    own = {"kind": "told", **_ended(outcome), "score": score if math.isfinite(score) else None}
    return {**own, "scores": [*scores]} if len(scores) > 1 else own


def _ended(outcome: Outcome) -> Event:
    own = plain_fields(outcome, "files", *(() if outcome.spared else ("spared",)))
    return {**own, "failure": outcome.failure and plain_fields(outcome.failure)}


def outcome_of(line: Event) -> Outcome:
    own = {key: x for key, x in line.items() if key not in ("kind", "score", "scores", "part")}
    failure = own.pop("failure")
    return Outcome(**own, failure=failure and Failure(**failure))


def scale(rung: Rung, locations: Mapping[str, Location]) -> Event:
    numbers = {metric: plain_fields(at) for metric, at in locations.items()}
    data = {} if rung.data is None else {"data": rung.data}
    return {"kind": "scale", "budget": rung.epochs, **data, "metrics": numbers}


def rung_of(line: Event) -> Rung:
    return Rung(line["budget"], line.get("data"))


def locations_of(line: Event) -> dict[str, Location]:
    return {metric: Location(**numbers) for metric, numbers in line["metrics"].items()}


def extended(stop: Stop) -> Event:
    return {"kind": "extended", "stop": dict(stop)}


def ended(why: str) -> Event:
    return {"kind": "ended", "why": why}


def ran(seconds: float) -> Event:
    return {"kind": "ran", "seconds": seconds}


def reused(trial: int, study: str, of: int) -> Event:
    return {"kind": "reused", "trial": trial, "study": study, "of": of}


def lost(trial: int, text: str, part: int | None = None) -> Event:
    line = {"kind": "lost", "trial": trial, "text": shortened(text, KEPT)}
    return line if part is None else {**line, "part": part}


def measured(trial: int, metrics: Mapping[str, float]) -> Event:
    return {"kind": "measured", "trial": trial, "metrics": dict(metrics)}


def looked(command: str) -> Event:
    return {"kind": "looked", "command": command}


def plain_fields(data: object, *but: str) -> Event:
    """The fields of a dataclass for JSON, without some; so a line has whatever field is added."""
    given = {key: value for key, value in vars(data).items() if key not in but}
    return {key: dict(x) if isinstance(x, Mapping) else x for key, x in given.items()}
