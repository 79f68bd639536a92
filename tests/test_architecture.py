"""The import rules of the package, read from its source; file and function lengths; what loads."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from hpogen.record.provenance import TRAINS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hpogen"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]

FILE_LINES = 330  # "about 300"
FUNCTION_LINES = 44  # "about 40"
TOP = 8  # files
LONG_LOOPS = {"running/runner.py": "loop", "training/loop.py": "train"}  # read from top to bottom

FLOORS = (
    {"errors"},
    {"trial", "objective", "constraint"},
    {"plugins", "record", "space"},
    {"searchers", "selection", "measures", "tasks"},
    {"spec", "training"},
    {"executors"},
    {"study"},
    {"running"},
    {"analysis", "answer", "integrations"},
    {"export"},
    {"report"},
    {"cli"},
    {"notebook"},
    {"__init__", "__main__", "history", "retrained"},
)
"""The rooms of the package, and its files at the top. Each imports what stands above it here."""

WALLS = {
    "searchers": {"plugins", "record", "objective", "torch", "ray"},
    "measures": {"record", "objective", "ray"},
    "tasks": {"record", "torch", "ray"},
    "training": {"objective", "space", "searchers", "selection", "ray"},
    "training/forms": {"torch", "torchvision"},
    "executors": {"objective", "space", "searchers", "selection", "measures", "spec", "training"},
    "spec": {"torch", "torchvision", "ray", "measures", "training", "executors"},
    "study": {"torch", "torchvision", "ray", "measures", "training", "executors"},
    "running": {"torch", "torchvision", "ray", "measures", "training"},
    "analysis": {"torch", "ray", "measures", "training", "executors", "running"},
    "answer": {"ray", "searchers", "running"},
    "export": {"torch", "ray", "measures", "training", "executors"},
    "report": {"torch", "ray", "measures", "training", "executors"},
    "notebook": {"torch", "ray", "measures", "training", "searchers"},
    "integrations": {"training", "executors", "record", "study", "running"},
}
"""What a room, or a part of it, does not import although that stands above it, or is a library."""

ALONE = {"training": {"record": {"stores", "provenance"}}, "executors": {"record": {"provenance"}}}
"""Of some rooms only these files."""

TRAINING = ("executors/worker.py", "training/task.py", "tasks", "measures")
"""Where a worker begins: what these import, or name in the registries, can change a number."""

NO_NUMBERS = {
    "executors/base.py": "what a job is",
    "record/lock.py": "whose a folder is",
    "record/provenance.py": "names the code",
    "searchers": "the registries name them; a worker is told the configuration",
}
"""Of these the ones that are not in `TRAINS` of `record/provenance.py`, with the reason."""

HEAVY = (
    *("torch", "torchvision", "ray", "cma", "ConfigSpace", "pyswarms", "hpbandster", "optuna"),
    *("matplotlib", "scipy", "sklearn", "pandas"),
)


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


def room_of(module: str) -> str:
    """`record` of `hpogen.record.ledger`; `__init__` of the package itself."""
    return module.split(".")[1] if "." in module else "__init__"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def file_of(name: str) -> str:
    """The module that an imported name is, or stands in; empty for another package's."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def arrows(path: Path) -> dict[str, int]:
    """The modules of the package that a file imports, with the line."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    found = [(file_of(name), line) for line, name in imported(path.read_text(), package)]
    return {module: line for module, line in reversed(found) if module not in ("", module_of(path))}


def floor(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def broken(source: str, module: str) -> list[str]:
    """The imports of a module that its room may not have."""
    room, package = room_of(module), module.rpartition(".")[0]
    walls = set().union(*(WALLS.get(part, set()) for part in parts_of(module)))
    return [
        f"line {line} imports {name}"
        for line, name in imported(source, package)
        if not allowed(room, walls, name)
    ]


def parts_of(module: str) -> list[str]:
    """`training`, `training/forms`: the room that a module is in, and that room's part."""
    inner = module.split(".")[1:-1]
    return ["/".join(inner[: i + 1]) for i in range(len(inner))]


def allowed(room: str, walls: set[str], name: str) -> bool:
    if not (own := file_of(name)):
        return name.split(".")[0] not in walls
    other = room_of(own)
    if other == room:
        return True
    only = ALONE.get(room, {}).get(other)
    if only is not None and not {*own.split(".")[2:3]} <= only:
        return False
    return floor(other) < floor(room) and other not in walls


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    assert broken(path.read_text(), module_of(path)) == []


@pytest.mark.parametrize(
    "line",
    [
        "import torch",
        "import torch.nn as nn",
        "from torch import nn",
        "from hpogen import training",
        "from hpogen.training.loop import train",
        "from ..training import loop",
        "from hpogen.record import history",
        "import hpogen",
        "def f():\n    import torch",
    ],
)
def test_every_way_of_importing_is_seen(line: str) -> None:
    assert broken(line, "hpogen.searchers.x")


def test_names_that_only_begin_alike_are_allowed() -> None:
    assert broken("import torchmetrics, hpogens.ledger", "hpogen.searchers.x") == []


def test_a_room_may_have_one_file_of_another() -> None:
    assert broken("from hpogen.record import stores", "hpogen.training.x") == []
    assert broken("from hpogen.record import stores, history", "hpogen.training.x")


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(module) for module in MODULES}
    assert rooms == set().union(*FLOORS)
    assert len([path for path in FILES if path.parent == PACKAGE]) <= TOP


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of nodes that reach one another."""
    reached = {node: reachable(graph, node) for node in graph}
    found = {
        tuple(sorted(other for other in graph if other in reached[node] and node in reached[other]))
        for node in graph
    }
    return sorted([*circle] for circle in found if len(circle) > 1)


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    left = [start]
    while left:
        for node in graph.get(left.pop(), set()) - seen:
            seen.add(node)
            left.append(node)
    return seen


def test_no_circle_among_files() -> None:
    assert circles({module: set(arrows(path)) for module, path in MODULES.items()}) == []


def test_a_circle_is_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]


def named(path: Path) -> set[str]:
    """The modules that a file imports, or names in a string: `hpogen.tasks.command:Command`."""
    places = re.findall(r"\"(hpogen(?:\.\w+)+):", path.read_text())
    return {*arrows(path), *map(file_of, places)}


def within(path: Path, places: Iterable[str]) -> bool:
    own = path.relative_to(PACKAGE)
    return any(own == Path(place) or Path(place) in own.parents for place in places)


def test_what_trains_is_what_a_worker_imports() -> None:
    numbers = {m: path for m, path in MODULES.items() if not within(path, NO_NUMBERS)}
    graph = {module: named(path) for module, path in numbers.items()}
    starts = [module for module, path in numbers.items() if within(path, TRAINING)]
    reached = set(starts).union(*(reachable(graph, start) for start in starts))
    assert {"hpogen.training.loop", "hpogen.training.data.folder"} < reached
    assert [m for m in reached & numbers.keys() if not within(numbers[m], TRAINS)] == []
    assert [place for place in (*TRAINS, *NO_NUMBERS) if not (PACKAGE / place).exists()] == []


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
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import hpogen") == set()


def test_a_study_is_checked_without_torch_or_ray() -> None:
    light = "import hpogen.spec, hpogen.study.open, hpogen.running.runner, hpogen.executors.inline"
    assert loaded_by(light) & {"torch", "torchvision", "ray"} == set()


LOOKS = ["status DIR", "status DIR --json", "best DIR", "show DIR 0"]


@pytest.mark.parametrize("command", ["--help", "check studies/quickstart.yaml", *LOOKS])
def test_what_trains_nothing_loads_nothing_heavy(command: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(ROOT / "tests" / "before" / "cmaes" / "study", folder)
    arguments = ["hpogen", *command.replace("DIR", str(folder)).split()]
    calls = (
        f"sys.argv = {arguments}\nfrom hpogen.cli import main\ntry: main()\nexcept SystemExit: ..."
    )
    assert loaded_by(calls) == set()
