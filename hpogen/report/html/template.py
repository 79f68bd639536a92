"""The templates of the page: everything that goes into them is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

ASSETS = Path(__file__).parent / "assets"


def render(name: str, **values: Any) -> Markup:
    """A template of `assets/` with these values; `Markup` is taken as it is, all else escaped."""
    return Markup(_environment().get_template(name).render(**values))


def asset(name: str) -> Markup:
    """A style sheet or script of ours, as it is."""
    return Markup((ASSETS / name).read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
