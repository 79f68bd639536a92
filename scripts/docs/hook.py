"""What MkDocs calls: tables in place of `<!-- table: NAME -->` and the line below it.

Links out of the site become names.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import commands
import tables

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
MARKER = re.compile(r"<!-- table: (\w+) -->\n\*[^*]+\*")
UPWARDS = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+)([^)]*)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A file of the repository that is no page is named, not linked."""
    depth = page.file.src_uri.count("/")

    def within(found: re.Match[str]) -> str:
        text, up, path = found.groups()
        if up.count("../") <= depth:
            return found[0]
        return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"

    markdown = MARKER.sub(lambda found: TABLES[found[1]](), markdown)
    return UPWARDS.sub(within, markdown)
