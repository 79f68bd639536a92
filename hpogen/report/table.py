"""Tables of the commands' texts, whose columns give way where a terminal is narrow."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

GAP = 2
WHOLE = 1_000_000  # columns of a file or pipe; no terminal has half as many
Row = Sequence[str]


@dataclass(frozen=True)
class Column:
    title: str
    width: int
    optional: bool = False  # may be left out where the terminal is narrow


def table(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[str]:
    """The title (one line, or several where that saves the width), then one line per row.

    The last optional columns are left out, and counted, where even that is too wide. In a file or
    pipe columns are as wide as their cells: none is cut.
    """
    columns, titles, kept = _fitted(columns, rows, width)
    dropped = len(columns) - len(kept)
    height = max(len(titles[i]) for i in kept)
    widths = [_column_width(columns[i], titles[i]) for i in kept]
    lines = []
    for k in range(height):
        parts = [titles[i][k - height] if k - height >= -len(titles[i]) else "" for i in kept]
        more = f"+{dropped}" if dropped and k == height - 1 else ""
        lines.append(_joined([*parts, more], [*widths, len(more)]))
    return ["\n".join(lines), *(_joined([row[i] for i in kept], widths) for row in rows)]


def left_out(
    columns: Sequence[Column], rows: Sequence[Row], width: int, json: bool = True
) -> list[str]:
    """What the `+3` of such a table means, for below it; nothing where all its columns fit.

    `json`: whether the command has `--json`.
    """
    _, _, kept = _fitted(columns, rows, width)
    n = len(columns) - len(kept)
    what, them = ("a column", "it") if n == 1 else ("columns", "them")
    where = f"; --json has {them}" if json else ""
    return textwrap.wrap(f"(+{n}: {what} that did not fit{where})", width) if n else []


def _fitted(
    columns: Sequence[Column], rows: Sequence[Row], width: int
) -> tuple[Sequence[Column], list[list[str]], list[int]]:
    """The columns, the lines of their titles, and which of them fit."""
    if is_whole(width):
        columns = [_grown(column, [row[i] for row in rows]) for i, column in enumerate(columns)]
    titles = [[column.title] for column in columns]
    if _total(columns, titles) > width:
        titles = [column.title.split() or [""] for column in columns]
    kept = [*range(len(columns))]
    optional = [i for i in kept if columns[i].optional]
    while optional and _total([columns[i] for i in kept], [titles[i] for i in kept]) > width - (
        GAP + 3 if len(kept) < len(columns) else 0
    ):
        kept.remove(optional.pop())
    return columns, titles, kept


def grid(
    rows: Sequence[Mapping[str, str]],
    width: int,
    optional: Sequence[str] = (),
    indent: str = " ",
    json: bool = True,
) -> list[str]:
    """A table as wide as its cells, whose titles are the keys of the first row.

    Empty columns are left out; the optional ones give way, the last of them first, and a line below
    says so. `json`: whether the command has `--json`.
    """
    widths = {title: max(len(row.get(title, "")) for row in rows) for title in rows[0]}
    columns = [Column(title, wide, title in optional) for title, wide in widths.items() if wide]
    cells = [[row.get(column.title, "") for column in columns] for row in rows]
    head, *body = table(columns, cells, width - len(indent))
    below = left_out(columns, cells, width - len(indent), json)
    return [indent + line for line in [*head.splitlines(), *body, *below]]


def is_whole(width: int) -> bool:
    """Whether that is the width of a file or pipe, which gets everything."""
    return width > WHOLE / 2


def _grown(column: Column, cells: Sequence[str]) -> Column:
    return replace(column, width=max([column.width, *map(len, cells)]))


def _column_width(column: Column, title: Sequence[str]) -> int:
    return max(column.width, *map(len, title))


def _total(columns: Sequence[Column], titles: Sequence[Sequence[str]]) -> int:
    widths = [_column_width(c, t) for c, t in zip(columns, titles, strict=True)]
    return sum(widths) + GAP * (len(widths) - 1)


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Left-aligned; a cell one character too long takes it from the gap, a longer one is cut."""
    line = ""
    for cell, width in zip(cells, widths, strict=True):
        cut = cell if len(cell) <= width + 1 else cell[:width] + "…"
        line += cut.ljust(width + GAP)
    return line.rstrip()
