"""Named inputs as one tensor, and a forward of one's own, for the measures of a whole network.

Those take a model of one tensor (B, …). Training packs what its task has (`measuring.py`);
`network.py` and `meter.py` what a batch of somebody's loop is. Nothing is lost by it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hpogen.errors import Refusal
from hpogen.measures.batches import Forward, Keywords, called

EXACT = 1 << 24  # float32 has the whole numbers below it
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Packed:
    """Batches `(inputs, targets)` of named inputs, with those side by side: (B, P) float32."""

    batches: Iterable[tuple[Mapping[str, Tensor], Tensor]]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, targets in self.batches:
            yield packed(inputs, torch.float32), targets


def packed(inputs: Mapping[str, Tensor], kind: torch.dtype) -> Tensor:
    """Raises Refusal for whole numbers that float32 has not."""
    return torch.cat([_flat(name, part, kind) for name, part in inputs.items()], 1)


def _flat(name: str, part: Tensor, kind: torch.dtype) -> Tensor:
    if not part.is_floating_point() and part.numel() and int(part.abs().max()) >= EXACT:
        raise Refusal(f"the input {name!r} has numbers of {EXACT} and more: a measure takes less")
    return part.flatten(1).to(kind)


class Unpacking(nn.Module):
    """A model of named inputs as one of a single tensor (B, P).

    It is given them as a mapping; or by name, or by a `forward` of one's own.
    """

    def __init__(
        self,
        model: nn.Module,
        shapes: Shapes,
        dtypes: Mapping[str, str],
        keywords: bool = False,
        forward: Forward | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self._shapes, self._dtypes = shapes, dtypes
        self._kind, self._forward = Keywords if keywords else dict, forward

    def forward(self, x: Tensor) -> Any:
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        inputs: dict[str, Tensor] = self._kind()
        for (name, shape), part in zip(self._shapes.items(), torch.split(x, sizes, 1), strict=True):
            kind = getattr(torch, self._dtypes[name])
            part = part.reshape(-1, *shape)
            inputs[name] = part if kind.is_floating_point else part.to(kind)
        return called(self.model, inputs, self._forward)

    @property
    def ablation_layer(self) -> Any:
        return self.model.ablation_layer


class Forwarding(nn.Module):
    """A model as one whose forward is one's own."""

    def __init__(self, model: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.model = model
        self._forward = forward

    def forward(self, x: Tensor) -> Any:
        return self._forward(self.model, x)


class OneTensor:
    """A model that is called in anybody's way, as those of one tensor that the batches ask for.

    Of each shape of named inputs it is another one, which is kept: much goes by it.
    """

    def __init__(self, model: nn.Module, forward: Forward | None = None) -> None:
        self.model = model
        self._forward = forward
        self._made: dict[object, nn.Module] = {}

    def of(self, x: Any) -> tuple[nn.Module, Tensor]:
        """The model for the inputs of a batch, and those as one tensor."""
        if not isinstance(x, Mapping):
            return self._kept(None, Forwarding, self._forward) if self._forward else self.model, x
        shapes = {name: tuple(part.shape[1:]) for name, part in x.items()}
        dtypes = {name: str(part.dtype).removeprefix("torch.") for name, part in x.items()}
        keywords = isinstance(x, Keywords)
        widest = functools.reduce(
            torch.promote_types,
            (part.dtype for part in x.values() if part.is_floating_point()),
            torch.float32,
        )
        key = (*shapes.items(), *dtypes.items(), keywords)
        made = self._kept(key, Unpacking, shapes, dtypes, keywords, self._forward)
        return made, packed(x, widest)

    def _kept(self, key: object, kind: type[nn.Module], *given: Any) -> nn.Module:
        """The model of that kind, which errors call by the name of the one inside."""
        if key not in self._made:
            own = {"__module__": kind.__module__}
            named = type(type(self.model).__name__, (kind,), own)
            self._made[key] = named(self.model, *given)
        return self._made[key]
