"""The multi-layer perceptron: flattened pixels, equal hidden layers, ReLU."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import nn

from hpogen.training.models.parts import Ablated, check_least


class Mlp(Ablated):
    """Units are removed from the last hidden activation."""


def mlp(
    in_shape: tuple[int, int, int], classes: int, *, width: int = 512, depth: int = 2
) -> nn.Module:
    """669,706 parameters for 28×28×1 images and 10 classes: 784-512-512-10.

    `depth` hidden layers of `width` units.
    """
    check_least("mlp", width=width, depth=depth)
    sizes = [math.prod(in_shape), *[width] * depth]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU(inplace=True)]
    return Mlp(*layers, nn.Linear(sizes[-1], classes))
