"""What a network costs to run: the multiply-accumulates of a forward, and the seconds it takes.

The training loop calls these measures, as it does the sizes of `complexity.py`; both are of one
sample.
"""

from __future__ import annotations

import copy
import statistics
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hpogen.errors import Refusal, text_of
from hpogen.measures.batches import Batch, device_of, first
from hpogen.measures.distributed import unwrapped
from hpogen.measures.passes import uncompiled, undisturbed

WARM_UP = 3  # forwards that are not timed
REPEATS = 30  # that are, but for those that would begin after `LONGEST`
LONGEST = 2.0  # seconds


def macs(model: nn.Module, batches: Iterable[Batch]) -> float:
    """The multiply-accumulates of one forward of one sample, in evaluation mode.

    Half the floating-point operations that torch's `FlopCounterMode` counts on a copy of the model
    on the meta device: those of matrix products, convolutions and attention. Biases, activations,
    normalisations and pooling count nothing. Raises Refusal, naming the model, where it cannot be
    copied or does not run there.
    """
    model = unwrapped(model)
    with undisturbed(model):
        counter = FlopCounterMode(display=False)
        _run_on_meta(model, first(batches)[0][:1], counter)
    return float(counter.get_total_flops() // 2)  # a product and a sum are two operations


def require_countable(model: nn.Module, x: Tensor) -> None:
    """Raise Refusal, naming the model, where `macs` would.

    Without counting: that takes torch's compiler, which takes seconds to import.
    """
    with undisturbed(model):
        _run_on_meta(model, x[:1], nullcontext())


def latency(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Seconds of one forward of one sample: the median of `REPEATS`, after `WARM_UP` forwards.

    In evaluation mode, without gradients, in the precision of the weights, on the model's device,
    which has finished before the clock is read. At least one forward is timed; none begins after
    `LONGEST` seconds. The model is left as it was.
    """
    model = unwrapped(model)
    with undisturbed(model), torch.no_grad():
        x = first(batches)[0][:1].to(device_of(model))
        return statistics.median(_times(model, x))


def _times(model: nn.Module, x: Tensor) -> Iterator[float]:
    for _ in range(WARM_UP):
        model(x)
    _finish(x.device)
    begun = perf_counter()
    for _ in range(REPEATS):
        start = perf_counter()
        model(x)
        _finish(x.device)
        end = perf_counter()
        yield end - start
        if end - begun > LONGEST:
            return


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _run_on_meta(model: nn.Module, x: Tensor, counter: AbstractContextManager[object]) -> None:
    """A forward of a copy without numbers, inside the counter."""
    try:
        copied = _on_meta(model)
        with uncompiled(), torch.no_grad(), torch.device("meta"), counter:
            copied(x.to("meta"))
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise Refusal(
            f"{type(model).__name__} has no multiply-accumulates that can be counted: a copy of it "
            f"does not run on the meta device, where tensors hold no numbers ({text_of(error)})"
        ) from error


def _on_meta(model: nn.Module) -> nn.Module:
    """A copy without numbers, and without the hooks by which hpogen watches the model."""
    made: dict[int, object] = {}  # what stands for what, as `deepcopy` has it
    for module in model.modules():
        for held in (module._parameters, module._buffers, vars(module)):
            made |= {id(t): _empty(t) for t in held.values() if isinstance(t, Tensor)}
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            kept = ((key, hook) for key, hook in hooks.items() if not _is_own(hook))
            made[id(hooks)] = OrderedDict(copy.deepcopy(list(kept), made))
    return copy.deepcopy(model, made)


def _empty(tensor: Tensor) -> Tensor:
    empty = tensor.detach().to("meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, tensor.requires_grad)
    return empty


def _is_own(hook: object) -> bool:
    return (getattr(hook, "__module__", None) or "").startswith("hpogen.")
