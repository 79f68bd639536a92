"""The table of a matrix: what stands in it while the pool runs, and afterwards."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.live import Live
from toys import study_file

from hpogen.report.live import Overview, Screen
from hpogen.report.matrix import Row, overview, status, status_page
from hpogen.running.runner import run_all
from hpogen.spec import load_studies
from hpogen.study.open import open_studies
from hpogen.study.read import Folder, read_all
from hpogen.study.study import Study
from hpogen.trial import Outcome


@pytest.fixture
def studies(tmp_path: Path) -> list[Study]:
    """Two studies of twelve trials, of which the first has ended."""
    path = study_file(tmp_path, matrix={"seed": [0, 1]})
    specs = {tmp_path / "m" / spec.name: spec for spec in load_studies(path).specs}
    opened = open_studies(specs)
    run_all(opened[:1])
    return opened


def closed(studies: list[Study]) -> list[Folder]:
    for study in studies:
        study.close()
    return read_all([studies[0].directory.parent])


def test_a_line_for_each_study_and_no_empty_column(studies: list[Study]) -> None:
    text, running = status_page("m", closed(studies), 100, "hpogen")
    head, titles, first, second, note = text.plain.splitlines()
    assert not running
    assert head == " m · 1 of 2 studies finished"
    assert titles.split() == ["study", "trials", "best", "score", "val", "loss"]
    best = min(r.score for r in studies[0].history.told())
    assert first.split()[:2] == ["seed-0", "12/12"] and f"{best:.3f}" in first
    assert first.endswith("finished") and second.split() == [
        *("seed-1", "0/12", "–", "–", "–", "stopped"),
    ]
    assert note == f" stopped; go on with: hpogen resume {studies[0].directory.parent}"


def test_while_it_is_written(studies: list[Study]) -> None:
    found = read_all([studies[0].directory.parent])
    text, running = status_page("m", found, 100, "hpogen")
    assert running and text.plain.splitlines()[-1].startswith(" running: process ")
    closed(studies)


def test_as_data(studies: list[Study]) -> None:
    data = status("m", closed(studies))
    assert [study["state"] for study in data["studies"]] == ["finished", "stopped"]


def test_the_live_table_stands_still(studies: list[Study], monkeypatch: Any) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    live = Live(console=console, auto_refresh=False)
    table = Overview("m", studies, Screen(live))
    titles = []
    for _ in range(3):
        trial = studies[1].next()
        assert trial is not None
        now += 10.0
        table.tick(stopping=False)
        titles.append(live.renderable.plain.splitlines()[1])  # type: ignore[union-attr]
        assert live.renderable.plain.count(f" {trial.id}/12") == 1  # type: ignore[union-attr]
        studies[1].record(Outcome(trial.id, {"val_loss": 1.0, "agn": 1.0, "gap_loss": 0.0}))
        now += 10.0
        table.tick(stopping=False)
        lines = live.renderable.plain.splitlines()  # type: ignore[union-attr]
        titles.append(lines[1])
    assert len(set(titles)) == 1 and "running" in titles[0] and "failed" in titles[0]
    assert " 62 %" in lines[0] and lines[0].endswith("3 min 0 s left")  # 3 of 12 in 60 s
    assert "stopped" not in "".join(lines)
    closed(studies)


def test_an_outcome_counts_in_its_own_study_only(studies: list[Study]) -> None:
    first, second = closed(studies)
    rows = [Row(study, "") for study in (first, second)]
    lines = overview("m", rows, 100).plain.splitlines()
    assert lines[2].split()[2] != "–" and lines[3].split()[2] == "–"
