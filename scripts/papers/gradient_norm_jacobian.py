"""The Jacobian of the competition PGDL's starting kit, a plug-in measure for Table 3."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from hpogen.measures.batches import Batch
from hpogen.measures.jacobian import squared_norms
from hpogen.measures.passes import undisturbed
from hpogen.measures.weighted import forward
from hpogen.plugins import measure


@measure("jacobian_square", of="network", final=True)
def jacobian_square(model: nn.Module, batches: Iterable[Batch]) -> float:
    """mean over samples i and layers l of the mean over entries of (∂z_i/∂h_il)².

    h_l is the input of the l-th linear layer or convolution, the image first; the kit counts the
    inputs of layers without weights, too. Raises ValueError when there is no sample.
    """
    total, count = 0.0, 0
    with undisturbed(model):
        for x, _ in batches:
            logits, _, layers, _ = forward(model, x)
            squares = squared_norms(logits, [layer.edge for layer in layers])  # (L, N)
            entries = [layer.input[0].numel() * logits.shape[1] for layer in layers]
            means = squares / torch.tensor(entries, device=squares.device)[:, None]
            total += float(means.mean(0).sum())
            count += len(x)
    if not count:
        raise ValueError("got no samples: the batches are empty")
    return total / count
