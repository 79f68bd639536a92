"""The head family: closed forms on the last layer, all from one forward pass over a data set.

`head_pass.py` makes that pass. Formulas and notation: z = W h + b, p = softmax(z), d = p − q with q
the target.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from hpogen.errors import Refusal
from hpogen.measures.head_reduced import CHUNK, Reduced, add_samples, no_moments, output_gradients
from hpogen.measures.last_linear import sizes
from hpogen.measures.moments import ROUNDING, Moments, ratio
from hpogen.measures.passes import Predictions, check_finite
from hpogen.measures.targets import ROWS, LossFunction, by_rows, classes_of, counted, rows

CANCELLED = 1e-6  # E[h²] − E[h]² has lost digits where it is less than this part of E[h]²
TINY = 1e-300  # in the place of Σq = 0, where all is 0


@dataclass(frozen=True)
class HeadStatistics:
    """The last layer and what it saw: all that the measures of this family are computed from.

    H (N, D), Z (N, C), W (C, D) and b (C,) or None in the forward's precision, at least float32;
    labels (N,) int64, or probabilities (N, C). Sums are in float64, over weights and bias: those
    that are trained, as in `gradient_norms`. Of one logit, the loss is the binary cross-entropy.
    """

    predictions: Predictions
    seen: Tensor | Reduced  # H, or what was made of it
    weight: Tensor  # W
    bias: Tensor | None  # b
    counts: tuple[bool, bool] = (True, True)  # whether W and b are trained

    @property
    def features(self) -> Tensor:
        """H, the inputs of the last `nn.Linear`."""
        if isinstance(self.seen, Reduced):
            raise ValueError("the features were worked off, expected a measure that needs none")
        return self.seen

    @property
    def loss_function(self) -> LossFunction | None:
        """None: the cross-entropy."""
        return self.predictions.loss_function

    @property
    def logits(self) -> Tensor:
        return self.predictions.logits

    @property
    def labels(self) -> Tensor:
        return self.predictions.labels

    @property
    def count(self) -> int:
        """N, the number of samples."""
        return self.predictions.count

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.mean_loss)

    @property
    def mean_loss(self) -> Tensor:
        """The same, () float64 on the device; so are all that are properties twice."""
        return self.predictions.mean_loss

    @property
    def accuracy(self) -> float:
        """The share of samples classified as labelled, in [0, 1]."""
        return float(self.hit_rate)

    @property
    def hit_rate(self) -> Tensor:
        return self._classified.hit_rate

    @property
    def agn(self) -> float:
        """mean_i s_i, s_i = ‖d_i‖² (‖h_i‖² + 1): the squared norm of the last layer's gradient.

        One epoch's term of AGN (gradient-norm paper, eq. 5), which sums it over epochs.
        """
        return float(self.closed_forms.agn)

    @property
    def agn_relative(self) -> float:
        """mean_i s_i / mean_i (‖h_i‖² + 1): hardly changed by h → ch, W → W/c."""
        return float(self.closed_forms.agn_relative)

    @property
    def brier(self) -> float:
        """mean_i ‖p_i − q_i‖², the multiclass Brier score, in [0, 2]; of one logit in [0, 1]."""
        self._need_cross_entropy("brier")
        return float(self.mean_brier)

    @property
    def mean_brier(self) -> Tensor:
        return self._squares.mean()

    @property
    def trace_hessian(self) -> float:
        """tr H, of the loss's Hessian in the last layer: mean_i (1 − ‖p_i‖²)(‖h_i‖² + 1)."""
        self._need_cross_entropy("trace_hessian")
        return float(self.closed_forms.trace_hessian)

    @property
    def tic(self) -> float:
        """mean_i s_i / tr H: the Takeuchi information criterion of the last layer, in traces."""
        self._need_cross_entropy("tic")
        return float(self.closed_forms.tic)

    @cached_property
    def closed_forms(self) -> ClosedForms:
        """The same but `brier`, () float64 on the device: reading them is left to the caller."""
        return ClosedForms(self._gradients, self._squares, self._sizes)

    @property
    def gsnr(self) -> float:
        """The mean over parameters of m_j² / ρ_j², mean² over variance of their gradients.

        The GSNR paper, eqs. 2 and 25. Parameters whose ρ_j² is rounding, at most 1e-12 of their
        mean square, are left out. Raises FloatingPointError, as all that follow, for logits,
        features or gradients that are not finite; what stands above is NaN or infinite then.
        """
        return self.moments.gsnr

    @property
    def osgr(self) -> float:
        """The one-step generalization ratio, in [−1, 1]: 1 − (A − B)/(N·B), the GSNR paper, eq. 19.

        A = mean_i ‖g_i‖², B = ‖mean_i g_i‖². 0 where no gradient is left.
        """
        return self.moments.osgr

    @property
    def same_sign(self) -> float:
        """The mean over parameters of the larger share of samples whose gradients agree in sign.

        In [0.5, 1]; zeros are left out, and parameters with fewer than 30 others; 0.5 where no
        parameter is left. After a ReLU it tells how the classes are shared, and nothing of the net:
        the sign of d_ic h_ik is then that of d_ic, so a balanced set of C classes gives 1 − 1/C.
        """
        return self.moments.same_sign

    @property
    def opposite_sign(self) -> float:
        """The share of weights whose sign is opposite to their mean gradient's (Figure 6b)."""
        return self._opposite_sign(1.0)

    @property
    def opposite_sign_top10(self) -> float:
        """The same among the tenth of the weights that are largest."""
        return self._opposite_sign(0.1)

    @cached_property
    def moments(self) -> Moments:
        """First and second moments and signs of the per-sample gradients of every parameter."""
        if isinstance(self.seen, Reduced) and self.seen.moments is not None:
            return self.seen.moments
        moments = no_moments(self.weight, *self._counts)
        d = self._gradients.whole
        for part in self._parts():
            add_samples(moments, d[part], self.features[part], self._counts[0])
        return moments

    @cached_property
    def margins(self) -> tuple[float, float, float]:
        """The 10 %, 50 % and 90 % points of the penultimate margin over samples.

        min_{j≠y} (z_y − z_j) / ‖W_y − W_j‖, divided by sqrt(Σ_k Var_i h_ik). 0 where features do
        not vary, and between classes whose weights are the same. Raises Refusal for one class.
        """
        classes = self.weight.shape[0]
        if classes < 2:
            raise Refusal("margin needs two classes, the last nn.Linear has one output")
        for values, what in ((self.logits, "a logit"), (self.features, "an activation")):
            check_finite(values, what)
        weight = self.weight.double()
        distance = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")
        inverse = torch.where(distance > 0, 1 / distance, 0.0)  # (C, C)
        labels = classes_of(self.logits, self._classified.labels)
        margins = []
        for part in self._parts():
            z, y = self.logits[part].double(), labels[part]
            gaps = (z.gather(1, y[:, None]) - z) * inverse[y]  # (n, C)
            gaps.scatter_(1, y[:, None], torch.inf)
            margins.append(gaps.amin(1))
        spread = self._spread()
        points = np.quantile(torch.cat(margins).cpu().numpy(), [0.1, 0.5, 0.9])
        low, middle, high = (float(point) / spread if spread else 0.0 for point in points)
        return low, middle, high

    @cached_property
    def _squares(self) -> Tensor:
        """‖d_i‖² (N,)."""
        return self._gradients.each(lambda d, _: d.square().sum(1))

    @cached_property
    def _gradients(self) -> OutputGradients:
        return OutputGradients(self.predictions)

    @property
    def _sizes(self) -> Tensor:
        """‖h_i‖² + 1 (N,)."""
        if isinstance(self.seen, Reduced):
            return self.seen.sizes
        return torch.cat([sizes(self.features[part], *self._counts) for part in self._parts()])

    @property
    def _counts(self) -> tuple[bool, bool]:
        return self.counts[0], self.counts[1] and self.bias is not None

    @cached_property
    def _classified(self) -> Predictions:
        """The predictions with labels that are classes; a loss of one's own may have others."""
        if self.loss_function is None:
            return self.predictions
        logits, labels = rows(self.logits, self.labels)
        counted(logits, labels)
        return Predictions(logits, labels)

    def _opposite_sign(self, largest: float) -> float:
        if not self.counts[0]:
            raise Refusal("opposite_sign needs the last nn.Linear's weight to be trained")
        return self.moments.opposite_sign(self.weight, largest)

    def _parts(self) -> Iterator[slice]:
        return (slice(start, start + CHUNK) for start in range(0, self.count, CHUNK))

    def _spread(self) -> float:
        """sqrt(Σ_k Var_i h_ik); 0 where it is only rounding."""
        mean = self.features.mean(0, dtype=torch.float64)  # (D,)
        square = float(mean.square().sum())
        weight, bias = self._counts
        variance = float(self.closed_forms.sizes.mean()) - bias - square if weight else 0.0
        if not weight or variance < CANCELLED * square:
            squares = ((self.features[part] - mean).square().sum() for part in self._parts())
            variance = float(sum(squares)) / self.count
        return math.sqrt(variance) if variance > ROUNDING**2 * square else 0.0

    def _need_cross_entropy(self, what: str) -> None:
        if self.loss_function is not None:
            raise Refusal(f"{what} is defined for cross-entropy, not for a loss of one's own")


@dataclass(frozen=True)
class OutputGradients:
    """d = p − q (N, C) float64, see `output_gradients`; of many rows made anew each time."""

    seen: Predictions

    def each(self, function: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """(N,): what a function makes of the d and the label of each row by itself."""
        seen = self.seen
        if seen.count <= ROWS:
            return function(self._kept, seen.labels)
        return by_rows(
            lambda z, y: function(output_gradients(z, y, seen.loss_function), y),
            seen.logits,
            seen.labels,
        )

    @property
    def whole(self) -> Tensor:
        seen = self.seen
        if seen.count <= ROWS:
            return self._kept
        return output_gradients(seen.logits, seen.labels, seen.loss_function)

    @cached_property
    def _kept(self) -> Tensor:
        return output_gradients(self.seen.logits, self.seen.labels, self.seen.loss_function)


@dataclass(frozen=True)
class ClosedForms:
    """The head measures that are a mean over samples and no more, left on the device unread.

    Each property is () float64.
    """

    gradients: OutputGradients
    squares: Tensor  # ‖d_i‖² (N,) float64
    sizes: Tensor  # ‖h_i‖² + 1 (N,) float64

    @property
    def agn(self) -> Tensor:
        """mean_i ‖d_i‖² (‖h_i‖² + 1)."""
        return (self.squares * self.sizes).mean()

    @property
    def agn_relative(self) -> Tensor:
        return ratio(self.agn, self.sizes.mean())

    @cached_property
    def trace_hessian(self) -> Tensor:
        """mean_i Σq_i (1 − ‖p_i‖²)(‖h_i‖² + 1); of one logit, p(1 − p) in the place of 1 − ‖p‖²."""
        return self.gradients.each(_variances) @ self.sizes / len(self.sizes)

    @property
    def tic(self) -> Tensor:
        return ratio(self.agn, self.trace_hessian)


def _variances(d: Tensor, labels: Tensor) -> Tensor:
    """Σq_i (1 − ‖p_i‖²) (N,) from d (N, C); of one logit p(1 − p)."""
    if d.shape[1] == 1:  # |d| is p or 1 − p
        p = (d + labels)[:, 0] if labels.is_floating_point() else d[:, 0].abs()
        return (p * (1 - p)).clamp_min_(0)
    squares = d.square().sum(1)
    if labels.is_floating_point():  # (Σq)² (1 − ‖p‖²) = (Σq)² − ‖q‖² − 2 d·q − ‖d‖²
        q, total = labels.double(), labels.double().sum(1)
        found = total.square() - q.square().sum(1) - 2 * (d * q).sum(1) - squares
        return (found / total.clamp_min(TINY)).clamp_min_(0)
    # −2 d_y − ‖d‖²: nothing cancels where the label is the likeliest class
    return (-2 * d.gather(1, labels[:, None])[:, 0] - squares).clamp_min_(0)
