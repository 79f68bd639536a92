"""The norm of the logits' derivative by hidden activations; the training loop calls it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from hpogen.measures.passes import (
    Batch,
    at_least_float32,
    check_finite,
    pairs,
    undisturbed,
)
from hpogen.measures.weighted import forward, hidden


def jacobian_norm(model: nn.Module, batches: Iterable[Batch]) -> float:
    """mean over samples i and hidden layers l of ‖∂z_i/∂h_il‖_F, exactly, by C backward passes.

    h_l is the input of the l-th linear layer or convolution but the first; evaluation mode. Raises
    Refusal, naming the model, when there is no hidden layer; ValueError when there is no sample;
    FloatingPointError for a logit or a derivative that is not finite.
    After the gradient-norm paper's Table 3. The baseline of the competition PGDL, whose name that
    row bears, is another: the mean square of the entries, over all layers, the image among them.
    """
    total, count = 0.0, 0
    with undisturbed(model):
        for x, _ in pairs(batches):
            if len(x):
                total += float(_jacobian_norms(model, x).sum())
                count += len(x)
    if not count:
        raise ValueError("got no samples: the batches are empty")
    return total / count


def _jacobian_norms(model: nn.Module, x: Tensor) -> Tensor:
    """The mean over the hidden layers, for each sample: (N,) float64."""
    logits, _, layers = forward(model, x)
    check_finite(logits, "a logit")  # the derivatives may hide that
    edges = [layer.edge for layer in hidden(model, layers)]
    norms = squared_norms(logits, edges).sqrt()
    check_finite(norms, "a derivative")
    return norms.mean(0)


def squared_norms(logits: Tensor, edges: Sequence[GradientEdge]) -> Tensor:
    """‖∂z_i/∂h_il‖_F² of the logits (N, C) by the value h_l at each edge: (L, N) float64."""
    squares = torch.zeros(len(edges), len(logits), dtype=torch.float64, device=logits.device)
    for row in range(logits.shape[1]):
        gradients = torch.autograd.grad(
            logits[:, row].sum(), edges, retain_graph=True, allow_unused=True
        )
        for square, gradient in zip(squares, gradients, strict=True):
            if gradient is not None:  # a layer that the logits do not depend on
                square += at_least_float32(gradient).square().flatten(1).sum(1)
    return squares
