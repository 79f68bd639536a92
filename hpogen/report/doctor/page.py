"""All that `hpogen doctor` tells of the machine that it runs on, as a page and as data."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpogen.report.doctor.clusters import clusters
from hpogen.report.doctor.data import data
from hpogen.report.doctor.finding import Finding
from hpogen.report.doctor.hardware import hardware
from hpogen.report.doctor.software import software
from hpogen.report.doctor.storage import checkpoints_of, storage
from hpogen.report.text import LEAST_WIDTH, count

LABELS = 27  # columns, in front of the texts
Findings = Mapping[str, list[Finding]]


def examined(directory: Path, start_ray: bool) -> Findings:
    """All that is found, by group; `directory` is where a study is, or would be."""
    return {
        "software": [*software()],
        "hardware": [*hardware()],
        "storage": [*storage(directory, checkpoints_of(directory))],
        "data": [*data()],
        "ray": [*clusters(start_ray)],
    }


def problems(found: Findings) -> int:
    return sum(finding.level == "problem" for group in found.values() for finding in group)


def page(found: Findings, width: int) -> Iterator[str]:
    """A line for each, and below it what to do; at the end how many problems there are."""
    for group, findings in found.items():
        yield f" {group}"
        for finding in findings:
            yield from _lines(finding, width)
    notes = sum(finding.level == "note" for group in found.values() for finding in group)
    yield f" {count(problems(found), 'problem')}, {count(notes, 'note')}"


def _lines(finding: Finding, width: int) -> Iterable[str]:
    label = f"   {finding.level:<8} {finding.name} ".ljust(LABELS)
    texts = [finding.text, *([f"→ {finding.todo}"] if finding.todo else [])]
    room = max(width - LABELS, LEAST_WIDTH)
    parts = [part for text in texts for part in textwrap.wrap(text, room, break_on_hyphens=False)]
    return [(label if i == 0 else " " * LABELS) + part for i, part in enumerate(parts)]


def as_data(found: Findings) -> dict[str, Any]:
    """The same findings as `page`, for programs."""
    groups = {group: [asdict(finding) for finding in all_] for group, all_ in found.items()}
    return {"problems": problems(found), **groups}
