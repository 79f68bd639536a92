"""Where a trial stands: what changes as it trains, and goes into its checkpoints.

`recipe.py` makes the first; the loop and its parts move it on.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpogen.errors import UserError, shortened
from hpogen.tasks.base import Epoch
from hpogen.training.clock import Clock
from hpogen.training.random_state import random_state, set_random_state

PER_SAMPLE = {  # what is kept of each sample: the file beside the trial's curve
    "validation_losses": "val_losses.npy",
    "validation_hits": "val_hits.npy",
    "audit_hits": "audit_hits.npy",
    "audit_errors": "audit_errors.npy",
    "audit_counts": "audit_counts.npy",
    "validation_probabilities": "val_probabilities.npy",
    "validation_labels": "val_labels.npy",
    "audit_probabilities": "audit_probabilities.npy",
    "audit_labels": "audit_labels.npy",
}


@dataclass
class State:
    """Where a trial stands: all of it goes into a checkpoint."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    forward: Callable[[Tensor], Tensor]  # the model's, for training: compiled where that is asked
    average: nn.Module | None = None  # of the weights so far, where the task asks for one
    averaged: int = 0  # weights that are in it
    epoch: int = 0  # epochs done
    step: int = 0  # steps done in the epoch after them
    step_sums: dict[str, Tensor] = field(default_factory=dict)  # over those steps, () float64
    sums: dict[str, float] = field(default_factory=dict)  # over the epochs done
    curve: list[dict[str, float]] = field(default_factory=list)  # the metrics of the epochs done
    audits: dict[int, dict[str, float]] = field(default_factory=dict)  # by epoch, where evaluated
    validation_losses: Tensor | None = None  # (N,) float32, at the budget's end
    validation_hits: Tensor | None = None  # (N,) bool, then, too
    audit_hits: Tensor | None = None  # (M,) bool, then, too; of labels (M, L)
    audit_counts: Tensor | None = None  # (M, 2) int32 places that are right, and labelled, then
    audit_errors: Tensor | None = None  # (M, K) float32 |z − y|, then, of real targets
    validation_probabilities: Tensor | None = None  # (N, C) float16, where the task keeps them
    validation_labels: Tensor | None = None  # (N,) int32, then
    audit_probabilities: Tensor | None = None  # (M, C) float16, then
    audit_labels: Tensor | None = None  # (M,) int32, then
    files: dict[str, bytes] = field(default_factory=dict)  # of the measures, the newest
    unpacking: nn.Module | None = None  # the model, of named inputs, as measures take it
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("train", "validation", "measures", "total"), 0.0)
    )

    @property
    def judged(self) -> nn.Module:
        """The network that is evaluated, measured and kept: the average, once there is one."""
        return self.average if self.average is not None and self.averaged else self.model

    @property
    def losses(self) -> list[float]:
        """The validation loss of each epoch done, as `losses_of` has it."""
        return losses_of(self.curve)

    @cached_property
    def clock(self) -> Clock:
        """What adds to `seconds`."""
        return Clock(self.seconds, self.device)

    def snapshot(self) -> dict[str, Any]:
        plain = ("epoch", "step", "sums", "curve", "audits", "seconds")
        return {
            **{name: getattr(self, name) for name in plain},
            "step_sums": {name: float(total) for name, total in self.step_sums.items()},
            "files": {name: content.decode("latin-1") for name, content in self.files.items()},
            **{name: getattr(self, name) for name in PER_SAMPLE},
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": random_state(self.device),
            **self._snapshot_of_average(),
        }

    def inherit(self, weights: Mapping[str, Any]) -> None:
        """Begin with a parent's weights. Raises UserError where they are of another shape."""
        try:
            self.model.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(
                "the weights of the rung below do not fit: its smaller subset has fewer categories "
                f"or gaps, or the model is another one: drop budgets.warm ({shortened(error)})"
            ) from error

    def _snapshot_of_average(self) -> dict[str, Any]:
        if self.average is None:
            return {}
        return {"average": self.average.state_dict(), "averaged": self.averaged}

    def restore(self, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved.pop("model"))
        self.optimizer.load_state_dict(saved.pop("optimizer"))
        if self.average is not None:
            self.average.load_state_dict(saved.pop("average"))
        set_random_state(saved.pop("random"), self.device)
        for name, total in saved.pop("step_sums").items():
            self.step_sums[name].fill_(total)
        self.files = {name: text.encode("latin-1") for name, text in saved.pop("files").items()}
        self.seconds.update(saved.pop("seconds"))
        for name, value in saved.items():
            setattr(self, name, value.to(self.device) if isinstance(value, Tensor) else value)

    def finish_epoch(self, metrics: dict[str, float]) -> None:
        self.curve.append(metrics)
        self.epoch += 1
        self.step = 0
        for total in self.step_sums.values():
            total.zero_()

    def report(self, epoch: int, seconds: dict[str, float], last: bool) -> Epoch:
        """What the study is told of an epoch done; the last one carries the files."""
        metrics, audit = self.curve[epoch - 1], self.audits.get(epoch, {})
        if not last:
            return Epoch(epoch, metrics, audit, seconds)
        files = dict(self.files)
        found = {file: getattr(self, name) for name, file in PER_SAMPLE.items()}
        files |= {file: _npy(values) for file, values in found.items() if values is not None}
        return Epoch(epoch, metrics, audit, dict(self.seconds), files)


def losses_of(curve: list[dict[str, float]]) -> list[float]:
    """The validation loss of each epoch; infinity where it was not asked for."""
    return [metrics.get("val_loss", math.inf) for metrics in curve]


def judged(saved: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of the network that a snapshot's trial is judged by."""
    tensors: dict[str, Tensor] = saved["average" if saved.get("averaged") else "model"]
    return tensors


def _npy(values: Tensor) -> bytes:
    """A tensor as the bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, values.cpu().numpy())
    return buffer.getvalue()
