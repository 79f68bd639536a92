"""The words of the pages are explained once, where they first appear, unless one is quiet."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.text import Text
from toys import study_file
from typer.testing import CliRunner

from hpogen.cli import launching, looking, results
from hpogen.cli.app import app
from hpogen.report.terms import TERMS, explained, with_terms

assert launching and looking and results  # they register the commands
CHARGED, ALPHA, AUDIT = (f" ({text})" for text in TERMS.values())


def test_each_word_is_explained_once_under_the_block_that_has_it() -> None:
    page = ["", " 4 epochs charged", "", " agn (α 0.1):", " audit error 4 %", "", " charged α"]
    assert [*explained(page, 80)] == [*page[:2], CHARGED, *page[2:5], ALPHA, AUDIT, *page[5:]]
    assert [*explained(["trial 0", "", "audit loss 0.4"], 80)] == ["trial 0", "", "audit loss 0.4"]


def test_the_title_of_a_narrow_column_is_found() -> None:
    assert [*explained([" audit  val", " error  loss"], 80)][-1] == AUDIT
    assert with_terms(Text(" audit\n error"), 80).plain == f" audit\n error\n{AUDIT}"
    assert with_terms(Text(" trial"), 80).plain == " trial"


@pytest.mark.parametrize("text", TERMS.values())
def test_an_explanation_is_one_line(text: str) -> None:
    assert len([*explained([text], 80)]) == 2


@pytest.mark.parametrize(
    ("words", "terms"),
    [
        (["run", "study.yaml"], [CHARGED, ALPHA]),
        (["resume", "runs/study"], [CHARGED, ALPHA]),
        (["check", "study.yaml"], [CHARGED, ALPHA]),
        (["status", "runs/study"], [ALPHA]),
        (["compare", "runs/study"], [CHARGED]),
        (["rescore", "runs/study"], [ALPHA]),
    ],
)
def test_a_command_explains_its_words_unless_it_is_quiet(
    words: list[str], terms: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    study_file(Path(), objective={"preset": "agn+val", "alpha": 0.1}, stop={"trials": 3})
    if words[0] != "run":
        CliRunner().invoke(app, ["run", "study.yaml"])
    lines = CliRunner().invoke(app, words).stdout.splitlines()
    assert [lines.count(term) for term in terms] == [1] * len(terms)
    quiet = CliRunner().invoke(app, [*words, "--quiet"])
    assert quiet.exit_code == 0 and quiet.stdout.strip()
    assert not {*quiet.stdout.splitlines()} & {CHARGED, ALPHA, AUDIT}
