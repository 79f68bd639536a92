"""What MkDocs calls: tables in place of `<!-- table: NAME -->`, and no links out of the site."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import commands
import tables

TABLES = {
    "study": tables.study,
    "space": tables.space,
    "hyperparameters": tables.hyperparameters,
    "schedules": tables.schedules,
    "searchers": tables.searchers,
    "datasets": tables.datasets,
    "models": tables.models,
    "measures": tables.measures,
    "commands": commands.commands,
}
MARKER = re.compile(r"<!-- table: (\w+) -->")
OUTSIDE = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)+((?:scripts|tests|studies|hpogen)[^)]*|[A-Z]+\.md)\)"
)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A file of the repository that is no page is named, not linked."""
    markdown = MARKER.sub(lambda found: TABLES[found[1]](), markdown)
    return OUTSIDE.sub(lambda found: f"{found[1]} (`{found[2]}`)", markdown)
