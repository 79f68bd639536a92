"""MobileNet (Howard et al. 2017) for small images: depthwise separable convolutions."""

from __future__ import annotations

from torch import nn

from hpogen.training.models.parts import Ablated, convolution

STEM = 32  # channels
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2))
SEPARABLE = (*BLOCKS, (1024, 1))  # output channels and stride: Table 1


class MobileNet(Ablated):
    """Units are removed from the last activation, before the average over space."""


def mobilenet(in_shape: tuple[int, int, int], classes: int, *, width: float = 1.0) -> nn.Module:
    """3,217,226 parameters for 32×32×3 images and 10 classes.

    `width` is the paper's multiplier of all channels, α. The CIFAR form: the first convolution has
    stride 1, the separable ones those of Table 1, so that 2×2 of 32×32 pixels are left. torch's own
    initialisation: the paper names none.
    """
    if not width > 0:
        raise ValueError(f"model 'mobilenet' needs width above 0, got {width}")
    inputs = _scaled(STEM, width)
    layers = convolution(in_shape[0], inputs, batch_norm=True)
    for outputs, stride in SEPARABLE:
        layers += convolution(inputs, inputs, batch_norm=True, stride=stride, groups=inputs)
        layers += convolution(inputs, _scaled(outputs, width), batch_norm=True, size=1)
        inputs = _scaled(outputs, width)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    return MobileNet(*layers, *head)


def _scaled(channels: int, width: float) -> int:
    return max(1, int(width * channels))
