"""The residual nets for CIFAR (He et al. 2016, §4.2): 6n + 2 layers, shortcuts of option A."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional

from hpogen.training.models.parts import check_least, initialise


class Block(nn.Module):
    """Two 3×3 convolutions around a shortcut without parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.added = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.convolution1(x)), inplace=True)
        y = self.norm2(self.convolution2(y))  # (N, outputs, H / stride, W / stride)
        if self.added:  # option A: every second pixel, new channels are zero
            before = self.added // 2
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, before, self.added - before))
        return functional.relu(x + y, inplace=True)


class ResidualNet(nn.Sequential):
    """Units are removed from the last block, after the addition and ReLU."""

    @property
    def ablation_layer(self) -> nn.Module:
        return self[-4]


def residual_net(
    in_shape: tuple[int, int, int],
    classes: int,
    stages: Sequence[int],
    width: int,
    block: Callable[[int, int, int], nn.Module],
) -> nn.Module:
    """Stages of that many blocks with width, 2·width, … channels; He's initialisation.

    The first convolution is 3×3 with stride 1, each stage after the first halves the image.
    `block` makes one from its inputs, outputs and stride.
    """
    check_least(f"resnet{2 * sum(stages) + 2}", width=width)
    stem = [nn.Conv2d(in_shape[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
    body: list[nn.Module] = []
    channels = width
    for stage, blocks in enumerate(stages):
        for number in range(blocks):
            stride = 2 if stage > 0 and number == 0 else 1
            body.append(block(channels, width << stage, stride))
            channels = width << stage
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    model = ResidualNet(*stem, nn.ReLU(inplace=True), *body, *head)
    initialise(model)
    return model


def resnet20(in_shape: tuple[int, int, int], classes: int, *, width: int = 16) -> nn.Module:
    """269,722 parameters for 32×32×3 images and 10 classes."""
    return residual_net(in_shape, classes, (3,) * 3, width, Block)


def resnet32(in_shape: tuple[int, int, int], classes: int, *, width: int = 16) -> nn.Module:
    """464,154 parameters for 32×32×3 images and 10 classes."""
    return residual_net(in_shape, classes, (5,) * 3, width, Block)


def resnet44(in_shape: tuple[int, int, int], classes: int, *, width: int = 16) -> nn.Module:
    """658,586 parameters for 32×32×3 images and 10 classes."""
    return residual_net(in_shape, classes, (7,) * 3, width, Block)


def resnet56(in_shape: tuple[int, int, int], classes: int, *, width: int = 16) -> nn.Module:
    """853,018 parameters for 32×32×3 images and 10 classes."""
    return residual_net(in_shape, classes, (9,) * 3, width, Block)


def resnet110(in_shape: tuple[int, int, int], classes: int, *, width: int = 16) -> nn.Module:
    """1,727,962 parameters for 32×32×3 images and 10 classes."""
    return residual_net(in_shape, classes, (18,) * 3, width, Block)
