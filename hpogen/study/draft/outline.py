"""The keys that a study of chosen parts has or may have: what each is when left out, and means.

`text.py` writes them. Keys, their order, defaults and descriptions are those of the forms that
check a study when it is loaded; parts describe their options.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Union

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from hpogen import plugins
from hpogen.spec.described import descriptions, documentation
from hpogen.spec.form import SearcherForm, StudyForm
from hpogen.spec.parts import FUNCTION_KEYS, GIVEN


@dataclass(frozen=True)
class Key:
    """`default` is `...` where there is none; `within` are the keys of a mapping with a form."""

    default: Any = ...
    meaning: str = ""
    within: Mapping[str, Key] | None = None


Keys = Mapping[str, Key]
SEARCHED = {"label_smoothing": {"float": [0.0, 0.2]}, "rotate": {"float": [0.0, 15.0]}}
"""What may be searched besides, of images."""


def outline(record: Mapping[str, Any], model: Mapping[str, Any]) -> Keys:
    """Of a study's mapping; `model` are the options of its model, with their defaults."""
    task = _task(record["task"], model)
    searcher = plugins.searchers.get(record["searcher"]["name"])
    space = dict.fromkeys(record["search_space"], Key())
    if "dataset" in task:
        space |= {name: Key(default) for name, default in SEARCHED.items()}
    found = _of_form(StudyForm)
    found["task"] = replace(found["task"], within=task)
    found["search_space"] = replace(found["search_space"], within=space)
    options = _of_options(_options(searcher.__init__), "searcher")
    key = replace(found["searcher"], within=_of_form(SearcherForm))
    return {**found, "searcher": _with(key, options)}


def _task(given: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Key]:
    part = plugins.tasks.get(given["name"])
    if isinstance(part, plugins.TaskFunction):
        return _of_options({**FUNCTION_KEYS, **_options(part.function)}, "task")
    found = _of_form(part)
    if "dataset" in found:
        found["dataset"] = _with(found["dataset"], _loader(given["dataset"]))
    if "model" in found:
        found["model"] = _with(found["model"], {name: Key(x) for name, x in model.items()})
    return found


def _with(key: Key, more: Keys) -> Key:
    """A part's key with its options behind its name; keys of its form stay as they are."""
    own = dict(key.within or {})
    return replace(key, within={"name": own["name"], **more, **own})


def _loader(dataset: Mapping[str, Any]) -> Keys:
    """The options of a data set beside the form's; of a built-in one only of those with a path."""
    if "path" not in dataset and plugins.datasets.is_builtin(dataset["name"]):
        return {}
    return _of_options(_options(plugins.datasets.get(dataset["name"])), "dataset")


def _options(function: Any) -> Mapping[str, Any]:
    """Those of a part that a study may set: name → (annotation, default or ...)."""
    return plugins.options_of(function, without=GIVEN)


def _of_form(form: type[BaseModel]) -> dict[str, Key]:
    said, found = descriptions(form), {}
    for name, field in form.model_fields.items():
        inner, key = field.annotation, field.alias or name
        default = ... if field.is_required() else to_jsonable_python(field.default)
        is_form = isinstance(inner, type) and issubclass(inner, BaseModel)
        within = _of_form(inner) if is_form else None  # type: ignore[arg-type]
        found[key] = Key(default, _whole(said.get(key, ""), inner), within)
    return found


def _of_options(declared: Mapping[str, Any], of: str) -> dict[str, Key]:
    found = {}
    for name, (annotation, default) in declared.items():
        text = documentation(annotation) or f"an option of the {of}"
        found[name] = Key(default, _whole(sentence(text), annotation))
    return found


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
