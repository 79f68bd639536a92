"""The norm of the logits' derivative by hidden activations; the training loop calls it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hpogen.measures.passes import Batch, at_least_float32, undisturbed
from hpogen.measures.weighted import forward, hidden


def jacobian_norm(model: nn.Module, batches: Iterable[Batch]) -> float:
    """mean over samples i and hidden layers l of ‖∂z_i/∂h_il‖_F, exactly, by C backward passes.

    h_l is the input of the l-th linear layer or convolution but the first; evaluation mode. Raises
    Refusal, naming the model, when there is no hidden layer; ValueError when there is no sample.
    Source: the baseline of the PGDL competition (gradient-norm paper, Table 3), which leaves the
    choice of layers open.
    """
    total, count = 0.0, 0
    with undisturbed(model):
        for x, _ in batches:
            if len(x):
                total += float(_jacobian_norms(model, x).sum())
                count += len(x)
    if not count:
        raise ValueError("got no samples: the batches are empty")
    return total / count


def _jacobian_norms(model: nn.Module, x: Tensor) -> Tensor:
    """The mean over the hidden layers, for each sample: (N,) float64."""
    logits, _, layers = forward(model, x)
    edges = [layer.edge for layer in hidden(model, layers)]
    squares = torch.zeros(len(edges), len(x), dtype=torch.float64, device=logits.device)
    for row in range(logits.shape[1]):
        gradients = torch.autograd.grad(
            logits[:, row].sum(), edges, retain_graph=True, allow_unused=True
        )
        for square, gradient in zip(squares, gradients, strict=True):
            if gradient is not None:  # a layer that the logits do not depend on
                square += at_least_float32(gradient).square().flatten(1).sum(1)
    return squares.sqrt().mean(0)
