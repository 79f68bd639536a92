"""Study folders with made-up outcomes, for the tests of the analysis: a ledger and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpogen.record import ledger
from hpogen.record.events import asked, told
from hpogen.trial import Config, Failure, Outcome, Trial

Made = tuple[Config, Mapping[str, float], Mapping[str, float]]  # config, metrics, audit


def study(
    directory: Path,
    trials: Sequence[Made | Failure],
    *,
    searcher: str = "random",
    budgets: Sequence[int] = (),
    audit: int | None = None,
) -> Path:
    """Write the ledger of a study whose trials have ended so; by default all after 4 epochs."""
    spec: dict[str, Any] = {
        "name": "made-up",
        "searcher": {"name": searcher, **({"brackets": 1} if searcher == "bohb" else {})},
        "stop": {"trials": len(trials)},
        "search_space": {"lr": {"float": [0.0, 1.0], "default": 0.5}},
        "task": {
            "name": "image-classification",
            "dataset": {"name": "digits", "audit": audit},
            "epochs": max(budgets, default=4),
        },
    }
    events: list[dict[str, Any]] = [{"kind": "study", "format": 1, "spec": spec}]
    for number, given in enumerate(trials):
        config = {"lr": float(number)} if isinstance(given, Failure) else given[0]
        budget = budgets[number] if budgets else 4
        events.append(asked(Trial(config, budget, id=number, seed=0)))
        if isinstance(given, Failure):
            events.append(told(Outcome(number, {}, epochs=0, failure=given), math.inf))
        else:
            events.append(told(Outcome(number, given[1], given[2], epochs=budget), 0.0))
    directory.mkdir(parents=True, exist_ok=True)
    lines = [ledger.encode(event, seq) for seq, event in enumerate(events)]
    (directory / ledger.LEDGER).write_bytes(b"".join(lines))
    return directory


def made(
    config: Config, accuracy: float, audit_accuracy: float, loss: float = 0.1, **metrics: float
) -> Made:
    """A finished trial by its accuracies; the audit loss is its error."""
    train = {"train_accuracy": accuracy, "train_loss": loss}
    audit = {"accuracy": audit_accuracy, "loss": 1 - audit_accuracy}
    return config, {**train, **metrics}, audit
