"""Where the records of two studies differ: what must not change while one goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hpogen.spec.positions import KeyPath
from hpogen.tasks import keys

NOT_COMPARED = (
    "name",
    "checkpoints",
    "limits",
    "plugins",  # the study compares their content
    "primary",  # what the study began with is what was declared
    "track",
)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The `differences` of two studies' records.

    What may differ between runs of one study is left out: its name and limits, where its data
    and plug-ins lie, which checkpoints it keeps, where it is tracked.
    """
    return [*differences(_compared(old), _compared(new))]


def _compared(record: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in record.items() if key not in NOT_COMPARED}
    return {**kept, "task": keys.part(record.get("task", {}), *keys.NUMBERS)}


def differences(old: object, new: object, path: KeyPath = ()) -> Iterator[tuple[str, Any, Any]]:
    """Where two mappings differ: (dotted key, old value, new value); None: not there."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from differences(old.get(key), new.get(key), (*path, key))
    elif type(old) is not type(new) or old != new:
        yield ".".join(map(str, path)), old, new
