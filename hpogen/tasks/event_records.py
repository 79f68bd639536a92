"""The scalars in TensorBoard's event files, read without TensorBoard while a program writes them.

`command_output.py` makes the reader. A file is a TFRecord: length, its checksum, data, their
checksum; the data are a protocol buffer `Event`, of which the step and the scalars are decoded.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from hpogen.tasks.command_files import Row

HEAD, FOOT = 12, 4  # bytes of a record before and behind its data
STEP, SUMMARY = 2, 5  # fields of Event; below those of Summary, Value and TensorProto
VALUE = 1
TAG, SIMPLE_VALUE, TENSOR = 1, 2, 8
DTYPE, CONTENT, FLOATS, DOUBLES = 1, 4, 5, 6
FORMATS = {1: "<f", 2: "<d"}  # by TensorFlow's number of the type
VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5  # protocol buffers' wire types
SHOWN = 8  # tags in a message


class EventFiles:
    """The scalars in a folder and the folders within it; `names` are the metrics' tags.

    A tag of a file in a folder within is known as `folder/tag`, too, and only so where more than
    one such folder has it. An epoch is a step. What was there before the program is not read.
    """

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self._folder, self._names = folder, names
        self._read: dict[Path, int] = {}  # bytes
        self._rows: list[Row] = []
        self._where: dict[str, str] = {}  # the folder that a bare tag was found in
        self._tags: dict[str, int] = {}

    def begin(self, received: Collection[str]) -> None:
        self._read = {path: path.stat().st_size for path in self._files()}

    def rows(self, ended: bool) -> Sequence[Row]:
        for path in self._files():
            begin = self._read.get(path, 0)
            if path.stat().st_size == begin:
                continue
            with path.open("rb") as file:
                file.seek(begin)
                data = file.read()
            within = path.parent.relative_to(self._folder).as_posix()
            for event, end in records(data):
                self._add(event, "" if within == "." else within)
                self._read[path] = begin + end
        return self._rows

    def holds(self) -> str:
        if not self._tags:
            return ""
        tags = [f"{tag} ({count} times)" for tag, count in [*self._tags.items()][:SHOWN]]
        more = f", and {len(self._tags) - SHOWN} more" if len(self._tags) > SHOWN else ""
        return f"the tags {', '.join(tags)}{more}"

    def _files(self) -> list[Path]:
        return sorted(self._folder.rglob("*tfevents*"), key=os.path.basename)  # begins with a time

    def _add(self, event: bytes, within: str) -> None:
        step, found = scalars(event)
        metrics = {}
        for tag, value in found.items():
            whole = f"{within}/{tag}" if within else tag
            self._tags[whole] = self._tags.get(whole, 0) + 1
            for metric, name in self._names.items():
                if name == whole or (name == tag and self._is_only(tag, within)):
                    metrics[metric] = value
        if metrics:
            self._rows.append(Row(str(step), metrics))

    def _is_only(self, tag: str, within: str) -> bool:
        first = self._where.setdefault(tag, within)
        if first != within:
            raise ValueError(
                f"the tag {tag!r} is in the folders {first or '.'!r} and {within or '.'!r}: name "
                f"one in task.read.names, such as '{within or first}/{tag}'"
            )
        return True


def records(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The data of each complete record, and how many bytes there are up to its end."""
    at = 0
    while at + HEAD <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        end = at + HEAD + length + FOOT
        if end > len(data):
            return
        yield data[at + HEAD : end - FOOT], end
        at = end


def scalars(event: bytes) -> tuple[int, dict[str, float]]:
    """The step of an Event, and its scalars by tag; other summaries are passed over."""
    step = 0
    found: dict[str, float] = {}
    for number, value in fields(event):
        if number == STEP and isinstance(value, int):
            step = value
        elif number == SUMMARY and isinstance(value, bytes):
            for inner, one in fields(value):
                if inner == VALUE and isinstance(one, bytes):
                    found |= _scalar(one)
    return step, found


def _scalar(value: bytes) -> dict[str, float]:
    """Of a Value: by `add_scalar` a number, by TensorFlow 2 and `new_style` a tensor of one."""
    tag, number = "", None
    for field, content in fields(value):
        if not isinstance(content, bytes):
            continue
        if field == TAG:
            tag = content.decode(errors="replace")
        elif field == SIMPLE_VALUE:
            (number,) = struct.unpack("<f", content)
        elif field == TENSOR:
            number = _of_tensor(content)
    return {} if number is None else {tag: number}


def _of_tensor(tensor: bytes) -> float | None:
    """The number in a TensorProto of one; None for others."""
    parts = dict(fields(tensor))
    kind = parts.get(DTYPE, 0)
    form = FORMATS.get(kind) if isinstance(kind, int) else None
    content = parts.get(CONTENT) or parts.get(FLOATS if kind == 1 else DOUBLES)
    if form is None or not isinstance(content, bytes) or len(content) != struct.calcsize(form):
        return None
    return float(struct.unpack(form, content)[0])


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The number and the content of each field of a protocol buffer; fixed ones as their bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == VARINT:
            number, at = _varint(message, at)
            yield key >> 3, number
            continue
        length = {EIGHT: 8, FOUR: 4}.get(kind)
        if kind == BYTES:
            length, at = _varint(message, at)
        if length is None or at + length > len(message):
            raise ValueError("an event file is damaged")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(message):
            raise ValueError("an event file is damaged")
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
