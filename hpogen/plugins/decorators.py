"""The registries of everything that has a name in the YAML, and the decorators that fill them.

The built-in parts stand here as `module:attribute` and are imported only when used; a user's file
(`plugins:`) or an installed package (entry points in the group `hpogen.plugins`) adds its own.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hpogen import declared
from hpogen.errors import UserError
from hpogen.guest import PREFIX, Raised, described, guarded, guest
from hpogen.registry import Registry as Registry
from hpogen.registry import imported as imported

F = TypeVar("F", bound=Callable[..., Any])

ENTRY_POINTS = "hpogen.plugins"
LAST_LINEAR = "hpogen.measures.last_linear:require_last_linear"


@dataclass(frozen=True)
class TaskFunction:
    """A user's `@task` function and what it declares."""

    name: str
    function: Callable[..., Any]
    metrics: frozenset[str]
    sums: frozenset[str]
    resumable: bool


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
    with `initial=True` it is given the untrained model as a third argument. `of="step"`: collected
    by the training step itself, without a pass of its own. `final=True` is computed at the last
    epoch of a budget only. `sums` names those metrics whose per-epoch values hpogen adds up over
    the epochs, `means` those it averages (both belong to the trial's checkpoint). `needs` is the
    place of a function of the model and a batch of images that raises Refusal where the measure is
    not defined; it is asked when a study is loaded, with both on the meta device. A built-in
    function is `module:attribute`, so that naming a measure imports no torch.
    """

    name: str
    function: Callable[..., Any] | str
    metrics: tuple[str, ...]
    of: typing.Literal["head", "network", "step"]
    sums: frozenset[str] = frozenset()
    means: frozenset[str] = frozenset()
    final: bool = False
    initial: bool = False
    deferred: bool = False  # gives () tensors on the model's device and has read nothing
    needs: str = ""
    definition: str = ""  # a line or two for `hpogen list measures`
    cost: str = ""
    source: str = ""

    def resolve(self) -> Callable[..., Any]:
        """The function, imported now."""
        return imported(self.function) if isinstance(self.function, str) else self.function

    @property
    def requirement(self) -> str:
        """`needs`; of a head measure it goes without saying."""
        return self.needs or (LAST_LINEAR if self.of == "head" else "")


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
    **{"image-classification": "hpogen.training.settings:ImageClassification"},
    command="hpogen.training.command:Command",
)
models: Registry[Callable[..., Any]] = Registry(
    "model",
    table="hpogen.training.models.catalog:BUILDERS",
    **{"torchvision/": "hpogen.training.models.torchvision_family:family"},
)
datasets: Registry[Callable[..., Any]] = Registry(
    "data set",
    digits="hpogen.training.datasets:digits",
    mnist="hpogen.training.datasets:mnist",
    cifar10="hpogen.training.datasets:cifar10",
    cifar100="hpogen.training.datasets:cifar100",
    svhn="hpogen.training.datasets:svhn",
    folder="hpogen.training.folder:folder",
    numpy="hpogen.training.numpy_file:numpy_file",
    **{
        "fashion-mnist": "hpogen.training.datasets:fashion_mnist",
        "torchvision/": "hpogen.training.torchvision_sets:family",
    },
)
measures: Registry[Measure] = Registry("measure", table="hpogen.measures.catalog:MEASURES")


def searcher(name: str) -> Callable[[type], type]:
    """Register a class that keeps the contract of `hpogen.searchers.base`."""
    declared.name("searcher", name)

    def register(cls: type) -> type:
        declared.searcher(cls)
        searchers.add(name, cls)
        return cls

    return register


def task(
    name: str, *, metrics: Collection[str], sums: Collection[str] = (), resumable: bool = False
) -> Callable[[F], F]:
    """Register `function(trial, *, options…)` that yields a mapping of metrics after each epoch.

    `metrics` declares every metric it yields, `sums` those that are sums over epochs. A task that
    is not resumable starts again at epoch 0 after an interruption; one that is goes on from
    `trial.start_epoch`, the number of epochs whose yield was received, and must therefore have
    saved its state in `trial.directory` before each yield.
    """

    declared.name("task", name)
    given = declared.names("task", "metrics", metrics)
    if not given:
        raise UserError("@task: got no metrics, expected those that the task yields")
    summed = declared.names("task", "sums", sums, within=given)
    declared.flag("task", "resumable", resumable)

    def register(function: F) -> F:
        declared.function("task", function, 1)
        tasks.add(name, TaskFunction(name, function, given, summed, resumable))
        return function

    return register


def model(name: str) -> Callable[[F], F]:
    """Register a builder `(in_shape, classes, **options) -> torch.nn.Module`.

    `in_shape` is (channels, height, width).
    """
    declared.name("model", name)

    def register(builder: F) -> F:
        declared.function("model", builder, 2)
        models.add(name, guarded(builder))
        return builder

    return register


def dataset(name: str) -> Callable[[F], F]:
    """Register a loader `(root: Path, **options) -> hpogen.training.data.ImageData`."""
    declared.name("dataset", name)

    def register(loader: F) -> F:
        declared.function("dataset", loader, 1)
        datasets.add(name, guarded(loader))
        return loader

    return register


def measure(
    name: str,
    *,
    of: typing.Literal["head", "network"],
    metrics: Collection[str] = (),
    sums: Collection[str] = (),
    final: bool = False,
) -> Callable[[F], F]:
    """Register a measure (see `Measure`); without `metrics` it gives one, of its own name."""
    declared.name("measure", name)
    declared.one_of("measure", "of", of, ("head", "network"))
    given = tuple(metrics) if declared.names("measure", "metrics", metrics) else (name,)
    summed = declared.names("measure", "sums", sums, within=given)
    declared.flag("measure", "final", final)

    def register(function: F) -> F:
        declared.function("measure", function, 1 if of == "head" else 2)
        doc = (inspect.getdoc(function) or "").partition("\n")[0]
        made = Measure(name, guarded(function), given, of, summed, final=final, definition=doc)
        measures.add(name, made)
        return function

    return register


def load_file(path: Path) -> None:
    """Import a user's plug-in file, which registers its parts. Its folder is importable then.

    Raises UserError when the file is missing or its import fails.
    """
    if not path.is_file():
        raise UserError(f"plug-in {str(path)!r} does not exist")
    name = f"{PREFIX}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"plug-in {str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        with guest():
            spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's module raises is the user's to mend
        where = f" (line {line})" if (line := _line_in(error, path)) else ""
        text = str(error) if isinstance(error, UserError) else described(error)
        raise UserError(f"plug-in {str(path)!r} cannot be imported{where}: {text}") from error


def _line_in(error: BaseException, path: Path) -> int | None:
    cause = error.__cause__ if isinstance(error, Raised) else None
    lines = []
    traceback = (cause or error).__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(path):
            lines.append(traceback.tb_lineno)
        traceback = traceback.tb_next
    return lines[-1] if lines else getattr(error, "lineno", None)


@functools.cache
def load_installed() -> None:
    """Import the modules that installed packages name in the group `hpogen.plugins`; once.

    Raises UserError, naming the package, when its import fails.
    """
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            with guest():
                point.load()
        except Exception as error:  # whatever the package raises is its user's to mend
            package = point.dist.name if point.dist else point.value
            raise UserError(
                f"plug-in {point.name!r} of the package {package!r} cannot be imported: "
                f"{described(error)}"
            ) from error


def options_of(function: Callable[..., Any], *, without: Collection[str] = ()) -> Mapping[str, Any]:
    """The keyword-only options of a registered part: name → (annotation, default or ...).

    What `pydantic.create_model` takes, so that every part's options are checked in one way.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    return {
        parameter.name: (
            hints.get(parameter.name, Any),
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in without
    }
