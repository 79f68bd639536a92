"""From the names and options of a study's YAML to the registered parts: tasks and searchers.

`loading.py` uses it; what a part declares as its options is what its mapping is checked with.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Annotated, Any, Literal

from annotated_types import doc
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, create_model
from pydantic_core import PydanticSerializationError

from hpogen import plugins
from hpogen.errors import Refusal, UserError
from hpogen.plugins.guest import guarded, guest
from hpogen.searchers.base import Searcher
from hpogen.space import Space
from hpogen.spec.form import SearcherForm
from hpogen.spec.mistakes import Mistakes, shown
from hpogen.spec.strict import STRICT, Count
from hpogen.tasks.base import SEVERAL_GPUS, Gpus, Task, Threads
from hpogen.tasks.function import FunctionTask
from hpogen.tasks.own import Split
from hpogen.trial import Config

FUNCTION_KEYS: Mapping[str, Any] = {  # of a `@task` function beside its options: type, default
    "name": (Annotated[str, doc("the name that its `@task` gives it")], ...),
    "epochs": (Annotated[Count, doc("the full budget: how often it yields metrics")], ...),
    "threads": (
        Annotated[Threads, doc("CPUs that a worker reserves, and torch's threads")],
        1,
    ),
    "gpus_per_trial": (
        Annotated[Gpus, doc("GPUs of one machine that a trial needs, `trial.gpus`")],
        1,
    ),
}
SPLIT: Mapping[str, Any] = {  # of one that declares it
    "split": (Annotated[Split, doc("whether it searches, or trains on all of its data")], "search"),
}
HEED = {  # which searchers honour what a space may have beside its parameters' ranges
    "prior": "random, optuna (TPE) or cmaes",
    "forbid": "a searcher of hpogen, all of which do",
}
TOLD = ("tell", "tell_pruned", "tell_constrained", "tell_scores")  # how a searcher may hear
GIVEN = ("enqueue", "scores")  # keyword arguments of a searcher that are no options of it
OURS = {"space", "budgets", "seed", *GIVEN}  # what it is given beside its options


def task_of(mapping: Mapping[str, Any], mistakes: Mistakes) -> Task | None:
    """The task of a `task:` mapping; None when something is wrong with it."""
    name = mapping.get("name", plugins.DEFAULT_TASK)
    if not isinstance(name, str):
        mistakes.add(("task", "name"), f"got {shown(name)}, expected a string")
        return None
    with mistakes.under("task", "name"):
        entry = plugins.tasks.get(name)
        if isinstance(entry, plugins.TaskFunction):
            return _function_task(entry, mapping, mistakes)
        if "gpus_per_trial" in mapping and entry.one_gpu:
            text = f"got {shown(mapping['gpus_per_trial'])}, but a trial of task {name!r}"
            mistakes.add(("task", "gpus_per_trial"), f"{text} {SEVERAL_GPUS}")
        with mistakes.under("task", model=entry):
            task: Task = entry.model_validate({"name": name, **mapping})
            return task
    return None


def _function_task(
    entry: plugins.TaskFunction, mapping: Mapping[str, Any], mistakes: Mistakes
) -> Task | None:
    keys = {**FUNCTION_KEYS, **(SPLIT if entry.split else {})}
    model = _options_model(entry.function, without=keys, also=keys)
    with mistakes.under("task", model=model):
        options = _options(model, {"name": entry.name, **mapping})
        own = {key: options.pop(key) for key in keys}
        return FunctionTask(**own, options=options)
    return None


@dataclass(frozen=True)
class SearcherSpec:
    """The registered name of a searcher, and its options; `filled` are those nobody wrote."""

    name: str
    options: Mapping[str, Any]
    filled: frozenset[str] = field(default=frozenset(), compare=False)
    _scope: plugins.Scope = field(default_factory=plugins.in_scope, compare=False, repr=False)

    @property
    @plugins.scoped
    def part(self) -> Any:
        """What is registered: by the study's own plug-ins, if they have one of the name."""
        return plugins.searchers.get(self.name)

    def declares(self, what: str) -> bool:
        """One of the class variables of `searchers.base.Searcher`; False where it is left out."""
        return bool(getattr(self.part, what, False))

    @property
    def hears_scores(self) -> bool:
        """Whether it can be told several scores of a trial."""
        return hasattr(self.part, "tell_scores")

    @plugins.scoped
    def make(
        self,
        space: Space,
        budgets: Sequence[int],
        seed: int,
        enqueue: Sequence[Config],
        scores: int = 1,
    ) -> Searcher:
        """A fresh searcher of so many scores. Raises Refusal for what the engine cannot treat."""
        self._check_honoured(space)
        given = {"enqueue": enqueue, **self.options}
        if "scores" in inspect.signature(self.part).parameters:
            given["scores"] = scores
        with guest():
            searcher: Searcher = self.part(space, budgets, seed, **given)
        if plugins.searchers.is_plugin(self.name):
            told = [name for name in TOLD if hasattr(searcher, name)]
            own = {name: guarded(getattr(searcher, name)) for name in ("ask", *told)}
            ours: Any = SimpleNamespace(**own)
            return ours  # type: ignore[no-any-return]
        return searcher

    def _check_honoured(self, space: Space) -> None:
        """Priors and forbidden combinations are heeded, or refused; never passed over."""
        honoured: Collection[str] = getattr(self.part, "honours", ())
        given = [(f"{name!r} has a prior", "prior") for name in space.priors[:1]]
        given += [("the space has forbid", "forbid")] if space.forbidden else []
        for what, feature in given:
            if feature not in honoured:
                text = f"which {self.name} does not honour: leave it out, or take {HEED[feature]}"
                raise Refusal(f"{self.name}: {what}, {text}")


def searcher_of(form: SearcherForm, mistakes: Mistakes) -> SearcherSpec | None:
    """The searcher of a `searcher:` mapping; None when something is wrong with it."""
    with mistakes.under("searcher", "name"):
        cls = plugins.searchers.get(form.name)
        model = _searcher_model(cls)
        with mistakes.under("searcher", model=model):
            options = _options(model, {"name": form.name, **form.options})
            del options["name"]
            for name in OURS & options.keys():
                mistakes.add(("searcher", name), f"{name!r} is not an option: the study gives it")
                return None
            filled = frozenset(options.keys() - form.options.keys())
            return SearcherSpec(form.name, options, filled)
    return None


def space_of(mapping: Mapping[str, Any], mistakes: Mistakes) -> Space | None:
    """The space of a `search_space:` mapping; None when something is wrong with it."""
    with mistakes.under("search_space"):
        return Space.parse(mapping)
    return None


@functools.lru_cache(maxsize=64)  # a matrix asks for each of its studies
def _searcher_model(cls: Any) -> type[BaseModel]:
    return _options_model(cls.__init__, without=GIVEN, also={"name": (str, ...)})


def _options_model(
    function: Callable[..., Any], *, without: Collection[str], also: Mapping[str, Any]
) -> type[BaseModel]:
    """The keyword-only options of a part as a model. Raises UserError where they cannot be one.

    The fields are reached by alias, so that an option may have any name; an option whose default
    is None may be null. A part that takes `**options` checks by itself what it does not name.
    """
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    more: Literal["allow", "forbid"] = (
        "allow" if inspect.Parameter.VAR_KEYWORD in kinds else "forbid"
    )
    config = ConfigDict(**{**STRICT, "extra": more}, validate_default=False)
    try:
        options = {**also, **plugins.options_of(function, without=without)}
        fields: dict[str, Any] = {
            f"option{i}": (
                annotation | None if default is None else annotation,
                Field(default, alias=name),
            )
            for i, (name, (annotation, default)) in enumerate(options.items())
        }
        model: type[BaseModel] = create_model("Options", __config__=config, **fields)
    except (PydanticUserError, NameError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"its options are not annotated with plain types: {reason}") from None
    return model


def _options(model: type[BaseModel], mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The options as plain values, defaults filled in. JSON rules: a list may be a tuple."""
    options = model.model_validate_json(json.dumps(mapping))
    try:
        options.model_dump_json()
    except PydanticSerializationError as error:
        raise UserError(f"has a default that is not a plain value: {error}") from None
    named = {str(f.alias): getattr(options, name) for name, f in model.model_fields.items()}
    return named | (options.model_extra or {})
