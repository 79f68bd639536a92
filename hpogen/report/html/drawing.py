"""Pictures as inline SVG by matplotlib, whose colours are CSS variables: light, dark and print.

The modules of this package draw on axes that `picture` makes. Text stays text, so that it can be
selected and takes the page's font.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from itertools import count, pairwise
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from hpogen.analysis.statistics import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (4.6, 3.1)  # inches; a phone shows it at three quarters
POINTS = 1500  # of one kind in a picture; more only make it slow
LABEL = 13  # characters of a line of a label beside a picture
FEWEST_TO_CUT = 5
ARMS = 6  # colours that are told apart; the arms after them begin anew, with other marks
MARKS = dict(zip("os^DvPX<*>", "●■▲◆▼✚✖◀★▶", strict=True))  # of arms, in pictures of several

# Colours of a theme: matplotlib looks `C3` up in its colour cycle when it writes the picture.
THEME = ("ink", "muted", "grid", "paper", "training", "validation", "measures")
INK, MUTED, GRID, PAPER, TRAINING, VALIDATION, MEASURES = (f"C{i}" for i in range(len(THEME)))
NAMES = (*THEME, *(f"arm{i}" for i in range(ARMS)))
STAND_INS = tuple(f"#0101{i + 16:02x}" for i in range(len(NAMES)))  # `_themed` puts variables there

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "hpogen",
    "pdf.fonttype": 42,
    "text.parse_math": False,
    "text.color": INK,
    "font.size": 9.5,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}

KEYS = "keys:"  # begins the name of a group of points
DATES = {"svg": "Date", "pdf": "CreationDate"}  # left out: the same picture is the same file
CAPTIONS = {"svg": "Description", "pdf": "Subject"}
_numbers = count()


class Picture(Markup):
    """An SVG element for the page, whose colours are the page's; `file` writes the same alone."""

    __slots__ = ("file",)

    file: Callable[[str, Sequence[str], str], bytes]
    """From `svg` or `pdf`, the colours of `NAMES` and a caption the bytes of a file, on paper."""


def arm_colour(number: int) -> str:
    """Of the arm with that number: the same in every picture."""
    return f"C{len(THEME) + number % ARMS}"


def arm_mark(number: int) -> tuple[str, str]:
    """Of the arm with that number: matplotlib's marker, and a letter that looks like it.

    Colour and mark are both the same only of arms that are 30 apart.
    """
    return [*MARKS.items()][number % len(MARKS)]


def picture(draw: Callable[[Axes], None], about: str, size: tuple[float, float] = SIZE) -> Picture:
    """An SVG element of what `draw` puts on its axes; `about` is for those who cannot see it."""
    return pictures([draw], about, size)


def pictures(
    draws: Sequence[Callable[[Axes], None]],
    about: str,
    size: tuple[float, float] = SIZE,
    columns: int = 1,
    sharey: bool = False,
) -> Picture:
    """The same with several axes, in rows of `columns`; `size` is that of all of them."""

    def draw(axes: Any) -> None:
        for one, ax in zip(draws, axes[: len(draws)], strict=True):
            one(ax)
        for ax in axes[len(draws) :]:
            ax.set_visible(False)

    def saved(kind: str, colours: Sequence[str], paper: str, **about_it: str) -> bytes:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.rcsetup import cycler

        with matplotlib.rc_context({**STYLE, "axes.prop_cycle": cycler(color=colours)}):
            figure = Figure(figsize=size, layout="constrained")
            rows = -(-len(draws) // columns)
            draw(figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel())
            buffer = io.BytesIO()
            metadata = {DATES[kind]: None, **about_it}
            figure.savefig(buffer, format=kind, metadata=metadata, facecolor=paper)
        return buffer.getvalue()

    def file(kind: str, colours: Sequence[str], caption: str) -> bytes:
        data = saved(kind, colours, PAPER, **{"Title": about, CAPTIONS[kind]: caption})
        return re.sub(rb' id="keys:[^"]*"', b"", data) if kind == "svg" else data

    found = Picture(_themed(saved("svg", STAND_INS, "none").decode(), about))
    found.file = file
    return found


def _themed(text: str, about: str) -> Markup:
    """The SVG element alone, its colours as variables, its names unlike any other picture's."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"#0[1-7]0[1-7][01][0-9a-f]\b", lambda m: _variable(m.group()), text)
    text = _KEYED.sub(_keyed, text)
    mark = f"p{next(_numbers)}-"
    text = _ALIKE.sub(_compact, text)
    text = re.sub(r'((?:\bid="|href="#|url\(#))', lambda m: m.group() + mark, text)
    role = "group" if "data-p=" in text else "img"  # of an image what is inside cannot be reached
    label = f'<svg class="chart" role="{role}" aria-label="{escape(about)}"'
    return Markup(text.replace("<svg", label, 1))


_ALIKE = re.compile(r"(<g clip-path=\"[^\"]*\")>((?:\s*<use [^>]*/>)+)")


def _compact(marks: re.Match[str]) -> str:
    """Marks that look the same say so once; a third of their size."""
    looks = set(re.findall(r' style="[^"]*"', marks.group(2)))
    if len(looks) != 1:
        return marks.group()
    uses = re.sub(r'\s*(<use [^>]*?) style="[^"]*"/>', r"\1/>", marks.group(2))
    uses = re.sub(r'( [xy]="-?\d+\.\d)\d*"', r'\1"', uses)
    return f"{marks.group(1)}{looks.pop()}>{uses}"


_KEYED = re.compile(rf"<g id=\"{KEYS}([^\"]*)\">(.*?</g>\s*</g>)", re.DOTALL)


def _keyed(group: re.Match[str]) -> str:
    """Each mark with the key of its trial; the first can be reached by Tab, by arrows the others.

    Raises ValueError where there are not as many marks as keys.
    """
    keys, (before, *marks) = group.group(1).split(), group.group(2).split("<use ")
    named = (f'<use data-p="{k}" {mark}' for k, mark in zip(keys, marks, strict=True))
    return f"<g>{before}{''.join(named)}"


def _variable(colour: str) -> str:
    return f"var(--{NAMES[STAND_INS.index(colour)]})" if colour in STAND_INS else colour


def points(
    axes: Axes,
    x: Array,
    y: Array,
    colour: str,
    keys: Sequence[str] = (),
    *,
    hollow: bool = False,
    size: float = 3.4,
) -> None:
    """A dot for each, or for a random `POINTS` of them (`thinned` says so).

    `keys` name their trials (see `pointing.py`); limits of an axis must be set before, for dots
    beyond them are not drawn.
    """
    chosen = np.arange(len(x))
    if len(x) > POINTS:
        chosen = np.random.default_rng(0).choice(len(x), POINTS, replace=False)
    chosen = chosen[_inside(axes, x[chosen], y[chosen])]
    face = "none" if hollow else colour
    axes.plot(
        x[chosen], y[chosen], "o", color=colour, markersize=size, markerfacecolor=face,
        markeredgewidth=0.6, alpha=0.55 if not hollow else 0.7,
        gid=KEYS + " ".join(keys[i] for i in chosen.tolist()) if keys and len(chosen) else None,
    )  # fmt: skip


def _inside(axes: Axes, x: Array, y: Array) -> NDArray[np.bool_]:
    """Which points are finite and within the limits that have been set."""
    inside: NDArray[np.bool_] = np.isfinite(x) & np.isfinite(y)
    if not axes.get_autoscalex_on():
        low, high = axes.get_xlim()
        inside &= (x >= low) & (x <= high)
    if not axes.get_autoscaley_on():
        low, high = axes.get_ylim()
        inside &= (y >= low) & (y <= high)
    return inside


def thinned(n: int, of: str = "") -> str:
    """What a caption says of n points."""
    text = f"{POINTS:,} of the {n:,} points are drawn, at random"
    return f"{of} {text}".strip() if n > POINTS else ""


def ring(axes: Axes, x: float, y: float, size: float = 10) -> None:
    """Around what was chosen."""
    axes.plot(
        [x], [y], "o", markersize=size, markerfacecolor="none", color=INK,
        markeredgewidth=0.16 * size, zorder=5,
    )  # fmt: skip


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], height: float) -> None:
    """Names at the right edge, each at the height of its line's end, none over another.

    `ends` are heights in data units, texts and colours; the limits of y must be final. `height` is
    the picture's, in inches.
    """
    low, high = axes.get_ylim()
    line = 0.165 / height * 1.25  # of a line of text, as a share of the axes
    texts = ["\n".join(broken(text)) for _, text, _ in ends]
    places = [(min(max(y, low), high) - low) / (high - low) for y, _, _ in ends]
    heights = [line * (text.count("\n") + 1) for text in texts]
    for i, at in zip(range(len(ends)), apart(places, heights), strict=True):
        axes.annotate(
            texts[i], (1.02, at), xycoords="axes fraction", color=ends[i][2], va="center",
            fontsize=9, linespacing=1.05,
        )  # fmt: skip


def broken(text: str) -> list[str]:
    """A label in short lines, broken behind spaces, `_`, `+`, `-` or where it must be."""
    parts = [part for part in re.split(r"(?<=[ _+-])(?![_+-])", text) if part]
    lines = [""]
    for part in (piece for whole in parts for piece in wrap(whole, LABEL, drop_whitespace=False)):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > LABEL:
            lines.append("")
        lines[-1] += part
    return lines


def apart(places: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Centres near the places, at least their heights apart, in the same order."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    found = list(places)
    for before, i in pairwise(order):
        found[i] = max(found[i], found[before] + (heights[i] + heights[before]) / 2)
    limit = 1 + heights[order[-1]] / 2 if order else 1.0
    for i in reversed(order):  # and down again from the upper edge
        found[i] = min(found[i], limit - heights[i] / 2)
        limit = found[i] - heights[i] / 2
    return found


def cut(values: Array) -> tuple[float, float] | None:
    """The ends of an axis, so that a few huge values do not press all others together.

    None where the largest lies less than three times as far up as nine tenths of them.
    """
    values = values[np.isfinite(values)]
    if len(values) < FEWEST_TO_CUT:
        return None
    least, most = float(values.min()), float(np.quantile(values, 0.9))
    if not float(values.max()) - least > 3 * (most - least) > 0:
        return None
    return least - 0.06 * (most - least), least + 1.5 * (most - least)


def log_axis(axes: Axes, which: Literal["x", "y"], low: float, high: float) -> None:
    """A logarithmic axis for values from low to high, its ticks as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    narrow = high < 100 * low
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set_xscale("log") if which == "x" else axes.set_yscale("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=4))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("e-0", "e-")))
    axis.set_minor_formatter(NullFormatter())


def log_ticks(axes: Axes, values: Sequence[int]) -> None:
    """A logarithmic x axis with these whole numbers named, and no others."""
    axes.set_xscale("log")
    axes.set_xticks(list(values), [f"{value:,}" for value in values], minor=False)
    axes.set_xticks([], minor=True)
