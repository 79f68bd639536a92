"""How the samples of a split are read: on the device, or fetched by the batch from where they lie.

`prepared.py` makes a trial's splits, the training steps and evaluations read them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hpogen.training.data.fitted import ByName, Fit, Normalization, X, unchanged
from hpogen.training.data.pictures import Pictures
from hpogen.training.data.stream import Streamed

READY = 1 << 24  # bytes of standardised inputs that a trial keeps


@dataclass(frozen=True)
class ByBatch:
    """Inputs that are fetched when asked for: from the data set's memory, or from their files.

    `inputs[chosen]` is what it would be of a tensor: (n, …) on the device.
    """

    source: Tensor | Pictures | Streamed  # (M, …), on the CPU
    rows: Tensor  # (N,) of the source, on the CPU
    device: torch.device

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: Tensor | slice) -> Tensor:
        rows = self.rows_at(chosen)
        if isinstance(self.source, Tensor):
            inputs = self.source.index_select(0, rows)
        else:
            inputs = torch.from_numpy(self.source[rows.numpy()])
        return _sent(self.device, inputs)

    def select(self, chosen: Tensor) -> ByBatch:
        """Those inputs, in that order."""
        return replace(self, rows=self.rows_at(chosen))

    def rows_at(self, chosen: Tensor | slice) -> Tensor:
        """Which rows of the source they are."""
        if isinstance(chosen, slice):
            return self.rows[chosen]
        return self.rows.index_select(0, chosen.cpu())


def _sent(device: torch.device, inputs: Tensor) -> Tensor:
    if device.type == "cuda":
        inputs = inputs.pin_memory()
    return inputs.to(device, non_blocking=True)


@dataclass(frozen=True)
class Ahead:
    """Inputs that are read ahead: `inputs[chosen]` is the next of the parts that were announced."""

    parts: Iterator[Tensor]
    device: torch.device

    def __getitem__(self, chosen: Tensor | slice) -> Tensor:
        return _sent(self.device, next(self.parts))


@dataclass(frozen=True)
class Named:
    """Named inputs: `inputs[chosen]` is a mapping of tensors, (n, …) each."""

    parts: Mapping[str, Tensor | ByBatch]

    def __getitem__(self, chosen: Tensor | slice) -> X:
        return {name: _taken(part, chosen) for name, part in self.parts.items()}

    def select(self, chosen: Tensor) -> Named:
        """Those inputs, in that order."""
        return Named({name: _selected(part, chosen) for name, part in self.parts.items()})


@dataclass(frozen=True)
class Split:
    """One split. Its inputs are read by `inputs[chosen]`, a tensor of indices or a slice."""

    inputs: Tensor | ByBatch | Named | Ahead  # (N, …), as the data set has them
    targets: Tensor  # (N,) int64, or float32 (N, K), on the device

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def in_memory(self) -> bool:
        """Whether all its inputs are tensors."""
        parts = self.inputs.parts.values() if isinstance(self.inputs, Named) else [self.inputs]
        return all(isinstance(getattr(part, "source", part), Tensor) for part in parts)

    def take(self, chosen: Tensor) -> tuple[Any, Tensor]:
        """The inputs (n, …) and the targets at `chosen` (n,), for a batch."""
        return _taken(self.inputs, chosen), self.targets.index_select(0, chosen)

    def select(self, chosen: Tensor) -> Split:
        """Those samples, in that order."""
        return Split(_selected(self.inputs, chosen), self.targets[chosen])

    @contextmanager
    def ahead(self, parts: Sequence[Tensor | slice], seed: int | None = None) -> Iterator[Split]:
        """The split within the block, in which its inputs are read at these parts, one by one.

        Where processes read, they begin here and end with the block. With a seed they read what
        training steps have.
        """
        inputs = self.inputs
        if not (isinstance(inputs, ByBatch) and isinstance(inputs.source, Streamed)):
            yield self
            return
        rows = [inputs.rows_at(part).numpy() for part in parts]
        with closing(inputs.source.read(rows, seed)) as found:
            yield replace(self, inputs=Ahead(found, inputs.device))


def _taken(inputs: Any, chosen: Tensor | slice) -> Any:
    """`inputs[chosen]`, of a tensor on a CPU in a tenth of the time."""
    if isinstance(inputs, Tensor) and isinstance(chosen, Tensor):
        return inputs.index_select(0, chosen)
    return inputs[chosen]


def _selected(inputs: Any, chosen: Tensor) -> Any:
    return inputs[chosen] if isinstance(inputs, Tensor) else inputs.select(chosen)


@dataclass(frozen=True)
class Batches:
    """Standardised `(inputs, targets)` of a split in its order, as often as they are asked for."""

    split: Split
    normalization: Fit
    memory_format: torch.memory_format
    size: int
    unit: Normalization | None = None

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        starts = range(0, len(self.split), self.size)
        parts = [slice(start, start + self.size) for start in starts]
        with self.split.ahead(parts) as split:
            for part in parts:
                inputs = self.normalization(split.inputs[part], self.memory_format)
                targets = split.targets[part]
                yield inputs, targets if self.unit is None else self.unit(targets)

    @property
    def targets(self) -> Tensor:
        """Those of all samples, as the batches have them."""
        targets = self.split.targets
        return targets if self.unit is None else self.unit(targets)

    def ready(self) -> Batches:
        """The same, standardised now where that is little: reading a batch is then all there is."""
        if not self.split.in_memory or len(self.split) * self._bytes_each() > READY:
            return self
        inputs, targets = next(iter(replace(self, size=len(self.split))))
        if isinstance(inputs, Mapping):
            split, fit = Split(Named(inputs), targets), ByName(dict.fromkeys(inputs, unchanged))
            return replace(self, split=split, normalization=fit, unit=None)
        return replace(self, split=Split(inputs, targets), normalization=unchanged, unit=None)

    def _bytes_each(self) -> int:
        """What the inputs of a sample take when they are standardised."""
        inputs, _ = next(iter(replace(self.sample(1), size=1)))
        parts = inputs.values() if isinstance(inputs, Mapping) else [inputs]
        return sum(part.nbytes for part in parts)

    def sample(self, count: int | None) -> Batches:
        """The same with `count` samples, evenly spaced in the split's order."""
        if count is None or count >= len(self.split):
            return self
        device = self.split.targets.device
        chosen = torch.arange(count, device=device) * len(self.split) // count
        return replace(self, split=self.split.select(chosen))
