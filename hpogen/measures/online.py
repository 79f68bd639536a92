"""Measures from the training step itself, without a pass of their own.

`OnlineAgn` is for one's own loop; hpogen's loop collects `TrainingSteps`, which the catalogue's
functions read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hpogen.measures.batches import tensor_of
from hpogen.measures.distributed import group_of, summed
from hpogen.measures.last_linear import LastLinear
from hpogen.measures.targets import IGNORED, counted, rows


class OnlineAgn:
    """`agn_online` in one's own loop: Σ over epochs of the mean over mini-batches of mean s_i.

        online = OnlineAgn(model)
        …
            online.update(logits, y)          # after each training forward, logits = model(x)
        agn_online = online.epoch_end()       # after each epoch

    Of a `DistributedDataParallel` model, the mini-batch is that of all its processes together,
    which call `epoch_end` after the same number of updates. `total` is the sum so far; put it into
    your checkpoint, and set it to go on. `close()` takes the hooks off the model again.
    """

    def __init__(self, model: nn.Module, label_smoothing: float = 0.0) -> None:
        self.total = 0.0
        self._model = model
        self._label_smoothing = label_smoothing
        self._group = group_of(model)
        self._steps: list[Tensor] = []  # Σ_{i∈B} s_i and |B|, (2,) float64 each
        self._last = LastLinear(model).__enter__()

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Count a mini-batch: `targets` are the labels (B,) or probabilities (B, C) trained on.

        They are as `targets.rows` takes them; samples labelled −100 are left out. `logits` (B, C)
        is what the model's newest forward gave. Raises Refusal as `head_statistics`.
        """
        logits, targets = rows(tensor_of(self._model, logits), targets)
        if targets.device.type == "cpu":  # elsewhere the host would wait; torch asserts it there
            counted(logits, targets)
        kept = targets != IGNORED
        if targets.is_floating_point():
            kept = torch.ones_like(kept[:, 0])
        else:
            targets = targets.where(kept, 0)
        norms = self._last.squared_gradient_norms(logits, targets, self._label_smoothing)
        self._steps.append(torch.stack((norms.where(kept, 0.0).sum(), kept.sum().to(norms))))

    def update_last(self, targets: Tensor) -> None:
        """The same with the logits that the last `nn.Linear` gave in the newest forward.

        For a model that was called within its loss; whether that layer gives its output is not
        looked at: see `require_last_linear`.
        """
        self.update(self._last.output, targets)

    def begin(self) -> None:
        """A training forward begins: what has run so far is not of it.

        Only to be called where that calls parts of the model, and not the model.
        """
        self._last.forget()

    def epoch_end(self) -> float:
        """The sum over the epochs so far. Raises ValueError when the epoch had no mini-batch.

        One whose samples are all left out is none.
        """
        self.total += self.mean()
        self.clear()
        return self.total

    def clear(self) -> None:
        """Forget the mini-batches since the last epoch's end."""
        self._steps.clear()

    def mean(self) -> float:
        """The mean over the mini-batches since the last epoch's end: its term of the sum."""
        if not self._steps:
            raise ValueError("no mini-batch since the last epoch's end: call update() in the loop")
        steps = summed(torch.stack(self._steps), self._group)  # (T, 2)
        norms, counts = steps[steps[:, 1] > 0].unbind(1)
        if not len(norms):
            raise ValueError(f"no sample since the last epoch's end: every label is {IGNORED}")
        return float((norms / counts).mean())

    def close(self) -> None:
        """Take the hooks off the model."""
        self._last.__exit__()


@dataclass(frozen=True)
class TrainingSteps:
    """What the steps of one epoch gave: means over its mini-batches, a weighted sum, their time."""

    loss: float  # mean of the training losses
    agn: float  # mean of mean_{i∈B} s_i; 0 where nothing asked for it
    agn_lr: float  # Σ_t γ_t/(1 − μ) · mean_{i∈B_t} s_i
    seconds: float  # of training per epoch, over all epochs so far


def agn_online(steps: TrainingSteps) -> float:
    return steps.agn


def agn_lr(steps: TrainingSteps) -> float:
    return steps.agn_lr


def training_loss(steps: TrainingSteps) -> float:
    return steps.loss


def seconds_per_epoch(steps: TrainingSteps) -> float:
    return steps.seconds
