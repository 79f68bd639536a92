"""`Meter`: any measure by its name, as an object to `update`, `compute` and `reset`.

For one's own loop, without the rest of hpogen; the callbacks of `integrations/` use it, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from torch import nn

from hpogen import plugins
from hpogen.errors import UserError, unknown
from hpogen.measures.batches import (
    Forward,
)
from hpogen.measures.meter_parts import PER_SAMPLE, parts_of
from hpogen.plugins import Measure

WITHOUT = {
    "seconds_per_epoch": "is read from the clock of a study's training: time your own epochs",
    "agn_lr": "needs the learning rate of each step, which a Meter is not told: take agn_online",
    **dict.fromkeys(
        ("tse", "tse_ema", "tse_last"),
        "is made of the losses that you train with, which a Meter is not told: add those up",
    ),
}
"""Measures of the training step that cannot be had by batches, and why."""


class Meter:
    """Measures of a model over the batches that it is updated with, the loss being cross-entropy.

        meter = Meter(["agn", "gsnr_head"], model)
        for batch in loader:
            meter.update(batch)
        meter.compute()                       # {"agn": …, "gsnr_head": …, "gsnr_head_median": …}
        meter.reset()

    A batch is (x, y), or a mapping that has its targets as `labels`, as `head_statistics` takes
    both; so is `forward`. The model is run in evaluation mode and left as it was. Of a measure that
    a study adds up over its epochs (`agn`, `gn`) it is the term of one. `per="layer"` gives a
    number for each module with parameters, "gn/features.0", for gn, gsnr, osgr and same_sign.

    Measures of the last layer and those four take what they need of a batch when it comes, of the
    model as it is then. `agn_online` is taken from the training itself: update after each training
    forward, with the batch that it was of; it runs nothing but, once, two samples. All others keep
    the batches, and look at the model when they compute. `distance_init` is the distance from the
    model as it was when the meter was made.

    Raises UserError for a name that is none, and where it cannot be had so; else as the measures.
    """

    def __init__(
        self,
        measures: str | Sequence[str],
        model: nn.Module,
        *,
        per: Literal["layer"] | None = None,
        forward: Forward | None = None,
    ) -> None:
        found = chosen("Meter", measures)
        if per not in (None, "layer"):
            raise UserError(f"Meter: per: {unknown('', per, ('layer',))}")
        for measure in found if per else ():
            if measure.name not in PER_SAMPLE:
                raise UserError(
                    f"Meter: per='layer': {measure.name!r} is no sum over layers; expected one of "
                    f"{', '.join(PER_SAMPLE)}"
                )
        self.metrics = tuple(metric for measure in found for metric in measure.metrics)
        self._parts = parts_of(found, model, per is not None, forward)

    def update(self, batch: Any) -> None:
        """Count a batch."""
        self.over([batch])

    def over(self, batches: Iterable[Any]) -> None:
        """Count each of the batches: the same as to update with each, and faster.

        They are gone through once for each kind of measure.
        """
        for part in self._parts:
            part.add(batches)

    def compute(self) -> dict[str, float]:
        """The metrics by name. Raises ValueError when there was no sample.

        FloatingPointError where the weights give a measure no value.
        """
        return {name: value for part in self._parts for name, value in part.compute().items()}

    def reset(self) -> None:
        """Forget the batches."""
        for part in self._parts:
            part.reset()

    def begin(self) -> None:
        """A training forward begins, for `agn_online`: see `OnlineAgn.begin`."""
        for part in self._parts:
            part.begin()

    def close(self) -> None:
        """Take the hooks of `agn_online` off the model."""
        for part in self._parts:
            part.close()


def chosen(who: str, names: str | Sequence[str]) -> list[Measure]:
    """The measures of those names. Raises UserError, beginning with `who`."""
    found = []
    for name in [names] if isinstance(names, str) else names:
        if name not in plugins.measures:
            raise UserError(unknown(f"{who}: measure", name, plugins.measures.names()))
        if name in WITHOUT:
            raise UserError(f"{who}: {name!r} {WITHOUT[name]}")
        found.append(plugins.measures.get(name))
    if not found:
        raise UserError(f"{who}: got no measure, expected a name or more: agn, gsnr_head")
    return found
