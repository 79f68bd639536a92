"""Whether an `nn.Linear` computes F.linear(h, W, b), and with parameters that nothing else uses.

The closed forms of the last layer hold only then; `last_linear.py` asks before it gives them.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import UninitializedParameter

from hpogen.errors import Refusal

SCALES = (1e-3, 1.0, 1e3)  # of the samples that a layer with a forward of its own is tried on
TOLERANCE = 1e-4  # relative: such a forward may compute in float32


def refuse_unless_plain(model: nn.Module, layer: nn.Linear, behind: Any) -> None:
    """Raise Refusal, naming the model, where the layer's gradient is not d (h, 1)ᵀ.

    `behind` is the autograd node of its input h; None where no graph was kept.
    """
    reason = _computed(layer) or _other_parameters(layer) or _shared(model, layer)
    if reason is None and _own_forward(layer) and not _is_linear(layer):
        reason = "does not compute F.linear(h, weight, bias)"
    if reason is None and _reaches(behind, trained(layer)):
        reason = "has parameters that are used at another place, too"
    if reason is not None:
        raise Refusal(
            f"the last nn.Linear of {type(model).__name__}, a {type(layer).__name__}, {reason}: "
            "its gradients have no closed form"
        )


def trained(layer: nn.Linear) -> list[Tensor]:
    """The parameters of the layer that count in measures: trainable ones, as in the whole net."""
    own: tuple[Tensor | None, ...] = (layer.weight, layer.bias)
    return [p for p in own if p is not None and p.requires_grad]


def _computed(layer: nn.Linear) -> str | None:
    for name in ("weight", "bias"):
        parameter = layer._parameters.get(name, layer)
        if isinstance(parameter, UninitializedParameter):
            return "is lazy and has not run yet"
        if parameter is not None and type(parameter) is not nn.Parameter:
            return f"has a {name} that is no plain parameter, but computed, sharded or quantized"
        if parameter is not None and not parameter.is_floating_point():
            return f"has a {name} of type {parameter.dtype}"
    return None


def _other_parameters(layer: nn.Linear) -> str | None:
    for name, parameter in layer.named_parameters():
        if parameter.requires_grad and name not in ("weight", "bias"):
            return f"has another parameter, {name!r}"
    return None


def _shared(model: nn.Module, layer: nn.Linear) -> str | None:
    own = set(trained(layer))
    for name, module in model.named_modules():
        if module is not layer and not own.isdisjoint(module._parameters.values()):
            return f"shares a parameter with the module {name!r}"
    return None


def _own_forward(layer: nn.Linear) -> bool:
    return type(layer).forward is not nn.Linear.forward or "forward" in vars(layer)


def _is_linear(layer: nn.Linear) -> bool:
    """Whether a copy of the layer with random numbers does as F.linear, values and gradients.

    On the CPU in float64, so that the layer may be on any device; no hook is called.
    """
    twin = copy.copy(layer)  # shares all but what is set here
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64, device="cpu")

    weight = nn.Parameter(drawn(*layer.weight.shape))
    bias = None if layer.bias is None else nn.Parameter(drawn(len(layer.weight)))
    others = {name: p for name, p in layer._parameters.items() if name not in ("weight", "bias")}
    twin._parameters = {**_on_cpu(others), "weight": weight, "bias": bias}
    twin._buffers = _on_cpu(layer._buffers)
    h, v = drawn(len(SCALES), weight.shape[1]), drawn(len(SCALES), len(weight))
    h *= h.new_tensor(SCALES)[:, None]
    own = [weight] if bias is None else [weight, bias]
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        try:
            with torch.device("cpu"), torch.autocast("cpu", enabled=False):
                given = twin.forward(h)
                slopes = torch.autograd.grad((given * v).sum(), own)
        except (RuntimeError, TypeError, AttributeError, IndexError):  # it takes no such input
            return False
        expected = functional.linear(h, weight, bias)
        expected_slopes = torch.autograd.grad((expected * v).sum(), own)
    pairs = zip((given, *slopes), (expected, *expected_slopes), strict=True)
    return all(_alike(one, other) for one, other in pairs)


def _alike(given: Tensor, expected: Tensor) -> bool:
    if given.shape != expected.shape:
        return False
    error = (given.detach() - expected.detach()).abs().amax(-1)
    return bool((error <= TOLERANCE * expected.detach().abs().amax(-1)).all())


def _on_cpu(tensors: dict[str, Any]) -> dict[str, Any]:
    """Copies of them; of one on the meta device there is none, and NotImplementedError says so."""
    copies: dict[str, Any] = {}
    for name, tensor in tensors.items():
        copies[name] = None if tensor is None else tensor.detach().to("cpu", copy=True)
        if tensor is not None and tensor.is_floating_point():
            copies[name] = copies[name].double()
    return copies


def _reaches(node: Any, parameters: list[Tensor]) -> bool:
    """Whether one of the parameters is behind the node in the autograd graph.

    A node that torch.compile made hides what is used where: it is not looked behind.
    """
    seen, stack = set(), [node]
    while stack:
        node = stack.pop()
        if node is None or node in seen or "Compiled" in node.name():
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if any(variable is parameter for parameter in parameters):
            return True
        stack += [child for child, _ in node.next_functions]
    return False
