"""What MkDocs calls: tables in place of `<!-- table: NAME -->`, and no links out of the site."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import commands
import tables

import hpogen

ROOT = Path(__file__).parents[2]

TABLES = {
    "study": tables.study,
    "space": tables.space,
    "hyperparameters": tables.hyperparameters,
    "schedules": tables.schedules,
    "searchers": tables.searchers,
    "datasets": tables.datasets,
    "models": tables.models,
    "commands": commands.commands,
}
COMING = ("install.md", "use-the-answer.md")  # in the navigation as soon as they are there
ONCE = re.compile(r"<!-- once (\S+) exists: (.*?) -->")
MARKER = re.compile(r"<!-- table: (\w+) -->")
UPWARDS = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+)([^)]*)\)")


def on_config(config: Any) -> Any:
    """The navigation without those pages that are not written yet."""
    config["nav"] = [{name: _there(pages) for name, pages in one.items()} for one in config["nav"]]
    return config


def _there(pages: Any) -> Any:
    if not isinstance(pages, list):
        return pages
    return [page for page in pages if {*page.values()}.isdisjoint(missing())]


def missing() -> list[str]:
    return [name for name in COMING if not (ROOT / "docs" / name).exists()]


def once(found: re.Match[str]) -> str:
    """Markdown that waits for a name of hpogen."""
    return found[2] if hasattr(hpogen, found[1].removeprefix("hpogen.")) else ""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A file of the repository that is no page is named, not linked."""
    depth = page.file.src_uri.count("/")

    def within(found: re.Match[str]) -> str:
        text, up, path = found.groups()
        if up.count("../") <= depth:
            return found[0]
        return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"

    markdown = ONCE.sub(once, markdown)
    markdown = MARKER.sub(lambda found: TABLES[found[1]](), markdown)
    return UPWARDS.sub(within, markdown)
