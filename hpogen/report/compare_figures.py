"""How `compare`, `rescore` and `report` write their figures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hpogen.analysis.statistics import Average, Interval, Summary
from hpogen.analysis.validity import RuleValidity
from hpogen.report.text import BLANK, error_text, number, percent
from hpogen.tasks.errors import is_share

LOSS = "loss"


def spread(x: float, of: str) -> str:
    """A standard deviation, in points where the figure is an error."""
    return f"{100 * x:.1f}" if is_share(of) else number(x)


def difference(x: float, of: str) -> str:
    """With its sign: `−0.1` points, or a loss."""
    text = spread(abs(x), of)
    if not float(text.replace(",", "")):
        return text
    return f"{'−' if x < 0 else '+'}{text}"


def signed(x: float) -> str:
    """A correlation or effect size."""
    return f"{x:+.2f}".replace("-", "−")


def p_value(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else number(p)


def mean_text(summary: Summary | None, of: str) -> str:
    """`8.9 % ± 0.3`."""
    if summary is None:
        return BLANK
    return error_text(summary.mean, of) + (
        "" if summary.sd is None else f" ± {spread(summary.sd, of)}"
    )


def average_text(average: Average | None, of: str) -> str:
    """`+0.9 (0.0 to +2.4)`."""
    text = partial(difference, of=of)
    return BLANK if average is None else with_interval(average.mean, average.interval, text)


def correlation_text(average: Average | None) -> str:
    """`+0.65 (+0.52 to +0.75)`."""
    return BLANK if average is None else with_interval(average.mean, average.interval, signed)


def found_text(rule: RuleValidity, k: int, chance_is: str = "") -> str:
    """`60.0 % (26.3 %)`: of the k best, and by chance; empty where there are no more trials."""
    found, chance = rule.overlap.get(k), rule.chance.get(k)
    if found is None or chance is None:
        return ""
    return f"{percent(found.mean)} ({chance_is}{percent(chance.mean)})"


def with_interval(x: float, interval: Interval | None, text: Callable[[float], str]) -> str:
    """A figure and its interval, if it has one, as `text` writes figures."""
    return text(x) + (f" ({text(interval.low)} to {text(interval.high)})" if interval else "")


def shown(x: float | None, of: str) -> float:
    """A figure as axes have it: an error in percent."""
    return float("nan") if x is None else x * (100 if is_share(of) else 1)


def points(of: str) -> str:
    """What differences of a figure are counted in, behind them."""
    return " points" if is_share(of) else ""


def unit(of: str) -> str:
    """Of a figure, on an axis."""
    return " (%)" if is_share(of) else ""
