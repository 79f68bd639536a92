"""A study as commented YAML: what was chosen, and each other key with its default, behind a #.

`choices.py` calls it. Keys, their order and their defaults are those of the forms that check a
study when it is loaded.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from hpogen import plugins
from hpogen.spec.form import StudyForm
from hpogen.spec.parts import FUNCTION_KEYS
from hpogen.study.draft.meanings import meanings, options, sentence

INDENT = 2
COLUMN, WIDTH = 34, 100  # where the comments begin, and where they end
SPACE = "search_space."
PLAIN = re.compile(r"[A-Za-z_][\w./+-]*( [\w./+-]+)*")
WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}  # which mean something else
SEARCHED = {"label_smoothing": {"float": [0.0, 0.2]}, "rotate": {"float": [0.0, 15.0]}}
"""What may be searched besides, of images."""

Tree = dict[str, Any]
"""Keys with their defaults, `...` where there is none; a mapping with keys of its own is a tree."""


def commented(
    record: Mapping[str, Any],
    head: Sequence[str],
    model: Mapping[str, Any],
    notes: Mapping[str, str],
) -> str:
    """The YAML of a study's mapping that has been checked, below the lines of its head.

    `model` are the options of the model, with their defaults. `notes` say of some keys, by their
    path, what their forms do not say.
    """
    said = meanings(record) | {path: sentence(text) for path, text in notes.items()}
    lines = [f"# {line}" for line in head]
    for key, default in _study(record, model).items():
        found = [*_lines({key: default}, record, said)]
        space = isinstance(default, dict) or key in record
        lines += ["", *found] if space and len(lines) > len(head) else found
    return "\n".join(lines) + "\n"


def _study(record: Mapping[str, Any], model: Mapping[str, Any]) -> Tree:
    """The whole study, with the keys of the parts that the record names."""
    task = _task(record["task"])
    if "model" in task:
        task["model"] |= model
    searcher = plugins.searchers.get(record["searcher"]["name"])
    tree = _defaults(StudyForm)
    tree["task"] = task
    tree["searcher"] |= _defaults_of(options(searcher.__init__))
    tree["search_space"] = {**dict.fromkeys(record["search_space"], ...)}
    tree["search_space"] |= SEARCHED if "dataset" in task else {}
    return tree


def _task(given: Mapping[str, Any]) -> Tree:
    found = plugins.tasks.get(given["name"])
    if isinstance(found, plugins.TaskFunction):
        return _defaults_of({**FUNCTION_KEYS, **options(found.function)})
    task = _defaults(found)
    if "dataset" in task:
        task["dataset"] = {"name": ..., **_loader(given["dataset"]), **task["dataset"]}
    return task


def _loader(dataset: Mapping[str, Any]) -> Tree:
    """The options of a data set beside the form's; of a built-in one only of those with a path."""
    if "path" not in dataset and plugins.datasets.is_builtin(dataset["name"]):
        return {}
    return _defaults_of(options(plugins.datasets.get(dataset["name"])))


def _defaults_of(declared: Mapping[str, Any]) -> Tree:
    return {name: default for name, (_, default) in declared.items()}


def _defaults(form: type[BaseModel]) -> Tree:
    tree: Tree = {}
    for name, field in form.model_fields.items():
        inner, key = field.annotation, field.alias or name
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            tree[key] = _defaults(inner)
        else:
            tree[key] = ... if field.is_required() else to_jsonable_python(field.default)
    return tree


def _lines(
    tree: Tree,
    given: Mapping[str, Any],
    said: Mapping[str, str],
    path: str = "",
    off: int | None = None,
) -> Iterator[str]:
    """The lines of a mapping's keys; with a # in column `off` where a mapping around is hidden."""
    indent = INDENT * path.count(".")
    for key, default in tree.items():
        value = given.get(key, default)
        if value is ...:
            continue
        hidden = indent if off is None and key not in given else off
        block = isinstance(default, dict) and path != SPACE
        code = f"{key}:" if block else f"{key}: {flow(value)}"
        margin = _margin(indent, hidden)
        above = path == SPACE or len(margin + code) > COLUMN - 2
        yield from _commented(margin, code, said.get(f"{path}{key}", ""), above)
        if block:
            within = given.get(key, {})
            yield from _lines(default, within, said, f"{path}{key}.", hidden)


def _margin(indent: int, off: int | None) -> str:
    return " " * indent if off is None else f"{' ' * off}# {' ' * (indent - off)}"


def _commented(margin: str, code: str, comment: str, above: bool) -> list[str]:
    """The code with the comment at its right, wrapped in a column of its own, or above it."""
    column = len(margin.partition("#")[0]) if above else COLUMN
    parts = textwrap.wrap(comment, WIDTH - column - 2, break_on_hyphens=False)
    if above or not parts:
        return [*(f"{' ' * column}# {part}" for part in parts), margin + code]
    codes = [margin + code, *[""] * (len(parts) - 1)]
    return [f"{x.ljust(column)}# {part}" for x, part in zip(codes, parts, strict=True)]


def flow(value: object) -> str:
    """A value on one line, as YAML 1.1 and 1.2 read it alike."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(x)}" for key, x in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        return np.format_float_scientific(value, trim="0", exp_digits=1)  # 1.0e-7, as 1.1 wants it
    return json.dumps(value, ensure_ascii=False)
