"""Every code block of the documentation: studies load, Python runs, commands have these options.

A block behind `<!-- not run: REASON -->` is only compiled or parsed. The tutorial has a test of its
own, and so have the blocks of docs/measures.md, docs/ledger.md and docs/use-the-answer.md, and the
files of docs/examples/.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from documentation import home
from documentation.blocks import BLOCKS, PAGES, ROOT, Block, of
from ruamel.yaml import YAML

import hpogen
from hpogen.cli import beginning, launching, looking, results
from hpogen.cli.app import app
from hpogen.spec.form import StudyForm
from hpogen.training.forms.task import Settings

assert beginning and launching and looking and results  # they register the commands
COMMANDS: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
ELSEWHERE = {f"docs/{name}.md" for name in ("tutorial", "measures", "ledger", "use-the-answer")}
# Programs whose options are not ours to check.
OTHERS = {"jq", "pip", "python", "python3", "ssh", "uv"}
FILES = {path.read_text() for path in (ROOT / "docs" / "examples").iterdir()}
BASE = {
    "task": {"dataset": "digits", "model": "mlp", "epochs": 12},
    "search_space": {
        "lr": {"float": [0.001, 1.0], "log": True},
        "batch_size": {"int": [8, 128], "log": True},
        "momentum": {"float": [0.0, 0.99]},
        "weight_decay": {"float": [1e-6, 0.1], "log": True},
    },
    "searcher": "random",
    "stop": {"trials": 32},
}


def blocks(*languages: str) -> list[Any]:
    return [
        pytest.param(block, id=str(block))
        for block in BLOCKS
        if block.language in languages and block.code not in FILES
    ]


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    kinds = {block.language for block in BLOCKS}
    assert kinds <= {"python", "yaml", "toml", "sh", "text", ""}
    assert len(BLOCKS) > 60


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_block_is_overlooked(page: Path) -> None:
    fences = [line for line in page.read_text().splitlines() if line.lstrip().startswith("```")]
    assert len(fences) == 2 * len([*of(page)])


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return home.make(tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("block", blocks("yaml"))
def test_a_study_or_a_part_of_one_loads(block: Block, there: Path) -> None:
    data = YAML(typ="safe").load(block.code)
    if block.page in ELSEWHERE or block.unrun:
        return
    place = there / "examples" / "block.yaml"
    with place.open("w") as file:
        YAML().dump(whole(data), file)
    assert hpogen.load_studies(place).specs


def whole(data: dict[str, Any]) -> dict[str, Any]:
    """A study that has these keys, which are a study's, or those of its task."""
    if not {*data} <= {*StudyForm.model_fields}:
        assert {*data} <= {*Settings.model_fields}
        data = {"task": data}
    missing = {"task", "search_space", "searcher", "stop"} - {*data, *data.get("matrix", {})}
    study = data | {key: BASE[key] for key in missing}
    if data.get("task", {}).get("name") != "command" and not data.get("plugins"):
        study["task"] = {**BASE["task"], **study["task"]}
    return study


@pytest.mark.parametrize("block", blocks("python"))
def test_python_runs(block: Block, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile(block.code, str(block), "exec")
    if block.page in ELSEWHERE or block.unrun:
        return
    monkeypatch.chdir(there)
    exec(code, {"__name__": "__main__"})


@pytest.mark.parametrize("block", blocks("toml"))
def test_toml_is_toml(block: Block) -> None:
    assert tomllib.loads(block.code)


def command_lines() -> Iterator[Any]:
    for block in BLOCKS:
        for line in block.code.splitlines() if block.language in ("sh", "") else ():
            if block.language == "sh" or line.startswith("hpogen "):
                yield pytest.param(line, id=f"{block}:{line[:30]}")


@pytest.mark.parametrize("line", [*command_lines()])
def test_a_command_can_be_typed(line: str) -> None:
    check(shlex.split(line.removesuffix("&"), comments=True))


def check(words: list[str]) -> None:
    """The program exists, and so do hpogen's command and the options."""
    if not words:
        return
    program, *arguments = words
    name = re.sub(r"^(\.venv|env)/bin/", "", program)
    if name == "hpogen" and arguments[0] != "--version":
        command, *rest = arguments
        COMMANDS[command].make_context(command, rest)
    elif program.startswith("scripts/"):
        assert (ROOT / program).is_file()
        assert all((ROOT / word).exists() for word in arguments if word.endswith(".yaml"))
    elif name in OTHERS:
        files = [word for word in arguments if word.startswith(("scripts/", "docs/"))]
        assert all((ROOT / file).is_file() for file in files)
    else:
        assert name == "hpogen", program


@pytest.mark.parametrize(
    "words", ["hpogen run a.yaml --workres 2", "hpogen runn a", "hpogen show DIR x", "scripts/no"]
)
def test_what_cannot_be_typed_is_seen(words: str) -> None:
    with pytest.raises(Exception):  # noqa: B017  # typer's, a KeyError, an AssertionError
        check(words.split())


SPANS = [
    (str(page.relative_to(ROOT)), span)
    for page in PAGES
    for span in re.findall(r"`hpogen ([a-z]+[^`]*)`", page.read_text())
]


@pytest.mark.parametrize("page, span", SPANS, ids=lambda text: text)
def test_a_command_in_a_sentence_has_these_options(page: str, span: str) -> None:
    name, *rest = span.split()
    known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known | {"--help"}
