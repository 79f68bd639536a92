"""What arms and tasks are called in a comparison. `arms.py` asks.

The studies of a matrix are called by their folder's label without what varies within an arm (the
search seed, the task); others by what differs between them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpogen.spec import StudySpec
from hpogen.spec.matrix import BETWEEN
from hpogen.study.read import Folder

Setting = Mapping[str, Any]  # by dotted key


def arm_labels(
    arms: Sequence[Sequence[Folder]], differing: Sequence[str], settings: Mapping[Path, Setting]
) -> list[str]:
    """A label for each arm, no two alike. `differing` are the dotted keys that part them."""
    of = [settings[studies[0].directory] for studies in arms]
    for labels in (
        _by_folder(arms),
        [_described(s[0].spec, differing, at) for s, at in zip(arms, of, strict=True)],
        [", ".join(named(key, at.get(key)) for key in differing) for at in of],
    ):
        if all(labels) and len(set(labels)) == len(labels):
            return labels
    raise AssertionError("arms that differ in nothing are one arm")


def _by_folder(arms: Sequence[Sequence[Folder]]) -> list[str]:
    """The parts of the studies' names that are the same in all studies of each arm."""
    parts = [[_parts(study.spec) for study in studies] for studies in arms]
    counts = {len(names) for arm in parts for names in arm}
    if len(counts) > 1:
        return []
    kept = [
        i
        for i in range(counts.pop())
        if all(len({names[i] for names in arm}) == 1 and arm[0][i] for arm in parts)
    ]
    return [BETWEEN.join(arm[0][i] for i in kept) for arm in parts]


def _parts(spec: StudySpec) -> list[str]:
    """The parts of a name, an empty one for the search seed."""
    return ["" if part == f"seed-{spec.seed}" else part for part in spec.name.split(BETWEEN)]


def _described(spec: StudySpec, differing: Sequence[str], setting: Setting) -> str:
    """`cmaes, agn+val (α 0.05), rungs continue`: in people's words where there are such."""
    words = {"searcher": spec.searcher.name, "objective": spec.objective.label}
    if not differing:
        return ", ".join(words.values())
    words["selection"] = f"selected by {spec.selection}"
    heads = dict.fromkeys(key.split(".")[0] for key in differing)
    known = [words[head] for head in words if head in heads]
    others = [key for key in differing if key.split(".")[0] not in words]
    return ", ".join([*known, *(named(key, setting.get(key)) for key in others)])


def named(key: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping | list):  # too long to read: enough to tell them apart
        text = hashlib.sha256(text.encode()).hexdigest()[:6]
    return f"{key} {text}"


def task_labels(tasks: Sequence[Setting]) -> list[str]:
    """A label for each task: `digits, mlp`, and what else differs where that is not enough."""
    flat = [dict(_flat(task)) for task in tasks]
    heads = [
        ", ".join(filter(None, (task.get("dataset.name"), task.get("model.name"))))
        or str(task.get("name", "task"))
        for task in flat
    ]
    keys = {key for task in flat for key in task}
    shown = ("dataset.name", "model.name", "name")
    differing = [
        key
        for key in sorted(keys)
        if key not in shown and len({json.dumps(task.get(key)) for task in flat}) > 1
    ]
    return [
        head if heads.count(head) == 1 else ", ".join([head, *_details(task, differing)])
        for head, task in zip(heads, flat, strict=True)
    ]


def _details(task: Setting, keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        yield named(key.removeprefix("dataset."), task.get(key)).replace(".", " ")


def _flat(mapping: Setting, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
