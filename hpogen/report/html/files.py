"""The pictures of a report as files for a paper: `hpogen report --figures DIR`.

matplotlib draws each once more, with the colours of white paper: an `.svg` whose text is text, and
a `.pdf` with its fonts inside. `page.py` asks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hpogen.errors import UserError, explained
from hpogen.record.folder import replace_file
from hpogen.report.html.blocks import Section, light
from hpogen.report.html.drawing import Picture

KINDS = ("svg", "pdf")
SPELT = {"α": "alpha", "τ": "tau", "ρ": "rho"}

Named = tuple[str, Picture, str]  # file without ending, picture, caption


def write_figures(tasks: Mapping[str, Sequence[Section]], folder: Path) -> int:
    """Write each picture of the sections of each task into the folder; how many there are.

    A name says the task, where there are several, the section, the arm and the axis:
    `anytime-epochs.pdf`. Raises UserError where a file cannot be written.
    """
    pictures = named(tasks)
    colours = light()
    with explained(f"--figures: {folder}", UserError, todo=": give a folder for pictures"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture, caption in pictures:
            for kind in KINDS:
                replace_file(folder / f"{name}.{kind}", picture.file(kind, colours, caption))
    return len(pictures)


def named(tasks: Mapping[str, Sequence[Section]]) -> list[Named]:
    """The pictures by their files' names, no two alike."""
    found: dict[str, Named] = {}
    for task, sections in tasks.items():
        for section in sections:
            for parts, picture, caption in _of(section):
                name = first = slug([*([task] if len(tasks) > 1 else []), section.name, *parts])
                n = 1
                while name in found:
                    name, n = f"{first}-{n + 1}", n + 1
                found[name] = (name, picture, caption)
    return [*found.values()]


def _of(section: Section) -> Iterable[tuple[list[str], Picture, str]]:
    for figure in section.figures:
        for pane, picture in figure.panes:
            yield [figure.title, pane], picture, figure.caption


def slug(parts: Sequence[str]) -> str:
    """`alpha-agn+val-0-05`: small letters, digits, `+` and `-`, as every file system and TeX."""
    text = "-".join(parts).lower()
    for letter, name in SPELT.items():
        text = text.replace(letter, name)
    return re.sub(r"[^a-z0-9+]+", "-", text).strip("-")
