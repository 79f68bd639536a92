"""What to search with what, as a study's YAML says it but without a study, checked in the same way.

For other programs' loops that are to use hpogen's searchers: `tune.py` and `hydra.py` do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.searchers.base import Searcher
from hpogen.space import Space, space_form
from hpogen.spec import checks
from hpogen.spec.form import SearcherForm
from hpogen.spec.mistakes import Mistakes, shown
from hpogen.spec.parts import SearcherSpec, searcher_of, space_of
from hpogen.spec.positions import Document, Unreadable, read
from hpogen.spec.source import Source, told
from hpogen.trial import Config

BUDGETS = (1,)  # how long a trial trains is the other program's affair
SAME = 1e-9  # relative; what another machine's linear algebra may change
SCHEDULERS = "for which Tune has schedulers: use one of those beside another searcher"
SPACES = "a search space is written as in a study's YAML: {'lr': {'float': [0.001, 1]}}"


@dataclass(frozen=True)
class Search:
    """What is searched with what: two that are equal propose the same when they are told the same.

    `enqueue` are complete configurations.
    """

    space: Space
    searcher: SearcherSpec
    seed: int
    enqueue: tuple[Config, ...]

    def make(self) -> Searcher:
        """A fresh searcher, which has been asked nothing."""
        return self.searcher.make(self.space, BUDGETS, self.seed, self.enqueue)

    def record(self) -> dict[str, Any]:
        """As plain values that go through JSON, with every default filled in."""
        record: dict[str, Any] = to_jsonable_python(
            {
                "space": self.space.record(),
                "searcher": {"name": self.searcher.name, **self.searcher.options},
                "seed": self.seed,
                "enqueue": [dict(config) for config in self.enqueue],
            }
        )
        return record


def define(
    who: str,
    space: object,
    searcher: str,
    seed: int,
    enqueue: Sequence[str | Mapping[str, Any]] | None,
    options: Mapping[str, Any],
    several: str = SCHEDULERS,
) -> Search:
    """The search, checked as a study's YAML is. Raises UserError, beginning with `who`.

    `space` is a `Space`, a mapping of the YAML, or the path of a file with one; the others are the
    YAML's, too, with `enqueue` None where it is left out. `several` is what to do instead of a
    searcher that proposes several budgets.
    """
    mapping, document, label = _mapping(who, space)
    try:
        data = to_jsonable_python(
            {
                "search_space": mapping,
                "searcher": {"name": searcher, **options},
                "enqueue": enqueue,
                "seed": seed,
            }
        )
    except PydanticSerializationError as error:
        raise UserError(f"{who}: {error}; {SPACES}") from None
    mistakes = Mistakes(Source(data, who, space=document, space_label=label))
    checks.finite(data, mistakes)
    if type(data["seed"]) is not int or data["seed"] < 0:
        mistakes.add(("seed",), f"got {shown(seed)}, expected an integer of at least 0")
    made = space_of(data["search_space"], mistakes)
    found = _one_budget(data["searcher"], several, mistakes)
    mistakes.raise_first()
    assert made and found  # what is None has left a mistake
    configs = checks.enqueue(data["enqueue"], made, found, mistakes)
    checks.searcher(found, made, BUDGETS, seed, configs, mistakes)
    mistakes.raise_first()
    return Search(made, found, seed, configs)


def _mapping(who: str, space: object) -> tuple[Any, Document | None, str]:
    """The mapping of a space; its document and name where it is a file's."""
    if isinstance(space, Space):
        return space.record(), None, ""
    if isinstance(space, Mapping):
        return space_form(space), None, ""
    if not isinstance(space, str | Path):
        raise UserError(f"{who}: search_space: got {shown(space)}; {SPACES}")
    try:
        document = read(Path(space))
    except Unreadable as error:
        raise UserError(told(f"{who}: search_space: {space}", error)) from None
    return document.data, document, str(space)


def alike(a: Config, b: Mapping[str, Any]) -> bool:
    """Whether two configurations are one, but for the last digits of their floats."""
    return a.keys() == b.keys() and all(
        math.isclose(a[name], b[name], rel_tol=SAME)  # type: ignore[arg-type]
        if isinstance(a[name], float) and isinstance(b[name], float)
        else a[name] == b[name]
        for name in a
    )


def _one_budget(mapping: dict[str, Any], several: str, mistakes: Mistakes) -> SearcherSpec | None:
    """The searcher, if it is one that asks for trials of one length; else a mistake and None."""
    plugins.load_installed()
    name = mapping["name"]
    if name in plugins.searchers and plugins.searchers.get(name).multi_fidelity:
        mistakes.add(
            ("searcher",),
            f"{name!r} proposes several budgets, {several}, or hpogen run",
        )
        return None
    with mistakes.under("searcher", model=SearcherForm):
        return searcher_of(SearcherForm.model_validate(mapping), mistakes)
    return None
