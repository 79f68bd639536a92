"""MobileNet (Howard et al. 2017) for small images: depthwise separable convolutions."""

from __future__ import annotations

from torch import nn

STEM = 32  # channels
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2))
SEPARABLE = (*BLOCKS, (1024, 1))  # output channels and stride: Table 1


class MobileNet(nn.Sequential):
    """Units are removed from the last activation, before the average over space."""

    @property
    def ablation_layer(self) -> nn.Module:
        return self[-4]


def mobilenet(in_shape: tuple[int, int, int], classes: int, *, width: float = 1.0) -> nn.Module:
    """3,217,226 parameters for 32×32×3 images and 10 classes.

    `width` is the paper's multiplier of all channels, α. The CIFAR form: the first convolution has
    stride 1, the separable ones those of Table 1, so that 2×2 of 32×32 pixels are left. torch's own
    initialisation: the paper names none.
    """
    if not width > 0:
        raise ValueError(f"model 'mobilenet' needs width above 0, got {width}")
    inputs = _scaled(STEM, width)
    layers = _convolution(in_shape[0], inputs, 3)
    for outputs, stride in SEPARABLE:
        layers += _convolution(inputs, inputs, 3, stride, groups=inputs)
        layers += _convolution(inputs, _scaled(outputs, width), 1)
        inputs = _scaled(outputs, width)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
    return MobileNet(*layers, *head)


def _scaled(channels: int, width: float) -> int:
    return max(1, int(width * channels))


def _convolution(
    inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
