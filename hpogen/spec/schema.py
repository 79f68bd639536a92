"""The JSON schema of a study's YAML, for editors; `hpogen schema` prints it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from hpogen import plugins
from hpogen.objective import PRESETS
from hpogen.space.form import FORBID, FORMS
from hpogen.spec.described import Described
from hpogen.spec.form import StudyForm


def schema() -> dict[str, Any]:
    """The schema of what `load_study` reads, with the keys of the default task.

    Other tasks and the searchers' options are open: their owners check them when a study is loaded.
    """
    task: type[BaseModel] = plugins.tasks.get(plugins.DEFAULT_TASK)
    forms = [StudyForm, task, *FORMS.values()]
    references, shared = models_json_schema(
        [(form, "validation") for form in forms], schema_generator=Described
    )
    definitions = shared["$defs"]
    study = definitions.pop(references[StudyForm, "validation"]["$ref"].rpartition("/")[2])
    properties = study["properties"]
    properties["task"] = {
        "description": properties["task"]["description"],
        "if": {"properties": {"name": {"const": plugins.DEFAULT_TASK}}},
        "then": references[task, "validation"],
        "else": {"type": "object", "required": ["name"]},
    }
    properties["search_space"] = _search_space([references[f, "validation"] for f in forms[2:]])
    _with_names(properties["searcher"], plugins.searchers.names())
    _with_names(properties["objective"], PRESETS)
    required = study.pop("required")
    study["anyOf"] = [{"required": required}, {"required": ["matrix"]}]  # which may have them
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **study,
        "title": "hpogen study",
        "$defs": definitions,
    }


def _search_space(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    constant = TypeAdapter(bool | int | float | str).json_schema()
    forbid = {
        "description": "combinations that no trial has: `kernel == 'rbf' and lr > 0.1`",
        "anyOf": [{"type": "array", "items": {"type": "string"}}, *parameters],
    }
    return {
        "description": "parameters by name, or the path of a YAML file that holds them",
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "minProperties": 1,
                "properties": {FORBID: forbid},
                "additionalProperties": {"anyOf": [*parameters, constant]},
            },
        ],
    }


def _with_names(key: dict[str, Any], names: Iterable[str]) -> None:
    """Allow the bare name in place of the mapping."""
    key.pop("default", None)
    mapping = key.pop("anyOf", None) or [{"$ref": key.pop("$ref")}]
    key["anyOf"] = [{"enum": [*names]}, *mapping]
