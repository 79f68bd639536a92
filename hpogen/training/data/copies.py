"""Files with the same content, which a split may put on both its sides; `folder.py` looks for them.

`loaded.py` warns of those that the split of a study separates.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from hpogen.training.data.pictures import threaded

HEAD = 1 << 14  # bytes, which tell most files of one size apart

Copies = tuple[Mapping[int, str], ...]
"""For each content that stands in several files, those files by their row."""


def copies(files: Sequence[str]) -> Copies:
    """Which of the files are the same, byte by byte; row i is `files[i]`.

    Files are read as far as they cannot be told apart: by size, then by their beginning. One that
    cannot be read is nobody's copy.
    """
    groups: list[list[int]] = [list(range(len(files)))]
    for mark in (os.path.getsize, _beginning, _content):
        groups = _divided(groups, files, mark)
    return tuple({row: files[row] for row in group} for group in groups)


def separated(found: Copies, sides: Mapping[str, Iterable[int]]) -> list[tuple[str, str]]:
    """Of each content that stands on several sides (rows by name) two files, with their sides."""
    side_of = {row: side for side, rows in sides.items() for row in rows}
    pairs = []
    for group in found:
        ours = {side_of[row]: file for row, file in group.items() if row in side_of}
        if len(ours) > 1:
            (side, file), (other, copy) = list(ours.items())[:2]
            pairs.append((f"{file!r} ({side})", f"{copy!r} ({other})"))
    return pairs


def _divided(
    groups: list[list[int]], files: Sequence[str], mark: Callable[[str], Hashable]
) -> list[list[int]]:
    rows = [row for group in groups for row in group]

    def marked(i: int) -> Hashable:
        with contextlib.suppress(OSError):
            return mark(files[rows[i]])
        return None

    marks = iter(threaded(marked, len(rows)))
    divided = []
    for group in groups:
        alike: defaultdict[Hashable, list[int]] = defaultdict(list)
        for row in group:
            alike[next(marks)].append(row)
        divided += [same for found, same in alike.items() if found is not None and len(same) > 1]
    return divided


def _beginning(file: str) -> bytes:
    with open(file, "rb") as opened:
        return opened.read(HEAD)


def _content(file: str) -> bytes:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "blake2b").digest()
