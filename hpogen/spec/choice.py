"""The forms of what a study minimises and of how its answer is chosen; `form.py` has the others."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import BeforeValidator, WithJsonSchema

from hpogen.constraint import Constraint
from hpogen.objective import Alpha, PointwiseScale, Preset, Scale
from hpogen.selection import SelectionName
from hpogen.spec.strict import Count, Form

RACE = "race"


def also(name: str) -> WithJsonSchema:
    """The names of selections and one more, for editors."""
    return WithJsonSchema({"enum": [*get_args(SelectionName), name]})


def mapping_with(key: str) -> BeforeValidator:
    """A bare string stands for the mapping with that key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


def _bound(value: object) -> str:
    """`<=0.20` as `<= 0.2`."""
    return Constraint.of("", value).text


Bound = Annotated[str, BeforeValidator(_bound)]
"""What a constraint says of its metric."""


class TermForm(Form):
    """`weight · scale(metric)`."""

    metric: str
    """A metric that the task gives, such as `val_loss` or `margin_q50`."""
    weight: float = 1.0
    """What the scaled metric is multiplied with; negative where a large metric is good."""
    scale: Scale = "raw"
    """What the metric goes through before it is weighed: `raw`, `per_epoch`, `log`, …"""


class ScoreForm(Form):
    """One of the scores of a Pareto objective; a bare string is its metric."""

    metric: str
    """A metric that the task gives, such as `val_loss` or `parameters`."""
    scale: PointwiseScale = "raw"
    """What the metric goes through: `raw`, `per_epoch` or `log`."""
    maximize: bool = False
    """Whether a large metric is good."""


class ObjectiveForm(Form):
    """A preset with its alpha and scale, terms, or several scores."""

    preset: Literal[Preset, "learned"] | None = None
    """Instead of `terms`: a loss, a loss and AGN (the accumulated gradient norm), or `learned`."""
    alpha: Alpha | None = None
    """The weight of AGN in the presets `agn+val` and `agn+train`; `auto` and `swept` find it.

    `auto`: from the spreads of the first `standard_after` finished trials. `swept`: the search runs
    on `val_loss`, and the weight is chosen afterwards by halves of the validation samples.
    """
    part: Annotated[float, Gt(0)] | None = None
    """With `alpha: auto`: the share of the loss's spread that AGN's is to be; left out: 0.25."""
    scale: Scale | None = None
    """What AGN goes through in a preset; left out: `raw`. With several budgets it must be named."""
    terms: Annotated[list[TermForm], Len(1)] | None = None
    """The terms that are added up; instead of `preset`."""
    pareto: Annotated[list[Annotated[ScoreForm, mapping_with("metric")]], Len(2, 4)] | None = None
    """Two to four scores that are not added up: the search is for their Pareto front."""
    model: str | dict[str, Any] | None = None
    """The file of the preset `learned`, which `hpogen learn` has made; relative to the YAML."""
    force: bool = False
    """Use `model` also where it was no better than validation loss on tasks left out."""
    standard_after: Count = 8
    """Finite outcomes of a budget from which `standard` takes centre and spread, `auto` alpha.

    Of `pareto`: from which the reference point of the hypervolume is taken.
    """


class Finalists(Form):
    """The trials that are trained once more when the search has ended, to find the best of them.

    They are the `count` best by `selection`. The answer is the winner of their race.
    """

    count: Annotated[int, Ge(2)] = 5
    """How many of the search's configurations are trained again, the best by `selection` first."""
    data: Annotated[float, Gt(0), Le(1)] = 1.0
    """The fraction of the training set that they train on: `subset` or more; 1: all that there is
    beside validation and audit."""
    seeds: Count = 3
    """How often each is trained at most; those that are clearly worse get no further seed."""
    indifference: Annotated[float, Ge(0)] = 0.0
    """A difference in validation loss below which it does not matter which of two is taken."""
    alpha: Annotated[float, Gt(0), Lt(1)] = 0.05
    """The chance that equally good finalists are told apart by mistake, at most."""
