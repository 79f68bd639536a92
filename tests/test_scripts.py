"""The set-up scripts in a copy of their files, with a stub in place of the installer."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UV = """#!/bin/sh
[ "$1" = --version ] && exit 0
echo "$@" >> "$UV_LOG"
[ -e "$UV_LOG.fail" ] && exit 1
printf '#!/bin/sh\\necho "$PWD:" "$@"\\n' > .venv/bin/hpogen
chmod +x .venv/bin/hpogen
"""
PYTHON = f"""#!/bin/sh
[ "$1" = -m ] && exit 1
exec "{sys.executable}" "$@"
"""  # a Python without pip, which cannot make a virtual environment


class Checkout:
    """A copy of the scripts with a ready `.venv/bin/python` and a `uv` that only writes down."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "check out"  # a space, because somebody has one
        self.root.mkdir()
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.root)
        self.path = directory / "bin"
        self.path.mkdir()
        self.stub("uv", UV)
        self.stub("python3", PYTHON)
        self.log = directory / "uv.log"

    def stub(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)
        (self.path / name).chmod(0o755)

    def with_python(self) -> Checkout:
        python = self.root / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        shutil.copy(self.path / "python3", python)
        return self

    def call(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.root / "scripts" / script, *arguments],
            cwd=self.path,
            env={"PATH": f"{self.path}:/usr/bin:/bin", "UV_LOG": str(self.log), "CI": "true"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def installs(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_run_sets_up_once_and_passes_its_arguments_on(checkout: Checkout) -> None:
    checkout.with_python()
    for _ in range(2):
        done = checkout.call("run", "a study.yaml", "--for", "1h")
        assert (done.returncode, done.stdout) == (
            0,
            f"{checkout.path}: run a study.yaml --for 1h\n",
        )
    (install,) = checkout.installs()
    assert "-c constraints.txt" in install and "--no-cache" in install


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_what_to_install_has_changed(checkout: Checkout, name: str) -> None:
    checkout.with_python().call("setup")
    with open(checkout.root / name, "a") as file:
        file.write("# new\n")
    checkout.call("setup")
    checkout.call("setup")
    assert len(checkout.installs()) == 2


def test_the_development_tools_are_added_once(checkout: Checkout) -> None:
    checkout.with_python()
    for extra in ([], ["dev"], ["dev"], []):
        assert checkout.call("setup", *extra).returncode == 0
    plain, dev = checkout.installs()
    assert plain.endswith(" .[bohb]") and dev.endswith(" .[bohb,dev]")


def test_a_failed_install_is_done_again(checkout: Checkout) -> None:
    checkout.with_python()
    checkout.log.with_name("uv.log.fail").touch()  # and pip is not to be had, either
    first, second = (checkout.call("run", "a.yaml") for _ in range(2))
    assert first.returncode != 0 and "making .venv" not in first.stderr
    assert second.returncode != 0 and "making .venv" in second.stderr
    assert first.stdout == second.stdout == ""


PYTHONS = {
    "apt install python3-venv": 'case "$*" in *ensurepip*) exit 1;; esac',
    "3.11 or newer": 'case "$*" in *version_info*) exit 1;; -V) echo Python 3.9.2;; esac',
}


@pytest.mark.parametrize("words", PYTHONS)
def test_a_python_that_will_not_do_is_one_line(checkout: Checkout, words: str) -> None:
    checkout.stub("python3", f"#!/bin/sh\n{PYTHONS[words]}\n")
    done = checkout.call("run", "a.yaml")
    assert done.returncode == 2
    assert words in done.stderr and done.stderr.count("\n") == 1
    assert not (checkout.root / ".venv").exists()


def test_the_constraints_pin_every_dependency_and_name_no_address() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0] for line in lines if not line.startswith("#")}
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.+]*|#.*", line) for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["bohb"], *extras["dev"]]
    names = {re.split(r"[\[<>=]", name)[0].lower().replace(".", "-") for name in asked}
    assert names <= pinned


@pytest.mark.parametrize("name", ["scripts/setup", "scripts/run", "scripts/test", ".ci/run"])
def test_a_script_can_be_called(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / name]).returncode == 0


PYTHON_SCRIPTS = sorted(ROOT.glob("scripts/*/*.py"))


@pytest.mark.parametrize("path", PYTHON_SCRIPTS, ids=lambda path: path.stem)
def test_a_script_imports_only_what_is_there(path: Path) -> None:
    """Benchmarks that no test runs would otherwise go stale unseen."""
    assert missing_imports(path.read_text()) == []


def test_an_import_of_what_is_not_there_is_seen() -> None:
    source = "from hpogen.training.step import Steps, gone\nfrom hpogen import spec\n"
    assert missing_imports(source) == ["hpogen.training.step.gone"]


def missing_imports(source: str) -> list[str]:
    """What a script imports from hpogen that is neither an attribute nor a module there."""
    asked = [
        (str(node.module), name.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "hpogen"
        for name in node.names
    ]
    return [f"{module}.{name}" for module, name in asked if not is_there(module, name)]


def is_there(module: str, name: str) -> bool:
    found = importlib.import_module(module)
    if hasattr(found, name):
        return True
    return hasattr(found, "__path__") and importlib.util.find_spec(f"{module}.{name}") is not None
