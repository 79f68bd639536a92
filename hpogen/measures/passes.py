"""A forward pass over a data set that leaves the model as it found it, and what it predicts.

Called by the measures and by the training loop's evaluations: one code path for both.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hpogen.measures.as_found import evaluating, kept, may_change, require_initialized, without
from hpogen.measures.batches import (
    Batch,
    Forward,
    called,
    device_of,
    moved,
    pairs,
    tensor_of,
)
from hpogen.measures.convolutions import mend_convolutions
from hpogen.measures.targets import (
    IGNORED,
    LossFunction,
    by_rows,
    counted,
    cross_entropy,
    each,
    hits,
    rows,
)


class Collector(Protocol):
    """Takes what a forward pass gives, batch by batch."""

    def add(self, logits: Tensor, labels: Tensor) -> None: ...


@dataclass(frozen=True)
class Predictions:
    """The logits (N, C) of a pass, in the forward's precision (at least float32), and labels (N,).

    Labels may be probabilities (N, C); of one logit they are 0 and 1, or probabilities (N, 1). None
    is −100: whoever makes one leaves such samples out. Losses are computed in float64.
    """

    logits: Tensor
    labels: Tensor
    loss_function: LossFunction | None = None  # None: cross-entropy

    @property
    def count(self) -> int:
        return len(self.labels)

    @property
    def losses(self) -> Tensor:
        """The loss of each sample, (N,) float64: the cross-entropy, of one logit the binary one.

        Computed when asked for: mostly their mean alone is.
        """
        loss = self.loss_function
        if loss is not None:
            return by_rows(lambda z, y: each(loss, z, y).detach(), self.logits, self.labels)
        return by_rows(cross_entropy, self.logits, self.labels)

    @cached_property
    def probabilities(self) -> Tensor:
        """Those of the classes, (N, C) float64; of one logit (N, 2), as its labels are 0 and 1."""
        logits = self.logits.double()
        if logits.shape[1] == 1:
            return torch.cat([-logits, logits], 1).sigmoid()
        return logits.softmax(1)

    @cached_property
    def mean_loss(self) -> Tensor:
        """() float64, where the logits are: reading it is left to the caller."""
        return self.losses.mean()

    @cached_property
    def hits(self) -> Tensor:
        """Whether each sample's largest logit is its label's, (N,) bool.

        Of one logit its sign tells. A sample with a NaN has none.
        """
        return by_rows(lambda z, y: hits(z, y) & ~z.isnan().any(1), self.logits, self.labels)

    @cached_property
    def hit_rate(self) -> Tensor:
        """The share of `hits`, () float64 in [0, 1]."""
        return self.hits.sum().double() / self.count

    @cached_property
    def loss(self) -> float:
        return float(self.mean_loss)

    @cached_property
    def accuracy(self) -> float:
        """The share of samples whose largest logit is the label's, in [0, 1]."""
        return float(self.hit_rate)


class Rows:
    """Tensors (n, …) one behind the other, in one place.

    Small ones that stay, made between large ones that go, would tear holes into the memory that
    nothing large fits into again: a pass over many batches took several times what it needs.
    Where it is known how many there will be, that place is made once.
    """

    def __init__(self, expected: int = 0) -> None:
        self._place: Tensor | None = None  # what is behind the rows is empty
        self._expected, self._count = expected, 0

    def add(self, values: Tensor) -> None:
        """Raises RuntimeError for values of another shape than the first."""
        place, count = self._place, self._count + len(values)
        if place is None or count > len(place):
            size = self._expected if count <= self._expected else count + count // 4
            self._place = values.new_empty(size, *values.shape[1:])
            if place is not None:
                self._place[: self._count] = place[: self._count]
            place = self._place
        place[self._count : count] = values
        self._count = count

    def __len__(self) -> int:
        return self._count

    def result(self) -> Tensor:
        """(N, …), of one tensor at least."""
        assert self._place is not None
        return self._place[: self._count]


class PredictionCollector:
    """Keeps logits and labels, as `targets.rows` takes them: losses and accuracies of any model.

    With a loss of one's own, labels are what that takes.
    Where the labels of all samples, in their order, are `known`, and to be classes, they are not
    looked at: no GPU has to be waited for; and they are not kept a second time.
    """

    def __init__(self, known: Tensor | None = None, loss: LossFunction | None = None) -> None:
        self._known, self._loss = known, loss
        self._logits, self._labels = Rows(0 if known is None else len(known)), Rows()

    def add(self, logits: Tensor, labels: Tensor) -> None:
        if self._loss is None:
            logits, labels = rows(logits, labels)
        self._logits.add(at_least_float32(logits))
        if self._known is None:
            self._labels.add(labels)

    def result(self) -> Predictions:
        """Without the samples that are labelled −100.

        Raises ValueError when there is none, Refusal for a label that is no class.
        """
        if not len(self._logits):
            raise ValueError("got no samples: the batches are empty")
        logits = self._logits.result()
        if self._known is not None:
            return Predictions(logits, self._known, self._loss)
        labels = self._labels.result()
        kept = counted(logits, labels, self._loss)
        if kept is not None:
            logits, labels = logits[kept], labels[kept]
        if not len(labels):
            raise ValueError(f"got no samples: every label is {IGNORED}")
        return Predictions(logits, labels, self._loss)


def forward_pass(
    model: nn.Module,
    batches: Iterable[Batch],
    collector: Collector,
    within: Callable[[], AbstractContextManager[object]] = nullcontext,
    loads: bool = True,
    forward: Forward | None = None,
) -> Iterator[None]:
    """Run the model on every batch in evaluation mode; yields after each, to be driven to its end.

    Images and labels are moved to the model's device. Each forward runs inside `within()`, an
    autocast, say. `loads` as `undisturbed` has it. Raises Refusal for batches and outputs of
    another kind.
    """
    device = device_of(model)
    with undisturbed(model, loads=loads):
        for x, y in pairs(batches, named=True):
            with torch.no_grad(), within():
                labels = y.to(device)
                given = called(model, moved(x, device), forward)
                collector.add(tensor_of(model, given), labels)
            yield


@contextmanager
def undisturbed(model: nn.Module, *, loads: bool = True) -> Iterator[None]:
    """Evaluation mode inside; afterwards the model is as before, whatever its forward does.

    That is what `as_found.kept` says, and modes (by `train`), `.grad`, and the random state of
    torch, NumPy and Python; `loads` says whether batches are loaded inside, which may draw. Raises
    Refusal, naming the module, for a lazy one that never ran. What is differentiated inside has the
    right gradients (`mend_convolutions`).
    """
    mend_convolutions()
    require_initialized(model)
    host = same_host_randomness() if loads or may_change(model) else nullcontext()
    gradients = without("grad", None, model.parameters())
    with kept(model), _same_randomness(model), host, gradients, evaluating(model):
        yield


def _same_randomness(model: nn.Module) -> AbstractContextManager[None]:
    tensors = itertools.chain(model.parameters(), model.buffers())
    devices = {tensor.device.index for tensor in tensors if tensor.device.type == "cuda"}
    return torch.random.fork_rng(devices=sorted(devices))


@contextmanager
def same_host_randomness() -> Iterator[None]:
    """Python's and NumPy's random numbers are afterwards as before."""
    python, array = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(array)


def uncompiled() -> AbstractContextManager[object]:
    """Inside, parts that are compiled run as they were written: their functions are seen."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes seconds
        return nullcontext()
    eager: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return eager


def at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def check_finite(values: Tensor, what: str) -> None:
    """Raise FloatingPointError, of which hpogen makes a trial that diverged, unless all are."""
    if not torch.isfinite(values).all():
        raise FloatingPointError(f"{what} is not finite")
