"""Study folders with made-up outcomes and per-sample losses, whole enough to be opened again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from toys import study_file

from hpogen.record import folder, ledger
from hpogen.record.events import asked, told
from hpogen.spec import load_study
from hpogen.trial import Outcome, Trial

EPOCHS = 4
IMAGES: dict[str, Any] = {
    "name": "made-up",
    "task": {
        "dataset": {"name": "digits", "subset": 0.2, "validation": 100},
        "model": {"name": "mlp", "width": 8, "depth": 1},
        "epochs": EPOCHS,
    },
    "search_space": {"lr": {"float": [0.001, 100.0], "log": True, "default": 0.1}},
    "plugins": [],
}


def made_trials(
    seed: int, trials: int, images: int
) -> tuple[list[dict[str, float]], np.ndarray[Any, np.dtype[np.float32]], list[dict[str, float]]]:
    """Metrics, losses (trials, images) and audits, none of which knows of the others' order."""
    generator = np.random.default_rng(seed)
    quality = generator.uniform(0.5, 1.5, size=(trials, 1))
    losses = (quality * generator.exponential(size=(trials, images))).astype(np.float32)
    metrics = [
        {
            "val_loss": float(own.mean(dtype=np.float64)),
            "val_accuracy": float(generator.random()),
            "train_loss": float(generator.random()),
            "train_accuracy": float(generator.random()),
            "agn": float(generator.lognormal(2, 2)),
            "margin_q50": float(generator.normal()),
        }
        for own in losses
    ]
    for own in metrics:
        own["gap_loss"] = own["val_loss"] - own["train_loss"]
    accuracies = generator.permutation(np.linspace(0.5, 0.95, trials))
    audits = [{"accuracy": float(a), "loss": float(2 - a)} for a in accuracies]
    return metrics, losses, audits


def made_study(
    directory: Path,
    metrics: Sequence[Mapping[str, float]],
    losses: np.ndarray[Any, Any] | None = None,
    audits: Sequence[Mapping[str, float]] | None = None,
    **keys: Any,
) -> Path:
    """Write the folder of a study with those outcomes; `keys` replace keys of its YAML."""
    stop = {"trials": len(metrics) + 1}
    spec = load_study(study_file(directory / "yaml", **{**IMAGES, "stop": stop, **keys}))
    home = directory / "study"
    (home / "trials").mkdir(parents=True)
    events: list[dict[str, Any]] = [{"kind": "study", "format": 1, "spec": spec.record()}]
    for i, own in enumerate(metrics):
        events.append(asked(Trial({"lr": float(i + 1)}, EPOCHS, id=i, seed=i)))
        audit = audits[i] if audits else {}
        events.append(told(Outcome(i, own, audit, epochs=EPOCHS), 0.0))
        if losses is not None:
            np.save(folder.trial_stem(home, i).with_suffix(".val_losses.npy"), losses[i])
    lines = [ledger.encode(event, seq) for seq, event in enumerate(events)]
    (home / ledger.LEDGER).write_bytes(b"".join(lines))
    return home
