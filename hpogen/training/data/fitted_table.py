"""What is fitted to the columns of a table: medians, moments and vocabularies of some rows.

`prepared.py` fits it to a trial's training subset, which alone is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hpogen.training.data.data import Table
from hpogen.training.data.fitted import PLAIN, ByName, Fit, Normalization, standard
from hpogen.training.data.splits import Indices


@dataclass(frozen=True)
class Filled:
    """Numbers: a missing one is the median of its column, before they are standardised.

    Behind them stands, for each column with gaps in the subset, 1 where there is one, else 0.
    """

    median: Tensor  # (1, D)
    normalization: Normalization
    gaps: Tensor  # (M,) the columns that had some

    def __call__(self, values: Tensor, memory_format: torch.memory_format = PLAIN) -> Tensor:
        missing = values.isnan()  # (B, D)
        found = self.normalization(torch.where(missing, self.median, values))
        return torch.cat([found, missing.index_select(1, self.gaps).to(found.dtype)], 1)


@dataclass(frozen=True)
class Vocabulary:
    """Categories: each column's are numbered anew, from 1 on, as far as the subset has them.

    All others are 0, which stands for what is not known.
    """

    lookup: Tensor  # the columns' tables, one behind the other
    starts: Tensor  # (C,) where each begins
    cardinalities: tuple[int, ...]  # of each column, 0 included

    def __call__(self, values: Tensor, memory_format: torch.memory_format = PLAIN) -> Tensor:
        return self.lookup[values + self.starts]

    def of_any(self, values: Tensor, memory_format: torch.memory_format = PLAIN) -> Tensor:
        """The same for any numbers: those that are no category's are not known."""
        ends = torch.cat([self.starts[1:], self.starts.new_tensor([len(self.lookup)])])
        places = values + self.starts
        known = (values >= 0) & (places < ends)
        found = self.lookup[torch.where(known, places, 0)]
        return torch.where(known, found, 0)


def of_table(inputs: Any, table: Table, rows: Indices, device: torch.device) -> Fit:
    """What is fitted to those rows."""
    if not isinstance(inputs, Mapping):
        return _of_numbers(inputs, table, rows, device)
    parts: dict[str, Fit] = {}
    if "numbers" in inputs:
        parts["numbers"] = _of_numbers(inputs["numbers"], table, rows, device)
    parts["categories"] = _of_categories(inputs["categories"], table, rows, device)
    return ByName(parts)


def _of_numbers(
    values: NDArray[np.float32], table: Table, rows: Indices, device: torch.device
) -> Fit:
    if not table.missing:
        return standard(values, rows, device)
    columns = [column[~np.isnan(column)] for column in (part[rows] for part in values.T)]
    median = np.array([np.median(column) if len(column) else 0 for column in columns])
    normalization = standard(
        values, rows, device, lambda chunk: np.where(np.isnan(chunk), median, chunk)
    )
    gaps = np.flatnonzero([len(column) < len(rows) for column in columns])
    filling = torch.from_numpy(median.astype(np.float32))[None]
    return Filled(filling.to(device), normalization, torch.from_numpy(gaps).to(device))


def _of_categories(
    codes: NDArray[np.int64], table: Table, rows: Indices, device: torch.device
) -> Vocabulary:
    sizes = [len(texts) for texts in table.categories.values()]
    starts = np.cumsum([0, *sizes[:-1]])
    lookup, cardinalities = np.zeros(sum(sizes), np.int64), []
    for start, column in zip(starts, codes.T, strict=True):
        known = np.unique(column[rows])
        lookup[start + known] = np.arange(len(known)) + 1
        cardinalities.append(len(known) + 1)
    tables, begins = (torch.from_numpy(part).to(device) for part in (lookup, starts))
    return Vocabulary(tables, begins, tuple(cardinalities))


def seen(fit: Fit, inputs: Any, device: torch.device) -> dict[str, Any]:
    """What a model sees of a sample, as it stands in a `Prepared`."""
    if not isinstance(inputs, Mapping):
        found = fit(torch.from_numpy(inputs[:1]).to(device), PLAIN)
        return {"in_shape": tuple(found.shape[1:]), "dtype": "float32"}
    one = {name: torch.from_numpy(part[:1]).to(device) for name, part in inputs.items()}
    found = fit(one, PLAIN)
    return {
        "in_shape": {name: tuple(part.shape[1:]) for name, part in found.items()},
        "dtype": {name: str(part.dtype).removeprefix("torch.") for name, part in found.items()},
        "cardinalities": fit.parts["categories"].cardinalities,  # type: ignore[attr-defined]
    }
