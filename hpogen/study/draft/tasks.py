"""What a drafted study trains and searches: `task`, `search_space`, and the program that it names.

`choices.py` calls `start`. Choices are taken as they are: loading the study will judge them.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpogen import plugins
from hpogen.errors import UserError, unknown
from hpogen.study.draft import programs

FUNCTION = "function"  # the word for a `@task` of one's own
COMMAND = "command"
EPOCHS = 8  # of the programs; as all numbers of epochs here it is 1, 2 and 4 times one
SMALL, LARGE = (8, 256, 64), (32, 1000, 128)  # batch sizes: least, most, default

Record = dict[str, Any]
Sizes = Mapping[str, tuple[int, tuple[int, int, int], int]]


@dataclass(frozen=True)
class Choices:
    """What was chosen, by the names that the YAML has for it; what is empty is left to hpogen."""

    task: str = ""
    dataset: str = ""
    model: str = ""
    optimizer: str = ""
    searcher: str = ""
    objective: str = ""


@dataclass(frozen=True)
class Start:
    """The keys of a study that say what it trains, and the program that they name, by its path."""

    keys: Record
    objective: str  # where none is chosen
    files: Mapping[Path, str] = field(default_factory=dict)


def start(file: Path, chosen: Choices, sizes: Sizes) -> Start:
    """What the study in `file` trains. Raises UserError.

    `sizes` are those of the data sets whose images are known: how many for training, (C, H, W),
    classes.
    """
    name = chosen.task or plugins.DEFAULT_TASK
    if name == plugins.DEFAULT_TASK:
        return _images(file, chosen, sizes)
    if name != FUNCTION and name not in plugins.tasks:
        raise UserError(unknown("--task:", name, [*plugins.tasks.names(), FUNCTION]))
    for option in ("dataset", "model", "optimizer"):
        if value := getattr(chosen, option):
            raise UserError(f"--{option}: got {value!r}, but task {name!r} has none: leave it out")
    made = {COMMAND: _command, FUNCTION: _function}
    return made[name](file) if name in made else Start({"task": _named(name), **SPACE}, "val")


def _named(name: str) -> Record:
    return {"name": name, "epochs": EPOCHS}


SPACE: Record = {
    "search_space": {
        "lr": {"float": [1e-3, 0.5], "log": True, "default": 0.01},
        "weight_decay": {"float": [1e-6, 0.1], "log": True, "default": 1e-4},
    }
}


def _command(file: Path) -> Start:
    program = _beside(file, "train")
    path = shlex.quote(str(program)).replace("{", "{{").replace("}", "}}")
    rest = "--lr {lr} --weight-decay {weight_decay} --epochs {budget} --seed {seed}"
    task = {
        "name": COMMAND,
        "command": f"python {path} {rest}",
        "metrics": ["val_loss", "val_accuracy", "train_loss"],
        "epochs": EPOCHS,
    }
    return Start({"task": task, **SPACE}, "val", {program: programs.COMMAND})


def _function(file: Path) -> Start:
    program = _beside(file, "task")
    keys = {"plugins": [program.name], "task": _named(program.stem), **SPACE}
    return Start(keys, "val", {program: programs.FUNCTION.replace("NAME", program.stem)})


def _beside(file: Path, what: str) -> Path:
    words = [*re.findall(r"[A-Za-z0-9]+", file.stem), what]
    return file.with_name(f"{'_'.join(words)}.py")


def _images(file: Path, chosen: Choices, sizes: Sizes) -> Start:
    dataset = _dataset(file, chosen.dataset or "digits")
    name = dataset["name"]
    task: Record = {"name": plugins.DEFAULT_TASK, "dataset": dataset}
    task["model"] = {"name": chosen.model or _model(name, sizes)}
    task["epochs"] = 12 if name == "digits" else 40
    if chosen.optimizer:
        task["optimizer"] = chosen.optimizer
    if name != "digits":
        task["schedule"] = {"name": "cosine"}
    batch = LARGE if name in sizes and name != "digits" else SMALL
    space = {"batch_size": _range("int", *batch), **OPTIMIZERS.get(chosen.optimizer, SGD)}
    return Start({"task": task, "search_space": space}, "agn+val")


def _dataset(file: Path, chosen: str) -> Record:
    """By its name; a folder of images, or an .npz file, by its path."""
    relative = os.path.relpath(chosen, file.parent)
    if chosen == "folder":
        return {"name": chosen, "path": "data", "size": 32}
    if chosen == "numpy":
        return {"name": chosen, "path": "data.npz"}
    if chosen in plugins.datasets:
        return {"name": chosen, **SPLITS.get(chosen, {})}
    if os.path.isdir(chosen):
        return {"name": "folder", "path": relative, "size": 32}
    return {"name": "numpy", "path": relative} if chosen.endswith(".npz") else {"name": chosen}


SPLITS: Mapping[str, Record] = {
    "digits": {"subset": 0.5, "validation": 400},
    "cifar10": {"augment": "standard"},
    "cifar100": {"augment": "standard"},
    "torchvision/EMNIST": {"split": "balanced"},
}


def _model(dataset: str, sizes: Sizes) -> str:
    """One that takes the images: small gray ones, digits of 8×8 pixels, or any."""
    if dataset == "digits":
        return "mlp"
    return "lenet5" if dataset in sizes and sizes[dataset][1] == (1, 28, 28) else "resnet20"


def _range(kind: str, low: float, high: float, default: float, log: bool = True) -> Record:
    return {kind: [low, high], **({"log": True} if log else {}), "default": default}


SGD: Record = {
    "lr": _range("float", 1e-4, 1.0, 0.01),
    "momentum": _range("float", 0.0, 0.99, 0.9, log=False),
    "weight_decay": _range("float", 1e-6, 0.1, 5e-4),
}
ADAM: Record = {
    "lr": _range("float", 1e-5, 0.1, 1e-3),
    "momentum": _range("float", 0.5, 0.99, 0.9, log=False),
    "weight_decay": _range("float", 1e-7, 1e-2, 1e-5),
}
ADAMW: Record = {**ADAM, "weight_decay": _range("float", 1e-4, 1.0, 0.01)}
SAM: Record = {**SGD, "rho": _range("float", 0.01, 0.5, 0.05)}
OPTIMIZERS: Mapping[str, Record] = {"sgd": SGD, "adam": ADAM, "adamw": ADAMW, "sam": SAM}
