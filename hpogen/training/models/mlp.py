"""The multi-layer perceptron: flattened pixels, equal hidden layers, ReLU."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn


class Mlp(nn.Sequential):
    """Units are removed from the last hidden activation."""

    @property
    def ablation_layer(self) -> nn.Module:
        return self[-2]


def mlp(
    in_shape: tuple[int, int, int], classes: int, *, width: int = 512, depth: int = 2
) -> nn.Module:
    """`depth` hidden layers of `width` units: 784-512-512-10 for 28×28×1 images, 10 classes."""
    if width < 1 or depth < 1:
        raise ValueError(f"model 'mlp' needs width and depth of at least 1, got {width}, {depth}")
    sizes = [math.prod(in_shape), *[width] * depth]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
    return Mlp(*layers, nn.Linear(sizes[-1], classes))
