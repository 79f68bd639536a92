"""VGG-16 for small images, and the VGG-like family of the PGDL competition."""

from __future__ import annotations

from torch import nn

from hpogen.training.models.parts import (
    HalvingMaximum,
    check_dropout,
    check_least,
    check_size,
    convolution,
    initialised,
)

VGG16 = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # blocks: channels over width, convolutions
HIDDEN = 128  # units of a hidden dense layer of the PGDL family


class Vgg(nn.Sequential):
    """Units are removed from the last convolution's activation (`block5_conv3` of VGG-16)."""

    @property
    def ablation_layer(self) -> nn.Module:
        last = max(i for i, layer in enumerate(self) if isinstance(layer, nn.Conv2d))
        return next(layer for layer in self[last:] if isinstance(layer, nn.ReLU))


def vgg16(
    in_shape: tuple[int, int, int],
    classes: int,
    *,
    width: int = 64,
    batch_norm: bool = False,
    dropout: float = 0.5,
) -> nn.Module:
    """15,245,130 parameters for 32×32×3 images and 10 classes; 15,249,354 with BatchNorm.

    The 13 convolutions of Simonyan and Zisserman 2015 (column D) with `width` to 8·width channels,
    then, as usual for CIFAR, two hidden layers of 8·width units in place of 4,096, with `dropout`
    before each. Poolings round up, so that 28×28 images have a pixel left. He's initialisation: the
    paper had to start from shallower nets. Raises ValueError for images of less than 17×17.
    """
    check_size("vgg16", in_shape)
    check_least("vgg16", width=width)
    check_dropout("vgg16", dropout)
    channels, height, breadth = in_shape
    layers: list[nn.Module] = []
    for times, convolutions in VGG16:
        for _ in range(convolutions):
            layers += convolution(channels, times * width, batch_norm)
            channels = times * width
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
        height, breadth = -(-height // 2), -(-breadth // 2)
    layers.append(nn.Flatten())
    units = channels * height * breadth
    for _ in range(2):
        layers += [nn.Dropout(dropout), nn.Linear(units, 8 * width), nn.ReLU(inplace=True)]
        units = 8 * width
    return initialised(Vgg(*layers, nn.Linear(units, classes)))


def vgg_like(
    in_shape: tuple[int, int, int],
    classes: int,
    *,
    width: int = 512,
    blocks: int = 3,
    dense: int = 1,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> nn.Module:
    """5,626,378 parameters for 32×32×3 images and 10 classes.

    Tasks 1 and 8 of PGDL (Jiang et al. 2020): `blocks` (1 or 3) of two convolutions and a pooling,
    `width` (256 or 512) channels in the last block, `dense` (1 or 2) hidden layers of 128 units,
    each followed by `dropout` (0 or 0.5). What its description leaves open is as in VGG: 3×3
    kernels, and each block has twice the channels of the one before. He's initialisation. Raises
    ValueError for images of less than 2^blocks pixels.
    """
    check_least("vgg-like", blocks=blocks)
    check_least("vgg-like", 0, dense=dense)
    check_least("vgg-like", 2 ** (blocks - 1), width=width)
    check_size("vgg-like", in_shape, 2**blocks)
    check_dropout("vgg-like", dropout)
    channels, height, breadth = in_shape
    layers: list[nn.Module] = []
    for block in range(blocks):
        outputs = width >> (blocks - 1 - block)
        layers += convolution(channels, outputs, batch_norm)
        layers += convolution(outputs, outputs, batch_norm)
        layers.append(HalvingMaximum())
        channels = outputs
    layers.append(nn.Flatten())
    units = channels * (height >> blocks) * (breadth >> blocks)
    for _ in range(dense):
        layers += [nn.Linear(units, HIDDEN), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        units = HIDDEN
    return initialised(Vgg(*layers, nn.Linear(units, classes)))
