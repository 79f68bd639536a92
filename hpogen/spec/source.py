"""A study's YAML as one mapping: the file, the search space it refers to, and `--set` overrides.

`loading.py` validates the mapping and asks here where each of its keys was written.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpogen.errors import UserError, quoted
from hpogen.spec.positions import Document, KeyPath, Position, Unreadable, parse, read

SPACE = "search_space"
SHORTHAND: dict[KeyPath, str] = {  # where a string stands for a mapping with this key
    ("searcher",): "name",
    ("objective",): "preset",
    ("prune",): "rule",
    ("task", "model"): "name",
    ("task", "dataset"): "name",
    ("task", "schedule"): "name",
    ("task", "optimizer"): "name",
}


@dataclass(frozen=True, order=True)
class Place:
    """Where a key was written: what a message begins with, sortable by the order of reading."""

    order: tuple[int, ...]
    label: str = field(compare=False)
    path: KeyPath = field(compare=False)  # within the file that the label names


@dataclass(frozen=True)
class Origin:
    """Where a value that was put into the data comes from: `--set`, or a place in the matrix."""

    dotted: str
    written: KeyPath | None = None  # the matrix's value, in the study's file


@dataclass(frozen=True)
class Source:
    """`data` is the study with its search space inline; `label` is the file as the user named it.

    A study that was not read from a file has no positions.
    """

    data: dict[str, Any]
    label: str
    study: Document | None = None
    space: Document | None = None
    space_label: str = ""
    overrides: Mapping[KeyPath, Origin] = field(default_factory=dict)
    typed: tuple[str, ...] = ()  # what names it on a command line; nothing does one of a matrix

    def place(self, path: KeyPath, *, key: bool = False) -> Place:
        """Where the value (or the key itself) at `path` was written, or what encloses it."""
        for number, (overridden, origin) in enumerate(self.overrides.items()):
            if path[: len(overridden)] != overridden:
                continue
            if origin.written is None:
                rest = () if ".".join(map(str, path)) == origin.dotted else path
                return Place((2**62, number), f"{self.label}: --set {origin.dotted}", rest)
            about_key = key and path == overridden  # then it is the matrix's own key
            path = (*origin.written, *path[len(overridden) :])[: 2 if about_key else None]
            break
        outer = _position(self.study, path, key)
        order = (outer.line, outer.column) if outer else (0, 0)
        if self.space is not None and path[:1] == (SPACE,):
            inner = _position(self.space, path[1:], key) or Position(1, 1)
            label = f"{self.space_label}:{inner.line}:{inner.column}"
            return Place((*order, inner.line, inner.column), label, path[1:])
        label = f"{self.label}:{outer.line}:{outer.column}" if outer else self.label
        return Place(order, label, path)

    def where(self, path: KeyPath) -> str:
        """The label of `place`; just the file for a key of which nothing was written."""
        written = path[:1] in self.overrides or (self.study and path[:1] in self.study.values)
        return self.place(path).label if written else self.label


def _position(document: Document | None, path: KeyPath, key: bool) -> Position | None:
    if document is None:
        return None
    if key and path in document.keys:
        return document.keys[path]
    while path and path not in document.values:
        path = path[:-1]
    return document.values[path] if path else Position(1, 1)


def load(path: Path, overrides: Sequence[str]) -> Source:
    """The study in a YAML file. Raises UserError, one line, for what is no mapping at all."""
    label = str(path)
    try:
        document = read(path)
    except Unreadable as error:
        raise UserError(told(label, error)) from None
    data: dict[str, Any] = document.data
    if not isinstance(data, dict):
        raise UserError(f"{label}:1:1: expected a mapping with task, search_space, stop")
    position = document.values.get((SPACE,))
    at = f"{label}:{position.line}:{position.column}" if position else label
    space, space_label = _referenced(path.parent, data, f"{at}: {SPACE}")
    known: dict[KeyPath, Origin] = {}
    for override in overrides:
        new = _override(data, override, label)
        if (SPACE,) in new:
            space, space_label = _referenced(path.parent, data, f"{label}: --set {SPACE}")
        if (SPACE,) in new and space is not None:
            continue  # the file says where
        known |= new
    sets = (word for override in overrides for word in ("--set", override))
    return Source(data, label, document, space, space_label, known, (label, *sets))


def varied(source: Source, folder: Path, values: Mapping[str, tuple[Any, KeyPath]]) -> Source:
    """The study with other values, by dotted key, each with its place in the study's file.

    A path of a search space is relative to `folder`. Raises UserError for a key under no mapping.
    """
    data = copy.deepcopy(source.data)
    space, space_label = source.space, source.space_label
    known: dict[KeyPath, Origin] = {}
    for dotted, (value, written) in values.items():
        where = f"{source.where(written)}: matrix.{dotted}"
        known |= _put(data, dotted, copy.deepcopy(value), where, written)
        if dotted == SPACE:
            space, space_label = _referenced(folder, data, where)
    if space is not source.space:
        known.pop((SPACE,), None)  # the file says where
    return replace(
        source,
        data=data,
        space=space,
        space_label=space_label,
        overrides={**known, **source.overrides},
        typed=(),
    )


def _referenced(folder: Path, data: dict[str, Any], where: str) -> tuple[Document | None, str]:
    """Put the search space in the place of its path; its document, if it had a path."""
    given = data.get(SPACE)
    if not isinstance(given, str):
        return None, ""
    label = os.path.normpath(folder / given)
    try:
        document = read(folder / given)
    except Unreadable as error:
        if error.position is None:
            raise UserError(f"{where}: {quoted(label)} {error}") from None
        raise UserError(told(label, error)) from None
    data[SPACE] = document.data
    return document, label


def of_record(record: Mapping[str, Any]) -> Source:
    """A study that stands in no file."""
    return Source(dict(record), str(record.get("name", "study")))


def anchored(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The task with the places of its data relative to the study's file, as every path in it is."""
    dataset = task.get("dataset")
    if not isinstance(dataset, dict):
        return task
    keys = ("root", "path", "test_path", *(("tokenizer",) if dataset.get("name") == "text" else ()))
    given = [key for key in keys if isinstance(dataset.get(key), str)]
    places = {key: os.path.abspath(folder / Path(dataset[key]).expanduser()) for key in given}
    return {**task, "dataset": {**dataset, **places}}


def told(label: str, error: Unreadable) -> str:
    """What is wrong, behind the file and the place in it, on one line."""
    at = f":{error.position.line}:{error.position.column}" if error.position else ""
    return one_line(f"{label}{at}: {error}")


def one_line(text: str) -> str:
    """The text without line breaks, and with what cannot be printed escaped."""
    text = re.sub(r"\s*\n\s*", " ", text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _override(data: dict[str, Any], override: str, label: str) -> dict[KeyPath, Origin]:
    """Set one `key.path=value` in place; the paths that are new by it."""
    dotted, equals, text = override.partition("=")
    dotted = dotted.strip()
    where = f"{label}: --set {dotted}"
    if not equals or "" in dotted.split("."):
        raise UserError(f"{label}: --set {quoted(override)}: expected key.path=value")
    try:
        value = parse(text).data
    except Unreadable as error:
        raise UserError(one_line(f"{where}: {error}")) from None
    return _put(data, dotted, value, where, None)


def _put(
    data: dict[str, Any], dotted: str, value: Any, where: str, written: KeyPath | None
) -> dict[KeyPath, Origin]:
    """Put a value at a dotted key, in place; the paths that are new by it."""
    path: KeyPath = tuple(dotted.split("."))
    origin = Origin(dotted, written)
    known: dict[KeyPath, Origin] = {}
    *enclosing, last = dotted.split(".")
    node: dict[str, Any] = data
    for i, key in enumerate(enclosing, 1):
        child = node.get(key)
        if isinstance(child, str) and path[:i] in SHORTHAND:
            child = node[key] = {SHORTHAND[path[:i]]: child}
        if child is None:
            child = node[key] = {}
            known[path[:i]] = origin
        if not isinstance(child, dict):
            raise UserError(
                one_line(f"{where}: {'.'.join(enclosing[:i])} is {quoted(child)}, not a mapping")
            )
        node = child
    node[last] = value
    return {**known, path: origin}
