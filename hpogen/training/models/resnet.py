"""The residual nets of He et al. 2016 for small images: those of §4.2, and two of Table 1.

6n + 2 layers with shortcuts of option A; ResNet-18 and ResNet-34 with those of option B, in the
CIFAR form: no 7×7 convolution with stride 2, and no pooling after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from hpogen.training.models.parts import check_least, initialised

Shortcut = Callable[[int, int, int], Callable[[Tensor], Tensor]]
"""Makes the way around a block from its inputs, outputs and stride."""


class Block(nn.Module):
    """Two 3×3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.convolution2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.convolution1(x)), inplace=True)
        y = self.norm2(self.convolution2(y))  # (N, outputs, H / stride, W / stride)
        return functional.relu(self.shortcut(x) + y, inplace=True)


def padding(inputs: int, outputs: int, stride: int) -> Callable[[Tensor], Tensor]:
    """Option A, without parameters: every second pixel, new channels are zero."""
    return partial(_padded, added=outputs - inputs, stride=stride)


def _padded(x: Tensor, added: int, stride: int) -> Tensor:
    if not added:
        return x
    before = added // 2
    return functional.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, before, added - before))


def projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Option B: a 1×1 convolution where the shape changes."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class ResidualNet(nn.Sequential):
    """Units are removed from the last block, after the addition and ReLU."""

    @property
    def ablation_layer(self) -> nn.Module:
        return self[-4]


def residual_net(
    stages: Sequence[int], channels: int, shortcut: Shortcut
) -> Callable[..., nn.Module]:
    """The builder of stages of that many blocks; `channels` is the default of its `width`.

    Stages have width, 2·width, … channels. The first convolution is 3×3 with stride 1, each stage
    after the first halves the image. He's initialisation.
    """

    def build(in_shape: tuple[int, int, int], classes: int, *, width: int = channels) -> nn.Module:
        check_least(f"resnet{2 * sum(stages) + 2}", width=width)
        stem = [nn.Conv2d(in_shape[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        body: list[nn.Module] = []
        inputs = width
        for stage, blocks in enumerate(stages):
            for number in range(blocks):
                stride = 2 if stage > 0 and number == 0 else 1
                body.append(Block(inputs, width << stage, stride, shortcut))
                inputs = width << stage
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes)]
        return initialised(ResidualNet(*stem, nn.ReLU(inplace=True), *body, *head))

    return build


resnet20, resnet32, resnet44, resnet56, resnet110 = (
    residual_net((n,) * 3, 16, padding) for n in (3, 5, 7, 9, 18)
)
resnet18 = residual_net((2, 2, 2, 2), 64, projection)
resnet34 = residual_net((3, 4, 6, 3), 64, projection)
