"""How `compare` writes its figures, texts and tables; for the other parts of its page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from hpogen.analysis.summary import Average
from hpogen.report.table import Column, table
from hpogen.report.text import number, percent

BLANK = "–"
NARROW = "\N{NO-BREAK SPACE}"
POINTLESS = "audit loss"  # the one figure that is no share


def figure(x: float, of: str) -> str:
    """An error as `8.9 %`, a loss as `0.412`."""
    return number(x) if of == POINTLESS else percent(x)


def spread(x: float, of: str) -> str:
    """A standard deviation, in points where the figure is an error."""
    return number(x) if of == POINTLESS else f"{100 * x:.1f}"


def difference(x: float, of: str) -> str:
    """With its sign: `−0.1` points, or a loss."""
    text = number(abs(x)) if of == POINTLESS else f"{100 * abs(x):.1f}"
    if not float(text.replace(",", "")):
        return text
    return f"{'−' if x < 0 else '+'}{text}"


def signed(x: float) -> str:
    """A correlation or effect size."""
    return f"{x:+.2f}".replace("-", "−")


def p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else number(p)


def average_text(average: Average | None, of: str) -> str:
    """`+0.9 (0.0 to +2.4)`."""
    if average is None:
        return BLANK
    text = difference(average.mean, of)
    if average.interval is None:
        return text
    low, high = average.interval.low, average.interval.high
    return f"{text} ({difference(low, of)} to {difference(high, of)})"


def correlation_text(average: Average | None) -> str:
    """`+0.65 (+0.52 to +0.75)`."""
    if average is None:
        return BLANK
    if average.interval is None:
        return signed(average.mean)
    low, high = average.interval.low, average.interval.high
    return f"{signed(average.mean)} ({signed(low)} to {signed(high)})"


def wrapped(text: str, width: int) -> list[str]:
    """Broken between words, but not before a `%`."""
    whole = text.replace(" %", NARROW + "%")
    lines = textwrap.wrap(whole, width - 1, break_on_hyphens=False)
    return [f" {line}".replace(NARROW, " ") for line in lines]


def grid(
    titles: Sequence[str], rows: Sequence[Sequence[str]], width: int, optional: Sequence[str] = ()
) -> list[str]:
    """A table as wide as its cells; the optional columns give way, the last of them first."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    columns = [
        Column(title, wide, optional=title in optional)
        for title, wide in zip(titles, widths, strict=True)
    ]
    head, *body = table(columns, rows, width - 1)
    return [f" {line}" for line in [*head.splitlines(), *body]]
