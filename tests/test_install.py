"""The wheel and the sdist: what is in them, and what they are without checkout, compiler, extras.

The clean environment holds what the wheel asks for, and what that asks for, and nothing else; it
is borrowed from the environment of the tests, not downloaded. What downloads is marked `slow`.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SHIPPED = ("docs", "hpogen", "scripts", "search_spaces", "studies", "tests")
COMPILERS = ("cc", "gcc", "g++", "clang", "c++")
INDEX = {  # where pip finds packages here
    name: value
    for name, value in os.environ.items()
    if re.fullmatch(r"PIP_(?!.*CONSTRAINT).*|SSL_CERT_.*|.*_proxy", name, re.IGNORECASE)
}
NAMESPACES = "hpogen/integrations/namespaces"  # what the wheel has at its top
BOHB = """
task: {dataset: digits, model: mlp, epochs: 4}
search_space: {lr: {float: [0.001, 0.1], log: true}}
budgets: {min: 1, max: 4, eta: 2}
searcher: {name: bohb, brackets: 1}
objective: {preset: val}
stop: {trials: 2}
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sdist and of the wheel made from it; the checkout is left alone."""
    source = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=without)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, source)
    python("-m", "build", "--no-isolation", str(source))
    return source / "dist"


def python(*arguments: str) -> str:
    """What the tests' own Python prints."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wheel_of(built: Path) -> Path:
    (wheel,) = built.glob("*.whl")
    return wheel


def test_an_index_would_take_both(built: Path) -> None:
    files = sorted(map(str, built.iterdir()))
    assert len(files) == 2
    assert python("-m", "twine", "--no-color", "check", "--strict", *files).count("PASSED") == 2


def of_the_package() -> set[str]:
    paths = (ROOT / "hpogen").rglob("*")
    return {
        str(path.relative_to(ROOT))
        for path in paths
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_is_the_package_and_runs_on_any_python_3_11(built: Path) -> None:
    names = set(zipfile.ZipFile(wheel_of(built)).namelist())
    homes = {name.removeprefix(f"{NAMESPACES}/") for name in of_the_package()}
    assert {name for name in names if ".dist-info/" not in name} == homes
    assert "hydra_plugins/hpogen.py" in names, "where Hydra looks"
    assert wheel_of(built).name.endswith("-py3-none-any.whl")


def test_the_sdist_has_the_tests_and_what_they_read(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert of_the_package() <= names
    assert {"constraints.txt", "scripts/setup", "studies/quickstart.yaml"} <= names
    assert {str(path.relative_to(ROOT)) for path in Path(__file__).parent.rglob("*.py")} <= names


@dataclass(frozen=True)
class Environment:
    """A virtual environment, its programs alone on the PATH, called from a folder of its own."""

    root: Path
    home: Path

    @property
    def path(self) -> Path:
        return self.root / "bin"

    def call(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.path / program, *arguments],
            cwd=self.home,
            env={"PATH": str(self.path), "HOME": str(self.home), **INDEX},
            capture_output=True,
            text=True,
        )

    def said(self, program: str, *arguments: str) -> str:
        done = self.call(program, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def environment(directory: Path, python: str = sys.executable) -> Environment:
    made = Environment(directory / "venv", directory / "home")
    made.home.mkdir()
    subprocess.run([python, "-m", "venv", made.root], check=True)
    assert not any(shutil.which(compiler, path=str(made.path)) for compiler in COMPILERS)
    return made


@pytest.fixture(scope="module")
def clean(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel in an environment that has what it needs, and no more."""
    made = environment(tmp_path_factory.mktemp("clean"))
    made.said("python", "-m", "pip", "install", "--no-deps", "--no-index", str(wheel_of(built)))
    (site,) = made.root.glob("lib/python*/site-packages")
    (own,) = importlib.metadata.distributions(name="hpogen", path=[str(site)])
    borrow(own.requires or [], site)
    return made


def borrow(requirements: list[str], site: Path) -> None:
    """Link into `site` what is installed here of the requirements, and of theirs."""
    for distribution in closure(requirements).values():
        for file in distribution.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))


def closure(requirements: list[str]) -> dict[str, importlib.metadata.Distribution]:
    """By name: the distributions that pip would install for them."""
    found: dict[str, importlib.metadata.Distribution] = {}
    left = [(text, "") for text in requirements]
    seen = set()
    while left:
        text, extra = left.pop()
        asked = Requirement(text)
        if (asked.marker and not asked.marker.evaluate({"extra": extra})) or (text, extra) in seen:
            continue
        seen.add((text, extra))
        name = canonicalize_name(asked.name)
        found[name] = importlib.metadata.distribution(name)
        theirs = found[name].requires or []
        left += [(other, one) for other in theirs for one in ("", *sorted(asked.extras))]
    return found


@pytest.mark.slow
def test_the_quickstart_runs_from_the_wheel_alone(clean: Environment) -> None:
    shutil.copy(ROOT / "studies" / "quickstart.yaml", clean.home)
    place = clean.said("python", "-c", "import hpogen; print(hpogen.__file__)")
    assert Path(place).is_relative_to(clean.root)
    said = clean.said("hpogen", "run", "quickstart.yaml", "--set", "stop.trials=8")
    assert "quickstart finished: 8 trials" in said
    assert "best     trial" in said
    assert "trial 7:" in clean.said("hpogen", "show", "runs/quickstart", "7")


def test_a_function_is_searched_from_the_wheel_alone(clean: Environment) -> None:
    """The README's program."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (program,) = [block for block in blocks if "hpogen.search" in block]
    (clean.home / "mine.py").write_text(program)
    said = clean.said("python", "mine.py")
    assert "trial 49" in said and said.splitlines()[-1].startswith("{'lr': ")
    assert clean.said("python", "mine.py") == f"{said.splitlines()[-1]}\n", "nothing is left to do"
    assert "of 50 finished" in clean.said("hpogen", "status", "runs/mine")


def test_bohb_without_its_package_is_one_line_with_the_command(clean: Environment) -> None:
    (clean.home / "bohb.yaml").write_text(BOHB)
    done = clean.call("hpogen", "run", "bohb.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("bohb.yaml:5:11: searcher: bohb: needs the package hpbandster")
    assert "pip install 'hpogen[bohb]'" in done.stderr and done.stderr.count("\n") == 1
    said = clean.said("hpogen", "check", "bohb.yaml", "--set", "searcher.name=hyperband")
    assert "no mistakes found" in said


def test_all_that_can_be_listed_is(clean: Environment) -> None:
    assert "bohb" in clean.said("hpogen", "list", "searchers").split()
    assert '"bohb"' in clean.said("hpogen", "schema")


TIMES = {  # seconds of processor time, the interpreter's own start included
    ("python", "-c", "import hpogen"): 0.15,
    ("hpogen", "--help"): 0.4,
    ("hpogen", "check", str(ROOT / "studies" / "quickstart.yaml")): 3.0,
}


@pytest.mark.parametrize("command", TIMES, ids=" ".join)
def test_what_trains_nothing_is_there_at_once(clean: Environment, command: tuple[str, ...]) -> None:
    clean.said(*command)  # once for the byte code
    assert min(processor_time(clean, command) for _ in range(3)) <= TIMES[command]


def processor_time(clean: Environment, command: tuple[str, ...]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    clean.said(*command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def pythons() -> Iterator[str]:
    """Other Pythons at hand that hpogen runs on; HPOGEN_TEST_PYTHON names one first."""
    names = (os.environ.get("HPOGEN_TEST_PYTHON", ""), *(f"python3.{i}" for i in (13, 12, 14, 11)))
    for name in filter(None, names):
        code = "import sys, ensurepip, venv; print(*sys.version_info[:2])"
        found = shutil.which(name)
        done = found and subprocess.run([found, "-c", code], capture_output=True, text=True)
        if found and done and done.returncode == 0:
            version = tuple(map(int, done.stdout.split()))
            if version >= (3, 11) and version != sys.version_info[:2]:
                yield found


@pytest.fixture
def large() -> Iterator[Path]:
    """A temporary folder that does not stay: there will be gigabytes in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def another() -> str:
    found = next(pythons(), None)
    if found is None:
        pytest.skip("there is no second Python here; HPOGEN_TEST_PYTHON may name one")
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_pip_alone_installs_it_without_a_compiler(built: Path, large: Path) -> None:
    """From the index, 6 GB, with what versions pip finds: no uv, no constraints, no extras."""
    made = environment(large, next(pythons(), sys.executable))
    made.said("python", "-m", "pip", "install", "--quiet", str(wheel_of(built)))
    made.said("python", "-m", "pip", "check")
    shutil.copy(ROOT / "studies" / "quickstart.yaml", made.home)
    assert "quickstart finished: 32 trials" in made.said("hpogen", "run", "quickstart.yaml")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_searchers_and_ledger_on_another_python(built: Path, large: Path, another: str) -> None:
    """As a developer has it, from the sdist."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(large, filter="data")
    (checkout,) = large.iterdir()
    settings = {**os.environ, "PYTHON": another}
    subprocess.run([checkout / "scripts" / "setup", "dev"], env=settings, check=True)
    tests = ["-m", "pytest", "-q", "-m", "not slow", "tests/searchers", "tests/test_ledger.py"]
    command = [checkout / ".venv" / "bin" / "python", *tests]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
