"""Python, the system, and the installed packages beside the ranges that hpogen was made for."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from hpogen.record.provenance import version
from hpogen.report.doctor.finding import Finding, ok, problem

SHOWN = ("torch", "torchvision", "numpy", "optuna", "cma", "pyswarms", "hpbandster", "ray")
"""The packages that decide numbers, or fail first; of the others only what is wrong."""


def software() -> Iterator[Finding]:
    """hpogen and Python, then the packages. Nothing is imported."""
    try:
        wanted = importlib.metadata.metadata("hpogen")["Requires-Python"]
    except importlib.metadata.PackageNotFoundError:
        todo = "install it: scripts/setup, or pip install -e . in its folder"
        yield problem("hpogen", "is not installed; its files are run in place", todo)
        return
    yield ok("hpogen", f"{version('hpogen')} on {platform.platform()}")
    yield _python(wanted)
    wrong = [*_out_of_range("hpogen"), *_out_of_range("torchvision", only="torch")]
    names = {finding.name for finding in wrong}
    fine = [f"{name} {version(name)}" for name in SHOWN if name not in names]
    yield ok("packages", f"{', '.join(fine)}; as pyproject.toml wants them")
    yield from wrong


def _python(wanted: str) -> Finding:
    if platform.python_version() in SpecifierSet(wanted, prereleases=True):
        return ok("python", platform.python_version())
    todo = "make another environment: PYTHON=python3.12 scripts/setup"
    return problem("python", f"{platform.python_version()}, expected {wanted}", todo)


def _out_of_range(package: str, only: str = "") -> Iterator[Finding]:
    """The requirements of an installed package that are not met."""
    try:
        texts = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return
    for wanted in map(Requirement, texts):
        if only not in ("", wanted.name) or (wanted.marker and not wanted.marker.evaluate()):
            continue
        if finding := _judged(wanted, package):
            yield finding


def _judged(wanted: Requirement, by: str) -> Finding | None:
    todo = f"pip install '{wanted.name}{wanted.specifier}', or scripts/setup"
    try:
        found = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return problem(wanted.name, f"is not installed, and {by} needs it", todo)
    if wanted.specifier.contains(found, prereleases=True):
        return None
    return problem(wanted.name, f"{found}, {by} expects {wanted.specifier}", todo)
