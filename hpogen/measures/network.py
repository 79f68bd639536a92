"""Per-sample gradients through a whole network, from one forward and one backward pass.

`gradient_norms` is for any PyTorch loop; `gn` and the moments of the GSNR paper build on the same
pass. Which layers a model uses is read from its forward pass, and the autograd graph is counted
through, so that no use of a parameter can be missed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from hpogen.errors import Refusal
from hpogen.measures.as_found import kept
from hpogen.measures.distributed import gathered, group_of
from hpogen.measures.graph import Graph
from hpogen.measures.layers import RULES
from hpogen.measures.passes import (
    Batch,
    at_least_float32,
    check_finite,
    pairs,
    tensor_of,
    undisturbed,
)
from hpogen.measures.uses import Direct, Gradients, Use, limit

Loss = Callable[..., Tensor]
Sink = Callable[[str, slice, Gradients], None]
"""Takes, parameter by parameter (its name), the gradients of some of the samples."""
SEQUENTIAL = (functional.linear, functional.layer_norm, functional.group_norm, functional.conv1d)
EMBEDDING = functional.embedding


def gradient_norms(
    model: nn.Module, x: Tensor, y: Tensor, loss: Loss = functional.cross_entropy
) -> Tensor:
    """‖∇_θ loss_i‖² of each sample over all trainable parameters, (N,) float64.

    `x` (N, …) and `y` (N, …) are one batch. `loss(outputs, y, reduction="sum")` adds up samples, as
    torch's own losses do; `functools.partial(cross_entropy, label_smoothing=0.1)` is one. The model
    is run in evaluation mode, once forward and once backward, and is left as it was: parameters,
    buffers, `.grad`, modes, random state. A sample with a logit that is not finite has a norm that
    is not. Per-sample gradients are formed layer by layer only.

    Linear, Conv1d to Conv3d, BatchNorm, GroupNorm, LayerNorm and Embedding are known, by module or
    by function, however often a parameter is used, with the sample in their first dimension (over
    sequences that is checked by a forward of one more sample). Any other use costs a second pass by
    `torch.func.vmap(grad)`. Raises Refusal, naming the module, where that fails or where samples
    are mixed (BatchNorm without running statistics); ValueError for an empty batch. Sources:
    Goodfellow 2015 (layers used at one place); gradient-norm paper, eq. 4.
    """
    device = next(model.parameters(), x).device
    norms = torch.zeros(len(x), dtype=torch.float64, device=device)

    def add(_: str, samples: slice, gradients: Gradients) -> None:
        norms[samples] += gradients.squared_norms()

    per_sample_gradients(model, x, y, loss, add)
    return norms


def gn(model: nn.Module, batches: Iterable[Batch]) -> float:
    """mean_i ‖∇L(θ; x_i)‖² of the cross-entropy: one term of GN (gradient-norm paper, eq. 4).

    BatchNorm in evaluation mode. Of a `DistributedDataParallel` model, which all its processes must
    call, the mean is over the samples of all. Raises ValueError when there is no sample,
    FloatingPointError for a gradient that is not finite, Refusal as `gradient_norms`.
    """
    with undisturbed(model):
        norms = [gradient_norms(model, x, y) for x, y in pairs(batches) if len(x)]
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
    if isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module  # its own forward waits for the other processes
    _refuse_mixing(model)
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters() if p.requires_grad}
    if not names:
        return
    device = next(iter(names)).device
    x, y = x.to(device), y.to(device)
    with undisturbed(model, loads=False):
        watch = _Watch(names, len(x))
        try:
            with torch.enable_grad(), _without_cast_cache(), watch:
                total = _total(model, loss, model(x), y)
            if watch.ambiguous:
                watch.check(model, x)
            unknown = watch.differentiate(total, sink)
        finally:
            watch.close()
        if unknown:
            _by_vmap(model, unknown, x, y, loss, sink)


def require_per_sample(model: nn.Module, x: Tensor) -> None:
    """Raise Refusal, naming the module, where `gradient_norms` would for images `x`."""
    labels = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    per_sample_gradients(model, x, labels, functional.cross_entropy, lambda *_: None)


def _total(model: nn.Module, loss: Loss, outputs: Tensor, y: Tensor) -> Tensor:
    """The sum over the samples; in float64, or 1 − p_y would cancel where a sample is well fitted.

    A loss of the caller's own is given the outputs as they are, torch's want a tensor.
    """
    function = getattr(loss, "func", loss)  # of a partial
    if getattr(function, "__module__", "") == functional.__name__:
        outputs = tensor_of(model, outputs)
        outputs = outputs + (outputs - outputs)  # NaN for −∞, which leaves a finite gradient
    if loss is functional.cross_entropy and outputs.ndim == 2:
        outputs, y = outputs.double(), y.double() if y.is_floating_point() else y
    return loss(outputs, y, reduction="sum")


@dataclass(frozen=True)
class _Layer:
    call: int  # its number among the calls of known functions
    edge: GradientEdge  # the layer's output in the autograd graph
    uses: list[tuple[Tensor, Callable[[Tensor], Use]]]


class _Watch(TorchFunctionMode):
    """Records, while it is entered, which known layers run, and differentiates through them."""

    def __init__(self, names: Mapping[Tensor, str], count: int) -> None:
        super().__init__()
        self._names = names
        self._count = count
        self._calls = 0
        self._layers: list[_Layer] = []
        self.ambiguous = False  # whether a layer's first dimension may be another than the samples'
        self._waiting: Counter[Tensor] = Counter()  # uses that the backward has not reached
        self._reached: defaultdict[Tensor, list[Use]] = defaultdict(list)
        self._sink: Sink | None = None
        self._hooks: list[RemovableHandle] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func not in RULES:
            return output
        self._calls += 1
        if output.requires_grad and len(output) == self._count:
            rule = RULES[func](*args, **(kwargs or {}))
            uses = [(p, use) for p, use in rule if p is not None and p in self._names]
            if uses:
                layer = _Layer(self._calls - 1, get_gradient_edge(output), uses)
                self.ambiguous |= (func in SEQUENTIAL and output.ndim > 2) or func is EMBEDDING
                self._hooks.append(output.register_hook(lambda b: self._reach(layer, b)))
                self._layers.append(layer)
        return output

    def check(self, model: nn.Module, x: Tensor) -> None:
        """Forget the layers whose first dimension is not 1 for one sample.

        Positions or time steps, as many as there are samples, would be taken for them.
        """
        with torch.no_grad(), _Lengths() as lengths:
            model(x[:1])
        same = len(lengths.found) == self._calls
        kept = [layer for layer in self._layers if same and lengths.found[layer.call] == 1]
        self._layers = kept

    def differentiate(self, total: Tensor, sink: Sink) -> dict[Tensor, str]:
        """Run the backward pass; the parameters that have uses beside the recorded ones are left.

        Only gradients of outputs are computed, none of weights.
        """
        if total.grad_fn is None:
            return {}
        graph = Graph(total.grad_fn)
        layers = [layer for layer in self._layers if layer.edge.node in graph.nodes]
        recorded = Counter(p for layer in layers for p, _ in layer.uses)
        unknown = {p: n for p, n in self._names.items() if graph.uses[p] != recorded[p]}
        self._waiting = Counter({p: n for p, n in recorded.items() if p not in unknown})
        self._sink = sink
        ends = graph.ends({layer.edge.node for layer in layers})
        edges = [layer.edge for layer in layers if layer.edge.node in ends]
        if edges:
            with _uncast(total.device.type):
                torch.autograd.grad(total, edges, allow_unused=True)
        for p in list(self._reached):  # a use that no gradient came to adds nothing
            self._finish(p)
        return unknown

    def close(self) -> None:
        """Take the hooks off the graph, which would keep it alive."""
        for hook in self._hooks:
            hook.remove()

    def _reach(self, layer: _Layer, b: Tensor) -> None:
        b = at_least_float32(b.detach())
        for p, use in layer.uses:
            if self._waiting[p]:
                self._reached[p].append(use(b))
                self._waiting[p] -= 1
                if not self._waiting[p]:
                    self._finish(p)
        layer.uses.clear()

    def _finish(self, p: Tensor) -> None:
        gradients = Gradients(self._reached.pop(p), self._count, p.numel(), p.device)
        if self._sink is not None:
            self._sink(self._names[p], slice(0, self._count), gradients)


class _Lengths(TorchFunctionMode):
    """Collects, while it is entered, the first dimension of every known layer's output."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in RULES:
            self.found.append(len(output))
        return output


def _by_vmap(
    model: nn.Module, unknown: Mapping[Tensor, str], x: Tensor, y: Tensor, loss: Loss, sink: Sink
) -> None:
    """The same for parameters in layers that are not known, by `torch.func`, in chunks."""
    chosen = {name: p.detach() for p, name in unknown.items()}

    def loss_of(values: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        outputs = functional_call(model, values, (image[None],))
        return _total(model, loss, outputs, label[None])

    gradients_of = vmap(grad(loss_of), in_dims=(None, 0, 0))
    step = max(1, 4 * limit(x.device) // sum(p.numel() for p in unknown))
    for start in range(0, len(x), step):
        samples = slice(start, min(start + step, len(x)))
        try:
            with torch.no_grad(), kept(model):
                gradients = gradients_of(chosen, x[samples], y[samples])
        except RuntimeError as error:
            if x.is_meta or isinstance(error, torch.OutOfMemoryError):
                raise
            raise Refusal(_not_known(model, unknown, error)) from error
        for name, values in gradients.items():
            values = at_least_float32(values)
            size = values[0].numel()
            sink(name, samples, Gradients([Direct(values)], len(values), size, x.device))


def _not_known(model: nn.Module, unknown: Mapping[Tensor, str], error: RuntimeError) -> str:
    name = next(iter(unknown.values()))
    owner = name.rpartition(".")[0]
    kind = type(model.get_submodule(owner)).__name__
    return (
        f"{type(model).__name__} has no known per-sample gradients for {name!r}, of "
        f"{f'its module {owner!r}, ' if owner else ''}a {kind}, and torch.func fails: "
        f"{str(error).partition(chr(10))[0]}"
    )


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


def _uncast(device: str) -> AbstractContextManager[object]:
    """No autocast inside: norms are computed in at least float32."""
    available = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if available else nullcontext()


class _without_cast_cache:
    """Inside, autocast casts a weight at each use: the graph has an edge for each, then."""

    def __enter__(self) -> None:
        self._before = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(False)

    def __exit__(self, *_: object) -> None:
        torch.set_autocast_cache_enabled(self._before)
