"""The learning rate as a function of how far training has come; asked before each step.

It has no state: a resumed or continued trial gets the same rates as an uninterrupted one.
"""

from __future__ import annotations

import math

from hpogen.training.settings import Schedule


def rate(schedule: Schedule, lr: float, done: float, step: float, total: int, epochs: int) -> float:
    """The learning rate of the step after `done` epochs; a step is `step` epochs long.

    The schedule ends after `total` epochs; milestones are written for `epochs` of them, and are
    stretched to `total`. Warm-up rises linearly to `lr`, which its last step has.
    """
    if done < schedule.warmup:
        lr *= min(1.0, (done + step) / schedule.warmup)
    if schedule.name == "step":
        milestones = schedule.milestones or (epochs / 2, epochs * 3 / 4)
        return lr * schedule.gamma ** sum(m * total <= done * epochs for m in milestones)
    if schedule.name == "cosine":
        part = max(done - schedule.warmup, 0) / max(total - schedule.warmup, 1)
        return lr * 0.5 * (1 + math.cos(math.pi * min(part, 1.0)))
    return lr
