"""Child of test_convolutions.py: `python strided_convolutions.py GROUP` differentiates its nets.

It ends with 0 where every gradient was that of float64, at one and at two threads.
"""

from __future__ import annotations

import copy
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from runs import epochs, task, trial
from torch import Tensor, nn
from torch.nn import functional

from hpogen.measures import gradient_norms
from hpogen.training.forms.inputs import Inputs
from hpogen.training.models.build import build

CLASSES = 3
RGB = (3, 8, 8)
Net = tuple[nn.Module, Tensor]  # and images (N, C, H, W) that it takes
SMALLEST = {  # of the built-in models: the options, and the side of the images
    "lenet5": ({}, 12),
    "resnet20": ({"width": 1}, 8),
    "resnet34": ({"width": 1}, 8),
    "resnet56": ({"width": 2}, 8),
    "densenet100": ({"growth": 1}, 8),
    "densenet100-bc": ({"growth": 1}, 8),
    "vgg16": ({"width": 1, "batch_norm": True}, 32),
    "vgg-like": ({"width": 4}, 8),
    "nin": ({"width": 1}, 8),
    "gsnr-mnist": ({"channels": 1}, 16),
    "gsnr-cifar": ({"channels": 1}, 16),
    "mobilenet": ({"width": 0.01}, 16),
}
TORCHVISION = (
    "alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 "
    "mnasnet0_5 mobilenet_v2 mobilenet_v3_small regnet_x_400mf regnet_y_400mf resnet18 resnet50 "
    "resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_1 swin_t vgg11_bn vit_b_32 wide_resnet50_2"
)


class Sequence(nn.Module):
    """Channels last without being asked for: a sequence (N, L, C) is transposed for a Conv1d."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.out = nn.Conv1d(5, 6, 1, stride=2), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.convolution(x.flatten(2).mT).relu().mean(2))


class Up(nn.Module):
    """A transposed convolution, called as a function, and a frozen weight with a bias to train."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.frozen = nn.Parameter(torch.randn(3, 2, 1, 1)), nn.Conv2d(2, 3, 1, 2)
        self.frozen.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.conv_transpose2d(x, self.weight, stride=2, output_padding=1)
        return self.frozen(x.relu()).relu().mean((2, 3))


def strided(inputs: int) -> Net:
    convolution, out = nn.Conv2d(inputs, 8, 1, (1, 2)), nn.Linear(8, CLASSES)
    layers = convolution, nn.ReLU(), nn.AvgPool2d((8, 4)), nn.Flatten(), out
    return nn.Sequential(*layers), torch.randn(30, inputs, 8, 8)


def nets() -> Iterator[Net]:
    """Users' nets, and the built-in one of strided 1×1 convolutions."""
    yield from map(strided, (1, 2, 3, 5, 7, 8, 12, 15))
    yield Sequence(), torch.randn(30, 16, 5, 1)
    yield Up(), torch.randn(30, *RGB)
    for width in (1, 2, 4):
        yield build("resnet18", {"width": width}, Inputs(RGB, CLASSES)), torch.randn(30, *RGB)


def models() -> Iterator[Net]:
    for name, (options, side) in SMALLEST.items():
        x = torch.randn(20, 3, side, side)
        yield build(name, options, Inputs(tuple(x.shape[1:]), CLASSES)), x


def torchvisions() -> Iterator[Net]:
    for name in TORCHVISION.split():
        x = torch.randn(4, 3, 96, 96)
        yield build(f"torchvision/{name}", {}, Inputs(tuple(x.shape[1:]), CLASSES)), x


def check(what: str, found: Tensor, expected: Tensor, tolerance: float, least: float = 0) -> None:
    """`least` is a size below which a gradient counts as none, as a bias's before BatchNorm."""
    error = float((found.double() - expected).abs().max()) / max(float(expected.abs().max()), least)
    if not error < tolerance:
        sys.exit(f"{what} {tuple(found.shape)}: off by {error:.1e} of the largest in float64")


def smoothed() -> None:
    """From now on no net has kinks: by rounding, a ReLU's side or a maximum's place may differ."""
    for name in ("relu", "hardtanh", "hardswish", "hardsigmoid"):  # ReLU6 is a hardtanh
        setattr(functional, name, lambda x, *_, **__: functional.silu(x))

    def pooled(
        x: Tensor, kernel_size: int, stride: Any = None, padding: int = 0, *_: Any, **keys: Any
    ) -> Tensor:
        ceil = keys.get("ceil_mode", False)
        return functional.avg_pool2d(x, kernel_size, stride, padding, ceil)

    functional.max_pool2d = pooled


def last(model: nn.Module, x: Tensor) -> Net:
    """The same with channels last, without anything random."""
    for module in model.modules():
        if type(module).__name__ in ("Dropout", "Dropout1d", "StochasticDepth"):
            module.p = 0.0
    form = torch.channels_last
    return copy.deepcopy(model).to(memory_format=form), x.contiguous(memory_format=form)


def check_gradients(model: nn.Module, x: Tensor, tolerance: float, steps: int = 3) -> None:
    """In mode train, while the heap beside them is used."""
    y, kept = torch.arange(len(x)) % CLASSES, []
    ours, images = last(model, x)
    exact = model.double()
    functional.cross_entropy(exact(x.double()), y).backward()
    least = max(float(p.grad.abs().max()) for p in exact.parameters() if p.grad is not None) / 10
    for _ in range(steps):
        ours.zero_grad()
        functional.cross_entropy(ours(images), y).backward()
        kept += [torch.randn(n) for n in (3, 17, 100, 1000)]
        for (name, p), q in zip(ours.named_parameters(), exact.parameters(), strict=True):
            if p.grad is not None and q.grad is not None:
                check(f"{type(model).__name__}: {name}", p.grad, q.grad, tolerance, least)


def check_norms(model: nn.Module, x: Tensor) -> None:
    y = torch.arange(len(x)) % CLASSES
    norms = gradient_norms(*last(model, x), y)
    exact = gradient_norms(model.double(), x.double(), y)
    check(f"norms of {type(model).__name__}", norms, exact, 1e-2)


def train(threads: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = task(model={"name": "resnet18", "width": 2}, threads=threads, epochs=1)
        assert len(epochs(settings, trial(Path(folder), budget=1), "gn", "val_loss")) == 1


def run(group: str, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    check_norms(*strided(3))  # first: a measure outside of hpogen's training is right, too
    if group == "training":
        for net in itertools.chain(nets(), models()):
            check_norms(*net)
        train(threads)
    elif group == "nets":
        for net in nets():
            check_gradients(*net, tolerance=1e-3)
    else:
        smoothed()
        for net in models() if group == "models" else torchvisions():
            check_gradients(*net, tolerance=1e-2)


if __name__ == "__main__":
    for threads in (1, 2):
        run(sys.argv[1], threads)
