"""A study as commented YAML: what was chosen, and each other key with its default, behind a #.

`choices.py` calls it.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hpogen.study.draft.outline import Keys, outline, sentence

INDENT = 2
COLUMN, WIDTH = 34, 100  # where the comments begin, and where they end
SPACE = "search_space."
PLAIN = re.compile(r"[A-Za-z_][\w./+-]*( [\w./+-]+)*")
WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}  # which mean something else


def commented(
    record: Mapping[str, Any],
    head: Sequence[str],
    model: Mapping[str, Any],
    notes: Mapping[str, str],
) -> str:
    """The YAML of a study's mapping that has been checked, below the lines of its head.

    `model` are the options of the model, with their defaults. `notes` say of some keys, by their
    path, what their forms do not say.
    """
    lines = [f"# {line}" for line in head]
    for name, key in outline(record, model).items():
        found = [*_lines({name: key}, record, notes)]
        space = key.within is not None or name in record
        lines += ["", *found] if space and len(lines) > len(head) else found
    return "\n".join(lines) + "\n"


def _lines(
    tree: Keys,
    given: Mapping[str, Any],
    notes: Mapping[str, str],
    path: str = "",
    off: int | None = None,
) -> Iterator[str]:
    """The lines of a mapping's keys; with a # in column `off` where a mapping around is hidden."""
    indent = INDENT * path.count(".")
    for name, key in tree.items():
        value = given.get(name, key.default)
        if value is ... and key.within is None:
            continue
        hidden = indent if off is None and name not in given else off
        code = f"{name}: {flow(value)}" if key.within is None else f"{name}:"
        margin = _margin(indent, hidden)
        above = path == SPACE or len(margin + code) > COLUMN - 2
        comment = sentence(notes.get(f"{path}{name}", "")) or key.meaning
        yield from _commented(margin, code, comment, above)
        if key.within is not None:
            yield from _lines(key.within, given.get(name, {}), notes, f"{path}{name}.", hidden)


def _margin(indent: int, off: int | None) -> str:
    return " " * indent if off is None else f"{' ' * off}# {' ' * (indent - off)}"


def _commented(margin: str, code: str, comment: str, above: bool) -> list[str]:
    """The code with the comment at its right, wrapped in a column of its own, or above it."""
    column = len(margin.partition("#")[0]) if above else COLUMN
    parts = textwrap.wrap(comment, WIDTH - column - 2, break_on_hyphens=False)
    if above or not parts:
        return [*(f"{' ' * column}# {part}" for part in parts), margin + code]
    codes = [margin + code, *[""] * (len(parts) - 1)]
    return [f"{x.ljust(column)}# {part}" for x, part in zip(codes, parts, strict=True)]


def flow(value: object) -> str:
    """A value on one line, as YAML 1.1 and 1.2 read it alike."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(x)}" for key, x in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        return np.format_float_scientific(value, trim="0", exp_digits=1)  # 1.0e-7, as 1.1 wants it
    return json.dumps(value, ensure_ascii=False)
