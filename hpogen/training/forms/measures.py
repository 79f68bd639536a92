"""The measures that a task lists, checked without torch, and the metrics that there are.

Part of `task.py`: what `measures:` may say of one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from hpogen import plugins
from hpogen.training.forms.options import Part, registered

LOSSES = frozenset({"train_loss", "train_accuracy", "train_loss_online"})


class ListedMeasure(Part):
    """A measure to compute every `every` epochs (and at the last), on `samples` of the subset.

    A sum over epochs of something of the whole network may be one over all iterations instead.
    """

    name: str
    """A measure of `hpogen list measures`; a bare string is the short form."""
    every: Annotated[int, Field(ge=1)] | Literal["iteration", "epoch"] = 1
    """Epochs from one computation to the next; the last epoch always has one.

    `epoch` is 1; `iteration` makes a sum over epochs (`gn`) one over all training steps.
    """
    samples: Annotated[int, Field(ge=1)] | None = None
    """Images, evenly spaced in the subset, for a measure of the whole network; left out: all."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        for measure in all_measures() if name not in plugins.measures else ():
            if name in measure.metrics:
                raise ValueError(f"{name!r} is a metric of the measure {measure.name!r}: list that")
        return registered(name, plugins.measures)

    @model_validator(mode="after")
    def _checked(self) -> ListedMeasure:
        measure, every = self.measure, self.period
        if every == "iteration":
            if measure.of != "network" or measure.sums != set(measure.metrics):
                raise ValueError(f"measure {self.name!r} is not a sum to take at every iteration")
        elif every > 1 and measure.final:
            raise ValueError(f"measure {self.name!r} is computed at the end only: drop every")
        elif every > 1 and (measure.sums or measure.means or measure.of == "step"):
            raise ValueError(f"measure {self.name!r} needs every epoch: every must be 1")
        if self.samples and measure.of != "network":
            raise ValueError(f"measure {self.name!r} costs one pass at most: it takes no samples")
        return self

    @property
    @plugins.scoped
    def measure(self) -> plugins.Measure:
        return plugins.measures.get(self.name)

    @property
    def period(self) -> int | Literal["iteration"]:
        """Epochs from one computation to the next; or it is computed at every iteration."""
        return 1 if self.every == "epoch" else self.every


def all_measures() -> list[plugins.Measure]:
    """The built-in measures, then those of plug-ins."""
    measures = plugins.measures
    return sorted(measures.parts(), key=lambda measure: not measures.is_builtin(measure.name))


def check_metrics() -> None:
    """Raise ValueError when a plug-in's measure gives a metric that is given already."""
    giver = dict.fromkeys(LOSSES | plugins.FROM_VALIDATION, "built in")
    for measure in all_measures():
        for metric in sorted(giver.keys() & set(measure.metrics)):
            raise ValueError(
                f"measure {measure.name!r} gives {metric!r}, which is {giver[metric]}: "
                "give it another name"
            )
        builtin = plugins.measures.is_builtin(measure.name)
        given_by = "built in" if builtin else f"given by the measure {measure.name!r}"
        giver |= dict.fromkeys(measure.metrics, given_by)
