"""A matrix: one YAML file that stands for many studies, one for each combination of values.

    matrix:
      searcher: [cmaes, {name: pso, topology: ring, label: pso-ring}]
      objective.alpha: [0.01, 0.1]
      seed: [0, 1, 2]

`loading.py` makes a StudySpec of each of its cells.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from hpogen.errors import UserError, quoted
from hpogen.spec.form import Matrix, is_folder_name
from hpogen.spec.mistakes import Mistakes, shown
from hpogen.spec.positions import KeyPath
from hpogen.spec.source import SPACE, Source, varied
from hpogen.spec.strict import STRICT

MATRIX, LABEL, VALUE = "matrix", "label", "value"
BETWEEN = "__"
MOST = 1_000  # studies
OWN = ("name", MATRIX, "plugins")  # keys that a matrix cannot vary

_FORM: TypeAdapter[Matrix] = TypeAdapter(Matrix, config=STRICT)


@dataclass(frozen=True)
class Choice:
    """A value of a key: what it is called in the folder's name, and where it was written."""

    label: str
    value: Any
    written: KeyPath


def cells(source: Source, folder: Path) -> Iterator[Source]:
    """The study of each combination, the last key varying fastest; `name` is its label.

    Relative paths of search spaces begin at `folder`. Raises UserError, with file, line and
    column, for what is no matrix, and where two studies would have the same folder.
    """
    choices = _choices(source)
    written: dict[str, tuple[Choice, ...]] = {}
    base = dict(source.data)
    del base[MATRIX]
    for combination in itertools.product(*choices.values()):
        label = BETWEEN.join(choice.label for choice in combination)
        first = written.setdefault(label, combination)
        if first is not combination:
            raise _collision(source, label, first, combination)
    for label, combination in written.items():
        pairs = zip(choices, combination, strict=True)
        values = {key: (choice.value, choice.written) for key, choice in pairs}
        yield varied(replace(source, data={**base, "name": label}), folder, values)


def _choices(source: Source) -> dict[str, list[Choice]]:
    mistakes = Mistakes(source)
    found: dict[str, list[Choice]] = {}
    for key, values in _validated(source, mistakes).items():
        path = (MATRIX, key)
        if key in OWN or "" in key.split("."):
            mistakes.add(
                path, f"cannot vary {quoted(key)}: expected a key of the study, as for --set"
            )
        found[key] = []
        for i, value in enumerate(values):
            choice = _choice(key, value, (*path, i))
            found[key].append(choice)
            if not (choice.label and is_folder_name(choice.label)):
                mistakes.add(choice.written, f"got {shown(value)}: give it a label: NAME")
    mistakes.raise_first()
    if (count := math.prod(map(len, found.values()))) > MOST:
        raise UserError(f"{source.where((MATRIX,))}: matrix: {count} studies, at most {MOST}")
    return found


def _validated(source: Source, mistakes: Mistakes) -> Matrix:
    found: Matrix = {}
    with mistakes.under(MATRIX):
        found = _FORM.validate_python(source.data[MATRIX])
        if not found:
            mistakes.add((MATRIX,), "is empty, expected keys with lists of values")
    return found


def _choice(key: str, value: Any, written: KeyPath) -> Choice:
    """A value without its `label`; `{value: 0.1, label: small}` is the labelled 0.1."""
    label = ""
    if isinstance(value, Mapping) and LABEL in value:
        label = value[LABEL] if isinstance(value[LABEL], str) else ""
        value = {k: v for k, v in value.items() if k != LABEL}
        if set(value) == {VALUE}:
            return Choice(label, value[VALUE], (*written, VALUE))
        return Choice(label, value, written)
    return Choice(_named(key, value), value, written)


def _named(key: str, value: Any) -> str:
    """`cmaes`, `agn+val`, `seed-0`: what a value is called that has no label; maybe nothing."""
    if isinstance(value, Mapping):
        name = value.get("name", value.get("preset"))
        return name if isinstance(name, str) else ""
    if isinstance(value, str):
        return Path(value).stem if key == SPACE else value
    if isinstance(value, bool):
        value = str(value).lower()
    elif not isinstance(value, int | float):
        return ""
    return f"{key.rpartition('.')[2]}-{value}"


def _collision(
    source: Source, label: str, first: tuple[Choice, ...], second: tuple[Choice, ...]
) -> UserError:
    pairs = zip(first, second, strict=True)
    one, two = next((a, b) for a, b in pairs if a.written != b.written)
    where, other = source.place(two.written), source.place(one.written)
    dotted = ".".join(map(str, where.path))
    return UserError(
        f"{where.label}: {dotted}: two studies would be called {quoted(label)}, this value's and "
        f"that at {other.label}: give one of them another label: NAME"
    )
