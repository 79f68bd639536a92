"""How wide a page is, and how the commands that are printed name hpogen."""

from __future__ import annotations

import os
import pty
import sys
import termios
from pathlib import Path

import pytest

from hpogen.report.table import grid
from hpogen.report.terminal import program, width
from hpogen.report.text import paragraph


def test_the_printed_commands_name_hpogen_whoever_called_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hpogen").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))

    def called(by: str) -> str:
        monkeypatch.setattr(sys, "argv", [by])
        return program()

    assert called("bin/hpogen") == "bin/hpogen"
    assert called("scripts/papers/figure.py") == "bin/hpogen"
    assert called(str(tmp_path / "hpogen" / "__main__.py")) == "bin/python -m hpogen"
    (tmp_path / "bin" / "hpogen").unlink()
    assert called("scripts/papers/figure.py") == "bin/python -m hpogen"


def test_only_a_terminal_has_a_width(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 93))
    monkeypatch.delenv("COLUMNS", raising=False)
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "__stdout__", terminal)
        assert width() == 93
    os.close(ours)
    monkeypatch.setenv("COLUMNS", "80")  # of the shell, not of the file
    with (tmp_path / "file").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        assert width() > 10_000


def test_what_did_not_fit_is_said_below_the_table() -> None:
    row = {f"column {i}": "a cell" for i in range(9)}
    assert grid([row], 60, [*row][1:])[-1] == " (+2: columns that did not fit; --json has them)"
    assert grid([row], 60, [*row][8:])[-1] == " (+1: a column that did not fit; --json has it)"
    assert grid([row], 60, [*row][8:], json=False)[-1] == " (+1: a column that did not fit)"
    assert grid([row], 90, [*row])[-1].split() == ["a", "cell"] * 9


def test_in_a_file_nothing_is_cut_wrapped_or_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = {f"column {i}": "a long cell " * 9 + str(i) for i in range(30)}
    text = "many words " * 200
    with (tmp_path / "file").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        head, line = grid([cells], width(), [*cells])
        assert paragraph(text, width()) == [f" {text.strip()}"]
    assert all(cell in line for cell in cells.values()) and all(key in head for key in cells)
    assert "+" not in head
