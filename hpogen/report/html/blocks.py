"""What a page is made of: sections that answer a question, figures, captions, and the templates.

The modules of this package return sections, `page.py` renders them. Everything that goes into a
template is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from hpogen.report.html.drawing import ARMS, NAMES, Picture

ASSETS = Path(__file__).parent / "assets"
NOTHING = Markup("")


@dataclass(frozen=True)
class Figure:
    """Panes of one picture, each with its label; more than one have a switch between them."""

    panes: tuple[tuple[str, Picture], ...]
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


def single(
    svg: Picture,
    caption: Sequence[str],
    title: str = "",
    colour: int | None = None,
    wide: bool = False,
) -> Figure:
    """A figure without a switch; its caption is of the parts that are not empty."""
    return Figure((("", svg),), sentences(caption), title, colour, wide)


def sentences(parts: Sequence[str]) -> str:
    """A caption of its non-empty parts."""
    return "; ".join(filter(None, parts)) + "."


def section(
    name: str,
    title: str,
    question: str,
    figures: Iterable[Figure | None],
    notes: Iterable[str] = (),
    *,
    remedy: str,
) -> Part:
    """A section of the figures and notes that there are; without a figure, what to run for one."""
    if drawn := tuple(filter(None, figures)):
        return Section(name, title, question, drawn, notes=tuple(filter(None, notes)))
    return Missing(title, remedy)


def render(name: str, **values: Any) -> Markup:
    """A template of `assets/` with these values; `Markup` is taken as it is, all else escaped."""
    return Markup(_environment().get_template(name).render(**values))


def asset(name: str) -> Markup:
    """A style sheet or script of ours, as it is."""
    return Markup((ASSETS / name).read_text(encoding="utf-8"))


def light() -> list[str]:
    """The colours of `drawing.NAMES` on white paper, from the style sheet."""
    first = asset("page.css").partition("}")[0]
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", first))
    return [colours[name] for name in NAMES]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["arms"] = ARMS
    return environment
