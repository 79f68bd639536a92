"""A trial of the task `supervised`, as the tests of tables, text and arrays train it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpogen.tasks.base import Epoch
from hpogen.training.task import Supervised
from hpogen.trial import RunningTrial


def steps(settings: Supervised, home: Path, **keys: Any) -> Iterator[Epoch | None]:
    """What the training yields; `keys` are of the trial."""
    config = {"lr": 0.05, "batch_size": 16}
    given = {"id": 0, "seed": 7, "start_epoch": 0, "budget": 2, "config": config, **keys}
    running = RunningTrial(home=home, **given)
    return settings.train(running, settings.gives(frozenset({"val_loss"})))


def trained(settings: Supervised, home: Path, **keys: Any) -> list[Epoch]:
    """Its epochs."""
    return [step for step in steps(settings, home, **keys) if step is not None]
