"""Parts that networks of the battery are put together from, each with what must become of it.

A block takes hidden values h (N, WIDTH) and gives as many; `mixes` says that the samples of a batch
change each other's, so that there is no gradient of one sample, `odd` that it may be refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

N = 8  # samples, and places of a sequence, bags' instances, prototypes: what may be confounded
WIDTH = 6
CLASSES = 4


@dataclass(frozen=True)
class Part:
    run: Callable[[Block, Tensor], Tensor]
    mixes: bool = False
    odd: bool = False


class Block(nn.Module):
    """One of PARTS, with the layers and parameters that they use."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.part = PARTS[name]
        self.layer = nn.Linear(WIDTH, WIDTH)
        if name == "idle":
            self.other = nn.Linear(WIDTH, WIDTH)
        if name == "frozen weight":
            self.layer.weight.requires_grad_(False)
        if name == "frozen layer":
            self.layer.requires_grad_(False)
        if name == "weight norm":
            self.layer = parametrizations.weight_norm(self.layer)
        if name in ("low rank", "scale", "scalar", "alias", "tied transpose"):
            shapes = {"low rank": (2, WIDTH), "alias": (WIDTH, WIDTH), "scale": (WIDTH,)}
            self.own = nn.Parameter(torch.randn(shapes.get(name, ())))
            self.known = [self.own]  # the parameter itself, beside the module's register
        if name in ("complex", "complex filter"):
            self.layer = nn.Linear(WIDTH, WIDTH, dtype=torch.complex64)
        if name == "prototypes":
            self.own = nn.Parameter(torch.randn(N, WIDTH))
        if name == "convolution":
            self.layer = nn.Conv1d(1, 1, 3, padding=1)
        if name == "group norm":
            self.layer = nn.GroupNorm(2, WIDTH)
        if name == "batch norm":
            self.layer = nn.BatchNorm1d(WIDTH)
        if name == "batch norm of the batch":
            self.layer = nn.BatchNorm1d(WIDTH, track_running_stats=False)
        if name == "table":
            self.layer = nn.Embedding(N, WIDTH)

    def forward(self, h: Tensor) -> Tensor:
        return self.part.run(self, h)


def _on(block: Block, h: Tensor) -> Tensor:
    return block.layer(h).tanh()


def _sorted(block: Block, h: Tensor) -> Tensor:
    order = h.norm(dim=1).argsort()
    return _on(block, h[order])[order.argsort()]


def _sorted_by_selection(block: Block, h: Tensor) -> Tensor:
    order = torch.sort(h.sum(1), descending=True).indices
    behind = _on(block, h.index_select(0, order))
    return torch.zeros_like(behind).index_copy(0, order, behind)


def _permutation(block: Block, h: Tensor) -> Tensor:
    order = h[:, 0].argsort()
    matrix = (order[:, None] == torch.arange(len(h), device=h.device)).to(h)
    return matrix.T @ _on(block, matrix @ h)


def _nearly_sorted(block: Block, h: Tensor) -> Tensor:
    """Only two samples change places, wherever they are."""
    order = torch.arange(len(h), device=h.device)
    first, last = h[:, 0].argmin(), h[:, 0].argmax()
    order = torch.where(order == first, last, torch.where(order == last, first, order))
    return _on(block, h[order])[order]


def _halves(block: Block, h: Tensor) -> Tensor:
    first, second = h[: len(h) // 2], h[len(h) // 2 :]
    return _on(block, torch.cat([second, first])).roll(len(first), 0)


def _bags(block: Block, h: Tensor) -> Tensor:
    """A loop over samples, each of which becomes a bag of N instances."""
    shifts = torch.linspace(0, 1, N, device=h.device, dtype=h.dtype)[:, None]
    return torch.stack([_on(block, row + shifts * row.flip(0)).mean(0) for row in h])


def _sometimes_bags(block: Block, h: Tensor) -> Tensor:
    return _bags(block, h) + _on(block, h)


def _places_first(block: Block, h: Tensor) -> Tensor:
    shifts = torch.linspace(0, 1, N, device=h.device, dtype=h.dtype)[:, None, None]
    return _on(block, h + shifts * h.flip(1)).mean(0)  # of (N places, N samples, WIDTH)


def _prototypes(block: Block, h: Tensor) -> Tensor:
    return functional.softmax(_on(block, h) @ block.layer(block.own).T, 1) @ block.own


def _table(block: Block, h: Tensor) -> Tensor:
    places = block.layer(torch.arange(N, device=h.device))
    return (h @ places.T).softmax(1) @ places


def _last_of_each(block: Block, h: Tensor) -> Tensor:
    sequence = _on(block, torch.stack([h, h.flip(1), 2 * h], 1))
    last = (h[:, 0] > 0).long() + 1
    return sequence[torch.arange(len(h), device=h.device), last]


def _attention(block: Block, h: Tensor) -> Tensor:
    q = _on(block, h)
    return functional.scaled_dot_product_attention(q[None], h[None], h[None])[0]


def _expert_choice(block: Block, h: Tensor) -> Tensor:
    scores = h[:, 0]
    chosen = scores.topk(max(1, len(h) // 2)).indices
    return h.index_add(0, chosen, _on(block, h[chosen]))


def _above_the_mean(block: Block, h: Tensor) -> Tensor:
    return torch.where(h > h.mean(0), _on(block, h), h)


def _straight_through(block: Block, h: Tensor) -> Tensor:
    """The gradients are mixed and the values are not."""
    h = _on(block, h)
    mean = h.mean(0)
    return h + mean - mean.detach()


def _one_hot_routing(block: Block, h: Tensor) -> Tensor:
    """Experts for each sample, none of which sees the others."""
    gate = functional.one_hot(h[:, :2].argmax(1), 2).to(h)
    return gate[:, :1] * _on(block, h) + gate[:, 1:] * h


def _complex(block: Block, h: Tensor) -> Tensor:
    return block.layer(torch.complex(h, h.flip(1))).abs()


def _complex_filter(block: Block, h: Tensor) -> Tensor:
    weight = block.layer.weight[0, : WIDTH // 2 + 1]
    return torch.fft.irfft(torch.fft.rfft(h) * weight, n=WIDTH)


def _noisy(block: Block, h: Tensor) -> Tensor:
    return functional.dropout(_on(block, h), training=True)


def _guarded(block: Block, h: Tensor) -> Tensor:
    if h.isnan().any():
        raise ValueError("not a number")
    return _on(block, h)


PARTS: Mapping[str, Part] = {
    "plain": Part(_on),
    "twice": Part(lambda b, h: _on(b, _on(b, h))),
    "idle": Part(_on),
    "frozen weight": Part(_on),
    "frozen layer": Part(_on),
    "weight norm": Part(_on),
    "batch norm": Part(_on),
    "group norm": Part(_on),
    "convolution": Part(lambda b, h: _on(b, h[:, None])[:, 0]),
    "checkpoint": Part(lambda b, h: checkpoint(_on, b, h, use_reentrant=False)),
    "low rank": Part(lambda b, h: _on(b, h) + h @ b.own.T @ b.own),
    "scale": Part(lambda b, h: _on(b, h) * b.own),
    "scalar": Part(lambda b, h: _on(b, h) * b.own.exp()),
    "tied transpose": Part(lambda b, h: _on(b, h) @ b.layer.weight * b.own),
    "alias": Part(lambda b, h: _on(b, h) @ b.known[0], odd=True),
    "looped": Part(lambda b, h: torch.cat([_on(b, row[None]) for row in h])),
    "looped, without a batch": Part(lambda b, h: torch.stack([_on(b, row) for row in h])),
    "bags": Part(_bags),
    "sometimes bags": Part(_sometimes_bags),
    "places first": Part(_places_first),
    "last of each": Part(_last_of_each),
    "table": Part(_table),
    "prototypes": Part(_prototypes),
    "sorted": Part(_sorted),
    "sorted twice": Part(lambda b, h: _sorted(b, _on(b, h))),
    "sorted by selection": Part(_sorted_by_selection),
    "nearly sorted": Part(_nearly_sorted),
    "permuted by a matrix": Part(_permutation),
    "flipped": Part(lambda b, h: _on(b, h.flip(0)).flip(0)),
    "rolled": Part(lambda b, h: _on(b, h.roll(1, 0)).roll(-1, 0)),
    "halves": Part(_halves),
    "one-hot routing": Part(_one_hot_routing, odd=True),
    "guarded": Part(_guarded),
    "complex": Part(_complex),
    "complex filter": Part(_complex_filter),
    "straight through": Part(_straight_through, mixes=True),
    "noisy": Part(_noisy, mixes=True),  # or rather: has no value
    "centred": Part(lambda b, h: _on(b, h - h.mean(0)), mixes=True),
    "centred behind": Part(lambda b, h: _on(b, h) - h.mean(0), mixes=True),
    "over its maximum": Part(lambda b, h: _on(b, h / h.abs().max()), mixes=True),
    "over the batch's size": Part(lambda b, h: _on(b, h) / len(h), mixes=True),
    "summed up": Part(lambda b, h: _on(b, h.cumsum(0)), mixes=True),
    "neighbours": Part(lambda b, h: _on(b, h) + h.roll(1, 0), mixes=True),
    "attention": Part(_attention, mixes=True),
    "softmax routing": Part(lambda b, h: _on(b, h) * h.softmax(0), mixes=True),
    "expert choice": Part(_expert_choice, mixes=True),
    "above the mean": Part(_above_the_mean, mixes=True),
    "above the median": Part(
        lambda b, h: torch.where(h > h.median(0).values, _on(b, h), h), mixes=True
    ),
    "batch norm of the batch": Part(_on, mixes=True),
}
