"""The spectral norms of a network's layers as operators; the training loop calls `spectral`."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn import functional

from hpogen.measures.batches import Batch, first
from hpogen.measures.passes import at_least_float32, check_finite, undisturbed
from hpogen.measures.weighted import Weighted, all_layers

DENSE = 256  # inputs up to which the operator is written out as a matrix
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-10}  # of the squared norm


def spectral(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Σ_l ln ‖W_l‖₂², the logarithm of the product of squared spectral norms.

    Over the uses of linear layers and convolutions in a forward pass, the projections of torch's
    attention among them; a convolution is taken as an
    operator on inputs of the size that it meets, zero padding and stride included (not as a
    reshaped kernel). Bias, normalisations and activations are left out. The largest eigenvalue of
    WᵀW comes from Lanczos iteration (ARPACK) with a fixed start, that of a matrix from its singular
    values. Raises Refusal, naming the model, where there is no such layer, and where weights
    are applied otherwise, by a recurrent layer say; FloatingPointError where
    one is all zero or has a weight that is not finite, ValueError when there is no sample. Source:
    Jiang et al. 2020, "Fantastic Generalization Measures", product of spectral norms.
    """
    with undisturbed(model):
        layers = all_layers(model, first(batches)[0][:1])
        for layer in layers:
            check_finite(layer.weight, "a weight")
        squares = [_squared_norm(layer) for layer in layers]
    if min(squares) <= 0:
        raise FloatingPointError("a layer's weights are all zero")
    return sum(map(math.log, squares))


def _squared_norm(layer: Weighted) -> float:
    """‖W‖₂² of the layer without its bias."""
    if layer.function is functional.linear:
        return _largest(layer.weight.detach())
    shape = layer.input.shape[1 - layer.weight.ndim :]  # there may be no dimension of samples
    size = shape.numel()
    like = at_least_float32(layer.weight.detach())
    if size <= DENSE:
        rows = torch.eye(size, dtype=like.dtype, device=like.device).view(size, *shape)
        return _largest(layer.apply(rows).flatten(1))

    def square(values: NDArray[np.float64]) -> NDArray[np.float64]:
        """WᵀW v."""
        v = torch.from_numpy(values).to(like).view(1, *shape).requires_grad_()
        with torch.enable_grad():
            half = layer.apply(v).square().sum() / 2
        return torch.autograd.grad(half, v)[0].flatten().double().cpu().numpy()

    operator = LinearOperator((size, size), matvec=square, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(size)
    (value,) = eigsh(operator, 1, v0=start, tol=TOLERANCE[like.dtype], return_eigenvectors=False)
    return float(value)


def _largest(matrix: Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix.double(), 2)) ** 2
