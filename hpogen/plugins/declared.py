"""What the decorators of `hpogen.plugins` may be given: each mistake is one line.

`decorators.py` asks when a part is registered; its line is added where the file is imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any, cast

from hpogen.errors import UserError, unknown


def name(decorator: str, value: object) -> None:
    """Raise UserError for what is no name."""
    if isinstance(value, str) and value.isprintable() and value.strip() == value != "":
        return
    what = f"the {type(value).__name__} itself" if callable(value) else repr(value)[:60]
    raise UserError(
        f"@{decorator}: got {what} as the name, expected a string: "
        f'@{decorator}("{getattr(value, "__name__", "my-own")}"{REST.get(decorator, "")})'
    )


REST = {"task": ', metrics=("val_loss",)', "measure": ', of="network"'}


def task(
    metrics: object,
    sums: object,
    observed: object,
    audit: object,
    flags: Mapping[str, object],
) -> dict[str, Any]:
    """What a task declares beside its name and its function, as `TaskFunction` has it."""
    given = names("task", "metrics", metrics)
    if not given:
        raise UserError("@task: got no metrics, expected those that the task yields")
    summed = names("task", "sums", sums, within=given)
    timed = names("task", "observed", observed, within=given)
    judged = names("task", "audit", audit)
    for key, value in flags.items():
        flag("task", key, value)
    ordered = tuple(each for each in cast("Collection[str]", audit) if each in judged)
    return {"metrics": given, "sums": summed, "observed": timed, "audit": ordered, **flags}


def names(decorator: str, key: str, value: object, within: Collection[str] = ()) -> frozenset[str]:
    """The names in a collection; they are among those `within`, where there are such."""
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        example = value if isinstance(value, str) else "val_loss"
        raise _odd(decorator, key, value, f'several names: {key}=("{example}",)')
    for each in value:
        if not isinstance(each, str) or not each:
            raise _odd(decorator, key, each, "names, as strings")
        if within and each not in within:
            raise UserError(f"@{decorator}: {key}: {unknown('metric', each, within)}")
    return frozenset(value)


def flag(decorator: str, key: str, value: object) -> None:
    if not isinstance(value, bool):
        raise _odd(decorator, key, value, "True or False")


def measure(
    of: object, flags: Mapping[str, object], needs: object, texts: Mapping[str, object]
) -> None:
    """Raise UserError for what a measure cannot be, apart from its names and its function."""
    if of not in ("head", "network"):
        raise UserError(f"@measure: of: {unknown('', of, ('head', 'network'))}")
    for key, value in flags.items():
        flag("measure", key, value)
    if flags["initial"] and of == "head":
        raise UserError('@measure: initial: only one of="network" is given the model')
    if needs is not None:
        if not callable(needs):
            expected = "a function of the model and a batch of images"
            raise _odd("measure", "needs", needs, expected)
        function("measure: needs", needs, 2)
    for key, value in texts.items():
        if not isinstance(value, str):
            raise _odd("measure", key, value, "a text")


def function(decorator: str, value: Any, arguments: int) -> None:
    """Raise UserError for what cannot be called with so many arguments beside its options."""
    if not callable(value):
        raise UserError(f"@{decorator}: got {repr(value)[:60]}, expected a function below it")
    if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
        raise UserError(f"@{decorator}: got an async function, expected a plain one")
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):  # some of C's have none
        return
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(p.default is p.empty for p in positional)
    most = arguments if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional)
    if not needed <= arguments <= most:
        raise UserError(
            f"@{decorator}: {value.__name__} takes {len(positional)} arguments, expected "
            f"{arguments} ({GIVEN[decorator]}); options come behind a *"
        )


GIVEN = {
    "task": "trial",
    "model": "in_shape, classes; or data",
    "dataset": "root",
    "loss": "outputs, targets",
    "measure": 'head; of="network": model, batches; with initial=True: untrained, too',
    "measure: needs": "model, images",
    "searcher": "space, budgets, seed",
}


def searcher(value: object) -> None:
    """Raise UserError for what is no class that can be asked and told."""
    methods = isinstance(value, type) and [callable(getattr(value, m, 0)) for m in ("ask", "tell")]
    if not methods or not all(methods):
        shown = getattr(value, "__name__", repr(value)[:60])
        raise UserError(f"@searcher: got {shown}, expected a class with the methods ask and tell")


def _odd(decorator: str, key: str, value: object, expected: str) -> UserError:
    return UserError(f"@{decorator}: got {key}={repr(value)[:60]}, expected {expected}")
