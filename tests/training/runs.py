"""Small trials on the digits, for the tests of the training room."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpogen.tasks.base import Epoch
from hpogen.training.task import ImageClassification
from hpogen.trial import Config, RunningTrial

CONFIG = {"lr": 0.05, "batch_size": 32}
SMALL = {"name": "mlp", "width": 16, "depth": 1}


def task(dataset: Mapping[str, Any] | None = None, **keys: Any) -> ImageClassification:
    mapping = {"dataset": {"name": "digits", **(dataset or {})}, "model": SMALL, "epochs": 3}
    return ImageClassification.model_validate({**mapping, **keys})


def trial(home: Path, config: Config = CONFIG, budget: int = 3, **keys: Any) -> RunningTrial:
    given = {"id": 0, "seed": 7, "start_epoch": 0, **keys}
    return RunningTrial(config=config, budget=budget, home=home, **given)


def epochs(settings: ImageClassification, running: RunningTrial, *wanted: str) -> list[Epoch]:
    """Train to the end."""
    steps = settings.train(running, frozenset(wanted or {"val_loss"}))
    return [step for step in steps if step is not None]
