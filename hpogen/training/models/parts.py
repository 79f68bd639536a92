"""What several families share: checks of options, the layer ablated, pooling, initialisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpogen.training.models.catalog import MODELS


class HalvingMaximum(nn.Module):
    """`MaxPool2d(2)`; without gradients it needs no indices and takes half the time on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return functional.max_pool2d(x, 2)
        rows, columns = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
        x = torch.maximum(x[:, :, 0:rows:2], x[:, :, 1:rows:2])
        return torch.maximum(x[..., 0:columns:2], x[..., 1:columns:2])


class Ablated(nn.Sequential):
    """Units are removed from the last activation."""

    @property
    def ablation_layer(self) -> nn.Module:
        return next(layer for layer in reversed(self) if isinstance(layer, nn.ReLU))


def check_size(model: str, in_shape: tuple[int, int, int], least: int | None = None) -> None:
    """Raise ValueError, naming the model, for images with a side of less than `least` pixels.

    By default it is what the catalogue says of the model.
    """
    _, height, width = in_shape
    least = least or MODELS[model].smallest
    if min(height, width) < least:
        raise ValueError(
            f"model {model!r} needs images of at least {least}×{least}, got {height}×{width}"
        )


def check_least(model: str, least: int = 1, **values: float) -> None:
    """Raise ValueError, naming the model, for an option of less than `least`."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"model {model!r} needs {name} of at least {least}, got {value}")


def check_dropout(model: str, dropout: float) -> None:
    """Raise ValueError, naming the model, unless the probability is in [0, 1)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"model {model!r} needs dropout of at least 0 and below 1, got {dropout}")


def convolution(
    inputs: int, outputs: int, batch_norm: bool, *, size: int = 3, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A padded convolution and ReLU; between them BatchNorm where asked, in place of the bias."""
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=not batch_norm)
    norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
    return [layer, *norm, nn.ReLU(inplace=True)]


def initialised(model: nn.Module) -> nn.Module:
    """The model, its convolutions as in He et al. 2015, eq. 10, by outputs, and biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
