"""What the lines of a ledger and the rows of a curve hold, checked before they are believed.

`history.py` and `folder.py` ask here: a line with a right checksum may still be another program's,
or a newer hpogen's. Keys that are not listed are left alone.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from hpogen.errors import quoted, shortened
from hpogen.trial import FailureKind

STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="ignore")
LARGEST = 2**63 - 1

Count = Annotated[int, Field(ge=0, le=LARGEST)]
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Number = Annotated[float, Field(strict=True)]
Numbers = dict[str, Number]
Config = dict[str, bool | int | float | str]


@with_config(STRICT)
class Part(TypedDict):
    name: str


@with_config(STRICT)
class Spec(TypedDict):
    stop: dict[str, Positive | None]
    name: str
    task: Part
    searcher: Part
    plugins: NotRequired[list[str]]
    enqueue: NotRequired[list[Config]]


@with_config(STRICT)
class Declared(TypedDict):
    metrics: list[str]
    sums: list[str]
    keeps_losses: bool
    ranks_only: bool


@with_config(STRICT)
class Forked(TypedDict):
    study: str
    enqueue: list[Config]


@with_config(STRICT)
class Header(TypedDict):
    kind: Literal["study"]
    id: NotRequired[Annotated[str, Field(pattern="^[0-9a-f]+$")]]
    spec: Spec
    declared: NotRequired[Declared]
    plugins: NotRequired[dict[str, str]]
    versions: NotRequired[dict[str, str]]
    machine: NotRequired[dict[str, str | int]]
    forked: NotRequired[Forked]


@with_config(STRICT)
class Asked(TypedDict):
    kind: Literal["asked"]
    trial: Count
    config: Config
    budget: Positive
    parent: Count | None
    cohort: Count | None
    replicate: Count
    seed: Count
    repeat: NotRequired[bool]


@with_config(STRICT)
class Failed(TypedDict):
    kind: FailureKind
    text: str


@with_config(STRICT)
class Held(TypedDict):
    kind: Literal["held"]
    trial: Count
    metrics: Numbers
    audit: Numbers
    epochs: Count | None
    seconds: Numbers
    failure: Failed | None
    code: NotRequired[str]


@with_config(STRICT)
class Told(TypedDict):
    kind: Literal["told"]
    trial: Count
    score: Number | None
    metrics: Numbers
    audit: Numbers
    epochs: Count | None
    seconds: Numbers
    failure: Failed | None
    code: NotRequired[str]


@with_config(STRICT)
class Location(TypedDict):
    center: Number
    spread: Annotated[Number, Field(gt=0)]


@with_config(STRICT)
class Scale(TypedDict):
    kind: Literal["scale"]
    budget: Positive
    metrics: dict[str, Location]


@with_config(STRICT)
class Extended(TypedDict):
    kind: Literal["extended"]
    stop: dict[str, Positive | None]


@with_config(STRICT)
class Reused(TypedDict):
    kind: Literal["reused"]
    trial: Count
    study: str
    of: Count


@with_config(STRICT)
class Lost(TypedDict):
    kind: Literal["lost"]
    trial: Count
    text: str


@with_config(STRICT)
class Measured(TypedDict):
    kind: Literal["measured"]
    trial: Count
    metrics: Numbers


@with_config(STRICT)
class Memory(TypedDict):
    peak: Positive
    total: Positive


@with_config(STRICT)
class Row(TypedDict):
    epoch: Annotated[int, Field(ge=1, le=2**31)]
    metrics: Numbers
    seconds: NotRequired[Numbers]
    device: NotRequired[str]
    memory: NotRequired[Memory]
    audit: NotRequired[Numbers]
    study: NotRequired[str]


Line = Annotated[
    Header | Asked | Held | Told | Scale | Extended | Reused | Lost | Measured,
    Field(discriminator="kind"),
]
_LINE: TypeAdapter[Any] = TypeAdapter(Line)
_ROW = TypeAdapter(Row)


def check(event: dict[str, Any]) -> None:
    """Raise ValueError, in words, for an event that is none of these."""
    try:
        _LINE.validate_python(event)
    except ValidationError as error:
        raise ValueError(_words(error, event)) from None


def row_of(line: bytes) -> dict[str, Any] | None:
    """A curve's row; None for a torn one, and for whatever else stands there."""
    try:
        row = _ROW.validate_json(line)
    except ValidationError:
        return None
    return {**row, "seconds": row.get("seconds", {}), "device": row.get("device", "cpu")}


def _words(error: ValidationError, event: dict[str, Any]) -> str:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        return f"its kind {quoted(event.get('kind'))} is unknown"
    key = ".".join(shortened(part) for part in first["loc"][1:])
    if first["type"] == "missing":
        return f"its key {key} is missing"
    return f"{key}: got {quoted(first['input'])}, {first['msg'][:1].lower()}{first['msg'][1:]}"
