"""Sizes of a network: of its weights, of their way from the start, of its paths, of its class.

The training loop calls these measures; none needs more than one sample of the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from hpogen.errors import Refusal
from hpogen.measures.as_found import require_initialized
from hpogen.measures.batches import Batch, device_of, first, tensor_of
from hpogen.measures.passes import check_finite, undisturbed
from hpogen.measures.weighted import all_layers, refuse_whole_numbers

NOT_HOMOGENEOUS = (
    *(nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.ELU, nn.SELU, nn.CELU),
    *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softmax, nn.LogSoftmax),
    *(nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.MultiheadAttention),
)


def parameters(model: nn.Module, batches: Iterable[Batch]) -> float:
    """The number of trainable parameters; one that several layers share counts once."""
    require_initialized(model)
    return float(sum(p.numel() for p in model.parameters() if p.requires_grad))


def param_norm(model: nn.Module, batches: Iterable[Batch]) -> float:
    """‖θ‖₂ over all trainable parameters (Jiang et al. 2020 have its square).

    Raises FloatingPointError for a weight that is not finite, like the next.
    """
    require_initialized(model)
    return _norm(p.detach() for p in model.parameters() if p.requires_grad)


def distance_init(model: nn.Module, batches: Iterable[Batch], initial: nn.Module) -> float:
    """‖θ − θ₀‖₂ over all trainable parameters, θ₀ those of the untrained model.

    Source: Nagarajan and Kolter 2019 (gradient-norm paper, Table 3).
    """
    require_initialized(model)
    before = dict(initial.named_parameters())
    return _norm(
        p.detach().double() - before[name].detach().to(p.device, torch.float64)
        for name, p in model.named_parameters()
        if p.requires_grad
    )


def vc_dim(model: nn.Module, batches: Iterable[Batch]) -> float:
    """W · L · log₂ W, the order of the bound on the VC dimension of networks of ReLU kind.

    W trainable parameters, L linear layers and convolutions applied one by one in a forward pass; a
    number of the architecture alone, the bound's constant left out. Source: Bartlett, Harvey, Liaw
    and Mehrabian 2019, O(W L log W). Raises Refusal, naming the model, where W < 2 or L = 0,
    and where weights are applied otherwise than by such layers.
    """
    with undisturbed(model):
        layers = all_layers(model, first(batches)[0][:1])
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if count < 2:
        raise Refusal(f"{type(model).__name__} has fewer than two trainable parameters")
    return count * len(layers) * math.log2(count)


def path_norm(model: nn.Module, batches: Iterable[Batch]) -> float:
    """√ Σ_k f_{w²}(1)_k: the ℓ₂ norm over all paths of the product of a path's weights.

    f_{w²} is the network with every weight and bias squared, run on an input of ones in float64;
    BatchNorm is in evaluation mode, as the scale and shift that it is. Maximum pooling takes one of
    the paths. Defined where activations are of ReLU kind: raises Refusal, naming the model, where
    the squared network without biases is not homogeneous (tanh, LayerNorm, …), FloatingPointError
    where its outputs are not finite. Source: Neyshabur et
    al. 2015; Jiang et al. 2020.
    """
    with undisturbed(model), torch.no_grad():
        ones = torch.ones_like(first(batches)[0][:1], dtype=torch.float64)
        ones = ones.to(device_of(model))
        linear = _squared(model, biases=False)
        once, twice = (functional_call(model, linear, (scale * ones,)) for scale in (1, 2))
        check_finite(tensor_of(model, once), "an output of the squared network")
        if not torch.allclose(twice, 2 * once, rtol=1e-6):
            raise Refusal(
                f"{type(model).__name__} is not a network of ReLU kind: it has no path norm"
            )
        outputs = functional_call(model, _squared(model, biases=True), (ones,))
        check_finite(outputs, "an output of the squared network")
        return math.sqrt(float(outputs.sum()))


def require_relu_kind(model: nn.Module, x: Tensor) -> None:
    """Raise Refusal, naming the module, where one is known to have no path norm."""
    refuse_whole_numbers(model, x)
    for name, module in model.named_modules():
        if isinstance(module, NOT_HOMOGENEOUS):
            raise Refusal(
                f"{type(model).__name__} is not a network of ReLU kind: its module {name!r} is a "
                f"{type(module).__name__}"
            )


def _squared(model: nn.Module, biases: bool) -> dict[str, Tensor]:
    """Parameters and buffers of f_{w²}, in float64."""
    values = {name: p.detach().double().square() for name, p in model.named_parameters()}
    values |= {
        name: b.double() if b.is_floating_point() else b for name, b in model.named_buffers()
    }
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, _BatchNorm):
            values |= _squared_norm(module, prefix, biases)
        elif not biases and f"{prefix}bias" in values:
            values[f"{prefix}bias"] = torch.zeros_like(values[f"{prefix}bias"])
    return values


def _squared_norm(module: _BatchNorm, prefix: str, biases: bool) -> dict[str, Tensor]:
    """What makes a BatchNorm x ↦ a² x + c², where it was x ↦ a x + c."""
    if module.running_mean is None or module.running_var is None:
        raise Refusal(f"{prefix[:-1]} is a BatchNorm without running statistics: no path norm")
    variance = module.running_var.double() + module.eps
    weight = torch.ones_like(variance) if module.weight is None else module.weight.detach().double()
    bias = torch.zeros_like(variance) if module.bias is None else module.bias.detach().double()
    scale = weight / variance.sqrt()  # a
    shift = (bias - module.running_mean.double() * scale).square() * biases  # c²
    values = {f"{prefix}running_var": variance.square() - module.eps}
    if module.weight is None:
        return values | {f"{prefix}running_mean": -shift * variance}
    return values | {
        f"{prefix}running_mean": torch.zeros_like(variance),
        f"{prefix}weight": weight.square(),
        f"{prefix}bias": shift,
    }


def _norm(parts: Iterable[Tensor]) -> float:
    squares = [float(part.double().square().sum()) for part in parts]
    check_finite(torch.tensor(squares), "a weight")
    return math.sqrt(sum(squares))
