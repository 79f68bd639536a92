"""Small studies of images that keep weights, and what their audit saw: for several test files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from toys import study_file

from hpogen.measures.passes import Predictions
from hpogen.record import history
from hpogen.record.history import Record
from hpogen.running.runner import run
from hpogen.spec import StudySpec, load_study
from hpogen.study.study import Study
from hpogen.training.data import load
from hpogen.training.data.splits import splits
from hpogen.training.task import ImageClassification

DIGITS = {"name": "digits", "subset": 0.1, "validation": 100, "audit": 300}
TASK: dict[str, Any] = {
    "dataset": DIGITS,
    "model": {"name": "mlp", "width": 8, "depth": 1},
    "epochs": 1,
}
KEYS: dict[str, Any] = {
    "task": TASK,
    "search_space": {
        "lr": {"float": [0.001, 0.5], "log": True, "default": 0.05},
        "batch_size": {"int": [32, 256], "default": 128},
    },
    "stop": {"trials": 4},
    "plugins": [],
}


def written(directory: Path, **keys: Any) -> StudySpec:
    """The study of the keys, laid over those here; its YAML is in the folder."""
    return load_study(study_file(directory, **{**KEYS, **keys}))


def finished(directory: Path, **keys: Any) -> Path:
    """The folder of the study once it has run."""
    spec = written(directory, **keys)
    with Study(spec, directory / "run") as study:
        assert run(study).end == "finished"
    return directory / "run"


def records(directory: Path) -> list[Record]:
    return history.read(directory).records


def audit_images(spec: StudySpec) -> tuple[Tensor, Tensor]:
    """The images, as they are, and the labels that the trials' audit sees."""
    assert isinstance(spec.task, ImageClassification)
    dataset = spec.task.dataset
    data = load(dataset)
    rows = splits(dataset, data.train.targets).audit
    if isinstance(dataset.audit, str):
        return torch.from_numpy(
            data.test.inputs[np.arange(len(data.test.targets))]
        ), torch.from_numpy(data.test.targets)
    return torch.from_numpy(data.train.inputs[rows]), torch.from_numpy(data.train.targets[rows])


def audit_of(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """What a trial's outcome has of such logits."""
    seen = Predictions(logits, labels)
    return {"loss": seen.loss, "accuracy": seen.accuracy}


def kept(directory: Path) -> set[int]:
    """The trials whose weights are there."""
    return {int(path.name[:5]) for path in directory.glob("trials/*.weights.safetensors")}
