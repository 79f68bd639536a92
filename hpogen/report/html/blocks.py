"""What a page is made of: sections that answer a question, with figures and their captions.

The modules of this package return them, `page.py` renders them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

NOTHING = Markup("")


@dataclass(frozen=True)
class Figure:
    """Panes of one picture, each with its label; more than one have a switch between them."""

    panes: tuple[tuple[str, Markup], ...]
    caption: str
    title: str = ""
    colour: int | None = None  # of the arm that the title names, see `drawing.arm_colour`
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A question and what answers it."""

    name: str  # of its place in the page
    title: str
    question: str
    figures: tuple[Figure, ...] = ()
    body: Markup = NOTHING
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Missing:
    """A picture that would answer nothing here, and what to run for it."""

    title: str
    remedy: str


Part = Section | Missing


def single(svg: Markup, caption: str, title: str = "", colour: int | None = None) -> Figure:
    """A figure without a switch."""
    return Figure((("", svg),), caption, title, colour)


def sentences(parts: Sequence[str]) -> str:
    """A caption of its non-empty parts."""
    return "; ".join(part for part in parts if part) + "."
