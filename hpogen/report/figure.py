"""How the commands say what an answer is worth: its error with an interval, and the optimism."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hpogen.analysis.figure import Figure
from hpogen.record.looks import MANY
from hpogen.report.text import count, number, percent

BY = {"audit": "audit sample", "validation": "validation sample"}


def figure_text(found: Figure | str) -> str:
    """`error 8.9 % (95 %: 7.2 to 11.0 %), by 1,000 audit samples; validation says 7.5 %, …`."""
    if isinstance(found, str):
        return found
    parts = [f"{found.what} {value_text(found)}, by {by_text(found)}", optimism_text(found)]
    return "; ".join(filter(None, [*parts, found.lacking]))


def value_text(found: Figure, level: str = "95 %: ") -> str:
    """`8.9 % (95 %: 7.2 to 11.0 %)`."""
    if found.interval is None:
        return _said(found, found.value)
    low = _said(found, found.interval.low).removesuffix(" %")
    return f"{_said(found, found.value)} ({level}{low} to {_said(found, found.interval.high)})"


def optimism_text(found: Figure) -> str:
    """`validation says 7.5 %, 1.4 points too good`."""
    if found.validation is None:
        return ""
    return f"validation says {_said(found, found.validation)}, {gap_text(found)}"


def gap_text(found: Figure) -> str:
    """`1.4 points too good`; empty where validation has no such figure."""
    if found.optimism is None:
        return ""
    share = found.what == "error"
    size = f"{100 * abs(found.optimism):.1f}" if share else number(abs(found.optimism))
    points = f"{size} points" if share else size
    word = "too good" if found.optimism < 0 else "too bad"
    return f"{points} {word}" if float(size.replace(",", "")) else "the same"


def figure_data(found: Figure | str) -> dict[str, Any]:
    """The same for YAML and JSON."""
    if isinstance(found, str):
        return {"lacking": found}
    given = asdict(found)
    low_high = given.pop("interval") or {"low": None, "high": None}
    return {**given, **low_high, "optimism": found.optimism, "said": figure_text(found)}


def looks_text(looks: int) -> str:
    """From the tenth look on, what that means; empty before."""
    if looks < MANY:
        return ""
    return (
        f"audit figures have been looked at {looks:,} times: where something was decided by them, "
        "they are too good, too"
    )


def by_text(found: Figure) -> str:
    """`1,000 audit samples`."""
    if found.samples is None:
        return found.by
    how = ", corrected for the choice" if found.by == "validation" else ""
    return count(found.samples, BY[found.by]) + how


def _said(found: Figure, x: float) -> str:
    return percent(x) if found.what == "error" else number(x)
