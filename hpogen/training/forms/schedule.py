"""The learning rate as a function of how far training has come: the YAML's `schedule:`.

It has no state: a resumed or continued trial gets the same rates as an uninterrupted one.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from hpogen.training.forms.options import STRICT


class WarmUp(BaseModel):
    """The long form of `warmup`: in training steps, of which small batches make more."""

    model_config = STRICT

    steps: Annotated[int, Field(ge=1)]
    """Training steps over which the rate rises linearly to `lr`, which the last of them has."""


class Schedule(BaseModel):
    """The learning rate over the epochs, after a linear warm-up.

    `step` multiplies it by `gamma` at each of the `milestones` (default: at half and at three
    quarters of the epochs). `anchor: full` counts in epochs of the full budget whatever the
    trial's own; `budget` squeezes the schedule into the trial's budget.
    """

    model_config = STRICT

    name: Literal["constant", "step", "cosine"] = "constant"
    """The form of the curve; a bare string is the short form."""
    milestones: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)] = ()
    """Of `step`: the rising epochs after which the rate falls; left out: at 1/2 and at 3/4."""
    gamma: Annotated[float, Field(gt=0)] = 0.1
    """Of `step`: what the rate is multiplied with at each milestone."""
    warmup: Annotated[int, Field(ge=0)] | WarmUp = 0
    """Epochs over which the rate rises linearly to `lr`; their last step has `lr` itself."""
    anchor: Literal["full", "budget"] = "full"
    """Whether a trial with a small budget gets the curve's beginning, or all of it, squeezed."""

    @field_validator("milestones")
    @classmethod
    def _rising(cls, milestones: tuple[int, ...]) -> tuple[int, ...]:
        if list(milestones) != sorted(set(milestones)):
            raise ValueError(f"got {list(milestones)}, expected rising epochs")
        return milestones

    @model_validator(mode="after")
    def _only_for_step(self) -> Schedule:
        if self.milestones and self.name != "step":
            raise ValueError(f"milestones belong to the schedule 'step', not to {self.name!r}")
        return self


def rate(schedule: Schedule, lr: float, done: float, step: float, total: int, epochs: int) -> float:
    """The learning rate of the step after `done` epochs; a step is `step` epochs long.

    The schedule ends after `total` epochs; milestones are written for `epochs` of them, and are
    stretched to `total`. Warm-up rises linearly to `lr`, which its last step has.
    """
    given = schedule.warmup
    warmup = given.steps * step if isinstance(given, WarmUp) else given  # epochs
    if done < warmup:
        lr *= min(1.0, (done + step) / warmup)
    if schedule.name == "step":
        milestones = schedule.milestones or (epochs / 2, epochs * 3 / 4)
        return lr * schedule.gamma ** sum(m * total <= done * epochs for m in milestones)
    if schedule.name == "cosine":
        part = max(done - warmup, 0) / max(total - warmup, 1)
        return lr * 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))
    return lr
