"""The name of the code that trains: a new one where a number may change, and only there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hpogen"
CODE = "from hpogen.record import provenance as p; print(p.__file__, p.code_of('', 'cpu'))"


def code_of(copy: Path) -> str:
    """The name that a copy of the package gives itself."""
    done = subprocess.run([sys.executable, "-c", CODE], cwd=copy, capture_output=True, check=True)
    place, code = done.stdout.decode().split()
    assert Path(place).is_relative_to(copy)
    return code


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("copy")
    shutil.copytree(PACKAGE, directory / "hpogen", ignore=shutil.ignore_patterns("__pycache__"))
    return directory


@pytest.mark.parametrize(
    ("file", "trains"),
    [
        ("report/verdict.py", False),
        ("searchers/cmaes.py", False),
        ("selection/choosing.py", False),
        ("running/runner.py", False),
        ("measures/head.py", True),
        ("training/loop.py", True),
        ("training/models/lenet.py", True),
        ("tasks/command.py", True),
        ("executors/worker.py", True),
        ("errors.py", True),
    ],
)
def test_a_word_changes_the_name_where_it_may_change_a_number(
    file: str, trains: bool, copy: Path
) -> None:
    before, text = code_of(copy), (copy / "hpogen" / file).read_text()
    (copy / "hpogen" / file).write_text(text + "# another word\n")
    try:
        assert (code_of(copy) != before) == trains
    finally:
        (copy / "hpogen" / file).write_text(text)


def test_what_a_device_or_a_plug_in_is_named_by() -> None:
    from hpogen.record.provenance import code_of

    assert code_of("", "cuda:0") == code_of("", "cuda:1") != code_of("", "cpu")
    assert code_of("a", "cpu") != code_of("b", "cpu")
