"""What the comments of a drafted study say: each key's own description, by its dotted path.

`text.py` writes them there. Forms describe their keys, and parts their options.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, Union

from pydantic import BaseModel

from hpogen import plugins
from hpogen.spec.described import descriptions, documentation, forms_within
from hpogen.spec.form import StudyForm
from hpogen.spec.parts import FUNCTION_KEYS


def meanings(record: Mapping[str, Any]) -> dict[str, str]:
    """Of the keys that a study's mapping has or may have, as sentences."""
    task = plugins.tasks.get(record["task"]["name"])
    function = isinstance(task, plugins.TaskFunction)
    searcher = plugins.searchers.get(record["searcher"]["name"])
    found = dict(_of_form(StudyForm, ""))
    for path, form in forms_within(StudyForm, {} if function else {"task": task}):
        found |= _of_form(form, f"{path}.")
    if function:
        found |= _of_options({**FUNCTION_KEYS, **options(task.function)}, "task.")
    if dataset := record["task"].get("dataset"):
        found |= _of_options(options(plugins.datasets.get(dataset["name"])), "task.dataset.")
    return found | dict(_of_options(options(searcher.__init__), "searcher."))


def options(function: Callable[..., Any]) -> Mapping[str, Any]:
    """Those of a part that a study may set: name → (annotation, default or ...)."""
    return plugins.options_of(function, without=("enqueue",))


def _of_form(form: type[BaseModel], path: str) -> Iterator[tuple[str, str]]:
    said = descriptions(form)
    for name, info in form.model_fields.items():
        key = info.alias or name
        yield f"{path}{key}", _whole(said.get(key, ""), info.annotation)


def _of_options(declared: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for name, (annotation, _) in declared.items():
        text = documentation(annotation) or f"an option of the {path.split('.')[-2]}"
        yield f"{path}{name}", _whole(sentence(text), annotation)


def _whole(text: str, annotation: object) -> str:
    """The text, and the words that may stand there, where it does not name them all."""
    quoted = [f"`{choice}`" for choice in _choices(annotation)]
    if not text or len(quoted) < 2 or all(choice in text for choice in quoted):
        return text
    return f"{text} {', '.join(quoted[:-1])} or {quoted[-1]}."


def _choices(annotation: object) -> tuple[Any, ...]:
    """The words of an annotation that allows only words, or null."""
    parts = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        return parts
    if typing.get_origin(annotation) in (Union, types.UnionType):
        (*one,) = (part for part in parts if part is not types.NoneType)
        return _choices(one[0]) if len(one) == 1 else ()
    return _choices(parts[0]) if hasattr(annotation, "__metadata__") else ()


def sentence(text: str) -> str:
    """A phrase as a sentence; nothing stays nothing."""
    return f"{text[0].upper()}{text[1:].removesuffix('.')}." if text else ""
