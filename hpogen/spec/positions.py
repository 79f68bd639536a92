"""YAML 1.2 text as plain Python values, with the line and column of every key and value.

`source.py` reads the study and the search space with it. Nothing is executed: tags are refused.
Of the environment the variables are read that a value names: see `environment.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from hpogen.spec.environment import expanded, is_one, refers

KeyPath = tuple[str | int, ...]
ContentEvent = ScalarEvent | SequenceStartEvent | MappingStartEvent

MAX_BYTES = 500_000  # these are read in a second
MAX_LINES = 50_000
MAX_DEPTH = 50
MAX_VALUES = 20_000  # keys and values, after aliases are followed

INDENTED = re.compile(  # how ruamel's parser tells of a line that is
    r"expected '?<(block end|document start)>'?, but found \W*(<block \w+ start>|-)"
)
TAB = r"found character '\t'"

INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **{sign + w: float("inf") for sign in ("", "+") for w in (".inf", ".Inf", ".INF")},
    **{"-" + w: float("-inf") for w in (".inf", ".Inf", ".INF")},
}


@dataclass(frozen=True, order=True)
class Position:
    """A place in a text; both count from 1."""

    line: int
    column: int


class Unreadable(Exception):
    """The text cannot be taken as one YAML document of plain values: why, and where if known."""

    def __init__(self, text: str, position: Position | None = None) -> None:
        super().__init__(text)
        self.position = position


@dataclass(frozen=True)
class Document:
    """Plain values (None, bool, int, float, str, list, dict with string keys) and their places."""

    data: Any
    keys: Mapping[KeyPath, Position]
    values: Mapping[KeyPath, Position]


def read(path: Path) -> Document:
    """The document in a file. Raises Unreadable, also for an empty or binary file."""
    try:
        if not path.is_file():
            raise Unreadable("is not a file" if path.exists() else "does not exist")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise Unreadable(f"is larger than {MAX_BYTES} bytes, which no study is")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 text (byte {error.start})") from None
    document = parse(text)
    if not document.values:
        raise Unreadable("is empty")
    return document


def parse(text: str) -> Document:
    """The document in a text; None without positions when there is none. Raises Unreadable."""
    if text.count("\n") > MAX_LINES:
        raise Unreadable(f"has more than {MAX_LINES} lines, which no study has")
    if text.count(",") > MAX_VALUES:  # a long list, told before the parser takes a second for it
        raise Unreadable(f"has more than {MAX_VALUES} commas, which no study has")
    events = _events(text)
    next(events)  # the stream's start
    if isinstance(next(events), StreamEndEvent):
        return Document(None, {}, {})
    root = _Composer(events).node(next(events))
    next(events)  # the document's end
    following = next(events)
    if isinstance(following, DocumentStartEvent):
        raise Unreadable("a second YAML document begins, expected one", _position(following))
    construction = _Construction()
    data = construction.value(root, ())
    return Document(data, construction.keys, construction.values)


def _events(text: str) -> Iterator[Event]:
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except ReaderError as error:
        before = text[: error.position]
        position = Position(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise Unreadable(f"not text: character {text[error.position]!a}", position) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = Position(mark.line + 1, mark.column + 1) if mark else None
        raise Unreadable(f"not YAML: {_plainly(error.problem or error.context)}", at) from None
    except (YAMLError, ValueError, AssertionError) as error:  # ruamel lets the last two out
        raise Unreadable(f"not YAML: {error}") from None


def _plainly(problem: str) -> str:
    """The parser's words, or plain ones of what is wrong with the indentation."""
    if INDENTED.match(problem):
        return (
            "indented otherwise than the keys above it: indent it like the keys that it belongs to"
        )
    return "a tab: indent with spaces" if problem.startswith(TAB) else problem


def _position(event: Event) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)


@dataclass
class _Node:
    """A part of the text. `value` is a string, a list of nodes, or a list of pairs of nodes."""

    kind: Literal["plain", "quoted", "list", "mapping"]
    value: Any
    position: Position


class _Composer:
    """Nodes from events. An alias is the node itself, known only once that is complete."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._anchored: dict[str, _Node] = {}
        self._count = 0

    def node(self, event: Event, depth: int = 0) -> _Node:
        position = _position(event)
        if isinstance(event, AliasEvent):
            if event.anchor not in self._anchored:
                raise Unreadable(
                    f"alias *{event.anchor} stands for nothing before it, or for itself", position
                )
            return self._anchored[event.anchor]
        assert isinstance(event, ContentEvent)
        if event.tag is not None:
            tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
            raise Unreadable(f"tag {tag} is refused: values are plain", position)
        if depth > MAX_DEPTH:
            raise Unreadable(f"nested more than {MAX_DEPTH} deep", position)
        self._count += 1
        if self._count > MAX_VALUES:
            raise Unreadable(f"more than {MAX_VALUES} values", position)
        node = self._content(event, position, depth + 1)
        if event.anchor is not None:
            self._anchored[event.anchor] = node
        return node

    def _content(self, event: ContentEvent, position: Position, depth: int) -> _Node:
        if isinstance(event, ScalarEvent):
            kind: Literal["plain", "quoted"] = "plain" if event.implicit[0] else "quoted"
            return _Node(kind, event.value, position)
        if isinstance(event, SequenceStartEvent):
            items = [self.node(e, depth) for e in self._until(SequenceEndEvent)]
            return _Node("list", items, position)
        pairs = []
        for key_event in self._until(MappingEndEvent):
            key, value = self.node(key_event, depth), self.node(next(self._events), depth)
            if value.kind == "plain" and not value.value:  # nothing stands there: the key does
                value = replace(value, position=key.position)
            pairs.append((key, value))
        return _Node("mapping", pairs, position)

    def _until(self, end: type[Event]) -> Iterator[Event]:
        while not isinstance(event := next(self._events), end):
            yield event


class _Construction:
    """Plain values from nodes; collects positions, and counts what aliases multiply."""

    def __init__(self) -> None:
        self.keys: dict[KeyPath, Position] = {}
        self.values: dict[KeyPath, Position] = {}
        self._count = 0

    def value(self, node: _Node, path: KeyPath) -> Any:
        self._add(1, node)
        self.values[path] = node.position
        if node.kind == "list":
            return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]
        if node.kind == "mapping":
            result = {}
            for name, (key, value) in self._entries(node, path).items():
                self.keys[*path, name] = key.position
                result[name] = self.value(value, (*path, name))
            return result
        return _scalar(_filled(node))

    def _entries(self, node: _Node, path: KeyPath) -> dict[str, tuple[_Node, _Node]]:
        """The pairs by name: what `<<` brings in, under what the mapping says itself."""
        self._add(len(node.value), node)
        merged: dict[str, tuple[_Node, _Node]] = {}
        own: dict[str, tuple[_Node, _Node]] = {}
        for key, value in node.value:
            if key.kind == "plain" and key.value == "<<":
                for other in reversed(value.value if value.kind == "list" else [value]):
                    if other.kind != "mapping":
                        raise Unreadable("<< needs a mapping or a list of them", value.position)
                    merged |= self._entries(other, path)
                continue
            name = self._name(key)
            if name in own:
                dotted = ".".join(map(str, (*path, name)))
                first = own[name][0].position.line
                raise Unreadable(f"{dotted}: stands twice (first in line {first})", key.position)
            own[name] = (key, value)
        return merged | own

    def _name(self, key: _Node) -> str:
        name = _scalar(key) if key.kind in ("plain", "quoted") else None
        if not isinstance(name, str):
            got = repr(key.value) if isinstance(key.value, str) else f"a {key.kind}"
            raise Unreadable(f"got {got} as a key, expected a string (in quotes)", key.position)
        return name

    def _add(self, values: int, node: _Node) -> None:
        self._count += values
        if self._count > MAX_VALUES:
            raise Unreadable(f"more than {MAX_VALUES} values, aliases followed", node.position)


def _filled(node: _Node) -> _Node:
    """With what the environment has for the variables that a scalar names; keys are not asked."""
    if not refers(node.value):
        return node
    try:
        text = expanded(node.value)
    except ValueError as error:
        raise Unreadable(str(error), node.position) from None
    return replace(node, kind="plain" if is_one(node.value) else "quoted", value=text)


def _scalar(node: _Node) -> Any:
    """By the core schema of YAML 1.2 (section 10.3.2): `1e-7` is a float, `no` a string."""
    try:  # two halves of a surrogate pair, as JSON escapes them, are one character
        text = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise Unreadable("half a surrogate pair is not text", node.position) from None
    if node.kind == "quoted":
        return text
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        number = int(text, 0 if text[1:2] in ("o", "x") else 10) if len(text) < 30 else 2**63
        if not -(2**63) <= number < 2**63:
            raise Unreadable("an integer of more than 64 bits", node.position)
        return number
    return float(text) if FLOAT.fullmatch(text) else text
