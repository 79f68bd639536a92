"""Searches with made-up outcomes, whose folders can be compared: a whole spec and a ledger."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpogen.record import ledger
from hpogen.record.events import asked, reused, told
from hpogen.spec import StudySpec
from hpogen.trial import Config, Failure, Outcome, Trial

SPACE = {
    "lr": {"float": [1e-7, 0.5], "log": True, "default": 0.01},
    "momentum": {"float": [0.0, 0.99], "default": 0.6},
}
AGN = {"preset": "agn+val", "alpha": 0.1}


@dataclass(frozen=True)
class Made:
    """A trial that has ended; without an audit accuracy it has no audit."""

    val_loss: float | None = 0.5
    audit: float | None = 0.9
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=lambda: {"total": 1.0})
    failure: Failure | None = None
    budget: int = 4
    config: Config | None = None
    reused: tuple[str, int] | None = None
    audit_loss: float | None = None

    def outcome(self, number: int) -> Outcome:
        if self.failure is not None:
            return Outcome(number, {}, epochs=0, seconds=self.seconds, failure=self.failure)
        audit = {} if self.audit is None else {"accuracy": self.audit, "loss": 1 - self.audit}
        if self.audit_loss is not None:
            audit["loss"] = self.audit_loss
        metrics = {"agn": 1.0, **self.metrics}
        if self.val_loss is not None:
            metrics = {"val_loss": self.val_loss, **metrics}
        spent = {} if self.reused else self.seconds
        epochs = 0 if self.reused else self.budget
        return Outcome(number, metrics, audit, epochs=epochs, seconds=spent)


def spec_of(name: str, seed: int = 0, **keys: Any) -> StudySpec:
    """The spec of a search on digits; `keys` replace its own, `task` adds to the task's."""
    task = {"dataset": {"name": "digits", "validation": 400}, "model": "mlp", "epochs": 4}
    return StudySpec.from_record(
        {
            "name": name,
            "seed": seed,
            "task": {**task, **keys.pop("task", {})},
            "search_space": SPACE,
            "searcher": {"name": "random"},
            "stop": {"trials": 1000},
            **keys,
        }
    )


def search(
    directory: Path,
    trials: Sequence[Made],
    *,
    seed: int = 0,
    order: Sequence[int] = (),
    ended: bool = True,
    **keys: Any,
) -> Path:
    """Write the ledger of a search that has told these trials, in this order; the folder."""
    if ended:
        keys.setdefault("stop", {"trials": max(len(trials), 1)})
    spec = spec_of(directory.name, seed, **keys)
    events: list[dict[str, Any]] = [
        {"kind": "study", "format": 1, "spec": spec.record(), "plugins": {}}
    ]
    for number, made in enumerate(trials):
        config = made.config or {"lr": 0.01 / (number + 1), "momentum": 0.6}
        events.append(asked(Trial(config, made.budget, id=number, seed=0)))
    for number in order or range(len(trials)):
        made, outcome = trials[number], trials[number].outcome(number)
        if made.reused is not None:
            events.append(reused(number, *made.reused))
        score = math.inf if outcome.failure else made.val_loss or 0.0  # it steered nothing here
        events.append(told(outcome, score))
    directory.mkdir(parents=True, exist_ok=True)
    lines = [ledger.encode(event, seq) for seq, event in enumerate(events)]
    (directory / ledger.LEDGER).write_bytes(b"".join(lines))
    return directory


def random_trials(seed: int, n: int = 12, shift: float = 0.0) -> list[Made]:
    """Validation losses, AGN and audit accuracies that have something to do with each other."""
    generator = np.random.default_rng(seed)
    quality = generator.normal(size=n)
    return [
        Made(
            val_loss=float(1 + 0.2 * q + 0.1 * noise),
            audit=float(np.round(0.8 - 0.03 * q - shift + 0.01 * other, 4)),
            metrics={"agn": float(np.exp(q + other)), "val_accuracy": float(0.8 - 0.02 * q)},
            seconds={"total": 2.0, "measures": 0.5},
        )
        for q, noise, other in zip(quality, *generator.normal(size=(2, n)), strict=True)
    ]


def matrix(
    home: Path, seeds: int = 4, arms: Mapping[str, Mapping[str, Any]] | None = None, **keys: Any
) -> Path:
    """A folder with a search of `random_trials` for each arm and search seed."""
    given = arms or {"val": {}, "agn": {"objective": AGN}}
    for i, (arm, changes) in enumerate(given.items()):
        for seed in range(seeds):
            trials = random_trials(100 * i + seed)
            search(home / f"{arm}__seed-{seed}", trials, seed=seed, **{**keys, **changes})
    return home
