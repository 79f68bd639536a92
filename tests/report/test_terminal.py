"""How the commands that are printed name hpogen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpogen.report.terminal import program


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
