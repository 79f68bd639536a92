"""Hyper-parameter search for what generalizes; the public names, each imported when it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpogen.executors.inline import InlineExecutor
    from hpogen.executors.ray import RayExecutor
    from hpogen.opening import open_study
    from hpogen.runner import run, run_all
    from hpogen.spec import StudySpec, load_studies, load_study
    from hpogen.study import Study
    from hpogen.trial import Failure, Outcome, Proposal, Trial

    __version__: str

_NAMES = {
    "Failure": "trial",
    "InlineExecutor": "executors.inline",
    "Outcome": "trial",
    "Proposal": "trial",
    "RayExecutor": "executors.ray",
    "Study": "study",
    "StudySpec": "spec",
    "Trial": "trial",
    "load_studies": "spec",
    "load_study": "spec",
    "open_study": "opening",
    "run": "runner",
    "run_all": "runner",
}

__all__ = [
    "Failure",
    "InlineExecutor",
    "Outcome",
    "Proposal",
    "RayExecutor",
    "Study",
    "StudySpec",
    "Trial",
    "__version__",
    "load_studies",
    "load_study",
    "open_study",
    "run",
    "run_all",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _NAMES:
        raise AttributeError(f"module 'hpogen' has no attribute {name!r}")
    return getattr(importlib.import_module(f"hpogen.{_NAMES[name]}"), name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("hpogen")
    except PackageNotFoundError:
        return "unknown (not installed)"


def __dir__() -> list[str]:
    return __all__
