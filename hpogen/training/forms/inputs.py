"""What a model is built for: shapes, types and the kind of target; without torch.

A data set tells it, a file of weights says it again, and `models/build.py` builds for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpogen.training.forms.tokens import Tokens

Shape = tuple[int, ...] | Mapping[str, tuple[int, ...]]
"""Of a sample, as a model sees it: (C, H, W) of an image; of named inputs each one's."""
Dtype = str | Mapping[str, str]
"""As a model sees it, "float32", "int64" or "uint8"; of named inputs each one's."""


@dataclass(frozen=True)
class Inputs:
    """What a plug-in's builder `(data, **options)` is told: shapes, types, the kind of target.

    `in_shape` and `dtype` ("float32", "int64" or "uint8", as the model sees it) are mappings for
    named inputs; `outputs` is how many numbers the model gives for a sample, or of the kind
    `positions` for each place in it. `tokens` is there where inputs are token ids. `cardinalities`
    are how many numbers each column of a table's "categories" has, 0 for the unknown included.
    """

    in_shape: Shape
    outputs: int
    kind: str = "classes"
    dtype: Dtype = "float32"
    tokens: Tokens | None = None
    cardinalities: tuple[int, ...] = ()
