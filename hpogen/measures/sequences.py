"""The last layer's measures of a model that gives logits for each position of a sequence.

`sequence_pass.py` fills them batch by batch, the training step asks for the norms alone. A sample's
gradient is the sum over its positions, G_i = Σ_t d_it (h_it, 1)ᵀ, where d_it is the gradient of the
sample's loss by its logits at t. So ‖G_i‖² = Σ_{t,t'} (d_it·d_it') (h_it·h_it' + 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from hpogen.errors import Refusal
from hpogen.measures.moments import Moments, ratio
from hpogen.measures.targets import IGNORED, LossFunction, each, output_gradient
from hpogen.measures.uses import Gradients, Product, limit


def mean_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean of −ln p_y over a sample's own labelled positions, (N,).

    Logits (N, T, C), targets (N, T) with −100 at positions that do not count. So d_it of a labelled
    position is (p_it − q_it)/T_i, with T_i of them; a sample without any has NaN.
    """
    losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape).sum(1) / (targets != IGNORED).sum(1)


@dataclass(frozen=True)
class SequencePredictions:
    """What a pass predicts: its logits (N, T, C) are not kept."""

    losses: Tensor  # (N,) float64
    predicted: Tensor  # (N, T) int64, the likeliest class of each position
    right: Tensor  # (N, T) bool: labelled, and the likeliest class is the label
    labels: Tensor  # (N, T) int64, −100 where a position does not count
    outputs: int  # C

    @property
    def mean_loss(self) -> Tensor:
        """() float64, where the model is."""
        return self.losses.mean()

    @property
    def hit_rate(self) -> Tensor:
        """The share of right ones among all labelled positions, () float64."""
        return self.right.sum().double() / (self.labels != IGNORED).sum()

    @property
    def counts(self) -> Tensor:
        """(N, 2) int32: how many positions of each sample are right, and labelled."""
        each = self.right.sum(1), (self.labels != IGNORED).sum(1)
        return torch.stack(each, 1).to(torch.int32)

    @property
    def loss(self) -> float:
        return float(self.mean_loss)

    @property
    def accuracy(self) -> float:
        return float(self.hit_rate)


def predictions(
    logits: Tensor, labels: Tensor, loss: LossFunction = mean_cross_entropy
) -> SequencePredictions:
    """Of one batch, logits (n, T, C) and labels (n, T). A position with a NaN is not right."""
    found = [
        (each(loss, z, y).detach(), z.argmax(2), z.isnan().any(2))
        for z, y in ((logits[part], labels[part]) for part in parts(logits))
    ]
    losses, predicted, unknown = (torch.cat(values) for values in zip(*found, strict=True))
    right = (predicted == labels) & ~unknown
    return SequencePredictions(losses, predicted, right, labels, logits.shape[2])


@dataclass(frozen=True)
class SequenceForms:
    """What is a mean over N samples and no more, of each of them, (N,) float64."""

    norms: Tensor  # ‖G_i‖²
    sizes: Tensor  # the mean of ‖h_it‖² + 1 over the labelled positions
    curvatures: Tensor | None  # that of (1 − ‖p_it‖²)(‖h_it‖² + 1); None for a loss of one's own
    squares: Tensor | None  # that of ‖p_it − q_it‖²

    @property
    def agn(self) -> Tensor:
        """mean_i ‖G_i‖², () float64, as all that follow."""
        return self.norms.mean()

    @property
    def agn_relative(self) -> Tensor:
        """mean_i ‖G_i‖² over the mean over samples of `sizes`."""
        return ratio(self.agn, self.sizes.mean())

    @property
    def trace_hessian(self) -> Tensor:
        """tr H of the mean loss in the last layer: positions have no second derivative together."""
        return _of_entropy(self.curvatures, "trace_hessian").mean()

    @property
    def tic(self) -> Tensor:
        return ratio(self.agn, self.trace_hessian)

    @property
    def brier(self) -> Tensor:
        """The Brier score, a mean over a sample's labelled positions and over samples."""
        return _of_entropy(self.squares, "brier").mean()


@dataclass(frozen=True)
class SequenceHead:
    """The measures of the last layer, as HeadStatistics has them for one output for each sample."""

    predictions: SequencePredictions
    closed_forms: SequenceForms
    weight: Tensor  # W (C, D)
    sums: Moments | None  # of the explicit G_i; None where nobody asked for them

    @property
    def loss(self) -> float:
        return self.predictions.loss

    @property
    def accuracy(self) -> float:
        return self.predictions.accuracy

    @property
    def agn(self) -> float:
        return float(self.closed_forms.agn)

    @property
    def mean_brier(self) -> Tensor:
        return self.closed_forms.brier

    @cached_property
    def moments(self) -> Moments:
        """Raises ValueError where the pass did not collect them."""
        if self.sums is None:
            raise ValueError("the moments of the last layer were not collected")
        return self.sums

    @property
    def opposite_sign(self) -> float:
        return self._opposite_sign(1.0)

    @property
    def opposite_sign_top10(self) -> float:
        return self._opposite_sign(0.1)

    def _opposite_sign(self, largest: float) -> float:
        if self.moments.first.shape[1] < self.weight.shape[1]:
            raise Refusal("opposite_sign needs the last nn.Linear's weight to be trained")
        return self.moments.opposite_sign(self.weight, largest)


def squared_norms(
    features: Tensor,
    logits: Tensor,
    labels: Tensor,
    trained: tuple[bool, bool],
    loss: LossFunction | None = None,
) -> Tensor:
    """‖G_i‖² (N,) float64 from h (N, T, D), z (N, T, C) and labels (N, T).

    `trained` says of weight and bias whether they count. The loss is `mean_cross_entropy`, unless
    there is one of one's own. Some samples at a time, by the product of two Gram matrices (T, T) or
    by the explicit G_i, whichever has fewer multiplications.
    """
    norms = []
    for part in parts(logits, features.shape[2]):
        d = output_gradients(logits[part], labels[part], loss)
        norms.append(gradients(features[part], d, trained).squared_norms())
    return torch.cat(norms)


def gradients(features: Tensor, d: Tensor, trained: tuple[bool, bool]) -> Gradients:
    """G_i of n samples from h (n, T, D) and d (n, T, C) float64, of the parameters that count."""
    weight, bias = trained
    columns = [features.double()] if weight else []
    columns += [d.new_ones(*d.shape[:2], 1)] if bias else []
    inputs = torch.cat(columns, 2)
    return Gradients([Product(inputs, d)], len(d), d.shape[2] * inputs.shape[2], d.device)


def output_gradients(
    logits: Tensor, labels: Tensor, loss: LossFunction | None = None, known: Tensor | None = None
) -> Tensor:
    """d (n, T, C) float64, the gradient of each sample's loss by its logits.

    NaN where one of them, at a position that counts, is not finite. `known` are the `errors`, where
    they have been computed.
    """
    if loss is not None:
        d = output_gradient(logits, labels, loss)
    else:
        found = errors(logits, labels) if known is None else known
        d = found * shares(labels)[..., None]
    unknown = ~logits.isfinite().all(2) & (labels != IGNORED)
    return d.masked_fill_(unknown[..., None], torch.nan)


def errors(logits: Tensor, labels: Tensor) -> Tensor:
    """p − q (n, T, C) float64; 0 at positions that do not count."""
    counted = labels != IGNORED
    flat = output_gradient(logits.flatten(0, 1), labels.where(counted, 0).flatten())
    return flat.view(logits.shape).masked_fill_(~counted[..., None], 0.0)


def shares(labels: Tensor) -> Tensor:
    """What each position weighs in its sample's mean, (n, T) float64: 1/T_i, or 0."""
    counted = (labels != IGNORED).double()
    return counted / counted.sum(1, keepdim=True)


def parts(logits: Tensor, width: int = 0) -> Iterator[slice]:
    """All samples of (N, T, C), so many at a time that T (C + `width`) numbers of each are few.

    Raises Refusal for other shapes, and for one logit.
    """
    if logits.ndim != 3 or logits.shape[2] < 2:
        raise Refusal(
            f"the model gives {tuple(logits.shape)}, expected two logits or more for each position "
            "of a sequence, (N, T, C)"
        )
    step = max(1, limit(logits.device) // (logits.shape[1] * (logits.shape[2] + width)))
    return (slice(start, start + step) for start in range(0, len(logits), step))


def _of_entropy(values: Tensor | None, what: str) -> Tensor:
    if values is None:
        raise Refusal(f"{what} is defined for cross-entropy, not for a loss of one's own")
    return values
