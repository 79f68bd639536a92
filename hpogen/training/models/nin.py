"""Network in network (Lin et al. 2014) as in the PGDL competition: tasks 2, 6 and 9."""

from __future__ import annotations

from torch import nn

from hpogen.training.models.parts import (
    Ablated,
    check_dropout,
    check_least,
    convolution,
    initialised,
)


class Nin(Ablated):
    """Units are removed from the last activation, before the average over space."""


def nin(
    in_shape: tuple[int, int, int],
    classes: int,
    *,
    width: int = 256,
    blocks: int = 3,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> nn.Module:
    """1,584,650 parameters for 32×32×3 images and 10 classes.

    `blocks` (2, 3 or 4) of a 3×3 convolution with stride 2 and two of 1×1, all with `width` (256
    or 512) channels, each ended by `dropout` (0, 0.25 or 0.5); the competition's description leaves
    the kernels and the stride open, they are those of Jiang et al. 2020 (Fantastic generalization
    measures) as Dziugaite et al. 2020 rebuilt them. The original ends in a 1×1 convolution to a map
    per class and the average over each map. Both are linear, so the average comes first here and an
    `nn.Linear` after it: the same function with the same parameters, and head measures are defined.
    He's initialisation.
    """
    check_least("nin", width=width, blocks=blocks)
    check_dropout("nin", dropout)
    layers: list[nn.Module] = []
    channels = in_shape[0]
    for _ in range(blocks):
        layers += convolution(channels, width, batch_norm, stride=2)
        layers += convolution(width, width, batch_norm, size=1)
        layers += convolution(width, width, batch_norm, size=1)
        layers.append(nn.Dropout(dropout))
        channels = width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
    return initialised(Nin(*layers, *head))
