"""The GSNR paper's toy: many small regression nets on y = x₀x₁ + ε, all of them in one tensor.

`gsnr_toy.py` (Figure 5) and `gsnr_equation19.py` (Figure 8) train them by full-batch descent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gsnr_sides import Reading, Sides, Work, sides
from torch import Tensor, nn

PART = 10  # nets at a time: more would leave a CPU's cache


def draw(nets: int, n: int, noise: float, seed: int, device: str) -> tuple[Tensor, Tensor]:
    """Data of each net, x (M, n, 2) and y (M, n): x uniform in [−1, 1], ε in [−noise, noise]."""
    generator = torch.Generator().manual_seed(seed)
    x, epsilon = (
        2 * torch.rand(nets, n, columns, generator=generator, dtype=torch.float64) - 1
        for columns in (2, 1)
    )
    y = x.prod(2) + noise * epsilon[..., 0]
    return x.to(device), y.to(device)


@dataclass
class ToyNets:
    """M nets ŷ = w₂·relu(W₁x + b₁) + b₂ with N hidden units; the loss is (ŷ − y)², in float64."""

    w1: Tensor  # (M, N, 2)
    b1: Tensor  # (M, N)
    w2: Tensor  # (M, N)
    b2: Tensor  # (M, 1)

    @classmethod
    def alike(
        cls, nets: int, units: int, seed: int, device: str, spread: float | None = None
    ) -> ToyNets:
        """M copies of a net: torch's own initialisation, or weights N(0, spread²) and biases 0."""
        torch.manual_seed(seed)
        first, second = nn.Linear(2, units), nn.Linear(units, 1)
        if spread is not None:
            for layer in (first, second):
                nn.init.normal_(layer.weight, std=spread)
                nn.init.zeros_(layer.bias)
        parts = (first.weight, first.bias, second.weight[0], second.bias)
        return cls(*(p.detach().double().expand(nets, *p.shape).clone().to(device) for p in parts))

    @classmethod
    def joined(cls, many: list[ToyNets]) -> ToyNets:
        return cls(*(torch.cat(same) for same in zip(*(nets.parts for nets in many), strict=True)))

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.w1, self.b1, self.w2, self.b2

    def hidden(self, x: Tensor) -> Tensor:
        """The features, (M, n, N)."""
        return torch.baddbmm(self.b1[:, None], x, self.w1.mT).relu_()

    def outputs(self, hidden: Tensor) -> Tensor:
        return torch.baddbmm(self.b2[:, None], hidden, self.w2[..., None])[..., 0]  # (M, n)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean loss of each net, (M,)."""
        return (self.outputs(self.hidden(x)) - y).square().mean(1)

    def moments(self, x: Tensor, y: Tensor) -> tuple[ToyNets, ToyNets]:
        """Means over samples of the per-sample gradients and of their squares."""
        h, (error, back) = self._factors(x, y)
        squared = _means(error.square(), back.square(), h.square(), x.square())
        return _means(error, back, h, x), squared

    def gradient(self, x: Tensor, y: Tensor) -> ToyNets:
        h, factors = self._factors(x, y)
        return _means(*factors, h, x)

    def descend(self, gradient: ToyNets, rate: float, first: Tensor | None = None) -> None:
        """One step; `first` (M,), where given, multiplies that of the first layer (0: frozen)."""
        for layer, (own, its) in enumerate(zip(self.parts, gradient.parts, strict=True)):
            if first is not None and layer < 2:
                its = its * first.view(-1, *[1] * (its.ndim - 1))
            own.sub_(its, alpha=rate)

    def _factors(self, x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The features h, and the loss's gradients in ŷ (M, n) and in W₁x + b₁ (M, n, N)."""
        h = self.hidden(x)
        error = 2 * (self.outputs(h) - y)
        return h, (error, error[..., None] * self.w2[:, None] * (h > 0))


def _means(error: Tensor, back: Tensor, h: Tensor, x: Tensor) -> ToyNets:
    """Of the gradients in W₁, b₁, w₂ and b₂, which are products; of squares as well."""
    n = x.shape[1]
    w2 = (error[:, None] @ h)[:, 0] / n
    return ToyNets(back.mT @ x / n, back.mean(1), w2, error.mean(1, keepdim=True))


def _total(nets: ToyNets) -> Tensor:
    """The sum over all parameters of each net, (M,)."""
    return sum((part.flatten(1).sum(1) for part in nets.parts), torch.zeros(()))


def points(work: Work) -> list[Sides]:
    """Both sides at each of the epochs: `gsnr_sides.points` for the toy."""
    n, noise = work.setting.n, work.setting.noise
    test = draw(1, work.tested, noise, work.seed + 1, work.device)
    readings: dict[int, list[Reading]] = {epoch: [] for epoch in work.epochs}
    for start in range(0, work.sets, PART):
        count = min(PART, work.sets - start)
        x, y = draw(count, n, noise, work.seed + 2 + start, work.device)
        nets = ToyNets.alike(count, work.setting.channels, work.seed, work.device)
        for epoch in range(max(work.epochs) + 1):
            if epoch in readings:
                readings[epoch] += _read(nets, (x, y), test, work.rate)
            else:
                nets.descend(nets.gradient(x, y), work.rate)
    return [sides(epoch, found, n) for epoch, found in readings.items()]


def _read(
    nets: ToyNets, data: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], rate: float
) -> list[Reading]:
    """As `gsnr_sides.read`, for each of the nets."""
    shared = test[0].expand(len(nets.b2), -1, -1), test[1].expand(len(nets.b2), -1)
    mean, second = nets.moments(*data)
    squares = _total(ToyNets(*(part.square() for part in mean.parts)))
    variances = _total(second) - squares
    before = nets.loss(*data), nets.loss(*shared)
    nets.descend(mean, rate)
    after = nets.loss(*data), nets.loss(*shared)
    return [
        Reading((l0, l1), (t0, t1), s, v)
        for l0, l1, t0, t1, s, v in zip(
            *(t.tolist() for t in (before[0], after[0], before[1], after[1], squares, variances)),
            strict=True,
        )
    ]
