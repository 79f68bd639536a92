"""The dense nets for CIFAR (Huang et al. 2017): each layer sees the outputs of all before it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hpogen.training.models.parts import (
    Ablated,
    check_dropout,
    check_least,
    check_size,
    initialised,
)

LAYERS = 96  # of depth 100: the stem, two transitions and the last layer are the other four


class Dense(nn.Module):
    """Adds `growth` channels to its input: BatchNorm, ReLU and a 3×3 convolution.

    With `bottleneck` a 1×1 convolution to 4·growth channels comes before, in the same order.
    Dropout follows each convolution.
    """

    def __init__(self, inputs: int, growth: int, bottleneck: bool, dropout: float) -> None:
        super().__init__()
        layers = _composite(inputs, 4 * growth, 1, dropout) if bottleneck else []
        layers += _composite(4 * growth if bottleneck else inputs, growth, 3, dropout)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.layers(x)), 1)  # (N, inputs + growth, H, W)


class DenseNet(Ablated):
    """Units are removed from the last activation, before the average over space."""


def densenet(name: str) -> Callable[..., nn.Module]:
    """The builder of three blocks at full, half and quarter resolution; BC where the name says so.

    BC: bottlenecks, 2·growth channels in the stem instead of 16, and half of the channels pass a
    transition. He's initialisation, as in the paper; `dropout` was 0.2 there without augmentation.
    The builder raises ValueError for images of less than 4×4.
    """
    bottleneck = name.endswith("-bc")

    def build(
        in_shape: tuple[int, int, int], classes: int, *, growth: int = 24, dropout: float = 0.0
    ) -> nn.Module:
        check_size(name, in_shape)
        check_least(name, growth=growth)
        check_dropout(name, dropout)
        channels = 2 * growth if bottleneck else 16
        layers: list[nn.Module] = [nn.Conv2d(in_shape[0], channels, 3, padding=1, bias=False)]
        for block in range(3):
            if block:
                kept = channels // 2 if bottleneck else channels
                layers += [*_composite(channels, kept, 1, dropout), nn.AvgPool2d(2)]
                channels = kept
            for _ in range(LAYERS // 3 // (2 if bottleneck else 1)):
                layers.append(Dense(channels, growth, bottleneck, dropout))
                channels += growth
        layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
        return initialised(DenseNet(*layers, *head))

    return build


def _composite(inputs: int, outputs: int, size: int, dropout: float) -> list[nn.Module]:
    return [
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False),
        *([nn.Dropout(dropout)] if dropout else []),
    ]


densenet100, densenet100_bc = densenet("densenet100"), densenet("densenet100-bc")
