"""The site as MkDocs builds it, and what is in a page of it."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from mkdocs.commands import build as mkdocs_build
from mkdocs.config import load_config

ROOT = Path(__file__).parents[2]
SOURCES = {"a": "href", "link": "href", "img": "src", "script": "src", "iframe": "src"}


def build(folder: Path) -> None:
    """Build the site into a folder, as `mkdocs build --strict` does; a warning is an error.

    In this process, which has imported torch and the engines already.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MkDocs' and its plug-ins' own
        config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder))
        config.plugins.on_startup(command="build", dirty=False)
        mkdocs_build.build(config)
        config.plugins.on_shutdown()


@dataclass
class Page(HTMLParser):
    """The ids and links of a page: (tag, address)."""

    ids: set[str] = field(default_factory=set)
    links: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if SOURCES.get(tag, "") in values and values.get("rel") != "canonical":
            self.links.append((tag, values[SOURCES[tag]]))


@functools.cache
def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text())
    return page


def ids(path: Path) -> set[str]:
    return read(path).ids
