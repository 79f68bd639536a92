"""What the keys of a form mean: the string below each in the form's source, as a description.

`schema.py` puts them into the JSON schema, `hpogen init` beside the keys that it writes, and the
reference pages are made of them. What an option of a part means, its annotation says by `doc`.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
import typing
from collections.abc import Iterator, Mapping

from annotated_types import DocInfo
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

from hpogen.spec.positions import KeyPath


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


def keys(annotation: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key of a form and of the forms within it; an entry of a list is 0."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            key = (*path, field.alias or name)
            yield key
            yield from keys(field.annotation, key)
        return
    entry = (*path, 0) if typing.get_origin(annotation) in (list, tuple) else path
    for part in typing.get_args(annotation):
        yield from keys(part, entry)


def known_keys(form: type[BaseModel], path: KeyPath) -> set[str]:
    """Those of the mapping at `path` in a form."""
    place = tuple(0 if isinstance(part, int) else part for part in path)
    return {str(key[-1]) for key in keys(form) if key[:-1] == place}


def first_line(part: object) -> str:
    """Of what a part says of itself."""
    return (inspect.getdoc(part) or "").partition("\n")[0]


def documentation(annotation: object) -> str:
    """What `doc` says in an option's annotation, or in a part of it: `Annotated[…] | None`."""
    texts = [
        m.documentation for m in getattr(annotation, "__metadata__", ()) if isinstance(m, DocInfo)
    ]
    texts += [text for part in typing.get_args(annotation) if (text := documentation(part))]
    return texts[0] if texts else ""
