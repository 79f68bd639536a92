"""More measures on the kept final weights of a trial, without training.

`hpogen measure` asks through `ImageClassification.measure`.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from hpogen import plugins
from hpogen.errors import Refusal
from hpogen.measures.passes import forward_pass
from hpogen.plugins import Measured
from hpogen.training.checkpoint import Checkpoints
from hpogen.training.evaluate import head_collector
from hpogen.training.forms.task import Settings
from hpogen.training.measuring import check_finite, named, of_network, read, valued
from hpogen.training.plan import PlannedMeasure
from hpogen.training.precision import set_arithmetic
from hpogen.training.recipe import Recipe, begin
from hpogen.training.state import State
from hpogen.trial import RunningTrial


def check_addable(names: Collection[str]) -> None:
    """Raises Refusal for a measure that final weights alone cannot give."""
    for name in names:
        measure = plugins.measures.get(name)
        if measure.of == "step" or measure.sums or measure.means:
            raise Refusal(
                f"measure {name!r} is collected over the epochs: final weights are not it"
            )


def remeasure(
    settings: Settings,
    trial: RunningTrial,
    wanted: frozenset[str],
    names: Collection[str],
) -> Measured | None:
    """The metrics of the measures `names` at the end of the trial's budget, and their files.

    None where the trial's final weights were not kept. `wanted` is what the study wants, as in
    training. Raises Diverged for a weight or a metric that is not finite.
    """
    torch.set_num_threads(settings.threads)
    set_arithmetic(settings, torch.device(trial.device))
    recipe, state = begin(settings, trial, wanted)
    saved = Checkpoints(trial, recipe.plan.running, continuable=False).load()
    if saved is None:
        return None
    state.restore(saved)
    if not recipe.over(state.losses):
        return None
    state.files = {}
    return _measured(recipe, state, [plugins.measures.get(name) for name in names])


def _measured(recipe: Recipe, state: State, measures: list[plugins.Measure]) -> Measured:
    found: dict[str, float | Tensor] = {}
    if heads := [PlannedMeasure(measure) for measure in measures if measure.of == "head"]:
        with head_collector(recipe, state, heads) as collector:
            batches = recipe.batches(recipe.data.subset)
            for _ in forward_pass(state.judged, batches, collector, recipe.autocast):
                pass
            head = collector.result()
        check_finite({"loss": head.loss}, state.epoch)
    for measure in measures:
        if measure.of == "head":
            found |= named(measure, valued(measure, state.epoch, head))
        else:
            found |= of_network(recipe, state, PlannedMeasure(measure))
    (metrics,) = read(found)
    check_finite(metrics, state.epoch)
    return Measured(metrics, state.files)
