"""What a shell is told to complete, asked as typer's functions for bash, zsh and fish ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpogen.cli.completion import folders, studies
from hpogen.record.ledger import LEDGER

PROGRAM = [sys.executable, "-m", "hpogen"]


def completed(line: str, cwd: Path) -> list[str]:
    """What bash is given for the last word of a line."""
    words = line.split(" ")
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    return called({**asked, "_HPOGEN_COMPLETE": "complete_bash"}, cwd).split()


def called(variables: dict[str, str], cwd: Path, *arguments: str) -> str:
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, **variables}
    done = subprocess.run(
        [*PROGRAM, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`runs/` with a study and a matrix of two, a folder that is none, and YAML files."""
    monkeypatch.chdir(tmp_path)
    for place in ("runs/alone", "runs/many/a", "runs/many/b", "elsewhere"):
        (tmp_path / place).mkdir(parents=True)
        if place != "elsewhere":
            (tmp_path / place / LEDGER).touch()
    for file in ("first.yaml", "elsewhere/second.yaml", "elsewhere/third.txt"):
        (tmp_path / file).touch()
    return tmp_path


def test_folders_of_studies_and_matrices(runs: Path) -> None:
    assert folders("") == folders("ru") == ["runs", "runs/alone"]
    assert folders("runs/") == ["runs/alone", "runs/many", "runs/many/a", "runs/many/b"]
    assert folders("runs/many/") == ["runs/many/a", "runs/many/b"]
    assert folders("runs/al") == ["runs/alone"]
    assert folders("else") == folders("[") == []


def test_files_of_studies(runs: Path) -> None:
    assert studies("") == ["elsewhere/second.yaml", "first.yaml"]
    assert studies("f") == ["first.yaml"]
    assert studies("elsewhere/") == ["elsewhere/second.yaml"]
    assert studies("x") == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("hpogen res", ["resume", "rescore"]),
        ("hpogen resume runs/a", ["runs/alone"]),
        ("hpogen compare runs/alone runs/many/", ["runs/many/a", "runs/many/b"]),
        ("hpogen check f", ["first.yaml"]),
        ("hpogen list m", ["measures", "models"]),
        ("hpogen init --searcher c", ["cmaes"]),
        ("hpogen rescore runs/alone --objective agn", ["agn+val", "agn+train"]),
        ("hpogen measure runs/alone --add agn,agn_o", ["agn,agn_online"]),
        ("hpogen best runs/alone --selection one", ["one_se_margin"]),
        ("hpogen resume nothing", []),
    ],
)
def test_a_line_is_completed(runs: Path, line: str, found: list[str]) -> None:
    assert completed(line, runs) == found


def test_what_zsh_and_fish_are_told(runs: Path) -> None:
    line = {"_TYPER_COMPLETE_ARGS": "hpogen init --searcher c"}
    assert '"cmaes"' in called({**line, "_HPOGEN_COMPLETE": "complete_zsh"}, runs)
    fish = {"_HPOGEN_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert called({**line, **fish}, runs) == "cmaes\n"


def test_completing_imports_nothing_heavy(runs: Path) -> None:
    code = (
        "import sys, hpogen.cli\n"
        "try: hpogen.cli.main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'ray', 'optuna', 'pandas') if name in sys.modules])"
    )
    words = {"COMP_WORDS": "hpogen measure runs/alone --add ", "COMP_CWORD": "4"}
    environment = {**os.environ, **words, "_HPOGEN_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    *names, heavy = done.stdout.splitlines()
    assert "agn" in names and heavy == "[]"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_installs_and_uses_it(runs: Path) -> None:
    script = runs / "hpogen"
    script.write_text(f'#!/bin/sh\nexec {" ".join(PROGRAM)} "$@"\n')
    script.chmod(0o755)
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "HOME": str(runs), "PYTHONPATH": root}
    environment["PATH"] = f"{runs}{os.pathsep}{os.environ['PATH']}"

    def bash(*lines: str) -> str:
        done = subprocess.run(
            ["bash", "--norc", "-c", "\n".join(lines)],
            cwd=runs,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert "bash completion installed" in bash("hpogen --install-completion", ":")
    function = "COMP_WORDS=(hpogen best runs/a) COMP_CWORD=2; _hpogen_completion hpogen"
    assert bash(". ~/.bashrc", function, 'printf "%s\\n" "${COMPREPLY[@]}"') == "runs/alone\n"
