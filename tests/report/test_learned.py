"""What `hpogen learn` prints, as text and as data, and how it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from analysis.learned import planted
from toys import typed

from hpogen.analysis.learned import learn
from hpogen.report.learned import by_rule, learned_page
from hpogen.spec.learned import read_learned
from hpogen.study.read import read

WIDE = 10_000_000


def test_the_page_has_signs_figures_and_the_next_command(tmp_path: Path) -> None:
    found = learn(planted(tmp_path, (1, -1, 1)))
    page = "\n".join(learned_page(found, "gap.json", "runs/a", WIDE, "hpogen"))
    first, second, third = found.tasks
    assert "Learned the rank of the audit error, from 72 trials of 3 studies of 3 tasks" in page
    assert f"agn turns round: the target rises with it on {first} and {third}, and falls" in page
    assert f"on {second}. Do not trust it on a new task." in page
    assert "rescore runs/a --objective '{preset: learned, model: gap.json}'" in page
    assert [*by_rule(found)] == [
        "the learned objective",
        "ridge",
        "boosted",
        "sparsity (eq. 7)",
        "validation loss, all labels",
    ]
    assert max(map(len, learned_page(found, "gap.json", "runs/a", 80, "hpogen")[:3])) <= 80


def test_it_says_with_how_many_labels_it_pays(tmp_path: Path) -> None:
    good = learned_page(learn(planted(tmp_path / "a")), "g", "d", WIDE, "hpogen")
    assert " It chose better than validation loss with 400 labels." in good
    bad = learned_page(learn(planted(tmp_path / "b", (1, -1), 0.01)), "g", "d", WIDE, "hpogen")
    assert (
        " It did not with 400: of a study that has so many it is refused, but with force: true."
        in bad
    )


def test_as_it_is_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [study.directory for study in planted(tmp_path, (1, 1))]
    out = tmp_path / "gap.json"
    assert typed("learn", *folders, "--out", out, "--measures", "agn,kappa", "--quiet") == 0
    assert "written to" in capsys.readouterr().out
    assert read_learned(out).measures == ["agn", "kappa"]
    assert [read(folder).history.looks for folder in folders] == [1, 1]
    assert typed("learn", *folders, "--out", out, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())
    assert typed("rescore", folders[0], "--objective", f"{{preset: learned, model: {out}}}") == 0
    assert "learned (gap.json)" in capsys.readouterr().out
    assert typed("learn", folders[0], "--out", out) == 2
    assert "got studies of one task" in capsys.readouterr().err
    assert typed("learn", *folders, "--out", tmp_path / "no" / "gap.json") == 2
    assert "cannot be written" in capsys.readouterr().err
