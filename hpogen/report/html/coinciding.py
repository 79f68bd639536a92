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
MOST = 6  # groups named

Line = tuple[str, Array, Array]  # name, x in ascending order, y


def coinciding(lines: Sequence[Line], unit: str, height: float = SIZE[1], scale: str = "") -> str:
    """`A, B and C coincide; A and D coincide from 48 epochs on`; empty where none do.

    Lines are steps that keep their height to the next x. `height` is the picture's, in inches;
    `scale` is `log` where its y axis is.
    """
    if len(lines) < 2:
        return ""
    grid, heights = _on_one_grid(lines)
    heights = np.log(heights) if scale == "log" else heights
    room = np.ptp(heights) * STYLE["lines.linewidth"] / (72 * AXES * height)
    texts = [*_texts([name for name, _, _ in lines], grid, heights, room, unit)]
    more = f"so do {len(texts) - MOST} more groups" if len(texts) > MOST else ""
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
    """The groups that coincide everywhere, then pairs of groups that do so towards the end."""
    groups = _groups(heights, room)
    for group in groups:
        if len(group) > 1:
            *first, last = (names[i] for i in group)
            yield f"{', '.join(first)} and {last} coincide"
    for i, j in combinations([group[0] for group in groups], 2):
        both = f"{names[i]} and {names[j]} coincide"
        apart = np.flatnonzero(np.abs(heights[i] - heights[j]) > room)
        if not len(apart):  # the second is too far from another of the first one's group
            yield both
        elif apart[-1] + 1 < len(grid):
            begin = grid[apart[-1] + 1]
            if grid[-1] - begin >= PART * (grid[-1] - grid[0]):
                yield f"{both} from {begin:,.4g} {unit} on"


def _groups(heights: Array, room: float) -> list[list[int]]:
    """Lines of which any two are nowhere farther apart than `room`."""
    groups: list[list[int]] = []
    for i, line in enumerate(heights):
        for group in groups:
            if np.abs(heights[group] - line).max() <= room:
                group.append(i)
                break
        else:
            groups.append([i])
    return groups
