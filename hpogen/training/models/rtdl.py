"""The networks for tables of the package `rtdl_revisiting_models`, with its defaults.

Gorishniy et al. 2021, "Revisiting deep learning models for tabular data".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import rtdl_revisiting_models as rtdl
from torch import Tensor, nn

from hpogen.training.forms.inputs import Inputs
from hpogen.training.models.mlp import flat
from hpogen.training.models.parts import check_dropout, check_least

DEEPEST = 6  # that the package has defaults for


def tabular_resnet(
    data: Inputs, *, width: int = 192, depth: int = 2, dropout: float = 0.3
) -> nn.Module:
    """`depth` blocks of BatchNorm, a hidden layer of 2·`width` units and a sum, `width` wide."""
    check_least("tabular-resnet", width=width, depth=depth)
    check_dropout("tabular-resnet", dropout)
    first, size = flat(data)
    net = rtdl.ResNet(
        d_in=size,
        d_out=data.outputs,
        n_blocks=depth,
        d_block=width,
        d_hidden_multiplier=2.0,
        dropout1=dropout,
        dropout2=0.0,
    )
    return nn.Sequential(first, net)


def ft_transformer(data: Inputs, *, depth: int = 3) -> nn.Module:
    """`depth` layers over a token for each column; width and dropout are the package's for it."""
    check_least("ft-transformer", depth=depth)
    if depth > DEEPEST:
        raise ValueError(f"model 'ft-transformer' needs depth of at most {DEEPEST}, got {depth}")
    shape = data.in_shape
    numbers = sum(shape.get("numbers", ())) if isinstance(shape, Mapping) else math.prod(shape)
    return Columnwise(
        rtdl.FTTransformer(
            n_cont_features=numbers,
            cat_cardinalities=[*data.cardinalities],
            d_out=data.outputs,
            **rtdl.FTTransformer.get_default_kwargs(depth),
        )
    )


class Columnwise(nn.Module):
    """The transformer, of numbers (B, …) or of named columns."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> Any:
        if isinstance(x, Mapping):
            return self.transformer(x.get("numbers"), x["categories"])
        return self.transformer(x.flatten(1), None)
