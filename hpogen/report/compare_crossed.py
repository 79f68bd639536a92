"""The table of objectives by searchers, as `compare` and the report write it."""

from __future__ import annotations

from collections.abc import Mapping

from hpogen.analysis.crossed import Cell, Crossed
from hpogen.report.compare_figures import mean_text
from hpogen.report.table import grid
from hpogen.report.text import BLANK, paragraph

ROW, COLUMN = "*", "†"
MARKED = (
    f"{ROW} the best of its row, {COLUMN} of its column, only where it is separable from each "
    "other one there"
)


def crossed_lines(found: Crossed, of: str, width: int) -> list[str]:
    """A row for each objective, a column for each searcher."""
    text = f"{found.task}: {of} by objective and searcher, means over search seeds ± standard "
    lines = paragraph(f"{text}deviation (n: search seeds). {MARKED}", width)
    return [*lines, *grid(crossed_rows(found, of), width, found.searchers[1:])]


def crossed_rows(found: Crossed, of: str) -> list[Mapping[str, str]]:
    """Cells by column; the first is the objective."""
    return [
        {
            "objective": objective,
            **{s: _text(cell, of) for s, cell in zip(found.searchers, cells, strict=True)},
        }
        for objective, cells in found.rows.items()
    ]


def _text(cell: Cell | None, of: str) -> str:
    if cell is None or cell.error is None:
        return BLANK
    marks = ROW * cell.best_of_row + COLUMN * cell.best_of_column
    return f"{mean_text(cell.error, of)} (n {cell.error.n}){marks}"
