"""ResNet-18 and ResNet-34 (He et al. 2016, Table 1) for small images: shortcuts of option B.

The CIFAR form: no 7×7 convolution with stride 2, and no pooling after it.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from hpogen.training.models.resnet import residual_net


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


def resnet18(in_shape: tuple[int, int, int], classes: int, *, width: int = 64) -> nn.Module:
    """11,173,962 parameters for 32×32×3 images and 10 classes."""
    return residual_net(in_shape, classes, (2, 2, 2, 2), width, ProjectedBlock)


def resnet34(in_shape: tuple[int, int, int], classes: int, *, width: int = 64) -> nn.Module:
    """21,282,122 parameters for 32×32×3 images and 10 classes."""
    return residual_net(in_shape, classes, (3, 4, 6, 3), width, ProjectedBlock)
