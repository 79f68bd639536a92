"""Trials of the examples' Lightning module and Hugging Face model, run without a study."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpogen import plugins
from hpogen.tasks.own import OwnTrial

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def module(name: str) -> Any:
    """An example, imported anew."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def trial(home: Path, start: int = 0, budget: int = 3, **config: Any) -> OwnTrial:
    config = {"lr": 0.01, **config}
    return OwnTrial(config=config, budget=budget, id=0, seed=5, start_epoch=start, home=home)


def epochs(train: Any, trial: OwnTrial) -> Iterator[Any]:
    yield from train(trial)


def task(name: str) -> Any:
    return plugins.tasks.get(name)
