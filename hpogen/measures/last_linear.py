"""Watches the last layer of a network at work, and the gradient of the loss there.

The head measures and the training step take from it what no other pass has to compute again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hpogen.errors import Refusal
from hpogen.measures import sequences
from hpogen.measures.batches import Forward, called, tensor_of
from hpogen.measures.distributed import group_of, unwrapped
from hpogen.measures.plain_linear import refuse_unless_plain, trained
from hpogen.measures.targets import LossFunction, output_gradient, smoothed


class _Run(NamedTuple):
    layer: nn.Linear
    features: Tensor  # h
    output: Tensor
    versions: tuple[int, int]  # of both, which whoever changes one in place counts up
    behind: Any  # the autograd node of the features, of a layer that is not known to be plain


class LastLinear:
    """Watches, while it is entered, which `nn.Linear` of a model runs last, and its input."""

    def __init__(self, model: nn.Module) -> None:
        self._wrapped = group_of(model) is not None
        self._model = unwrapped(model)
        self._run: _Run | None = None  # the last of the newest forward: no other is kept
        self._ran: list[nn.Module] = []  # in it, in their order
        self._plain: nn.Linear | None = None  # the layer that is known to be one
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> LastLinear:
        if isinstance(self._model, torch.jit.ScriptModule):
            raise Refusal(
                f"{self._name} is TorchScript, whose layers are out of sight: pass the model that "
                "it was made of"
            )
        self._hooks.append(self._model.register_forward_pre_hook(self._forget))
        for module in self._model.modules():
            if isinstance(module, nn.Linear):  # first: hooks of others may change the output
                hook = module.register_forward_hook(self._record, with_kwargs=True, prepend=True)
                self._hooks.append(hook)
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._forget()

    @property
    def _name(self) -> str:
        return type(self._model).__name__

    def _forget(self, *_: object) -> None:
        self._run, self._ran = None, []

    def _record(
        self, layer: nn.Module, inputs: tuple[Any, ...], options: Mapping[str, Any], output: Any
    ) -> None:
        self._ran.append(layer)
        self._run = None
        (features, *others) = (*inputs, *options.values())
        if isinstance(layer, nn.Linear) and not others and isinstance(output, Tensor):
            seen = layer is self._plain or torch.compiler.is_compiling()
            behind = None if seen else features.grad_fn  # else no graph is kept alive
            versions = _versions(features, output)
            self._run = _Run(layer, features.detach(), output.detach(), versions, behind)

    @property
    def output(self) -> Tensor:
        """What the last layer gave in the newest forward, detached. Raises Refusal if none ran."""
        if self._run is None:
            raise Refusal(self._nothing_seen())
        return self._run.output

    def forget(self) -> None:
        """Begin anew: what has run so far is not of the forward to come."""
        self._forget()

    def read(self, logits: Tensor, dimensions: int = 2) -> tuple[nn.Linear, Tensor]:
        """The last layer and its input h (N, D), of the newest forward, which gave `logits` (N, C).

        Or of 3 `dimensions` (N, T, D), with a place in a sequence for the second.
        Raises Refusal when the last layer's output is not the model's, when it ran twice, or when
        it is not plain (see `plain_linear`): the closed forms do not hold then.
        """
        run, ran = self._run, self._ran
        self._forget()
        if not ran:
            raise Refusal(self._nothing_seen())
        logits = tensor_of(self._model, logits)
        if run is None or run.features.ndim != dimensions or not self._is_output(run, logits):
            raise Refusal(f"the output of {self._name} is not that of its last nn.Linear")
        if sum(layer is run.layer for layer in ran) > 1:
            raise Refusal(f"{self._name} uses its last nn.Linear twice")
        if run.layer is not self._plain:
            refuse_unless_plain(self._model, run.layer, run.behind)
            self._plain = run.layer
        return run.layer, run.features

    def squared_gradient_norms(
        self,
        logits: Tensor,
        targets: Tensor,
        smoothing: float = 0.0,
        loss: LossFunction | None = None,
    ) -> Tensor:
        """s_i (N,) of the newest forward pass, which gave `logits`: see the function.

        With label smoothing, of the cross-entropy that has it; or of a loss of one's own. Of logits
        (N, T, C) it is `sequences.squared_norms`.
        """
        layer, features = self.read(logits, _dimensions(logits))
        weight, bias = counts(layer)
        if logits.ndim == 3:
            refuse_frozen(weight, bias)
            norms = sequences.squared_norms
            return norms(features, logits.detach(), targets, (weight, bias), loss)
        targets = smoothed(targets, logits.shape[1], smoothing)
        return squared_gradient_norms(features, logits.detach(), targets, bias, weight, loss)

    def _is_output(self, run: _Run, logits: Tensor) -> bool:
        if _same(run.output, logits):
            return _versions(run.features, logits) == run.versions
        if _versions(run.features, run.output) != run.versions:
            return False
        return self._wrapped and torch.equal(run.output, logits)  # the wrapper may give a copy

    def _nothing_seen(self) -> str:
        if any(isinstance(module, nn.Linear) for module in self._model.modules()):
            return (
                f"no nn.Linear of {self._name} was seen at work: it uses none, or it was compiled "
                "before (then make OnlineAgn before the first forward)"
            )
        return f"{self._name} has no nn.Linear"


def require_last_linear(model: nn.Module, x: Any, forward: Forward | None = None) -> None:
    """Raise Refusal, naming the model, when its output is not that of its last `nn.Linear`.

    Or when the closed forms do not hold for that: `plain_linear` says when.
    """
    model = unwrapped(model)
    with torch.enable_grad(), LastLinear(model) as last:
        logits = tensor_of(model, called(model, x, forward))
        last.read(logits, _dimensions(logits))


def counts(layer: nn.Linear) -> tuple[bool, bool]:
    """Whether its weight and its bias count in measures: see `trained`."""
    own = [id(p) for p in trained(layer)]
    return id(layer.weight) in own, id(layer.bias) in own


def refuse_frozen(weight: bool, bias: bool) -> None:
    if not weight and not bias:
        raise Refusal("no parameter of the last nn.Linear is trained (requires_grad is False)")


def sizes(features: Tensor, weight: bool, bias: bool) -> Tensor:
    """‖h_i‖² + 1 (N,) float64, without the one or the other where weight or bias do not count.

    Raises Refusal where neither does.
    """
    refuse_frozen(weight, bias)
    if not weight:
        return features.new_ones(len(features), dtype=torch.float64)
    return features.double().square().sum(1) + bias


def squared_gradient_norms(
    features: Tensor,
    logits: Tensor,
    targets: Tensor,
    bias: bool,
    weight: bool = True,
    loss: LossFunction | None = None,
) -> Tensor:
    """s_i = ‖d_i‖² (‖h_i‖² + 1) over the parameters that count, see `sizes` (Goodfellow 2015).

    `features` (N, D), `logits` (N, C), `targets` (N,) labels or (N, C) probabilities; the result is
    (N,) float64. With a loss of one's own, targets are what that takes.
    """
    size = sizes(features, weight, bias)  # (N,)
    return output_gradient(logits, targets, loss).square().sum(1) * size


def _dimensions(logits: Tensor) -> int:
    """Of the last layer's input: 3 for logits (N, T, C)."""
    return 3 if logits.ndim == 3 else 2


def _versions(features: Tensor, output: Tensor) -> tuple[int, int]:
    """How often they were changed in place; nobody knows of features from inference_mode."""
    return -1 if features.is_inference() else features._version, output._version


def _same(output: Tensor, logits: Tensor) -> bool:
    """Whether two tensors are the same memory in the same shape."""
    shared = output.untyped_storage()._cdata == logits.untyped_storage()._cdata
    return shared and output.shape == logits.shape
