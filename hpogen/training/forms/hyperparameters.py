"""The hyper-parameters that image classification consumes, with what they are when not searched.

Read by `task.py` (their names) and by the loop (a trial's values).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from hpogen.errors import quoted
from hpogen.training.forms.options import STRICT
from hpogen.trial import Config, Value

OptimizerName = Literal["sgd", "adam", "adamw", "sam"]
AverageName = Literal["none", "ema", "swa"]
Augment = Literal["none", "standard"]  # standard: cropped at random after padding, and mirrored
Degrees = Annotated[float, Field(ge=0, le=180)]
Share = Annotated[float, Field(ge=0, le=1)]

OF_IMAGES = frozenset({"augment", "rotate", "mixup", "cutmix"})  # what images alone have


class Hyperparameters(BaseModel):
    """One trial's values: what the search space may name, and what they are where it does not."""

    model_config = STRICT

    batch_size: Annotated[int, Field(ge=1)] = 128
    """Images per training step; of a larger one than the subset the whole subset is taken."""
    lr: Annotated[float, Field(gt=0)]
    """The largest learning rate: what the schedule begins with, or reaches after its warm-up."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """With `sgd` and `sam` the velocity's factor at each step; with `adam` and `adamw` β₁."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """With `adamw` decoupled from the gradient; with the others added to it (λ·w)."""
    optimizer: OptimizerName = "sgd"
    """Which rule takes a step."""
    nesterov: bool = False
    """Nesterov's momentum, for `sgd` and `sam` with a momentum above 0; else without effect."""
    rho: Annotated[float, Field(gt=0)] = 0.05
    """Of `sam`: how far up the loss the gradient of a step is taken; without effect elsewhere."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the target that is spread over all classes, in the training loss alone."""
    average: AverageName = "none"
    """Which weights are judged: the trained ones, or their average `ema` or `swa`."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Of `ema`: the share of the average that stays at each step; it spans 1/(1 − decay) steps."""
    swa_start: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """Of `swa`: the share of the epochs after which the weights at each epoch's end count."""
    clip: Annotated[float, Field(ge=0)] = 0.0
    """The norm of all gradients of a step together, at most: longer ones are scaled; 0: none."""
    augment: Augment = "none"
    """`standard`: padded by 4 pixels, cropped at random, mirrored."""
    rotate: Degrees = 0.0
    """Degrees: each image is turned by an angle drawn between ± so many."""
    mixup: Annotated[float, Field(ge=0, le=100)] = 0.0
    """α: the images of a batch are mixed in pairs, by a share from Beta(α, α); 0: they are not."""
    cutmix: Annotated[float, Field(ge=0, le=100)] = 0.0
    """α of the same with a box cut out of the other image; with both, each batch has one."""
    corruption: Share = 0.0
    """The share of the subset's labels that is drawn at random, once and for all."""


def check_value(name: str, value: Value) -> None:
    """Raise ValueError, in one line, for a value that the hyper-parameter cannot have."""
    try:
        Hyperparameters.model_validate({"lr": 1.0, name: value})
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"].removeprefix("Input should be ")
        raise ValueError(f"{name} may come to be {quoted(value)}, expected {said}") from None


def hyperparameters(config: Config, **defaults: str | float) -> Hyperparameters:
    """The trial's values over the task's defaults. Raises ValueError in one line."""
    try:
        return Hyperparameters.model_validate({**defaults, **config})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ValueError(
            f"hyper-parameter {name!r}: {first['msg']}, got {first['input']!r}"
        ) from None
