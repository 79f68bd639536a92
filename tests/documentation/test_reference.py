"""The reference is whole: keys, options, commands, public names; each with type, default, words."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from documentation.site import ids

import hpogen
from hpogen import measures, plugins
from hpogen.cli import beginning, launching, looking, results
from hpogen.cli.app import app
from hpogen.objective import PRESETS, SCALES
from hpogen.space.form import FORMS, PriorForm
from hpogen.spec.form import StudyForm
from hpogen.spec.parts import GIVEN
from hpogen.spec.schema import schema
from hpogen.tasks.command import Command
from hpogen.tasks.command_output import Read
from hpogen.training.forms.hyperparameters import Hyperparameters
from hpogen.training.forms.schedule import Schedule
from hpogen.training.forms.task import Settings
from hpogen.training.models.catalog import OWN

assert beginning and launching and looking and results  # they register the commands
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "docs"))
tables = importlib.import_module("tables")

FORMS_SHOWN = {
    form.__name__.strip("_"): form
    for form in [
        StudyForm,
        Settings,
        Command,
        Hyperparameters,
        *FORMS.values(),
        PriorForm,
        *(form for _, form in tables.forms_within(StudyForm, tables.OPEN)),
        *(form for _, form in tables.forms_within(Command, {})),
    ]
}


def keys_of(node: Mapping[str, Any], forms: Mapping[str, Any], path: str) -> Iterator[str]:
    """The keys that the JSON schema has at a path, and those within them."""
    for name, inner in node.get("properties", {}).items():
        key = f"{path}.{name}".strip(".")
        yield key
        for form in references(inner):
            yield from keys_of(forms[form], forms, key)


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if reference := node.get("$ref"):
            yield reference.rpartition("/")[2]
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


def keys() -> set[str]:
    """Every key of a study, by the schema that editors get."""
    whole = schema()
    found = {*keys_of(whole, whole["$defs"], "")}
    return {key for key in found if not key.startswith("search_space.")}


def test_every_key_has_a_place_on_a_page(site: Path) -> None:
    there = ids(site / "reference" / "study.html")
    assert len(keys()) > 60
    assert sorted(keys() - there) == []
    assert {f"command.{key}" for key in Command.model_json_schema()["properties"]} <= there
    assert {f"command.read.{key}" for key in Read.model_json_schema()["properties"]} <= there


def test_every_hyperparameter_has_a_place(site: Path) -> None:
    there = ids(site / "reference" / "hyperparameters.html")
    assert {f"hyperparameter.{name}" for name in Hyperparameters.model_fields} <= there
    literals = {"optimizer": Hyperparameters, "name": Schedule}
    for field, form in literals.items():
        prefix = "schedule" if form is Schedule else "optimizer"
        for value in form.model_json_schema()["properties"][field]["enum"]:
            assert f"{prefix}.{value}" in there


def test_every_parameter_of_a_space_has_a_place(site: Path) -> None:
    there = ids(site / "reference" / "search-space.html")
    for name, form in {**FORMS, "prior": PriorForm}.items():
        wanted = {f"{name}.{key}" for key in form.model_json_schema()["properties"]}
        assert wanted <= there


def test_presets_and_scales_have_a_place(site: Path) -> None:
    there = ids(site / "reference" / "objectives.html")
    assert {f"scale.{name}" for name in SCALES} <= there
    assert {f"preset.{name.replace('+', '-')}" for name in PRESETS} <= there


def test_every_option_of_a_searcher_has_a_place(site: Path) -> None:
    there = ids(site / "reference" / "options.html")
    for name in filter(plugins.searchers.is_builtin, plugins.searchers.names()):
        options = plugins.options_of(plugins.searchers.get(name).__init__, without=GIVEN)
        assert {f"searcher-{name}", *(f"searcher.{name}.{option}" for option in options)} <= there


def test_every_option_of_a_model_is_explained() -> None:
    page = (ROOT / "docs" / "reference" / "hyperparameters.md").read_text()
    options = {option for row in OWN.values() for option in row.options}
    assert [option for option in sorted(options) if f"| `{option}` |" not in page] == []


def test_every_command_and_option_has_a_place(site: Path) -> None:
    there = ids(site / "reference" / "command-line.html")
    commands: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    wanted = {
        f"hpogen-{name}{option}"
        for name, command in commands.items()
        for option in ("", *(f".{p.opts[0].strip('-')}" for p in command.params))
    }
    assert len(wanted) > 60 and sorted(wanted - there) == []


def test_every_public_name_has_a_place(site: Path) -> None:
    names = [f"hpogen.{name}" for name in hpogen.__all__]
    names += [f"hpogen.measures.{name}" for name in measures.__all__]
    decorators = ("task", "model", "dataset", "measure", "searcher")
    names += [f"hpogen.plugins.{name}" for name in decorators]
    for module in ("history", "retrained"):
        public = importlib.import_module(f"hpogen.{module}").__all__
        names += [f"hpogen.{module}.{name}" for name in public]
    assert sorted({*names} - ids(site / "reference" / "python.html")) == []


def test_the_glossary_has_the_words_of_the_tables(site: Path) -> None:
    words = {"told", "held", "charged", "cohort", "twin", "rung", "audit", "incumbent", "agn"}
    assert words <= ids(site / "glossary.html")


@pytest.mark.parametrize("name", FORMS_SHOWN)
def test_the_example_of_each_key_is_one(name: str) -> None:
    form, shown = FORMS_SHOWN[name], tables.examples()[name]
    known = {info.alias or key for key, info in form.model_fields.items()}
    assert {*shown} == known
    form.model_validate_json(json.dumps(shown))


@pytest.mark.parametrize("name", FORMS_SHOWN)
def test_each_key_has_type_default_and_meaning(name: str) -> None:
    rows = tables.keys(FORMS_SHOWN[name], "").splitlines()[2:]
    assert len(rows) == len(FORMS_SHOWN[name].model_fields)
    for row in rows:
        _, key, kind, default, meaning, example, _ = (part.strip() for part in row.split("|"))
        assert key and kind and default and example
        assert len(meaning) > 10 and meaning.endswith((".", "…"))


def test_a_searchers_option_has_type_default_and_meaning() -> None:
    for text in (tables.searchers(), tables.datasets()):
        rows = [row for row in text.splitlines() if row.startswith("| <span")]
        assert len(rows) > 3
        for row in rows:
            assert all(part.strip() for part in row.strip("|").split("|")), row


def test_a_key_without_words_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "descriptions", lambda form: {})
    with pytest.raises(KeyError):
        tables.study()
