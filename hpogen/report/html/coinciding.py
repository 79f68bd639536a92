"""Which curves of a picture lie on one another: what a caption says, for nobody sees two of them.

Curves coincide where they are less than the width of a line apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from hpogen.analysis.statistics import Array
from hpogen.report.html.drawing import SIZE, STYLE

AXES = 0.8  # of a picture's height
PART = 0.25  # of the width from which on a common end is said
MOST = 6  # pairs named

Line = tuple[str, Array, Array]  # name, x in ascending order, y


def coinciding(lines: Sequence[Line], unit: str, height: float = SIZE[1], scale: str = "") -> str:
    """`A and B coincide; B and C coincide from 48 epochs on`; empty where none do.

    Lines are steps that keep their height to the next x. `height` is the picture's, in inches;
    `scale` is `log` where its y axis is.
    """
    if len(lines) < 2:
        return ""
    grid, heights = _on_one_grid(lines)
    heights = np.log(heights) if scale == "log" else heights
    room = np.ptp(heights) * STYLE["lines.linewidth"] / (72 * AXES * height)
    texts = [*_texts([name for name, _, _ in lines], grid, heights, room, unit)]
    more = f"so do {len(texts) - MOST} more pairs" if len(texts) > MOST else ""
    return "; ".join(filter(None, [*texts[:MOST], more]))


def _on_one_grid(lines: Sequence[Line]) -> tuple[Array, Array]:
    """The places where any of them changes, (n,), and the heights of each there, (lines, n)."""
    begin = max(x[0] for _, x, _ in lines)
    grid = np.unique(np.concatenate([x for _, x, _ in lines]))
    grid = grid[grid >= begin]
    return grid, np.array([y[np.searchsorted(x, grid, side="right") - 1] for _, x, y in lines])


def _texts(
    names: Sequence[str], grid: Array, heights: Array, room: float, unit: str
) -> Iterator[str]:
    for i, j in combinations(range(len(names)), 2):
        apart = np.flatnonzero(np.abs(heights[i] - heights[j]) > room)
        both = f"{names[i]} and {names[j]} coincide"
        if not len(apart):
            yield both
        elif apart[-1] + 1 < len(grid):
            begin = grid[apart[-1] + 1]
            if grid[-1] - begin >= PART * (grid[-1] - grid[0]):
                yield f"{both} from {begin:,.4g} {unit} on"
