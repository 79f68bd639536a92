"""The keys of `hydra.sweeper`: light, since every Hydra app beside an installed hpogen reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore

PACKAGE = "hydra_plugins"
MODULE = f"{PACKAGE}.hpogen"


@dataclass
class Options:
    """What the sweeper may be told."""

    _target_: str = f"{MODULE}.HpogenSweeper"
    searcher: Any = "optuna"  # its name, or a mapping with its options beside `name`
    trials: int = 32
    seed: int = 0
    max_batch_size: int = 1  # jobs that the launcher is given at a time, at most
    space: dict[str, Any] = field(default_factory=dict)  # in the form of hpogen's YAML
    params: dict[str, str] = field(default_factory=dict)  # in the form of Hydra's overrides
    objective: str | None = None  # of the mapping that the app returns
    mode: str = "min"
    enqueue: list[Any] | None = None  # what is tried first; left out: the app's own values
    journal: str | None = None  # the file by which it goes on


def store() -> None:
    """Make `hydra/sweeper=hpogen` a name of Hydra's."""
    known = ConfigStore.instance()
    known.store(group="hydra/sweeper", name="hpogen", node=Options, provider="hpogen")
