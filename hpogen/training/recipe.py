"""What stays the same through a trial, and what changes: the recipe and the state.

The loop makes both; its parts (`step.py`, `evaluate.py`) take them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpogen.task import Epoch
from hpogen.training.build import build
from hpogen.training.data import Batches, Images, Prepared, prepare
from hpogen.training.hyperparameters import Hyperparameters, hyperparameters
from hpogen.training.plan import Plan, make_plan
from hpogen.training.random_state import random_state, set_random_state
from hpogen.training.settings import ImageClassification
from hpogen.trial import RunningTrial, derive_seed

EVALUATION_BATCH = {"cpu": 250, "cuda": 2000}  # images; small ones stay in a CPU's cache


@dataclass(frozen=True)
class Recipe:
    """The trial, the task, and what follows from them."""

    settings: ImageClassification
    trial: RunningTrial
    values: Hyperparameters
    plan: Plan
    data: Prepared
    device: torch.device
    memory_format: torch.memory_format

    @property
    def batch_size(self) -> int:
        return min(self.values.batch_size, len(self.data.subset))

    @property
    def steps(self) -> int:
        """Steps per epoch. A last batch of one image is left out: BatchNorm cannot train on it."""
        whole, rest = divmod(len(self.data.subset), self.batch_size)
        return whole + (rest > 1)

    def untrained(self) -> nn.Module:
        """The network as it was before the first step: built once more from the trial's seed."""
        with torch.random.fork_rng(devices=[]):
            return initial_model(self.settings, self.trial, self.data, self.device)

    def batches(self, split: Images) -> Batches:
        """What an evaluation runs over."""
        size = EVALUATION_BATCH[self.device.type]
        return Batches(split, self.data.normalization, self.memory_format, size)


@dataclass
class State:
    """Where a trial stands: all of it goes into a checkpoint."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    epoch: int = 0  # epochs done
    step: int = 0  # steps done in the epoch after them
    step_sums: dict[str, Tensor] = field(default_factory=dict)  # over those steps, () float64
    sums: dict[str, float] = field(default_factory=dict)  # over the epochs done
    curve: list[dict[str, float]] = field(default_factory=list)  # the metrics of the epochs done
    audits: dict[int, dict[str, float]] = field(default_factory=dict)  # by epoch, where evaluated
    validation_losses: Tensor | None = None  # (N,) float32, at the budget's end
    files: dict[str, bytes] = field(default_factory=dict)  # of the measures, the newest
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("train", "validation", "measures", "total"), 0.0)
    )

    def snapshot(self) -> dict[str, Any]:
        plain = ("epoch", "step", "sums", "curve", "audits", "seconds")
        return {
            **{name: getattr(self, name) for name in plain},
            "step_sums": {name: float(total) for name, total in self.step_sums.items()},
            "files": {name: content.decode("latin-1") for name, content in self.files.items()},
            "validation_losses": self.validation_losses,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": random_state(self.device),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved.pop("model"))
        self.optimizer.load_state_dict(saved.pop("optimizer"))
        set_random_state(saved.pop("random"), self.device)
        for name, total in saved.pop("step_sums").items():
            self.step_sums[name].fill_(total)
        self.files = {name: text.encode("latin-1") for name, text in saved.pop("files").items()}
        for name, value in saved.items():
            setattr(self, name, value.to(self.device) if isinstance(value, Tensor) else value)

    def finish_epoch(self, metrics: dict[str, float]) -> None:
        self.curve.append(metrics)
        self.epoch += 1
        self.step = 0
        for total in self.step_sums.values():
            total.zero_()

    def report(self, epoch: int, budget: int, seconds: dict[str, float]) -> Epoch:
        """What the study is told of an epoch done; the last one carries the files."""
        metrics, audit = self.curve[epoch - 1], self.audits.get(epoch, {})
        if epoch < budget:
            return Epoch(epoch, metrics, audit, seconds)
        files = dict(self.files)
        if self.validation_losses is not None:
            files["val_losses.npy"] = npy(self.validation_losses)
        return Epoch(epoch, metrics, audit, dict(self.seconds), files)


def begin(
    settings: ImageClassification, trial: RunningTrial, wanted: frozenset[str]
) -> tuple[Recipe, State]:
    """The recipe, and the state before the first epoch, from the trial's seed."""
    device = torch.device(trial.device)
    values = hyperparameters(
        trial.config, optimizer=settings.optimizer, label_smoothing=settings.label_smoothing
    )
    data = prepare(settings.dataset, device)
    model = initial_model(settings, trial, data, device)
    memory_format = _memory_format(model, device)
    plan = make_plan(settings, wanted)
    recipe = Recipe(settings, trial, values, plan, data, device, memory_format)
    state = State(model, make_optimizer(model, values), device)
    iterated = [name for planned in plan.iterated for name in planned.measure.metrics]
    for name in ("loss", "agn", "agn_lr", *iterated):
        state.step_sums[name] = torch.zeros((), dtype=torch.float64, device=device)
    state.sums.update(dict.fromkeys(plan.running, 0.0))
    return recipe, state


def initial_model(
    settings: ImageClassification, trial: RunningTrial, data: Prepared, device: torch.device
) -> nn.Module:
    """The network before the first step, from the trial's seed: torch's seed is set to it."""
    torch.manual_seed(derive_seed(trial.seed, "model"))
    model = build(settings.model.name, settings.model.options(), data.in_shape, data.classes)
    memory_format = _memory_format(model, device)
    return model.to(device=device, memory_format=memory_format)  # type: ignore[call-overload,no-any-return]


def _memory_format(model: nn.Module, device: torch.device) -> torch.memory_format:
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    last = device.type == "cpu" and convolutional
    return torch.channels_last if last else torch.contiguous_format


def make_optimizer(model: nn.Module, values: Hyperparameters) -> torch.optim.Optimizer:
    """The optimizer over all trainable parameters; Nesterov without momentum is plain SGD."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    lr, decay, momentum = values.lr, values.weight_decay, values.momentum
    if values.optimizer == "sgd":
        nesterov = values.nesterov and momentum > 0
        return torch.optim.SGD(
            parameters, lr, momentum, weight_decay=decay, nesterov=nesterov, fused=True
        )
    kind = torch.optim.Adam if values.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr, (momentum, 0.999), weight_decay=decay, fused=True)


@contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """Add the time that passes inside to `seconds[what]`."""
    start = perf_counter()
    try:
        yield
    finally:
        seconds[what] += perf_counter() - start


def npy(values: Tensor) -> bytes:
    """A tensor as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, values.cpu().numpy())
    return buffer.getvalue()
