"""The examples of own parts run, are short, and stand in the documentation as they are."""

from __future__ import annotations

import difflib
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toys import essence

import hpogen
from hpogen.record import folder, history, ledger

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
STUDIES = sorted(EXAMPLES.glob("*.yaml"))
SOURCES = sorted(EXAMPLES.glob("*.py"))
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
GUIDE = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("own-parts", "your-loop"))
LOOPS = ("keras", "lightning", "transformers")  # whose trainings take more lines


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the repository, with its Python as `python`: what the comments in the files say."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_an_example_runs_to_its_end(path: Path, tmp_path: Path, at_home: None) -> None:
    with hpogen.open_study(path, tmp_path / "run") as study:
        assert hpogen.run(study).end == "finished"
        records = study.history.records
    assert len(records) == study.stop["trials"]
    assert [record.failure for record in records] == [None] * len(records)
    assert len({record.score for record in records}) > 1


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_an_example_is_under_30_lines(path: Path) -> None:
    longer = any(name in path.stem for name in LOOPS)
    assert path.read_text().count("\n") < (50 if longer else 30)


@pytest.mark.parametrize("name", LOOPS)
def test_a_training_becomes_a_task_by_12_changed_lines(name: str) -> None:
    """Docstrings are not counted: a changed line is a new one, or one that has gone without one."""
    before, after = (
        (EXAMPLES / f"{file}.py").read_text().partition("\n")[2].splitlines()
        for file in (f"{name}_alone", f"my_{name}")
    )
    found = [line for line in difflib.ndiff(before, after) if line[2:].strip()]
    assert 0 < sum(line[0] == "+" for line in found) <= 12
    assert 0 < sum(line[0] == "-" for line in found) <= 12


@pytest.mark.parametrize("name", LOOPS)
def test_a_training_runs_before_it_is_a_task(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = runpy.run_path(str(EXAMPLES / f"{name}_alone.py"))
    if name == "keras":
        assert done["history"].epoch == [0, 1, 2]
        return
    state = done["trainer"].state
    assert getattr(state, "global_step", 1) and getattr(state, "status", "finished") == "finished"


@pytest.mark.parametrize("path", [*SOURCES, *STUDIES], ids=lambda path: path.name)
def test_the_guide_shows_the_file_that_runs(path: Path) -> None:
    language = {".py": "python", ".yaml": "yaml"}[path.suffix]
    assert f"```{language}\n{path.read_text()}```" in GUIDE


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_what_a_contributor_copies_is_short() -> None:
    rows = (ROOT / "CONTRIBUTING.md").read_text().split("|---|---|---|---|---|\n")[1].splitlines()
    links = [
        link
        for row in rows
        if row.startswith("|")
        for cell in row.split("|")[2:4]
        if "a function of" not in cell
        for link in re.findall(r"\]\(([^)]+)", cell)
    ]
    lengths = {link: (ROOT / link).read_text().count("\n") for link in links}
    assert len(lengths) == 7 and all(15 <= lines <= 60 for lines in lengths.values())


def test_the_readme_shows_what_is_there() -> None:
    readme = (ROOT / "README.md").read_text()
    command = readme.splitlines()[readme.splitlines().index("```sh") + 1]
    assert all((ROOT / word).is_file() for word in command.split())
    assert readme.count("\n") <= 150
    pictures = [ROOT / path for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", readme)]
    assert len(pictures) == 2 and sum(path.stat().st_size for path in pictures) < 150_000
    _, keys = (ROOT / "studies" / "quickstart.yaml").read_text().split("\n", 1)
    assert keys in readme


def test_a_resumable_task_killed_in_mid_trial_ends_as_if_nothing_had_happened(
    tmp_path: Path,
) -> None:
    run(tmp_path / "whole").wait()
    killed = kill_in_mid_trial(tmp_path)
    run(killed).wait()
    assert essence(ledger.read(killed)) == essence(ledger.read(tmp_path / "whole"))
    rows = folder.curve_path(killed, 1).read_text().splitlines()
    assert len([row for row in rows if json.loads(row)["epoch"] == 1]) == 1, "it began anew"


def run(directory: Path) -> subprocess.Popen[bytes]:
    """`my_resumable_task.yaml` in a process of its own, with epochs of some milliseconds."""
    study = str(EXAMPLES / "my_resumable_task.yaml")
    slow = ["--set", "task.samples=300000", "--set", "task.epochs=80", "--set", "stop.trials=2"]
    return subprocess.Popen(
        [sys.executable, "-m", "hpogen", "run", study, "--dir", str(directory), *slow],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def kill_in_mid_trial(tmp_path: Path) -> Path:
    """A study that got SIGKILL when some epochs of its second trial had been received."""
    for attempt in range(10):
        directory = tmp_path / f"killed{attempt}"
        with run(directory) as process:
            while process.poll() is None and not folder.received_curve(directory, 1):
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        records = history.read(directory).records
        if len(records) == 2 and records[1].state == "running":
            assert folder.received_curve(directory, 1)
            return directory
    raise AssertionError("the second trial was never caught running")


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a study where the documentation has one: runs/quickstart."""
    home = tmp_path_factory.mktemp("home")
    path = EXAMPLES / "my_task.yaml"
    with hpogen.open_study(path, home / "runs" / "quickstart") as study:
        hpogen.run(study)
    return home


def snippets(language: str) -> list[str]:
    text = (ROOT / "docs" / "ledger.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("code", snippets("python"))
def test_the_ledger_is_read_as_documented(
    code: str,
    quickstart: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(quickstart)
    exec(code, {})  # the one that checks sums has an assert of its own
    assert ("'kind': 'told'" in capsys.readouterr().out) == ("print(" in code)


@pytest.mark.parametrize("command", snippets("sh"))
def test_the_ledger_is_read_by_jq_as_documented(command: str, quickstart: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    done = subprocess.run(
        ["bash", "-c", command], cwd=quickstart, check=True, capture_output=True, text=True
    )
    assert len(done.stdout.splitlines()) == 8
