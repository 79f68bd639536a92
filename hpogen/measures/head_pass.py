"""The forward pass over a data set that the head measures are computed from.

`head_statistics` is for any PyTorch loop; hpogen's own collects the same in its evaluation pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from hpogen.measures.as_found import kept
from hpogen.measures.batches import Batch, Forward, device_of, each_input, pairs, size_of
from hpogen.measures.distributed import gathered, group_of
from hpogen.measures.head import HeadStatistics
from hpogen.measures.head_reduced import Reducing
from hpogen.measures.last_linear import LastLinear, counts, require_last_linear
from hpogen.measures.passes import Predictions, Rows, at_least_float32, forward_pass
from hpogen.measures.targets import IGNORED, LossFunction, counted, rows


def head_statistics(
    model: nn.Module,
    batches: Iterable[Any],
    loss: LossFunction | None = None,
    forward: Forward | None = None,
) -> HeadStatistics:
    """One forward pass, in evaluation mode, over `batches` of images (B, …) and labels (B,).

    A batch may be a mapping of tensors, with its targets as `labels` or another of `TARGETS`: the
    model is given the others by name. What it gives may have its logits as `.logits` or
    `["logits"]`, as Hugging Face's models do. `forward(model, x)`, x the inputs of a batch, is
    called in the place of model(x), and gives the logits. Targets are as `targets.rows` takes them:
    labels, probabilities (B, C), or 0 and 1 for one logit; a sample labelled −100 is left out. The
    loss is cross-entropy, or one's own function of logits (B, C) float64 and labels as given,
    differentiable, that gives each sample's loss (B,).
    The model's last `nn.Linear` must give the model's output, by F.linear, with parameters that
    nothing else uses (two samples are tried, first): Refusal, naming the model's class, if not, and
    for labels that are no class; ValueError if there is no sample. Of a `DistributedDataParallel`
    model, which all its processes must call, the statistics are of the samples of all. Parameters,
    buffers, `.grad`, training mode and torch's random state are left as they were.
    """
    with torch.inference_mode(False), HeadCollector(model, loss) as collector:
        for _ in forward_pass(
            model, tried(model, batches, collector, forward), collector, forward=forward
        ):
            pass
        return collector.result()


class Forgetting(Protocol):
    """What is told that the forwards so far were not its own."""

    def forget(self) -> None: ...


def tried(
    model: nn.Module,
    batches: Iterable[Any],
    collector: Forgetting,
    forward: Forward | None = None,
) -> Iterator[Batch]:
    """The batches; before the first, two of its samples tell whether there are closed forms.

    Raises Refusal where there are none.
    """
    device = device_of(model)
    tried = False
    for x, y in pairs(batches, named=True):
        if size_of(x) and not tried:
            tried = True
            with kept(model):
                try:
                    two = each_input(x, lambda part: part[:2].clone().to(device))
                    require_last_linear(model, two, forward)
                except (RuntimeError, ValueError):  # a model for batches of one size
                    whole = each_input(x, lambda part: part.clone().to(device))
                    require_last_linear(model, whole, forward)
            collector.forget()
        yield x, y


class HeadCollector:
    """Collects HeadStatistics from the forward passes that run while it is entered.

    Labels may be `known`, as a PredictionCollector's; features are then kept only where something
    `reads` them, else what is made of them.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction | None = None,
        known: Tensor | None = None,
        reads: Literal["features", "moments", "forms"] = "features",
    ) -> None:
        self._group = group_of(model)
        self._last = LastLinear(model)
        self._loss, self._known = loss, known
        expected = 0 if known is None else len(known)
        self._logits, self._labels = Rows(expected), Rows()
        self._features: list[Tensor] = []
        self._reducing = (
            None
            if known is None or reads == "features"
            else Reducing(loss, reads == "moments", expected)
        )
        self._layer: nn.Linear | None = None

    def __enter__(self) -> HeadCollector:
        self._last.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._last.__exit__()

    def forget(self) -> None:
        """What has run so far is not of the forward to come."""
        self._last.forget()

    def add(self, logits: Tensor, labels: Tensor) -> None:
        self._layer, features = self._last.read(logits)
        if self._loss is None:
            logits, labels = rows(logits, labels)
        logits, features = at_least_float32(logits), at_least_float32(features)
        self._logits.add(logits)
        if self._known is None:
            self._labels.add(labels)
        if self._reducing is None:
            self._features.append(features)
        else:
            self._reducing.add(self._layer, logits, labels, features)

    def result(self) -> HeadStatistics:
        """Raises ValueError when no sample was seen, Refusal for a label that is no class."""
        if self._layer is None:
            raise ValueError("got no samples: the batches are empty")
        labels = self._labels.result() if self._known is None else self._known
        logits, labels = (gathered(x, self._group) for x in (self._logits.result(), labels))
        if not len(logits):
            raise ValueError("got no samples: the batches are empty")
        seen = (
            self._reducing.result()
            if self._reducing
            else gathered(torch.cat(self._features), self._group)
        )
        kept = None if self._known is not None else counted(logits, labels, self._loss)
        if kept is not None and isinstance(seen, Tensor):
            logits, labels, seen = logits[kept], labels[kept], seen[kept]
        if not len(logits):
            raise ValueError(f"got no samples: every label is {IGNORED}")
        bias = self._layer.bias
        return HeadStatistics(
            Predictions(logits, labels, self._loss),
            seen,
            at_least_float32(self._layer.weight.detach().clone()),
            None if bias is None else at_least_float32(bias.detach().clone()),
            counts(self._layer),
        )
