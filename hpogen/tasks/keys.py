"""What each key of a task means, so that all who compare two tasks mean the same.

A form says it where the key is declared, `x: Annotated[bool, Meaning.SPEED]`; a key of which
nothing is said is WHAT. Resuming, forking, comparing and reusing ask here.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from enum import Enum
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from hpogen import plugins


class Meaning(Enum):
    """What another value of a key makes of a task."""

    WHAT = "another task: other numbers come out"
    SPEED = "the same task, trained in another way: last bits may differ"
    OBSERVED = "the same training, of which other numbers are written down"
    WHERE = "the same numbers: where it reads and runs"


NUMBERS = frozenset(Meaning) - {Meaning.WHERE}  # what all that is written down depends on
UNKNOWN = {"threads": Meaning.SPEED}  # of a task whose form is not hpogen's


def part(task: Mapping[str, Any], *meanings: Meaning) -> dict[str, Any]:
    """The keys of a recorded task that have one of the meanings; so of mappings within it.

    Keys that are younger than the record have their defaults. No plug-in need be loaded.
    """
    name = task.get("name")
    form = plugins.tasks.get(name) if name and plugins.tasks.is_builtin(name) else None
    return _part(task, form, meanings)


def _part(
    record: Mapping[str, Any], form: type[BaseModel] | None, meanings: tuple[Meaning, ...]
) -> dict[str, Any]:
    defaults, said, inner = _declared(form) if form else ({}, UNKNOWN, {})
    kept = {}
    for key, value in {**defaults, **record}.items():
        if key in inner and isinstance(value, Mapping):
            if within := _part(value, inner[key], meanings):
                kept[key] = within
        elif said.get(key, Meaning.WHAT) in meanings:
            kept[key] = value
    return kept


@functools.cache
def _declared(
    form: type[BaseModel],
) -> tuple[dict[str, Any], dict[str, Meaning], dict[str, type[BaseModel]]]:
    """The defaults of a form's keys, what is said of them, and the forms within it."""
    fields = {field.alias or name: field for name, field in form.model_fields.items()}
    defaults = {k: to_jsonable_python(f.default) for k, f in fields.items() if not f.is_required()}
    said = {k: m for k, f in fields.items() for m in f.metadata if isinstance(m, Meaning)}
    kinds = {k: f.annotation for k, f in fields.items()}
    inner = {k: x for k, x in kinds.items() if isinstance(x, type) and issubclass(x, BaseModel)}
    return defaults, said, inner
