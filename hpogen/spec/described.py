"""What the keys of a form mean: the string below each in the form's source, as a description.

`schema.py` puts them into the JSON schema, and the reference pages are made of them.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Mapping

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema


class Described(GenerateJsonSchema):
    """A JSON schema with the descriptions of all keys, those of forms within forms included."""

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        for key, text in descriptions(schema["cls"]).items():
            made["properties"][key]["description"] = text
        return made


def descriptions(form: type[BaseModel]) -> Mapping[str, str]:
    """By key, as YAML has it. They are read from the source when asked: imports cost nothing."""
    found: dict[str, str] = {}
    for base in reversed(form.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= _docstrings(base)
    fields = form.model_fields.items()
    return {info.alias or name: found[name] for name, info in fields if name in found}


def _docstrings(form: type) -> dict[str, str]:
    """The strings that stand below attributes."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(form))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        above.target.id: " ".join(inspect.cleandoc(below.value.value).split())
        for above, below in itertools.pairwise(tree.body)
        if isinstance(above, ast.AnnAssign)
        and isinstance(above.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
