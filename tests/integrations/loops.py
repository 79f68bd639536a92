"""Trials of the examples' Lightning module and Hugging Face model, run without a study."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpogen import plugins
from hpogen.tasks.own import OwnTrial

BOUND: list[str] = []
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def module(name: str) -> Any:
    """An example, imported anew; what it registers nobody else sees."""
    BOUND.append(plugins.bind_file(EXAMPLES / f"{name}.py"))
    return sys.modules[BOUND[-1]]


def trial(home: Path, start: int = 0, budget: int = 3, **config: Any) -> OwnTrial:
    config = {"lr": 0.01, **config}
    return OwnTrial(config=config, budget=budget, id=0, seed=5, start_epoch=start, home=home)


def epochs(train: Any, trial: OwnTrial) -> Iterator[Any]:
    yield from train(trial)


def task(name: str) -> Any:
    with plugins.scope(tuple(BOUND)):
        return plugins.tasks.get(name)
