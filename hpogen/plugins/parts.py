"""The kinds of parts and their registries: the built-in ones are a line each.

A built-in part stands here as `module:attribute` and is imported only when used; the decorators
add a user's own.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

from hpogen.errors import UserError
from hpogen.plugins.registry import Registry, imported

DEFAULT_TASK: Final = "image-classification"
OWN_TASKS: Final = (DEFAULT_TASK, "supervised")  # whose data and networks hpogen knows
FROM_VALIDATION = frozenset({"val_loss", "val_accuracy", "gap_loss", "gap_accuracy"})
LAST_LINEAR = "hpogen.measures.last_linear:require_last_linear"


@dataclass(frozen=True)
class TaskFunction:
    """A user's `@task` function and what it declares."""

    name: str
    function: Callable[..., Any]
    metrics: frozenset[str]
    sums: frozenset[str] = frozenset()
    observed: frozenset[str] = frozenset()  # of which another run gives other numbers
    resumable: bool = False
    data: bool = False
    audit: tuple[str, ...] = ()  # an answer is judged by the first
    split: bool = False


@dataclass(frozen=True)
class Measured:
    """What a measure may give besides numbers: small files to keep beside the trial's curve."""

    metrics: Mapping[str, float]
    files: Mapping[str, bytes]  # by suffix, `ablation.json`


@dataclass(frozen=True)
class Measure:
    """A measure: a function, the metrics it gives and what it is computed from.

    `of="head"`: `function(head: HeadStatistics) -> float | Mapping`, from the one forward pass over
    the training subset that all head measures share. `of="network"`: `function(model, batches) ->
    float | Mapping | Measured`, with `batches` an iterable of `(images, labels)` over the subset;
    with `initial=True` it is given the untrained model as a third argument, with `loss="any"` the
    task's loss as `loss`, where that is not the cross-entropy. `of="step"`: collected by the
    training step itself, without a pass of its own. `final=True` is computed at the last epoch of a
    budget only. `observed` says that another run gives other numbers: seconds, say. `sums` names
    those metrics whose per-epoch values hpogen adds up over the epochs, `means` those it averages
    (both belong to the trial's checkpoint); with `per_step` an epoch's value is a sum over its
    training steps. `by_samples` names those metrics that come out higher or lower for more samples
    of the same kind. `kinds` are those of `forms/kinds.py` that it is
    defined for; with `loss="entropy"` it is so for the cross-entropy alone. `needs` is a function
    of the model and a batch of images that raises Refusal where the measure is not defined; it is
    asked when a study is loaded, with both on the meta device. `reads` is what one of the last
    layer takes of a HeadStatistics: its closed `forms`, which it gives as () tensors on the model's
    device and does not look at, `moments`, or anything else. A built-in function is
    `module:attribute`, so that naming a measure imports no torch.
    """

    name: str
    function: Callable[..., Any] | str
    metrics: tuple[str, ...]
    of: typing.Literal["head", "network", "step"]
    sums: frozenset[str] = frozenset()
    means: frozenset[str] = frozenset()
    by_samples: frozenset[str] = frozenset()
    per_step: bool = False
    final: bool = False
    initial: bool = False
    observed: bool = False
    kinds: frozenset[str] = frozenset()  # of targets that it is defined for; none: of all
    loss: typing.Literal["", "any", "entropy"] = ""
    reads: typing.Literal["features", "moments", "forms"] = "features"
    needs: Callable[..., Any] | str = ""
    definition: str = ""  # a line or two for `hpogen list measures`
    cost: str = ""
    source: str = ""

    def resolve(self) -> Callable[..., Any]:
        """The function, imported now."""
        return resolved(self.function)

    @property
    def requirements(self) -> list[Callable[..., Any] | str]:
        """`needs`, and the last Linear that goes without saying of a head measure."""
        return [need for need in (LAST_LINEAR if self.of == "head" else "", self.needs) if need]


searchers: Registry[Any] = Registry(
    "searcher",
    random="hpogen.searchers.random:RandomSearcher",
    grid="hpogen.searchers.grid:GridSearcher",
    cmaes="hpogen.searchers.cmaes:CmaesSearcher",
    pso="hpogen.searchers.pso:PsoSearcher",
    bohb="hpogen.searchers.bohb:BohbSearcher",
    hyperband="hpogen.searchers.hyperband:HyperbandSearcher",
    asha="hpogen.searchers.asha:AshaSearcher",
    optuna="hpogen.searchers.optuna:OptunaSearcher",
    listed="hpogen.searchers.listed:ListedSearcher",
)
tasks: Registry[Any] = Registry(
    "task",
    **{DEFAULT_TASK: "hpogen.training.task:ImageClassification"},
    supervised="hpogen.training.task:Supervised",
    command="hpogen.tasks.command:Command",
)
models: Registry[Callable[..., Any]] = Registry(
    "model",
    table="hpogen.training.models.catalog:BUILDERS",
    **{"torchvision/": "hpogen.training.models.torchvision_family:family"},
)
datasets: Registry[Callable[..., Any]] = Registry(
    "data set",
    digits="hpogen.training.data.builtin:digits",
    mnist="hpogen.training.data.builtin:mnist",
    cifar10="hpogen.training.data.builtin:cifar10",
    cifar100="hpogen.training.data.builtin:cifar100",
    svhn="hpogen.training.data.builtin:svhn",
    folder="hpogen.training.data.folder:folder",
    numpy="hpogen.training.data.numpy:numpy_file",
    csv="hpogen.training.data.table:table",
    parquet="hpogen.training.data.table:table",
    text="hpogen.training.data.text:text",
    breast_cancer="hpogen.training.data.builtin:breast_cancer",
    wine="hpogen.training.data.builtin:wine",
    diabetes="hpogen.training.data.builtin:diabetes",
    **{
        "fashion-mnist": "hpogen.training.data.builtin:fashion_mnist",
        "torchvision/": "hpogen.training.data.torchvision:family",
    },
)
losses: Registry[Callable[..., Any]] = Registry(
    "loss",
    **{
        name: f"hpogen.training.losses:{name}"
        for name in ("cross_entropy", "bce", "mse", "mae", "huber")
    },
)
measures: Registry[Measure] = Registry("measure", table="hpogen.measures.catalog:MEASURES")


def resolved(function: Callable[..., Any] | str) -> Callable[..., Any]:
    """A function, imported now where it is `module:attribute`."""
    return imported(function) if isinstance(function, str) else function


def with_options(
    function: Callable[..., Any], options: Mapping[str, tuple[Any, Any]]
) -> Callable[..., Any]:
    """Give a function that takes `**options` those that `options_of` is to find, by its signature.

    By name: (annotation, default).
    """
    parameters = inspect.signature(function).parameters.values()
    own = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, (kind, default) in options.items()
    ]
    typing.cast(Any, function).__signature__ = inspect.Signature([*own, *named])
    function.__annotations__ = {name: kind for name, (kind, _) in options.items()}
    return function


def takes_data(builder: Callable[..., Any]) -> bool:
    """Whether a model's builder is `(data, **options)`, not `(in_shape, classes, **options)`."""
    kinds = [parameter.kind for parameter in inspect.signature(builder).parameters.values()]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(kind in positional for kind in kinds) == 1


def options_of(function: Callable[..., Any], *, without: Collection[str] = ()) -> Mapping[str, Any]:
    """The keyword-only options of a registered part: name → (annotation, default or ...).

    What `pydantic.create_model` takes, so that every part's options are checked in one way. Other
    parameters' annotations are not evaluated: they may name what is there for a type checker alone.

    Raises:
        UserError: an option's annotation cannot be evaluated.
    """
    return {
        parameter.name: (
            _evaluated(parameter, function),
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in without
    }


def _evaluated(parameter: inspect.Parameter, function: Callable[..., Any]) -> Any:
    """A parameter's annotation, evaluated where its function stands when it is a text."""
    if parameter.annotation is parameter.empty:
        return Any
    alone = SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        return typing.get_type_hints(alone, _globals(function), include_extras=True)["it"]
    except Exception as error:  # whatever the user's text brings
        shown = getattr(function, "__name__", repr(function)[:60])
        raise UserError(
            f"{shown}: the annotation {parameter.annotation!r} of the option {parameter.name!r} "
            f"cannot be evaluated ({type(error).__name__}: {error}): what it names must be there "
            "at run time, outside `if TYPE_CHECKING`"
        ) from None


def _globals(function: Any) -> dict[str, Any]:
    """The names of the module where the signature stands: of a class that of its `__init__`."""
    while isinstance(function, functools.partial) or hasattr(function, "__wrapped__"):
        partial = isinstance(function, functools.partial)
        function = function.func if partial else function.__wrapped__
    if isinstance(function, type):
        function = function.__init__  # type: ignore[misc]  # only its globals are read
    elif not hasattr(function, "__globals__"):
        function = type(function).__call__
    return getattr(function, "__globals__", {})
