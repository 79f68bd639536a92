"""The import rules of the package, read from its source; file and function lengths; what loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hpogen"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]

FILE_LINES = 330  # "about 300"
FUNCTION_LINES = 44  # "about 40"
LONG_LOOPS = {"runner.py": "loop", "training/loop.py": "train"}  # read from top to bottom

DRIVER = frozenset({"torch", "torchvision", "ray"})
"""What no module directly under hpogen/ imports; `runner` may, inside functions."""

ONLOOKERS = frozenset(
    {
        "hpogen.report",
        "hpogen.analysis",
        "hpogen.export",
        "hpogen.integrations",
        "hpogen.cli",
        "hpogen.driving",
    }
)
"""What no training depends on: `hpogen.provenance` leaves it out of the name of the code."""

ROOMS = {
    "cli": frozenset(),
    "selection": DRIVER
    | {"hpogen.training", "hpogen.measures", "hpogen.executors", "hpogen.study"},
    "searchers": frozenset(
        {"hpogen.training", "hpogen.measures", "hpogen.executors", "hpogen.ledger", "ray", "torch"}
    ),
    "training": ONLOOKERS
    | {"hpogen.searchers", "hpogen.objective", "hpogen.study", "hpogen.executors", "ray"},
    "measures": ONLOOKERS
    | {"hpogen.searchers", "hpogen.objective", "hpogen.study", "hpogen.executors", "ray"},
    "analysis": frozenset({"hpogen.training", "hpogen.executors"}),
    "report": frozenset({"hpogen.training", "hpogen.executors"}),
    "spec": DRIVER | {"hpogen.training", "hpogen.measures", "hpogen.executors", "hpogen.study"},
    "space": DRIVER | {"hpogen.searchers", "hpogen.training", "hpogen.spec", "hpogen.study"},
    "executors": ONLOOKERS | {"hpogen.searchers", "hpogen.study", "hpogen.objective"},
    "export": DRIVER | {"hpogen.training", "hpogen.measures", "hpogen.executors"},
    "integrations": frozenset(
        {
            "hpogen.training",
            "hpogen.measures",
            "hpogen.executors",
            "hpogen.study",
            "hpogen.ledger",
            "hpogen.runner",
            "torch",
        }
    ),
}

HEAVY = ("torch", "torchvision", "ray", "cma", "ConfigSpace", "pyswarms", "hpbandster", "optuna")


def imported(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of every import, those inside functions included.

    `from a import b` gives `a.b`, because b may be a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: -node.level + 1 or None] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{name.name}") for name in node.names)


def broken(source: str, package: str, forbidden: frozenset[str]) -> list[str]:
    return [
        f"line {line} imports {name}"
        for line, name in imported(source, package)
        if any(name == module or name.startswith(module + ".") for module in forbidden)
    ]


def forbidden_in(path: Path) -> frozenset[str]:
    room, *inner = path.relative_to(PACKAGE).parts
    if inner:
        return ROOMS[room]
    return frozenset() if path.stem == "runner" else DRIVER


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    assert broken(path.read_text(), package, forbidden_in(path)) == []


@pytest.mark.parametrize(
    "line",
    [
        "import torch",
        "import torch.nn as nn",
        "from torch import nn",
        "from hpogen import training",
        "from hpogen.training.loop import train",
        "from ..training import loop",
        "def f():\n    import torch",
    ],
)
def test_every_way_of_importing_is_seen(line: str) -> None:
    assert broken(line, "hpogen.searchers", ROOMS["searchers"])


def test_names_that_only_begin_alike_are_allowed() -> None:
    assert broken("import torchmetrics, hpogen.ledgers", "hpogen.x", ROOMS["searchers"]) == []


def test_every_folder_is_a_room_with_a_rule() -> None:
    folders = {path.relative_to(PACKAGE).parts[0] for path in FILES if path.parent != PACKAGE}
    assert folders <= set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_can_be_read_at_one_sitting(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= FILE_LINES


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_function_does_one_thing(path: Path) -> None:
    allowed = LONG_LOOPS.get(str(path.relative_to(PACKAGE)))
    long = [
        f"{node.name}: {length} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name != allowed
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert long == []


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_module_says_what_it_does(path: Path) -> None:
    source = path.read_text()
    assert not source.strip() or ast.get_docstring(ast.parse(source))


def loaded_by(statement: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has loaded after the statement."""
    code = f"import sys\n{statement}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import hpogen") == set()


def test_a_study_is_checked_without_torch_or_ray() -> None:
    light = "import hpogen.spec, hpogen.study, hpogen.runner, hpogen.executors.inline"
    assert loaded_by(light) & {"torch", "torchvision", "ray"} == set()
