"""The page of the evidence says what the kept answers say, and none of these is missing."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "evidence.md").read_text().replace("−", "-")
KEPT = ROOT / "studies" / "evidence" / "answers"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return importlib.import_module("evidence")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


def table(text: str, first: str) -> list[list[str]]:
    """The cells of the table whose first column is called `first`, without its head."""
    lines = text[re.search(rf"^\| ?{first} ?\|", text, re.M).start() :].splitlines()
    rows = takewhile(lambda line: line.startswith("|"), lines)
    return [[cell.strip("* ") for cell in row.split("|")[1:-1]] for row in rows][2:]


def blocks(script: ModuleType) -> list:
    """The kept answers of the first look, and of the second."""
    kin = {task.name: task.kin for task in script.TASKS}
    found = []
    for second in (False, True):
        tasks = [task for task in script.TASKS if not (second and task.kin)]
        paths = {t.name: KEPT / script.answers_of(KEPT, t, second).name for t in tasks}
        found.append(script.evidence_verdict.read(paths, kin))
    return found


def test_all_that_is_registered_is_kept(script):
    """Of all tasks, and of those that count the second look, 20 searches with both arms."""
    first, second = blocks(script)
    for arm in script.PRIMARY:
        for found, seeds, tasks in ((first, range(20), 19), (second, range(100, 120), 13)):
            errors = found.of(arm, str(script.AT), alone=False)
            assert {name: [*own] for name, own in errors.items()} == {
                name: [*seeds] for name in errors
            }
            assert len(errors) == tasks
    assert len([*KEPT.glob("*.csv")]) == 19 + 13


def test_the_tasks_of_the_page_are_those_of_the_answers(script):
    said = script.evidence_verdict._tasks(*blocks(script), script.PRIMARY, str(script.AT))
    found = {row[0]: row for row in table("\n".join(said), "task")}
    rows = {row[0]: row for row in table(PAGE, "task")}
    assert rows == {name: [*row[:4], *row[6:], *row[4:6]] for name, row in found.items()}


@pytest.mark.slow  # permutations
def test_the_figures_of_the_page_are_those_of_the_answers(tmp_path):
    for path in KEPT.glob("*.csv"):
        (tmp_path / path.name).symlink_to(path)
    command = [sys.executable, ROOT / "scripts" / "evidence.py", "--scale", "full", "--answers"]
    run = subprocess.run([*command, tmp_path], capture_output=True, text=True, check=True)
    looks, arms = run.stdout.splitlines()[:3], {row[0]: row for row in table(run.stdout, "arm")}
    rows = {called(row[0]): row for row in table(PAGE, "arm")}
    assert rows.keys() == arms.keys()
    for arm, row in rows.items():
        assert [cell.replace(" %", "%") for cell in row[1:]] == arms[arm][1:], arm
    contrast = PAGE[PAGE.index("**The primary contrast**") :]
    primary = {row[0]: row[1:] for row in table(contrast, "")}
    for i, look in enumerate(looks):
        worse = primary["tasks that are worse by more than 0.1 points"][i].split()[0]
        assert primary["difference in points"][i] in look.replace(" points", "")
        assert f"p {primary['p, permutation'][i]}" in look
        assert primary["searches better, equal, worse"][i].replace(", ", "/") in look
        assert f"worse by more than 0.1 on {worse} tasks" in look


def called(arm: str) -> str:
    """What the script calls an arm of the page."""
    first = re.split(r": |, no label| \(eleven| of validation loss", arm)[0]
    return {"knee": "knee (added)", "no arm": "oracle (subset)"}.get(first, first)
