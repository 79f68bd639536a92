"""The tables of the reference pages, from the forms, the registries and the command line.

`hook.py` puts them in place of `<!-- table: NAME -->` while MkDocs builds the site.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model
from ruamel.yaml import YAML

from hpogen import plugins
from hpogen.space.form import FORMS, PriorForm
from hpogen.spec.described import Described, descriptions, documentation
from hpogen.spec.form import StudyForm
from hpogen.spec.parts import GIVEN
from hpogen.tasks.command import Command
from hpogen.training.forms.hyperparameters import Hyperparameters
from hpogen.training.forms.schedule import Schedule
from hpogen.training.forms.task import Settings
from hpogen.training.models.catalog import OWN

EXAMPLES = Path(__file__).with_name("examples.yaml")
OPEN = {"task": Settings}  # keys of a study that their owners have forms for
BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
}
SHORT = {  # forms that are written in another way, too
    **dict.fromkeys(("search_space", "searcher", "objective"), "text or mapping"),
    **dict.fromkeys(("dataset", "model", "schedule"), "text or mapping"),
    "corruption": "number or mapping",
    "measures": "list of text or mappings",
}
PLAIN = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false"}
Row = Sequence[str]
LONG = 10  # characters of a number


@functools.cache
def examples() -> Mapping[str, Mapping[str, Any]]:
    """By form or part: a mapping that has every key of it."""
    return YAML(typ="safe").load(EXAMPLES.read_text())


def table(header: Row, rows: Iterator[Row]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in lines
    )


def anchored(key: str, path: str) -> str:
    """A key that links may lead to, by its path: `#task.dataset.subset`."""
    return f'<span id="{path}">`{key}`</span>'


def flow(value: object) -> str:
    """A value as YAML writes it in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float) and len(repr(value)) > LONG:
        return f"{value:.4g}"
    return f'"{value}"' if value == "" else str(value)


def keys(form: type[BaseModel], path: str) -> str:
    """The keys of a form: type and range, default, meaning, an example."""
    schema = form.model_json_schema(schema_generator=Described)
    shown = examples()[form.__name__.strip("_")]
    required = set(schema.get("required", ()))
    rows = (
        (
            anchored(key, f"{path}{key}"),
            shape(key, of, schema.get("$defs", {})),
            default_of(of, key in required),
            descriptions(form)[key],
            f"`{key}: {flow(shown[key])}`",
        )
        for key, of in schema["properties"].items()
    )
    return table(("key", "type and range", "default", "meaning", "example"), rows)


def default_of(schema: Mapping[str, Any], required: bool) -> str:
    if required:
        return "required"
    value = schema.get("default")
    if isinstance(value, Mapping):
        value = {key: item for key, item in value.items() if item not in (None, [])}
    return "left out" if value is None else f"`{flow(value)}`"


def shape(key: str, schema: Mapping[str, Any], forms: Mapping[str, Any]) -> str:
    """The type and range of a key; where it is a form, its short form with it."""
    text = kind(schema, forms)
    return SHORT.get(key, text) if text.endswith("mapping") else text


def kind(schema: Mapping[str, Any], forms: Mapping[str, Any]) -> str:
    """In words: `integer ≥ 1`, `` `none` or `standard` ``, `list of numbers`."""
    if "$ref" in schema:
        return "mapping" if "properties" in forms[schema["$ref"].rpartition("/")[2]] else "text"
    if "const" in schema:
        return f"`{flow(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{flow(value)}`" for value in schema["enum"])
    if "anyOf" in schema or "oneOf" in schema:
        inner = [kind(part, forms) for part in schema.get("anyOf", schema.get("oneOf", ()))]
        return " or ".join(dict.fromkeys(text for text in inner if text != "null"))
    if schema.get("type") == "array":
        return _list(schema, forms)
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"mapping of {kind(inner, forms)}" if isinstance(inner, dict) else "mapping"
    if schema.get("type") == "null":
        return "null"
    bounds = [f"{sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema]
    return " ".join([PLAIN.get(schema.get("type", ""), "any value"), " and ".join(bounds)]).strip()


def _list(schema: Mapping[str, Any], forms: Mapping[str, Any]) -> str:
    inner = kind(schema.get("items", {}), forms)
    if schema.get("minItems") == schema.get("maxItems") == 2:
        return f"[{inner}, {inner}]"
    return f"list of {inner}"


def forms_within(
    form: type[BaseModel], opened: Mapping[str, type[BaseModel]], path: str = ""
) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every form that stands in a key of this one, with the dotted path of the key.

    `opened` are those of keys that any mapping may stand in, by path: their owners have forms.
    """
    for name, info in form.model_fields.items():
        key = f"{path}{info.alias or name}"
        for each in [opened[key]] if key in opened else _forms(info.annotation):
            yield key, each
            yield from forms_within(each, opened, f"{key}.")


def _forms(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _forms(part)


def study() -> str:
    """All keys of a study's YAML, a section for each mapping."""
    parts = [keys(StudyForm, "")]
    for path, form in forms_within(StudyForm, OPEN):
        parts += [
            f"### `{path}` {{: #{path}-keys }}",
            first_paragraph(form),
            keys(form, f"{path}."),
        ]
    parts += ["### `task` of a command {: #command-keys }", keys(Command, "command.")]
    for path, form in forms_within(Command, {}, "command."):
        title = f"### `{path.replace('command', 'task', 1)}` of a command {{: #{path}-keys }}"
        parts += [title, first_paragraph(form), keys(form, f"{path}.")]
    return "\n\n".join(parts)


def first_paragraph(form: type) -> str:
    return (form.__doc__ or "").partition("\n\n")[0]


def space() -> str:
    """The keys of a parameter of the search space, by its type."""
    forms = {**FORMS, "prior": PriorForm}
    parts = (f"### `{name}`\n\n{keys(form, f'{name}.')}" for name, form in forms.items())
    return "\n\n".join(parts)


def hyperparameters() -> str:
    return keys(Hyperparameters, "hyperparameter.")


def schedules() -> str:
    return keys(Schedule, "schedule.")


def part_options(
    function: Callable[..., Any], shown: str, path: str, without: Sequence[str] = ()
) -> str:
    """The options of a registered part, by its signature; nothing for one that has none."""
    declared = plugins.options_of(function, without=without)
    if not declared:
        return ""
    made = create_model("Options", __config__=ConfigDict(strict=True), **declared)
    schema = made.model_json_schema()
    rows = (
        (
            anchored(name, f"{path}.{name}"),
            kind(schema["properties"][name], schema.get("$defs", {})),
            default_of(schema["properties"][name], default is ...),
            documentation(annotation),
            f"`{name}: {flow(examples()[shown][name])}`",
        )
        for name, (annotation, default) in declared.items()
    )
    return table(("option", "type and range", "default", "meaning", "example"), rows)


def searchers() -> str:
    parts = []
    for name in filter(plugins.searchers.is_builtin, plugins.searchers.names()):
        made = plugins.searchers.get(name).__init__
        options = part_options(made, name, f"searcher.{name}", without=GIVEN)
        parts.append(f"### `{name}` {{: #searcher-{name} }}\n\n{options or 'It has no options.'}")
    return "\n\n".join(parts)


def datasets() -> str:
    parts = []
    for name in ("folder", "numpy", "text", "csv"):
        options = part_options(plugins.datasets.get(name), name, f"dataset.{name}", ["kind"])
        title = "`csv`, `parquet`" if name == "csv" else f"`{name}`"
        parts.append(f"### {title} {{: #dataset-{name} }}\n\n{options}")
    return "\n\n".join(parts)


def models() -> str:
    """Which options a built-in model has, with their defaults; they may be searched."""
    rows = (
        (f"`{name}`", ", ".join(f"`{key}: {flow(value)}`" for key, value in row.options.items()))
        for name, row in OWN.items()
    )
    return table(("model", "options and defaults"), rows)
