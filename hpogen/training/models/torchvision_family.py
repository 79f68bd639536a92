"""Any classifier of torchvision by its name there: `torchvision/resnet18`, without weights.

`plugins.models` calls `family` when a study names one; only then is torchvision imported. Models
for detection, segmentation and video and quantized ones are not among its classifiers.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from hpogen.errors import UserError
from hpogen.plugins.parts import with_options
from hpogen.training.vision import torchvision

Shape = tuple[int, int, int]
Options = frozenset[tuple[str, Any]]
Builder = Callable[..., nn.Module]

models = torchvision().models

SIDES = (32, 48, 64, 96, 128, 224, 256, 299)  # pixels, of which a refusal names what would do
PLAIN = (bool, int, float)
NOT_OPTIONS = {"num_classes", "aux_logits", "dropout_aux", "transform_input", "init_weights"}
NO_AUXILIARY = {"aux_logits": False, "init_weights": True}  # one output; as torchvision had it
FIXED: Mapping[str, Mapping[str, Any]] = {"googlenet": NO_AUXILIARY, "inception_v3": NO_AUXILIARY}


@functools.cache
def family(name: str) -> Builder:
    """The builder `(in_shape, classes, **options)` of torchvision's model `name`.

    Options are those that its class takes by keyword as a plain number with a default (`dropout`),
    unless torchvision sets them itself. Where there are not 3 channels, the first convolution is
    replaced by one for as many, with torch's own initialisation. Raises UserError with the nearest
    name; the builder raises ValueError, in one line, for images that the model cannot take.
    """
    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean 'torchvision/{near[0]}'?" if near else ""
        raise UserError(
            f"'torchvision/{name}' is unknown{hint} (a classifier of torchvision.models, by name)"
        )

    def builder(in_shape: Shape, classes: int, **options: Any) -> nn.Module:
        if problem := _problem(name, in_shape, classes, frozenset(options.items())):
            raise ValueError(problem)
        return _build(name, in_shape, classes, options)

    return with_options(builder, _options(name))


def _build(name: str, in_shape: Shape, classes: int, options: Mapping[str, Any]) -> nn.Module:
    given = {**FIXED.get(name, {}), **options}
    channels, height, width = in_shape
    if name.startswith("vit_"):
        if height != width:
            raise ValueError(f"it needs square images, got {height}×{width}")
        given["image_size"] = height
    model: nn.Module = models.get_model(name, weights=None, num_classes=classes, **given)
    if channels != 3:
        _replace_stem(model, channels)
    return model


def _replace_stem(model: nn.Module, channels: int) -> None:
    """Put a convolution of that many input channels in place of the first one."""
    path, old = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        old.out_channels,
        typing.cast(tuple[int, int], old.kernel_size),
        typing.cast(tuple[int, int], old.stride),
        typing.cast(tuple[int, int], old.padding),
        bias=old.bias is not None,
    )
    parent, _, attribute = path.rpartition(".")
    setattr(model.get_submodule(parent), attribute, new)


def _options(name: str) -> dict[str, tuple[type, Any]]:
    """What may be set: name → (type, default)."""
    shape, classes = (3, 224, 224), 10
    initializer = type(_without_numbers(name, shape, classes, {})).__init__
    hints = typing.get_type_hints(initializer)
    found = {}
    for parameter in inspect.signature(initializer).parameters.values():
        option, default = parameter.name, parameter.default
        if hints.get(option) not in PLAIN or default is parameter.empty or option in NOT_OPTIONS:
            continue
        try:
            _without_numbers(name, shape, classes, {option: default})
        except (TypeError, ValueError):  # torchvision gives it a value of its own
            continue
        found[option] = (hints[option], default)
    return found


@functools.cache
def _problem(name: str, in_shape: Shape, classes: int, options: Options) -> str | None:
    """Why the model cannot take such images, in a line; found by a forward pass of two of them."""
    reason = _failure(name, in_shape, classes, options)
    if reason is None:
        return None
    channels, height, width = in_shape
    larger = (side for side in SIDES if side > min(height, width))
    fits = (s for s in larger if _failure(name, (channels, s, s), classes, options) is None)
    side = next(fits, None)
    hint = f"; {side}×{side} would do" if side else ""
    return f"model 'torchvision/{name}' cannot take images of {height}×{width}{hint}: {reason}"


def _failure(name: str, in_shape: Shape, classes: int, options: Options) -> str | None:
    try:
        model = _without_numbers(name, in_shape, classes, dict(options))
        outputs = model(torch.empty(2, *in_shape, device="meta"))
    except (ValueError, RuntimeError, AssertionError, IndexError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    if not isinstance(outputs, torch.Tensor) or outputs.shape != (2, classes):
        return f"it does not give a tensor of {classes} logits per image"
    return None


def _without_numbers(
    name: str, in_shape: Shape, classes: int, options: Mapping[str, Any]
) -> nn.Module:
    """The model on the meta device. RegNets calculate while they are built, and are moved there."""
    try:
        with torch.device("meta"):
            return _build(name, in_shape, classes, options)
    except NotImplementedError:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            return _build(name, in_shape, classes, options).to("meta")
