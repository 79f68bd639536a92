"""Models of token ids (N, T): the bag of embeddings, and a small transformer.

Both give (N, outputs), or (N, T, outputs) where each position has a class. Padding changes nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hpogen.training.forms.inputs import Inputs
from hpogen.training.forms.tokens import Tokens
from hpogen.training.models.parts import check_dropout, check_least

WAVELENGTH = 10_000.0  # the longest, in multiples of 2π (Vaswani et al. 2017, §3.5)


class Embedded(nn.Module):
    """Embeddings of token ids, and which of them are tokens."""

    def __init__(self, tokens: Tokens, width: int) -> None:
        super().__init__()
        self.padding = tokens.padding
        self.table = nn.Embedding(tokens.vocabulary, width, padding_idx=tokens.padding)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(N, T, width), 0 at padding, and (N, T) bool."""
        no_token = -1 if self.padding is None else self.padding
        return self.table(ids), ids != no_token


def mean(values: Tensor, filled: Tensor) -> Tensor:
    """Of (N, T, D) over the places that are tokens, (N, D)."""
    weights = filled.to(values.dtype)
    return (values * weights[..., None]).sum(1) / weights.sum(1, keepdim=True).clamp_min(1)


class BagOfEmbeddings(nn.Module):
    """Units are removed from the last activation."""

    def __init__(self, data: Inputs, tokens: Tokens, width: int, depth: int, dropout: float):
        super().__init__()
        self.positions = data.kind == "positions"
        self.embedded = Embedded(tokens, width)
        layers: list[nn.Module] = []
        for inputs in [width * (1 + self.positions), *[width] * (depth - 1)]:
            layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Linear(width, data.outputs)

    @property
    def ablation_layer(self) -> nn.Module:
        return next(layer for layer in reversed(self.hidden) if isinstance(layer, nn.ReLU))

    def forward(self, ids: Tensor) -> Tensor:
        values, filled = self.embedded(ids)
        bag = mean(values, filled)  # (N, width)
        if self.positions:
            bag = torch.cat([values, bag[:, None].expand_as(values)], 2)
        logits: Tensor = self.last(self.hidden(bag))
        return logits


class Transformer(nn.Module):
    """Its layers' norms come first, which trains without warm-up (Xiong et al. 2020)."""

    def __init__(
        self, data: Inputs, tokens: Tokens, width: int, depth: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.positions = data.kind == "positions"
        self.embedded = Embedded(tokens, width)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout, batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(width)
        self.encoder = nn.TransformerEncoder(layer, depth, norm, enable_nested_tensor=False)
        for parameter in self.encoder.parameters():  # its layers are copies of one
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        self.last = nn.Linear(width, data.outputs)

    def forward(self, ids: Tensor) -> Tensor:
        values, filled = self.embedded(ids)
        values = self.dropout(values + places(values))
        values = self.encoder(values, src_key_padding_mask=~filled)  # (N, T, width)
        logits: Tensor = self.last(values if self.positions else mean(values, filled))
        return logits


def places(values: Tensor) -> Tensor:
    """Sines and cosines of the place t of (N, T, D), (T, D): Vaswani et al. 2017, §3.5."""
    length, width = values.shape[1:]
    half = torch.arange(0, width, 2, device=values.device)
    rates = torch.exp(half * (-math.log(WAVELENGTH) / width))
    angles = torch.arange(length, device=values.device)[:, None] * rates  # (T, ⌈D/2⌉)
    both = torch.stack([angles.sin(), angles.cos()], 2).flatten(1)
    return both[:, :width].to(values.dtype)


def bag_of_embeddings(
    data: Inputs, *, width: int = 64, depth: int = 1, dropout: float = 0.0
) -> nn.Module:
    """The mean of the tokens' embeddings, then `depth` hidden layers of `width` units.

    For a class of each position, the first of them sees the token's own embedding, too. Sources:
    Joulin et al. 2017 (fastText), Iyyer et al. 2015 (deep averaging network).
    """
    check_least("bag-of-embeddings", width=width, depth=depth)
    check_dropout("bag-of-embeddings", dropout)
    return BagOfEmbeddings(data, _tokens(data), width, depth, dropout)


def transformer(
    data: Inputs, *, width: int = 64, depth: int = 2, heads: int = 4, dropout: float = 0.0
) -> nn.Module:
    """torch's `TransformerEncoder` of `depth` layers; padding is masked.

    Of classes, the last layer sees the mean over the tokens. Vaswani et al. 2017.
    """
    check_least("transformer", width=width, depth=depth, heads=heads)
    check_dropout("transformer", dropout)
    if width % heads:
        raise ValueError(
            f"model 'transformer' needs width to be a multiple of heads, got {width} and {heads}"
        )
    return Transformer(data, _tokens(data), width, depth, heads, dropout)


def _tokens(data: Inputs) -> Tokens:
    """Those of the data, which `build` has seen to be there."""
    if data.tokens is None:
        raise ValueError("expected token ids")
    return data.tokens
