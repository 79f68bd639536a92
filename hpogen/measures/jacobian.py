"""The norm of the logits' derivative by hidden activations; the training loop calls it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from hpogen.measures.batches import Batch, pairs
from hpogen.measures.passes import at_least_float32, check_finite, undisturbed
from hpogen.measures.separate import Numbers, separate
from hpogen.measures.weighted import by_sample, forward, frozen


def jacobian_norm(model: nn.Module, batches: Iterable[Batch]) -> float:
    """mean over samples i and hidden layers l of ‖∂z_i/∂h_il‖_F, exactly, by C backward passes.

    h_l is the input of the l-th linear layer or convolution but the first; evaluation mode. Of a
    network that sums up, ranks or chooses samples, or has other numbers for a few samples without
    the others, it is computed one sample at a time. Raises Refusal, naming the model, when there is
    no hidden layer or the samples are mixed; ValueError when there is no sample;
    FloatingPointError for a logit or a derivative that is not finite.
    After the gradient-norm paper's Table 3. The baseline of the competition PGDL, whose name that
    row bears, is another: the mean square of the entries, over all layers, the image among them.
    """
    total, count = 0.0, 0
    filled = ((x, x) for x, _ in pairs(batches) if len(x))
    with undisturbed(model), frozen(model):
        for _, norms in separate(model, filled, partial(_jacobian_norms, model)):
            total += float(norms.T.mean(0).sum())
            count += len(norms)
    return total / count


def _jacobian_norms(model: nn.Module, x: Tensor, _: Tensor) -> Numbers | None:
    """The logits, and the norms at the hidden layers, for each sample: (N, L) float64."""
    run = forward(model, x)
    check_finite(run.outputs, "a logit")  # the derivatives may hide that
    layers = by_sample(model, run)
    if layers is None:
        return None
    norms = squared_norms(run.outputs, [layer.edge for layer in layers if layer.edge]).sqrt()
    check_finite(norms, "a derivative")
    return run.outputs.detach(), norms.T


def squared_norms(logits: Tensor, edges: Sequence[GradientEdge]) -> Tensor:
    """‖∂z_i/∂h_il‖_F² of the logits (N, …) by the value h_l at each edge: (L, N) float64."""
    squares = torch.zeros(len(edges), len(logits), dtype=torch.float64, device=logits.device)
    columns = logits.reshape(len(logits), -1)
    for place in range(columns.shape[1]):
        gradients = torch.autograd.grad(
            columns[:, place].sum(), edges, retain_graph=True, allow_unused=True
        )
        for square, gradient in zip(squares, gradients, strict=True):
            if gradient is not None:  # a layer that the logits do not depend on
                square += at_least_float32(gradient).square().reshape(len(square), -1).sum(1)
    return squares
