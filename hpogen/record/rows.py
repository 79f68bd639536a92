"""The rows of a curve: what each holds, written and read. `folder.py` keeps them.

A row may be torn, or another program's: it is checked before it is believed.
"""

from __future__ import annotations

from typing import Annotated, NotRequired

from pydantic import Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from hpogen.record.events import OPEN, Numbers, Positive, plain_fields
from hpogen.record.ledger import Event
from hpogen.trial import Progress


@with_config(OPEN)
class Memory(TypedDict):
    peak: Positive
    total: Positive


@with_config(OPEN)
class Row(TypedDict):
    """A `Progress` without its trial, in the study of that id."""

    epoch: Annotated[int, Field(ge=1, le=2**31)]
    metrics: Numbers
    seconds: NotRequired[Numbers]
    device: NotRequired[str]
    memory: NotRequired[Memory]
    audit: NotRequired[Numbers]
    study: NotRequired[str]


_ROW = TypeAdapter(Row)


def row(progress: Progress) -> Event:
    own = plain_fields(progress, "trial")
    return {key: value for key, value in own.items() if value or key == "metrics"}


def row_of(line: bytes) -> Event | None:
    """A curve's row; None for a torn one, and for whatever else stands there."""
    try:
        return {"seconds": {}, "device": "cpu", **_ROW.validate_json(line)}
    except ValidationError:
        return None
