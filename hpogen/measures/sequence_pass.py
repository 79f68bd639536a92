"""The forward pass that the last layer's measures of sequences are computed from.

`sequence_head` is for any PyTorch loop; hpogen's own collects the same in its evaluation pass. Each
batch is worked off at once: neither its logits (N, T, C) nor its features (N, T, D) are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from hpogen.errors import Refusal
from hpogen.measures.batches import Forward, pairs
from hpogen.measures.last_linear import LastLinear, counts, refuse_frozen
from hpogen.measures.moments import Moments
from hpogen.measures.network_moments import add_chunk
from hpogen.measures.passes import at_least_float32, forward_pass
from hpogen.measures.sequences import (
    SequenceForms,
    SequenceHead,
    SequencePredictions,
    errors,
    gradients,
    mean_cross_entropy,
    output_gradients,
    parts,
    predictions,
    shares,
)
from hpogen.measures.targets import IGNORED, LossFunction, counted, labelled


def sequence_head(
    model: nn.Module,
    batches: Iterable[Any],
    loss: LossFunction | None = None,
    forward: Forward | None = None,
) -> SequenceHead:
    """One forward pass, in evaluation mode, over `batches` of inputs (B, …) and labels (B, T).

    The model gives logits (B, T, C), those of its last `nn.Linear`; labels are classes, −100 at
    positions that do not count; a sample without a labelled position is left out. The loss is the
    mean of the cross-entropy over a sample's labelled positions, or one's own function of logits
    (B, T, C) float64 and labels, differentiable, that gives each sample's loss (B,). Batches may be
    mappings, and `forward` one's own, as `head_statistics` has both. Raises and
    leaves the model as `head_statistics`; of a `DistributedDataParallel` model it is of the
    process's own samples.
    """
    given = labelled(pairs(batches, named=True))
    with torch.inference_mode(False), SequenceHeadCollector(model, loss) as collector:
        for _ in forward_pass(model, given, collector, forward=forward):
            pass
        return collector.result()


class SequenceCollector:
    """Collects what a model of sequences predicts.

    Where labels are `known` to be classes they are not looked at: no GPU has to be waited for.
    """

    def __init__(self, loss: LossFunction | None = None, known: bool = False) -> None:
        self._loss, self._known = loss or mean_cross_entropy, known
        self._seen: list[SequencePredictions] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        _check(logits, labels)
        if not self._known:
            counted(logits.flatten(0, 1), labels.flatten())
        self._seen.append(predictions(at_least_float32(logits), labels, self._loss))

    def result(self) -> SequencePredictions:
        """Raises ValueError when no sample was seen."""
        if not self._seen:
            raise ValueError("got no samples: the batches are empty")
        found = _joined([vars(seen) for seen in self._seen])
        return SequencePredictions(**found, outputs=self._seen[0].outputs)


class SequenceHeadCollector:
    """Collects a SequenceHead from the forward passes that run while it is entered.

    Without `moments`, of the closed forms alone, which take less time. Labels may be `known`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction | None = None,
        known: bool = False,
        moments: bool = True,
    ) -> None:
        self._predictions = SequenceCollector(loss, known)
        self._loss, self._moments = loss, moments
        self._last = LastLinear(model)
        self._layer: nn.Linear | None = None
        self._forms: list[dict[str, Any]] = []
        self._sums: Tensor | None = None  # (4, C·K): S1, S2, S, NZ

    def __enter__(self) -> SequenceHeadCollector:
        self._last.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._last.__exit__()

    def forget(self) -> None:
        """What has run so far is not of the forward to come."""
        self._last.forget()

    def add(self, logits: Tensor, labels: Tensor) -> None:
        self._layer, features = self._last.read(logits, 3)
        refuse_frozen(*counts(self._layer))
        self._predictions.add(logits, labels)
        logits, features = at_least_float32(logits), at_least_float32(features)
        with torch.autocast(logits.device.type, enabled=False):
            for part in parts(logits, features.shape[2]):
                self._add(self._layer, features[part], logits[part], labels[part])

    def _add(self, layer: nn.Linear, features: Tensor, logits: Tensor, labels: Tensor) -> None:
        weight, bias = trained = counts(layer)
        known = errors(logits, labels) if self._loss is None else None
        d = output_gradients(logits, labels, self._loss, known)
        each = gradients(features, d, trained)
        weights = shares(labels)  # (n, T)
        sizes = features.double().square().sum(2) * weight + bias
        found = {"norms": each.squared_norms(), "sizes": (sizes * weights).sum(1)}
        if known is not None:
            found |= _of_entropy(known, labels, sizes, weights)
        self._forms.append(found)
        if self._moments:
            if self._sums is None:
                self._sums = weights.new_zeros(4, each.size)
            for chunk in each.chunks():
                add_chunk(self._sums, chunk, True)

    def result(self) -> SequenceHead:
        """Raises ValueError when no sample was seen."""
        seen = self._predictions.result()
        if self._layer is None:
            raise ValueError("got no samples: the batches are empty")
        forms = _joined(self._forms)
        closed = SequenceForms(
            forms["norms"], forms["sizes"], forms.get("curvatures"), forms.get("squares")
        )
        sums = None
        if self._sums is not None:
            first, second, signs, nonzero = self._sums.view(4, seen.outputs, -1)
            sums = Moments(first, second, signs, nonzero, len(seen.losses))
        weight = at_least_float32(self._layer.weight.detach().clone())
        return SequenceHead(seen, closed, weight, sums)


def _of_entropy(
    errors: Tensor, labels: Tensor, sizes: Tensor, weights: Tensor
) -> dict[str, Tensor]:
    """The curvatures and the squares (n,) from p − q (n, T, C)."""
    squares = errors.square().sum(2)  # (n, T)
    chosen = labels.where(labels != IGNORED, 0)[..., None]
    variances = (-2 * errors.gather(2, chosen)[..., 0] - squares).clamp_min(0)  # 1 − ‖p‖²
    means = {"curvatures": variances * sizes, "squares": squares}
    return {name: (values * weights).sum(1) for name, values in means.items()}


def _joined(batches: list[dict[str, Any]]) -> dict[str, Tensor]:
    """The tensors of all batches, by name."""
    tensors = [name for name, value in batches[0].items() if isinstance(value, Tensor)]
    return {name: torch.cat([batch[name] for batch in batches]) for name in tensors}


def _check(logits: Tensor, labels: Tensor) -> None:
    """Raise Refusal unless there is a label for each position. No value is read."""
    if logits.ndim != 3 or labels.shape != logits.shape[:2] or labels.dtype != torch.int64:
        kind = str(labels.dtype).removeprefix("torch.")
        raise Refusal(
            f"labels are {kind} {tuple(labels.shape)} for logits {tuple(logits.shape)}, expected "
            "int64 (N, T) for logits (N, T, C)"
        )
