"""The hyper-parameters that image classification consumes, with what they are when not searched.

Read by `task.py` (their names) and by the loop (a trial's values).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from hpogen.errors import quoted
from hpogen.training.forms.options import STRICT
from hpogen.trial import Config, Value

OptimizerName = Literal["sgd", "adam", "adamw"]
Augment = Literal["none", "standard"]  # standard: cropped at random after padding, and mirrored
Degrees = Annotated[float, Field(ge=0, le=180)]
Share = Annotated[float, Field(ge=0, le=1)]


class Hyperparameters(BaseModel):
    """One trial's values. `momentum` is β₁ of Adam and AdamW; `nesterov` is for sgd alone."""

    model_config = STRICT

    batch_size: Annotated[int, Field(ge=1)] = 128  # images; at most the whole subset is taken
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # decoupled from the gradient in AdamW
    optimizer: OptimizerName = "sgd"
    nesterov: bool = False
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augment: Augment = "none"
    rotate: Degrees = 0.0  # each image by an angle drawn between ± so many degrees
    corruption: Share = 0.0  # of the subset's labels, drawn at random once and for all


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
