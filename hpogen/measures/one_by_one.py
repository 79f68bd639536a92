"""Per-sample gradients in layers that are not known: one sample at a time, by `torch.func.vmap`.

`network.py` calls it for what its pass cannot give. These are the gradients by definition; that the
samples do not change each other's outputs and losses is checked beside them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel  # of the others vmap makes a slow loop

from hpogen.errors import Refusal
from hpogen.measures.as_found import kept
from hpogen.measures.batches import logits_in
from hpogen.measures.other_samples import Check, Together, TotalOf, refuse_mixing, refuse_sum
from hpogen.measures.passes import at_least_float32
from hpogen.measures.uses import Direct, Gradients, limit
from hpogen.measures.watch import Sink

Chunk = tuple[slice, dict[str, Tensor], Tensor, Tensor]
"""Some samples, their gradients by parameter, outputs (n, …) and losses (n,)."""


def one_by_one(
    model: nn.Module,
    unknown: Mapping[Tensor, str],
    batch: Together,
    total_of: TotalOf,
    sink: Sink,
    check: Check | None,
) -> None:
    """Give `sink` the gradients of the unknown parameters, some samples at a time.

    Raises Refusal, naming the model, where a sample alone has other outputs, or the loss is not the
    sum of each one's; naming a parameter and its module, where `torch.func` fails or misses it.
    """
    losses: list[Tensor] = []
    seen: defaultdict[str, dict[int, Tensor]] = defaultdict(dict)  # of the check's samples
    rows = check.rows if check is not None else []
    for samples, gradients, outputs, alone in _chunks(model, unknown, batch, total_of):
        if not batch.x.is_meta:
            together = batch.outputs.reshape(len(batch.x), -1)
            refuse_mixing(model, together, samples, outputs)
        losses.append(alone)
        for name, values in gradients.items():
            values = torch.view_as_real(values) if values.is_complex() else values
            values = at_least_float32(values).reshape(len(values), -1)
            count, size = values.shape
            here = [row for row in rows if samples.start <= row < samples.stop]
            seen[name] |= {row: values[row - samples.start] for row in here}
            sink(name, samples, Gradients([Direct(values)], count, size, values.device))
    if not batch.x.is_meta:
        refuse_sum(batch, torch.cat(losses))
    for name, found in seen.items():
        if check is not None and check.contradicts(name, found):
            raise Refusal(_not_known(model, name, "gives other gradients than autograd"))


def _chunks(
    model: nn.Module, unknown: Mapping[Tensor, str], batch: Together, total_of: TotalOf
) -> Iterator[Chunk]:
    chosen = {name: p.detach() for p, name in unknown.items()}

    def loss_of(
        values: dict[str, Tensor], image: Tensor, label: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        outputs = logits_in(functional_call(model, values, (image[None],)))
        total = total_of(outputs, label[None])
        return total, (outputs, total)

    gradients_of = vmap(grad(loss_of, has_aux=True), in_dims=(None, 0, 0))
    step = max(1, 4 * limit(batch.x.device) // sum(p.numel() for p in unknown))
    for start in range(0, len(batch.x), step):
        samples = slice(start, min(start + step, len(batch.x)))
        try:
            with torch.no_grad(), kept(model), sdpa_kernel(SDPBackend.MATH):
                gradients, alone = gradients_of(chosen, batch.x[samples], batch.y[samples])
        except Exception as error:  # the model's own, too: it was not written for `torch.func`
            if batch.x.is_meta or isinstance(error, torch.OutOfMemoryError):
                raise
            reason = f"fails: {str(error).partition(chr(10))[0]}"
            raise Refusal(_not_known(model, next(iter(chosen)), reason)) from error
        yield samples, gradients, *alone


def _not_known(model: nn.Module, name: str, reason: str) -> str:
    owner = name.rpartition(".")[0]
    kind = type(dict(model.named_modules())[owner]).__name__
    return (
        f"{type(model).__name__} has no known per-sample gradients for {name!r}, of "
        f"{f'its module {owner!r}, ' if owner else ''}a {kind}, and torch.func {reason}"
    )
