"""The tutorial, from its first block to its last, in an empty folder."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from documentation.blocks import BLOCKS

from hpogen.cli import main

TUTORIAL = [block for block in BLOCKS if block.page == "docs/tutorial.md"]


def test_the_tutorial_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in TUTORIAL:
        if block.title:
            (tmp_path / block.title).write_text(block.code)
        elif block.language == "python":
            exec(block.code, {"__name__": "__main__"})
        elif block.language == "sh":
            for command in block.code.splitlines():
                assert code_of(shlex.split(command), monkeypatch) == 0, command
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"shapes", "objectives"}
    assert "objectives" in (tmp_path / "report.html").read_text()
    assert len(list((tmp_path / "runs" / "shapes" / "retrain").glob("*/ledger.jsonl"))) == 2


def code_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command; hpogen's run in this process, which has torch already."""
    program, *arguments = words
    if program == "python":
        return subprocess.run([sys.executable, *arguments], check=False).returncode
    assert program == "hpogen"
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)
