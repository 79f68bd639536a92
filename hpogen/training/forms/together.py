"""What `task.together` asks of a task: which trials can be trained as one batched network.

`forms/task.py` and `task.py` ask while a study is checked; `training/together.py` does it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hpogen import plugins
from hpogen.errors import Refusal
from hpogen.trial import Value

MODEL = "mlp"  # the one that is worth it: docs/speed.md has the others' times
APART = frozenset({"batch_size", "width", "depth", "optimizer", "nesterov"})
"""The hyper-parameters of which trials with another value train apart."""


def check_together(task: Any) -> None:
    """Raise ValueError where trials of such a `forms.task.Settings` cannot be trained as one."""
    given, model = f"together: {task.together}", task.model.name
    if model != MODEL or plugins.models.is_plugin(model):
        raise ValueError(
            f"{given} trains networks {MODEL!r} as one, got model {model!r}: others gain nothing "
            "by it, or mix samples (batch normalisation): drop together"
        )
    for name in ("optimizer", "average", "class_weights", "precision", "compile"):
        value = getattr(task, name)
        if reason := refused(name, value):
            raise ValueError(f"{given} and {name}: {value}: {reason}: drop one of the two")
    iterated = [listed.name for listed in task.measures if listed.period == "iteration"]
    if iterated:
        raise ValueError(
            f"{given} and the measure {iterated[0]!r} at every iteration: the steps of all trials "
            "are taken at once, and no measure sees one network between them: drop one of the two"
        )


def refused(name: str, value: object) -> str | None:
    """Why trials with that value cannot be trained as one network; None: they can."""
    wrong = {
        "optimizer": value == "sam" and "sam takes each step's gradient elsewhere",
        "average": value not in (None, "none") and "an average looks at each trial's steps",
        "compile": bool(value) and "a compiled step is of one trial",
        "class_weights": value is not None and "a batched loss has none",
        "precision": value == "bf16" and "it is exact to 1e-5 in float32 alone",
        "mixup": bool(value) and "a batched loss has targets that are not mixed",
        "cutmix": bool(value) and "a batched loss has targets that are not mixed",
    }
    return wrong.get(name) or None


def check_searched(together: int, name: str, value: Value) -> None:
    """Raise ValueError for a value of a hyper-parameter that such a trial cannot have."""
    if together > 1 and (reason := refused(name, value)):
        raise ValueError(
            f"{name} may come to be {value}, and task.together is {together}: {reason}"
        )


def apart(together: int, name: str, values: Collection[Value]) -> str | None:
    """A warning where trials that are trained together have to be of one value."""
    if together == 1 or name not in APART or len({*values}) == 1:
        return None
    return (
        f"{name} is searched, and task.together: {together} trains as one network only trials of "
        f"one {name}: give it few choices"
    )


def check_steps(together: int, measure: plugins.Measure) -> None:
    """Raise Refusal for a measure that watches the training steps."""
    if together > 1 and measure.of == "step" and measure.needs:
        raise Refusal(
            f"the measure {measure.name!r} watches the last layer in each training step, and "
            f"task.together: {together} takes the steps of all trials at once: drop one of them"
        )


def check_loss(together: int, loss: str) -> None:
    """Raise Refusal for a plug-in's."""
    if together > 1 and not plugins.losses.is_builtin(loss):
        raise Refusal(
            f"task.together: {together} is for hpogen's own losses, got {loss!r}, of which it is "
            "not known whether it tells trials apart: drop one of the two"
        )
