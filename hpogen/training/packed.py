"""Named inputs as one tensor, for the measures of a whole network, which take one.

`measuring.py` packs the batches and wraps the model that unpacks them; nothing is lost by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hpogen.errors import Refusal

EXACT = 1 << 24  # float32 has the whole numbers below it


@dataclass(frozen=True)
class Packed:
    """Batches `(inputs, targets)` of named inputs, with those side by side: (B, P) float32."""

    batches: Iterable[tuple[Mapping[str, Tensor], Tensor]]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, targets in self.batches:
            parts = [_flat(name, part) for name, part in inputs.items()]
            yield torch.cat(parts, 1), targets


def _flat(name: str, part: Tensor) -> Tensor:
    if not part.is_floating_point() and part.numel() and int(part.abs().max()) >= EXACT:
        raise Refusal(f"the input {name!r} has numbers of {EXACT} and more: a measure takes less")
    return part.flatten(1).to(torch.float32)


class Unpacking(nn.Module):
    """A model of named inputs as one of a single tensor (B, P)."""

    def __init__(
        self, model: nn.Module, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str]
    ) -> None:
        super().__init__()
        self.model = model
        self._shapes, self._dtypes = shapes, dtypes

    def forward(self, x: Tensor) -> Any:
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        inputs = {}
        for (name, shape), part in zip(self._shapes.items(), torch.split(x, sizes, 1), strict=True):
            kind = getattr(torch, self._dtypes[name])
            part = part.reshape(-1, *shape)
            inputs[name] = part if kind.is_floating_point else part.to(kind)
        return self.model(inputs)

    @property
    def ablation_layer(self) -> Any:
        return self.model.ablation_layer
