"""ResNet-18 and ResNet-34 (He et al. 2016, Table 1) for small images: shortcuts of option B."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from hpogen.training.models.parts import check_least, initialise


class ProjectedBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut; a 1×1 convolution there where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.convolution1(x)), inplace=True)
        y = self.norm2(self.convolution2(y))  # (N, outputs, H / stride, W / stride)
        return functional.relu(self.shortcut(x) + y, inplace=True)


class ProjectedNet(nn.Sequential):
    """Units are removed from the last block, after the addition and ReLU."""

    @property
    def ablation_layer(self) -> nn.Module:
        return self[-4]


def resnet(
    in_shape: tuple[int, int, int], classes: int, stages: tuple[int, int, int, int], width: int
) -> nn.Module:
    """Four stages of that many blocks with width to 8·width channels; He's initialisation.

    The CIFAR form: a 3×3 convolution with stride 1 in place of 7×7 with 2, and no pooling after it.
    """
    check_least(f"resnet{2 * sum(stages) + 2}", width=width)
    stem = [nn.Conv2d(in_shape[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
    body: list[nn.Module] = []
    channels = width
    for stage, blocks in enumerate(stages):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            body.append(ProjectedBlock(channels, width << stage, stride))
            channels = width << stage
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    model = ProjectedNet(*stem, nn.ReLU(inplace=True), *body, *head)
    initialise(model)
    return model


def resnet18(in_shape: tuple[int, int, int], classes: int, *, width: int = 64) -> nn.Module:
    """11,173,962 parameters for 32×32×3 images and 10 classes."""
    return resnet(in_shape, classes, (2, 2, 2, 2), width)


def resnet34(in_shape: tuple[int, int, int], classes: int, *, width: int = 64) -> nn.Module:
    """21,282,122 parameters for 32×32×3 images and 10 classes."""
    return resnet(in_shape, classes, (3, 4, 6, 3), width)
