"""Per-sample gradients through a whole network, from one forward and one backward pass.

`gradient_norms` is for any PyTorch loop; `gn` and the moments of the GSNR paper build on the same
pass. Which layers a model uses is read from its forward pass, and the autograd graph is counted
through, so that no use of a parameter can be missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from hpogen.errors import Refusal
from hpogen.measures.as_found import kept
from hpogen.measures.batches import Batch, Forward, Keywords, logits_in, pairs, tensor_of
from hpogen.measures.distributed import gathered, group_of, unwrapped
from hpogen.measures.one_by_one import one_by_one
from hpogen.measures.other_samples import Check, Together, TotalOf, Verdict
from hpogen.measures.packed import OneTensor
from hpogen.measures.passes import check_finite, uncompiled, undisturbed
from hpogen.measures.targets import counted, cross_entropy, labelled, rows
from hpogen.measures.uses import Gradients
from hpogen.measures.watch import Sink, Watch

Loss = Callable[..., Tensor]
_SETTLED: WeakKeyDictionary[nn.Module, dict[object, Verdict]] = WeakKeyDictionary()


def gradient_norms(
    model: nn.Module,
    x: Tensor | Mapping[str, Tensor],
    y: Tensor,
    loss: Loss = functional.cross_entropy,
    forward: Forward | None = None,
) -> Tensor:
    """‖∇_θ loss_i‖² of each sample over all trainable parameters, (N,) float64.

    `x` (N, …) and `y` (N, …) are one batch. A mapping `x` is given to the model by name, and what
    that gives may have `logits`; `forward(model, x)` is called in the place of model(x).
    `loss(outputs, y, reduction="sum")` adds up samples, as torch's own losses do;
    `functools.partial(cross_entropy, label_smoothing=0.1)` is one. For the cross-entropy, `y` is
    as `targets.rows` takes it; a sample labelled −100 has norm 0. The model
    is run in evaluation mode, once forward and once backward, and is left as it was: parameters,
    buffers, `.grad`, modes, random state. A sample with a logit that is not finite has a norm that
    is not. Per-sample gradients are formed layer by layer only.

    Linear, Conv1d to Conv3d, BatchNorm, GroupNorm, LayerNorm and Embedding are known, by module or
    by function, however often a parameter is used, with the sample in their first dimension. The
    first time that a model takes a shape, at most seven samples are also run without the others:
    parameters whose gradients are other ones then, all where the forward sums up, ranks or chooses
    samples, and any other use cost a second pass by `torch.func.vmap(grad)`. Of a complex parameter
    it is |·|². Raises Refusal, naming the module or the model, where that fails, where a sample has
    other outputs alone, or the loss is not the samples' sum; ValueError for an empty batch.
    Sources: Goodfellow 2015 (layers used at one place); gradient-norm paper, eq. 4.
    """
    if isinstance(x, Mapping):
        x = Keywords(x)
    model, x = OneTensor(unwrapped(model), forward).of(x)
    device = next(model.parameters(), x).device
    norms = torch.zeros(len(x), dtype=torch.float64, device=device)

    def add(_: str, samples: slice, gradients: Gradients) -> None:
        norms[samples] += gradients.squared_norms()

    per_sample_gradients(model, x, y, loss, add)
    return norms


def gn(model: nn.Module, batches: Iterable[Batch], loss: Loss = functional.cross_entropy) -> float:
    """mean_i ‖∇L(θ; x_i)‖²: one term of GN (gradient-norm paper, eq. 4).

    BatchNorm in evaluation mode. Of a `DistributedDataParallel` model, which all its processes must
    call, the mean is over the samples of all. Raises ValueError when there is no sample,
    FloatingPointError for a gradient that is not finite, Refusal as `gradient_norms`.
    """
    with undisturbed(model):
        norms = [gradient_norms(model, x, y, loss) for x, y in labelled(pairs(batches))]
    found = gathered(torch.cat([torch.zeros(0).double(), *norms]).cpu(), group_of(model))
    if not len(found):
        raise ValueError("got no samples: the batches are empty")
    check_finite(found, "a gradient")
    return float(found.mean())


def per_sample_gradients(model: nn.Module, x: Tensor, y: Tensor, loss: Loss, sink: Sink) -> None:
    """Give `sink` the per-sample gradients of every trainable parameter that the loss depends on.

    What it has taken is freed at once; errors as for `gradient_norms`.
    """
    ((x, y),) = pairs([(x, y)])
    if not len(x):
        raise ValueError("got no samples: the batch is empty")
    if len(y) != len(x):
        raise ValueError(f"got {len(x)} samples and {len(y)} targets: expected one for each")
    model = unwrapped(model)
    _refuse_mixing(model)
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters() if p.requires_grad}
    if not names:
        return
    device = next(iter(names)).device
    x, y = x.to(device), y.to(device)
    with undisturbed(model, loads=False), uncompiled():
        _differentiate(model, names, x, y, loss, sink)


def _differentiate(
    model: nn.Module,
    names: Mapping[Tensor, str],
    x: Tensor,
    y: Tensor,
    loss: Loss,
    sink: Sink,
) -> None:
    total_of: TotalOf = partial(_total, model, loss)
    watch = Watch(names, len(x))
    try:
        with torch.enable_grad(), _without_cast_cache():
            with kept(model), watch:
                outputs = logits_in(model(x))
                watch.looks = False
                if loss is functional.cross_entropy:
                    counted(*rows(tensor_of(model, outputs), y))  # refuses what is no target
                total = total_of(outputs, y)
            if total.grad_fn is None:
                return
            batch = Together(x, y, outputs.detach(), total.detach())
            shape = (x.shape, x.dtype, y.shape, y.dtype, _written(loss), watch.path)
            settled = _SETTLED.setdefault(model, {})
            verdict = settled.get(shape)
            if verdict is None:
                check = None if x.is_meta else Check(model, names, batch, total_of)
                verdict = Verdict(check)
        unknown = watch.differentiate(total, sink, verdict)
    finally:
        watch.close()
    if unknown:
        one_by_one(model, unknown, batch, total_of, sink, verdict.check)
    if verdict.check is not None and verdict.check.settled:
        settled[shape] = Verdict(None, verdict.slow)


def require_per_sample(model: nn.Module, x: Tensor) -> None:
    """Raise Refusal, naming the module, where `gradient_norms` would for images or tokens `x`."""
    labels = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    with undisturbed(model, loads=False), torch.no_grad():
        many = getattr(logits_in(model(x)), "ndim", 0) == 3  # logits (N, T, C)
    loss = _sum if many else functional.cross_entropy
    per_sample_gradients(model, x, labels, loss, lambda *_: None)


def _sum(outputs: Tensor, _: Tensor, reduction: str) -> Tensor:
    """A loss of any outputs."""
    return outputs.double().sum()


def _total(model: nn.Module, loss: Loss, outputs: Tensor, y: Tensor) -> Tensor:
    """The sum over the samples; in float64, or 1 − p_y would cancel where a sample is well fitted.

    A loss of the caller's own is given the outputs as they are, torch's want a tensor.
    """
    function = getattr(loss, "func", loss)  # of a partial, or a named loss
    if getattr(function, "__module__", "") == functional.__name__:
        outputs = tensor_of(model, outputs)
        outputs = outputs + (outputs - outputs)  # NaN for −∞, which leaves a finite gradient
    if loss is functional.cross_entropy:
        return cross_entropy(outputs, y, reduction="sum")
    return loss(outputs, y, reduction="sum")


def _refuse_mixing(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise Refusal(
                f"{type(model).__name__} mixes the samples of a batch in its module {name!r}, a "
                f"{type(module).__name__} without running statistics: there are no per-sample "
                "gradients"
            )
        if isinstance(module, nn.Embedding) and module.max_norm is not None:
            raise Refusal(
                f"{type(model).__name__} changes the weights of its module {name!r}, an Embedding "
                "with max_norm, in every forward pass"
            )


def _written(loss: Loss) -> object:
    """What tells losses apart that apply the same functions; not themselves: that keeps models."""
    while hasattr(loss, "func"):  # a partial, or a named loss
        loss = loss.func
    return getattr(loss, "__code__", type(loss))


class _without_cast_cache:
    """Inside, autocast casts a weight at each use: the graph has an edge for each, then."""

    def __enter__(self) -> None:
        self._before = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)

    def __exit__(self, *_: object) -> None:
        torch.set_autocast_cache_enabled(self._before)
