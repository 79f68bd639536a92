"""Which studies are replications of one another: tasks, arms, and the search seeds within them.

An arm is everything of a study but its search seed and its task. `comparison.py` compares arms.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpogen.analysis.labels import arm_labels, task_labels
from hpogen.errors import UserError
from hpogen.study.read import Folder
from hpogen.tasks.keys import Meaning, part

NOT_AN_ARM = frozenset({"name", "seed", "limits", "checkpoints", "plugins", "primary"})


@dataclass(frozen=True)
class Arm:
    """What is compared: its studies by task and search seed."""

    label: str
    studies: Mapping[str, Mapping[int, Folder]]


@dataclass(frozen=True)
class Design:
    """The arms of a comparison, by tasks; `notes` say what a reader of it must know."""

    tasks: tuple[str, ...]
    arms: tuple[Arm, ...]
    notes: tuple[str, ...]


def arrange(studies: Sequence[Folder]) -> Design:
    """Studies as tasks, arms and search seeds.

    Raises UserError where two studies are the same search, or where there are several tasks and
    none of them has two arms.
    """
    titled = by_task(studies)
    tasks = [*titled.values()]
    settings = {study.directory: _setting(study) for study in studies}
    differing = sorted({key for group in tasks for key in _differing(group, settings)})
    keys = [json.dumps([settings[s.directory].get(key) for key in differing]) for s in studies]
    arms = _grouped(studies, keys)
    if len(tasks) > 1 and not differing:
        names = ", ".join(str(group[0].directory) for group in tasks[:3])
        raise UserError(
            f"nothing to compare: these studies have {len(tasks)} different tasks and no task has "
            f"two arms ({names}{', …' if len(tasks) > 3 else ''}): give studies of one task"
        )
    labels = arm_labels(arms, differing, settings)
    titles = {study.directory: title for title, group in titled.items() for study in group}
    return Design(
        tasks=tuple(titled),
        arms=tuple(_arm(*pair, titles) for pair in zip(labels, arms, strict=True)),
        notes=tuple(_notes(studies, settings, differing)),
    )


def by_task(studies: Sequence[Folder]) -> dict[str, list[Folder]]:
    """The studies of each task, by its label, in the order in which they are given."""
    tasks = _grouped(studies, [_task(study) for study in studies])
    return dict(zip(task_labels([_task_record(group[0]) for group in tasks]), tasks, strict=True))


def _arm(label: str, studies: Sequence[Folder], titles: Mapping[Path, str]) -> Arm:
    found: dict[str, dict[int, Folder]] = {}
    for study in sorted(studies, key=lambda s: s.seed):
        seeds = found.setdefault(titles[study.directory], {})
        if study.seed in seeds:
            raise UserError(
                f"{study.directory}: has the arm ({label}), the task and the search seed "
                f"({study.seed}) of {seeds[study.seed].directory}: give one of the two"
            )
        seeds[study.seed] = study
    return Arm(label, found)


def _grouped(studies: Iterable[Folder], keys: Sequence[str]) -> list[list[Folder]]:
    groups: dict[str, list[Folder]] = {}
    for study, key in zip(studies, keys, strict=True):
        groups.setdefault(key, []).append(study)
    return list(groups.values())


def _task_record(study: Folder) -> dict[str, Any]:
    """What makes figures of two studies comparable: data and splits, model, epochs, schedule."""
    return part(study.spec.record()["task"], Meaning.WHAT)


def _task(study: Folder) -> str:
    return json.dumps(_task_record(study), sort_keys=True)


def _setting(study: Folder) -> dict[str, Any]:
    """What may tell two arms apart, by dotted key: everything but the seed and the task."""
    record = study.spec.record()
    way = part(record["task"], Meaning.SPEED, Meaning.OBSERVED)
    found: dict[str, Any] = {f"task.{key}": value for key, value in way.items()}
    for key in record.keys() - NOT_AN_ARM - {"task"}:
        value = record[key]
        if key in ("searcher", "objective", "stop") and isinstance(value, Mapping):
            found |= {f"{key}.{inner}": x for inner, x in value.items()}
        else:
            found[key] = value
    return found


def _differing(group: Sequence[Folder], settings: Mapping[Path, Mapping[str, Any]]) -> set[str]:
    maps = [settings[study.directory] for study in group]
    keys = {key for setting in maps for key in setting}
    return {key for key in keys if len({json.dumps(m.get(key)) for m in maps}) > 1}


def _notes(
    studies: Sequence[Folder],
    settings: Mapping[Path, Mapping[str, Any]],
    differing: Sequence[str],
) -> Iterable[str]:
    if budget := [key for key in differing if key.startswith(("stop.", "budgets"))]:
        yield f"the arms differ in {', '.join(budget)}: they had unequal budgets"
    others = sorted(_differing(studies, settings) - set(differing))
    if others:
        yield f"the tasks differ in {', '.join(others)}, too"
    if any(_audits_on_test(study) for study in studies):
        yield "the audit images are the standard test set (task.dataset.audit: test)"
    contents: dict[str, set[str]] = {}
    for study in studies:
        for name, sha256 in study.history.header.get("plugins", {}).items():
            contents.setdefault(name, set()).add(sha256)
    for name, versions in contents.items():
        if len(versions) > 1:
            yield f"the plug-in {name} is not the same in all of these studies"


def _audits_on_test(study: Folder) -> bool:
    dataset = _task_record(study).get("dataset")
    return isinstance(dataset, Mapping) and dataset.get("audit") == "test"
