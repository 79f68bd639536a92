"""What is fitted to the inputs and targets of a split, and how it is applied to a batch.

`prepared.py` fits: to images once for the standard training set, to all else the training subset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpogen.training.data.data import Array
from hpogen.training.data.splits import Indices
from hpogen.training.data.stream import Streamed

ROWS = 1 << 13  # that are in float64 at a time
ROUNDING = 1e-6  # a standard deviation below this part of the mean is float32's rounding
PLAIN = torch.contiguous_format
X = Tensor | Mapping[str, Tensor]
"""The inputs of a batch: (B, …), of named ones each."""
Fit = Callable[[Any, torch.memory_format], Any]
"""What was fitted to inputs, applied to those of a batch: an X to an X."""


@dataclass(frozen=True)
class Normalization:
    """A mean and a standard deviation of each feature, by which values are standardised.

    Of images each channel's over the standard training set, of other floats and of real targets
    each number's over the training subset.
    """

    mean: Tensor  # (1, C, 1, 1), or (1, …) as a sample is
    scale: Tensor  # as `mean`, one over the standard deviation

    def __call__(self, values: Tensor, memory_format: torch.memory_format = PLAIN) -> Tensor:
        found = torch.sub(values, self.mean).mul_(self.scale)  # the cast is part of the first
        return found.contiguous(memory_format=memory_format if found.ndim == 4 else PLAIN)

    def undone(self, values: Tensor) -> Tensor:
        """In the unit that they had."""
        return values / self.scale + self.mean


@dataclass(frozen=True)
class ByName:
    """What was fitted to each of named inputs."""

    parts: Mapping[str, Fit]

    def __call__(self, values: Mapping[str, Tensor], memory_format: torch.memory_format) -> X:
        return {name: fit(values[name], memory_format) for name, fit in self.parts.items()}


def unchanged(values: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Of integers, and of what is streamed, nothing is fitted."""
    return values.contiguous(memory_format=memory_format if values.ndim == 4 else PLAIN)


def fitted(values: Array, rows: Indices, device: torch.device) -> Fit:
    """What is fitted to those rows: to floats their moments, to integers nothing.

    What is streamed is not read for it: its data set is what standardises.
    """
    if values.dtype.kind != "f" or isinstance(values, Streamed):
        return unchanged
    return standard(values, rows, device)


def standard(
    values: Array,
    rows: Indices,
    device: torch.device,
    filled: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda chunk: chunk,
) -> Normalization:
    """The moments of each number of a sample over those rows; one that is always the same keeps
    its unit. `filled` puts numbers where there are none.
    """
    mean = _mean(values, rows, filled)
    variance = _mean(values, rows, lambda chunk: np.square(filled(chunk) - mean))
    varies = variance > np.square(ROUNDING * mean)
    scale = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1)), 1)
    parts = (torch.from_numpy(part.astype(np.float32))[None] for part in (mean, scale))
    return Normalization(*(part.to(device) for part in parts))


def _mean(
    values: Array, rows: Indices, of: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    stretches = np.array_split(rows, max(1, len(rows) // ROWS))
    sums = (of(values[stretch].astype(np.float64)).sum(0) for stretch in stretches)
    return np.asarray(sum(sums) / len(rows))
