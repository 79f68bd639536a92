"""Hyper-parameter search for what generalizes; the public names, each imported when it is used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hpogen import errors

if TYPE_CHECKING:
    from hpogen.answer.load import load
    from hpogen.executors.inline import InlineExecutor
    from hpogen.executors.ray import RayExecutor
    from hpogen.notebook.result import Result, compare
    from hpogen.notebook.search import search
    from hpogen.running.runner import run, run_all
    from hpogen.space import Choice, Constant, Float, Int
    from hpogen.spec import StudySpec, load_studies, load_study
    from hpogen.study.open import open_study
    from hpogen.study.study import Study
    from hpogen.trial import Failure, Outcome, Proposal, Trial

    __version__: str

_NAMES = {
    "Choice": "space",
    "Constant": "space",
    "Failure": "trial",
    "Float": "space",
    "InlineExecutor": "executors.inline",
    "Int": "space",
    "Outcome": "trial",
    "Proposal": "trial",
    "RayExecutor": "executors.ray",
    "Result": "notebook.result",
    "Study": "study.study",
    "StudySpec": "spec",
    "Trial": "trial",
    "compare": "notebook.result",
    "load": "answer.load",
    "load_studies": "spec",
    "load_study": "spec",
    "open_study": "study.open",
    "run": "running.runner",
    "run_all": "running.runner",
    "search": "notebook.search",
}

__all__ = [
    "Choice",
    "Constant",
    "Failure",
    "Float",
    "InlineExecutor",
    "Int",
    "Outcome",
    "Proposal",
    "RayExecutor",
    "Result",
    "Study",
    "StudySpec",
    "Trial",
    "__version__",
    "compare",
    "load",
    "load_studies",
    "load_study",
    "open_study",
    "run",
    "run_all",
    "search",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from hpogen.record.provenance import version

        return version("hpogen")
    if name not in _NAMES:
        raise AttributeError(f"module 'hpogen' has no attribute {name!r}")
    errors.check_system()
    return getattr(importlib.import_module(f"hpogen.{_NAMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
