"""The multi-layer perceptron: flattened inputs, equal hidden layers, ReLU; embedded categories."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from hpogen.training.forms.inputs import Inputs
from hpogen.training.models.parts import Ablated, check_least


class Mlp(Ablated):
    """Units are removed from the last hidden activation."""


class Columns(nn.Module):
    """The numbers of a table's rows, and a vector for each category: (B, D) and (B, C) to one.

    Each column has an embedding of its own (Guo and Berkhahn 2016, "Entity embeddings of
    categorical variables"), of min(50, ⌈n/2⌉) numbers for n categories, the unknown one included:
    fast.ai's rule of 2018.
    """

    def __init__(self, numbers: int, cardinalities: tuple[int, ...]) -> None:
        super().__init__()
        pairs = [(count, min(50, (count + 1) // 2)) for count in cardinalities]
        self.embeddings = nn.ModuleList(nn.Embedding(*pair) for pair in pairs)
        self.size = numbers + sum(width for _, width in pairs)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        columns = x["categories"].unbind(1)
        parts = [embed(column) for embed, column in zip(self.embeddings, columns, strict=True)]
        return torch.cat([*([x["numbers"]] if "numbers" in x else []), *parts], 1)  # (B, size)


def mlp(data: Inputs, *, width: int = 512, depth: int = 2) -> nn.Module:
    """669,706 parameters for 28×28×1 images and 10 classes: 784-512-512-10.

    `depth` hidden layers of `width` units.
    """
    check_least("mlp", width=width, depth=depth)
    first, size = flat(data)
    layers: list[nn.Module] = [first]
    for inputs, outputs in pairwise([size, *[width] * depth]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
    return Mlp(*layers, nn.Linear(width, data.outputs))


def flat(data: Inputs) -> tuple[nn.Module, int]:
    """What makes of a sample's inputs one row of numbers, and how many those are."""
    if not isinstance(data.in_shape, Mapping):
        return nn.Flatten(), math.prod(data.in_shape)
    (numbers,) = data.in_shape.get("numbers", (0,))
    columns = Columns(numbers, data.cardinalities)
    return columns, columns.size
