"""Child of test_convolutions.py: trains nets of strided 1×1 convolutions.

`python strided_convolutions.py` ends with 0 where every gradient was that of float64; with
`overrun` it writes past a tensor, which a checking allocator notices.
"""

from __future__ import annotations

import copy
import ctypes
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from runs import epochs, task, trial
from torch import Tensor, nn
from torch.nn import functional

from hpogen.measures import gradient_norms
from hpogen.training.build import build

STEPS = 3


class Sequence(nn.Module):
    """Channels last without being asked for: a sequence (N, L, C) is transposed for a Conv1d."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.out = nn.Conv1d(5, 6, 1, stride=2), nn.Linear(6, 3)

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


def strided(inputs: int) -> nn.Module:
    out = nn.Linear(8, 3)
    return nn.Sequential(
        nn.Conv2d(inputs, 8, 1, (1, 2)), nn.ReLU(), nn.AvgPool2d((8, 4)), nn.Flatten(), out
    )


def nets() -> Iterator[tuple[nn.Module, Tensor]]:
    """Each with the images (N, C, H, W) that it takes."""
    shape = (3, 8, 8)
    for inputs in (1, 2, 3, 5, 7, 8, 12, 15):
        yield strided(inputs), torch.randn(30, inputs, 8, 8)
    for width in (1, 2, 4):
        yield build("resnet18", {"width": width}, shape, 3), torch.randn(30, *shape)
    yield Sequence(), torch.randn(30, 16, 5, 1)
    yield Up(), torch.randn(30, *shape)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-3))


def check(name: str, found: Tensor, expected: Tensor) -> None:
    if not error(found, expected) < 1e-3:
        sys.exit(f"{name}: off by {error(found, expected)} of the largest in float64")


def check_net(model: nn.Module, x: Tensor) -> None:
    """Its gradients, in mode train, and its samples' norms, in mode eval, are those of float64."""
    y, kept = torch.arange(len(x)) % 3, []
    exact = copy.deepcopy(model).double()
    model.to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    what = f"{model} on {tuple(x.shape)}, {torch.get_num_threads()} threads"
    check(what, gradient_norms(model, x, y), gradient_norms(exact, x.double(), y))
    loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy
    loss(exact(x.double()), y).backward()
    for _ in range(STEPS):
        model.zero_grad()
        loss(model(x), y).backward()
        kept += [torch.randn(n) for n in (3, 17, 100, 1000)]  # what lies beside it in the heap
        for (name, p), q in zip(model.named_parameters(), exact.parameters(), strict=True):
            if p.grad is not None and q.grad is not None:
                check(f"{name} of {what}", p.grad, q.grad)


def train(threads: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = task(model={"name": "resnet18", "width": 2}, threads=threads, epochs=1)
        assert len(epochs(settings, trial(Path(folder), budget=1), "gn", "val_loss")) == 1


if __name__ == "__main__":
    if "overrun" in sys.argv:
        tensor = torch.zeros(100, dtype=torch.uint8)
        ctypes.memset(tensor.data_ptr() + len(tensor), 0, 1)
        del tensor
        sys.exit("nobody noticed")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        for model, x in nets():
            check_net(model, x)
        train(threads)
