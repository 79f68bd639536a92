"""The ablation family: how a class's accuracy falls as its most or least active units are removed.

Sparsity paper, §3. `ablation_curves` is for any PyTorch loop, `zeta_and_kappa` for the catalogue.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hpogen.errors import Refusal
from hpogen.measures.ablation_layer import AblationLayer
from hpogen.measures.batches import Batch, first, pairs
from hpogen.measures.head import HeadStatistics
from hpogen.measures.head_pass import head_statistics
from hpogen.measures.last_linear import LastLinear
from hpogen.measures.passes import check_finite, undisturbed
from hpogen.measures.targets import classes_of, labelled
from hpogen.plugins import Measured

GRID = 33  # values of n, where every one is a forward pass
CHUNK = 1 << 18  # logits that are in float64 at a time: they stay in the cache
TOLERANCE = 1e-3  # of the logits' size: what the closed form may differ by from a forward pass


@dataclass(frozen=True)
class Ablation:
    """The two curves of each class and what follows from them, sparsity paper §3.

    K classes that have samples, M units, G numbers n of removed units. `falling` (K, G) is E(n),
    the most active removed first, `rising` (K, G) is E_r(n), the least active first: accuracies on
    the class's training samples.
    """

    layer: str
    classes: tuple[int, ...]
    samples: tuple[int, ...]  # of each class
    chance: float  # 1 / number of classes
    grid: tuple[int, ...]  # 0 … M
    falling: Tensor
    rising: Tensor
    closed_form: bool

    @property
    def units(self) -> int:
        return self.grid[-1]

    @property
    def reaches_chance(self) -> Tensor:
        """Whether E(n) falls to chance (K,): whether eq. 2 defines n0."""
        return (self.falling <= self.chance).any(1)

    @property
    def turning_points(self) -> Tensor:
        """n0 of eq. 2 and n0r of eq. 3 (K, 2).

        A class that never falls to chance has n0 at the first least E; among equal E_r the largest
        n is n0r.
        """
        gone = self.falling <= self.chance  # (K, G)
        first = torch.where(self.reaches_chance, gone.int().argmax(1), self.falling.argmin(1))
        last = len(self.grid) - 1 - self.rising.flip(1).argmax(1)
        return torch.tensor(self.grid)[torch.stack((first, last), 1)]

    @property
    def zetas(self) -> Tensor:
        """ζ_j (K,) = (n0 + M − n0r) / 2M (eq. 4)."""
        points = self.turning_points
        return (points[:, 0] + self.units - points[:, 1]).double() / (2 * self.units)

    @property
    def kappas(self) -> Tensor:
        """κ_j (K,) = Σ_n |E_r − E| / M (eq. 5); between the grid's points a straight line."""
        return self._area(torch.arange(len(self.grid)))

    @property
    def metrics(self) -> dict[str, float]:
        """Means over the classes (eq. 6); `kappa_fit` is κ over the mean accuracy, E(0).

        `kappa_fit` is 0 for a net that gets nothing right.
        """
        kappa, accuracy = float(self.kappas.mean()), float(self.falling[:, 0].mean())
        fit = kappa / accuracy if accuracy else 0.0
        return {"zeta": float(self.zetas.mean()), "kappa": kappa, "kappa_fit": fit}

    @property
    def interpolation_error(self) -> dict[str, float]:
        """What a grid that is not 0, 1, … M may cost each metric; zeros for a whole one.

        For ζ a bound that holds where E falls and E_r has one peak: both turning points lie less
        than a step away. For κ the change from a grid of every second point to this one.
        """
        steps = torch.tensor(self.grid).diff()
        missing = int(steps.max()) - 1
        if not missing:
            return {"zeta": 0.0, "kappa": 0.0}
        coarse = torch.tensor([*range(0, len(self.grid) - 1, 2), len(self.grid) - 1])
        kappa = float((self._area(coarse) - self.kappas).mean().abs())
        return {"zeta": missing / self.units, "kappa": kappa}

    def _area(self, points: Tensor) -> Tensor:
        """The curves' difference under straight lines through some of the grid's points, over M.

        The sum over all n of eq. 5, and the trapezoid rule: the difference is 0 at both ends.
        """
        apart = (self.rising - self.falling).abs()[:, points]  # (K, points)
        return torch.trapezoid(apart, torch.tensor(self.grid)[points].double(), dim=1) / self.units

    def record(self) -> dict[str, object]:
        """What `ablation.json` holds: plain values, accuracies to six digits."""

        def rounded(values: Tensor) -> object:
            return (values * 1e6).round().div(1e6).tolist()

        return {
            "layer": self.layer,
            "units": self.units,
            "closed_form": self.closed_form,
            "interpolation_error": self.interpolation_error,
            "classes": list(self.classes),
            "samples": list(self.samples),
            "zeta": rounded(self.zetas),
            "kappa": rounded(self.kappas),
            "removed": list(self.grid),
            "most_active_first": rounded(self.falling),
            "least_active_first": rounded(self.rising),
        }


def ablation_curves(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    layer: str | None = None,
    grid: Literal["all"] | int = GRID,
) -> Ablation:
    """Remove the units of a layer one after another, per class, and follow the class's accuracy.

    `batches` of images (B, …) and labels (B,) are gone through more than once. `layer` is a
    module's name, by default the model's `ablation_layer` (a name, a module, or a method that gives
    one); a unit is a position of dimension 1 of its output. Where the units reach the last layer by
    an average over space or directly, every n is a partial sum and costs no forward pass; elsewhere
    `grid` values of n (at least 2) or all cost two each (of the tail alone in an `nn.Sequential`).
    Raises Refusal, naming the model, without such a layer, ValueError if there is no sample, and
    FloatingPointError for a logit that is not finite. Parameters, buffers, `.grad`, modes and
    torch's random state are left as they were.
    """
    if grid != "all" and grid < 2:
        raise ValueError(f"got grid={grid}, expected 'all' or at least 2 values of n")
    units = AblationLayer(model, layer)
    with undisturbed(model), torch.no_grad():
        separate = units.are_rows(batches)
        if not separate:
            units.require_unmixed(batches)
        if _has_closed_form(model, units, batches):
            return _from_partial_sums(head_statistics(model, batches), units.name)
        return _from_forwards(units, batches if separate else Singles(batches), grid)


def zeta_and_kappa(model: nn.Module, batches: Iterable[Batch]) -> Measured:
    """`zeta`, `kappa` and `kappa_fit`, and per class in `ablation.json`."""
    result = ablation_curves(model, batches)
    text = json.dumps(result.record(), separators=(",", ":"))
    return Measured(result.metrics, {"ablation.json": text.encode()})


def _has_closed_form(model: nn.Module, units: AblationLayer, batches: Iterable[Batch]) -> bool:
    """Whether removing units is removing their terms from the last layer, tried on one batch.

    Both must give the same logits with every second unit removed, and with the others removed.
    """
    x = units.on_device(first(batches)[0])
    with LastLinear(model) as last:
        logits, means, _ = units.run(x)  # (B, C), (B, M)
        try:
            linear, features = last.read(logits)
        except Refusal:
            return False
    if means.shape != features.shape:
        return False
    tail = units.tail(x)
    for removed in (0, 1):
        kept = torch.ones_like(means)
        kept[:, removed::2] = 0
        partial = nn.functional.linear(means * kept, linear.weight, linear.bias)
        error = float((tail(kept) - partial).abs().max())
        if not error <= TOLERANCE * float(logits.abs().max()):
            return False
    return True


def _from_partial_sums(head: HeadStatistics, layer: str) -> Ablation:
    """Every n from one pass: the logits without some units are b plus the others' terms h_u W_:u.

    Both sums begin at b, so that nothing is left of a unit that is removed.
    """
    check_finite(head.logits, "a logit")
    check_finite(head.features, "an activation")
    count, classes = head.features.shape[1], head.logits.shape[1]
    bias = head.bias.double() if head.bias is not None else head.weight.new_zeros(classes).double()
    labels = classes_of(head.logits, head.labels)
    samples = labels.bincount(minlength=classes)
    correct = torch.zeros(2, classes, count + 1, dtype=torch.int64, device=labels.device)
    for j in samples.nonzero()[:, 0].tolist():
        features = head.features[labels == j].double()  # (N_j, M)
        order = _ranked(features.mean(0))
        weight = head.weight.double().T[order]  # (M, C), the most active first
        for part in torch.split(features[:, order], max(CHUNK // (count * classes), 1)):
            terms = part[:, :, None] * weight  # (n, M, C)
            for side, ordered in enumerate((terms.flip(1), terms)):
                start = bias.expand(len(part), 1, classes)
                logits = torch.cat([start, ordered], 1).cumsum(1)  # (n, M + 1, C), k units kept
                correct[side, j] += (logits.argmax(2) == j).sum(0).flip(0)  # by units removed
    return _curves(layer, samples, range(count + 1), correct, closed_form=True)


def _from_forwards(
    units: AblationLayer, batches: Iterable[Batch], grid: Literal["all"] | int
) -> Ablation:
    """Two forward passes from the layer on for each n, over all classes together."""
    sums, samples = units.class_sums(batches)  # (C, M), (C,)
    classes, count = sums.shape
    order = torch.stack([_ranked(row) for row in sums])  # (C, M)
    place = order.argsort(1)  # (C, M), 0 for a class's most active unit
    points = count + 1 if grid == "all" else min(grid, count + 1)
    numbers = [round(i * count / (points - 1)) for i in range(points)]
    correct = torch.zeros(2, classes, len(numbers), dtype=torch.int64, device=sums.device)
    for x, y in labelled(pairs(batches)):
        labels = classes_of(sums.new_empty(len(y), classes), units.on_device(y))
        tail = units.tail(units.on_device(x))
        for i, n in enumerate(numbers):
            for side, kept in enumerate((place >= n, place < count - n)):
                logits = tail(kept[labels])  # (B, C)
                check_finite(logits, f"a logit without {n} units")
                right = logits.argmax(1) == labels  # (B,)
                correct[side, :, i] += labels[right].bincount(minlength=classes)
    return _curves(units.name, samples, numbers, correct, closed_form=False)


def _curves(
    layer: str, samples: Tensor, grid: Sequence[int], correct: Tensor, *, closed_form: bool
) -> Ablation:
    """From how many there are of each class, (C,), and how many of them are right, (2, C, G)."""
    present = samples.nonzero()[:, 0]  # (K,)
    falling, rising = (correct[:, present].double() / samples[present, None]).cpu()  # (K, G)
    return Ablation(
        layer=layer,
        classes=tuple(present.tolist()),
        samples=tuple(samples[present].tolist()),
        chance=1 / len(samples),
        grid=tuple(grid),
        falling=falling,
        rising=rising,
        closed_form=closed_form,
    )


class Singles:
    """The samples of batches one by one."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Batch]:
        for x, y in pairs(self._batches):
            yield from zip(torch.split(x, 1), torch.split(y, 1), strict=True)


def _ranked(activation: Tensor) -> Tensor:
    """Units from the most to the least active; of equals the first in the layer is first."""
    return activation.argsort(descending=True, stable=True)
