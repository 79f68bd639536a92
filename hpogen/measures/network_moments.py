"""GSNR, OSGR and sign agreement over all parameters of a network, as the GSNR paper has them.

The sums of `moments.py` are filled layer by layer from `network.per_sample_gradients`; the training
loop calls `gsnr`, `osgr` and `same_sign`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from hpogen.measures.batches import Batch, pairs
from hpogen.measures.distributed import summed
from hpogen.measures.moments import Moments
from hpogen.measures.network import Loss, per_sample_gradients
from hpogen.measures.passes import undisturbed
from hpogen.measures.targets import labelled
from hpogen.measures.uses import Gradients


def network_moments(
    model: nn.Module,
    batches: Iterable[Batch],
    signs: bool = True,
    loss: Loss = functional.cross_entropy,
) -> Moments:
    """Sums of the loss's per-sample gradients over all trainable parameters, (P,) each.

    BatchNorm in evaluation mode; of a `DistributedDataParallel` model, which all its processes must
    call, the sums are over the samples of all. Memory is 4 numbers per parameter, and the sums are
    in float64. Without `signs` those two are left 0. Raises as `gradient_norms`, and ValueError
    when there is no sample.
    """
    sums = MomentSums(signs)
    count = 0
    with undisturbed(model):
        for x, y in labelled(pairs(batches)):
            per_sample_gradients(model, x, y, loss, sums.add)
            count += len(x)
    return sums.result(_summed_over_processes(model, sums.sums, count))


class MomentSums:
    """The sums of `Moments` by parameter: `add` is what `per_sample_gradients` gives them to."""

    def __init__(self, signs: bool = True) -> None:
        self.sums: dict[str, Tensor] = {}  # (4, P_j): S1, S2, S, NZ of each parameter
        self._signs = signs

    def add(self, name: str, _: slice, gradients: Gradients) -> None:
        total = self.sums.get(name)
        if total is None:
            total = torch.zeros(4, gradients.size, dtype=torch.float64, device=gradients.device)
            self.sums[name] = total
        factors = gradients.factors()
        if factors is not None:  # g_ick = b_ic a_ik: no per-sample gradient is formed
            _add_products(total, *factors, self._signs)
            return
        for chunk in gradients.chunks():
            add_chunk(total, chunk, self._signs)

    def result(self, count: int, names: Collection[str] | None = None) -> Moments:
        """Of `count` samples, over all parameters or those of these names.

        Raises ValueError when there is no sample.
        """
        if not count:
            raise ValueError("got no samples: the batches are empty")
        sums = [total for name, total in self.sums.items() if names is None or name in names]
        nothing = torch.zeros(4, 0, dtype=torch.float64)
        first, second, agreement, nonzero = torch.cat(sums, 1) if sums else nothing
        return Moments(first, second, agreement, nonzero, count)


def _summed_over_processes(model: nn.Module, sums: dict[str, Tensor], count: int) -> int:
    """Sum in place over the processes that train copies of the model; the number of samples."""
    if not isinstance(model, DistributedDataParallel):
        return count
    samples = torch.tensor(count)
    for name, p in model.module.named_parameters():
        if p.requires_grad:  # the same order everywhere, also where there was no sample
            zeros = torch.zeros(4, p.numel(), dtype=torch.float64, device=p.device)
            summed(sums.setdefault(name, zeros), model.process_group)
            samples = samples.to(p.device)
    return int(summed(samples, model.process_group))


def _add_products(total: Tensor, outputs: Tensor, inputs: Tensor, signs: bool) -> None:
    """B (N, p) and A (N, d) of a matrix (p, d) that is used at one place."""
    b, a = outputs.double(), inputs.double()
    total[0] += (b.T @ a).flatten()
    total[1] += (b.square().T @ a.square()).flatten()
    if signs:
        b, a = b.sign(), a.sign()
        total[2] += (b.T @ a).flatten()
        total[3] += (b.abs().T @ a.abs()).flatten()


def add_chunk(total: Tensor, chunk: Tensor, signs: bool) -> None:
    """Explicit gradients (n, P_j), to the sums (4, P_j) of `Moments`."""
    exact = chunk.double()
    total[0] += exact.sum(0)
    total[1] += exact.square().sum(0)
    if signs:
        total[2] += exact.sign().sum(0)
        total[3] += exact.count_nonzero(0)


def gsnr(
    model: nn.Module, batches: Iterable[Batch], loss: Loss = functional.cross_entropy
) -> dict[str, float]:
    """mean_j m_j² / ρ_j² over all parameters (the GSNR paper, eqs. 2 and 25), and its variants."""
    return network_moments(model, batches, signs=False, loss=loss).gsnr_family("gsnr")


def osgr(
    model: nn.Module, batches: Iterable[Batch], loss: Loss = functional.cross_entropy
) -> float:
    """1 − (A − B)/(N·B) over all parameters (the GSNR paper, eq. 19); see `Moments.osgr`."""
    return network_moments(model, batches, signs=False, loss=loss).osgr


def same_sign(
    model: nn.Module, batches: Iterable[Batch], loss: Loss = functional.cross_entropy
) -> float:
    """mean_j max(n₊, n₋)/(n₊ + n₋) over all parameters with at least 30 non-zero gradients."""
    return network_moments(model, batches, loss=loss).same_sign
