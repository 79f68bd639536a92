"""The site as MkDocs builds it, and what is in a page of it."""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {"a": "href", "link": "href", "img": "src", "script": "src", "iframe": "src"}


def build(folder: Path) -> str:
    """Build the site into a folder; what MkDocs said when it failed, empty when it did not."""
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "--site-dir", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr if done.returncode else ""


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
