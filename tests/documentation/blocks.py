"""The code blocks of the documentation, as its pages have them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(
    r"(?:<!-- (?P<note>[^>]*) -->\n)?"
    r'^(?P<pad> *)```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n'
    r"(?P<code>.*?)^(?P=pad)```$",
    re.DOTALL | re.MULTILINE,
)
UNRUN = "not run: "


@dataclass(frozen=True)
class Block:
    """A fenced block; `title` is the file that it is the content of, `note` a comment before it."""

    page: str
    line: int
    language: str
    title: str
    note: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def unrun(self) -> bool:
        """Whether it is only looked at: the note says why."""
        return self.note.startswith(UNRUN)


def of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        code = re.sub(f"^{found['pad']}", "", found["code"], flags=re.MULTILINE)
        name = str(page.relative_to(ROOT))
        title, note = found["title"] or "", found["note"] or ""
        yield Block(name, line, found["language"], title, note, code)


BLOCKS = [block for page in PAGES for block in of(page)]
