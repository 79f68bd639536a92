"""`hpogen init`: every choice gives a study that loads, explained, and with the true defaults."""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from toys import typed

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.record.history import read
from hpogen.spec import load_study
from hpogen.spec.choice import ObjectiveForm
from hpogen.spec.described import descriptions, documentation
from hpogen.spec.form import Checkpoints, Limits, Stop, StudyForm
from hpogen.study.draft import Choices, Known, draft, write
from hpogen.study.draft.outline import outline
from hpogen.study.draft.text import COLUMN, WIDTH, flow
from hpogen.training.forms.dataset import Dataset
from hpogen.training.forms.hyperparameters import Hyperparameters
from hpogen.training.forms.known import SIZES
from hpogen.training.forms.schedule import Schedule
from hpogen.training.forms.task import Settings
from hpogen.training.models import catalog

ROWS = {row["name"]: row for row in catalog.listing()}
KNOWN = Known(SIZES, ROWS, descriptions(Hyperparameters))
SEARCHERS = [*filter(plugins.searchers.is_builtin, plugins.searchers.names())]
STARTS = [
    Choices(),
    Choices(task="command"),
    Choices(task="function"),
    *(Choices(dataset=name) for name in [*SIZES, "folder", "numpy", "torchvision/EMNIST"]),
]
HIDDEN = re.compile(rf"^( {{0,{COLUMN - 10}}})# ( *)(\w+:)")


def drafted(folder: Path, **chosen: str) -> Path:
    """The study's file, written; the programs beside it."""
    file = folder / "my-study.yaml"
    write(draft(file, Choices(**chosen), KNOWN))
    return file


def shown(text: str) -> str:
    """Without the # before each key, but for those of the search space, which would change it."""
    head, space, rest = in_three(text)
    return "".join([_shown(head), space, _shown(rest)])


def in_three(text: str) -> list[str]:
    """What stands before the search space, the space, and the rest."""
    return re.split(r"(search_space:.*?\n\n)", text, maxsplit=1, flags=re.DOTALL)


def _shown(text: str) -> str:
    return "\n".join(HIDDEN.sub(r"\1\2\3", line, count=1) for line in text.split("\n"))


@pytest.mark.parametrize("start", STARTS, ids=lambda c: c.task or c.dataset or "none")
@pytest.mark.parametrize("searcher", SEARCHERS)
def test_every_choice_loads_and_what_is_hidden_is_the_default(
    tmp_path: Path, start: Choices, searcher: str
) -> None:
    file = drafted(tmp_path, task=start.task, dataset=start.dataset, searcher=searcher)
    text, expected = file.read_text(), load_study(file).record()
    if "model" in expected["task"]:  # whose options are in the record where they are given
        expected["task"]["model"] |= catalog.MODELS[expected["task"]["model"]["name"]].options
    head, space, rest = in_three(text)
    assert without_words(head) == without_words(rest) == []
    assert start.task or without_words(space) == []
    file.write_text(shown(text))
    assert file.read_text().count("#") < text.count("#")
    assert load_study(file).record() == expected


def test_comments_end_at_one_column(tmp_path: Path) -> None:
    lines = drafted(tmp_path, dataset="folder", searcher="bohb").read_text().split("\n")[3:]
    assert WIDTH - 10 < max(map(len, lines)) <= WIDTH


def test_without_a_choice_it_is_a_study_of_the_digits(tmp_path: Path) -> None:
    spec = load_study(drafted(tmp_path))
    assert (spec.task.name, spec.searcher.name) == ("image-classification", "optuna")
    assert (spec.objective.label, spec.stop.trials) == ("agn+val (α 0.1, log)", 32)
    assert spec.record()["task"]["dataset"]["name"] == "digits"


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_the_space_suits_the_optimizer(tmp_path: Path, optimizer: str) -> None:
    spec = load_study(drafted(tmp_path, optimizer=optimizer))
    assert spec.record()["task"]["optimizer"] == optimizer
    assert spec.space.default["lr"] == {"sgd": 0.01}.get(optimizer, 0.001)


@pytest.mark.parametrize("model", [*catalog.MODELS])
def test_every_model_takes_a_data_set(tmp_path: Path, model: str) -> None:
    dataset = "mnist" if model in ("lenet5", "gsnr-mnist") else "cifar10"
    file = drafted(tmp_path, model=model, dataset=dataset)
    assert load_study(file).record()["task"]["model"]["name"] == model
    options = catalog.MODELS[model].options
    assert all(f"# {name}: {flow(value)} " in file.read_text() for name, value in options.items())


@pytest.mark.parametrize("objective", ["val", "train", "agn+val", "agn+train"])
def test_every_preset_goes_with_rungs(tmp_path: Path, objective: str) -> None:
    spec = load_study(drafted(tmp_path, objective=objective, searcher="hyperband"))
    assert spec.objective.label.partition(" ")[0] == objective
    assert spec.budgets == (3, 6, 12)


def test_a_folder_and_a_file_are_named_by_their_path(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "studies").mkdir()
    found = [
        load_study(drafted(tmp_path / "studies", dataset=str(tmp_path / name))).record()
        for name in ("pictures", "arrays.npz")
        if not (tmp_path / "studies/my-study.yaml").unlink(missing_ok=True)
    ]
    datasets = [record["task"]["dataset"] for record in found]
    assert [(d["name"], d["path"]) for d in datasets] == [
        ("folder", str(tmp_path / "pictures")),
        ("numpy", str(tmp_path / "arrays.npz")),
    ]


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ({"searcher": "bohbb"}, "searcher.name: 'bohbb' is unknown; did you mean 'bohb'?"),
        ({"dataset": "digit"}, "task.dataset.name: 'digit' is unknown; did you mean 'digits'?"),
        ({"model": "mlpp"}, "task.model.name: 'mlpp' is unknown; did you mean 'mlp'?"),
        ({"model": "lenet5"}, "'lenet5' needs images of at least 12×12"),
        ({"objective": "vall"}, "'vall' is unknown; did you mean 'val'?"),
        ({"optimizer": "agam"}, "task.optimizer: 'agam' is unknown; did you mean 'adam'?"),
        ({"task": "comand"}, "--task: 'comand' is unknown; did you mean 'command'? (command, fun"),
        ({"task": "command", "model": "mlp"}, "--model: got 'mlp', but task 'command' has none"),
        ({"task": "function", "objective": "agn+val"}, "metric 'agn' is unknown"),
    ],
)
def test_a_wrong_choice_is_one_line_and_nothing_is_written(
    tmp_path: Path, chosen: dict[str, str], text: str
) -> None:
    with pytest.raises(UserError, match=re.escape(text)) as raised:
        drafted(tmp_path, **chosen)
    assert "\n" not in str(raised.value)
    assert [*tmp_path.iterdir()] == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "my_study_train.py").write_text("mine")
    with pytest.raises(UserError, match=r"my_study_train\.py: is there already"):
        drafted(tmp_path, task="command")
    assert [path.name for path in tmp_path.iterdir()] == ["my_study_train.py"]


def comments(text: str) -> str:
    """All of them, the wrapped ones joined."""
    return " ".join(re.split(r"(?:^|\s)# ", line)[-1] for line in text.split("\n"))


def without_words(text: str) -> list[str]:
    """The lines of keys with no comment at their right, and none above them."""
    lines = text.split("\n")
    return [
        line
        for above, line in itertools.pairwise(lines)
        if re.match(rf"[ #]{{0,{COLUMN - 10}}}[a-z]\w*:", line) and not re.search(r"\S +# \S", line)
        if not re.match(r" *# [A-Z`]", above)
    ]


def test_what_has_no_words_is_seen() -> None:
    assert without_words("\na: 1  # Words.\n# Words.\nb: 1\n# c: 1\n  d: 1") == ["# c: 1", "  d: 1"]


def test_the_words_are_those_of_the_forms(tmp_path: Path) -> None:
    said = comments(drafted(tmp_path, searcher="pso").read_text())
    for form in (StudyForm, Stop, Limits, Checkpoints, ObjectiveForm, Settings, Schedule):
        assert [text for text in descriptions(form).values() if text not in said] == []
    images = {key: text for key, text in descriptions(Dataset).items() if key != "name"}
    assert len(images) > 8 and [text for text in images.values() if text not in said] == []
    searched = [descriptions(Hyperparameters)[name] for name in ("batch_size", "lr", "rotate")]
    assert [text for text in searched if text not in said] == []
    options = plugins.options_of(plugins.searchers.get("pso").__init__, without=("enqueue",))
    docs = [documentation(annotation) for annotation, _ in options.values()]
    assert len(docs) > 5 and [text for text in docs if text[1:] not in said] == []


def test_the_choices_are_named_where_the_form_does_not_name_them() -> None:
    task = {"name": "image-classification", "dataset": {"name": "torchvision/EMNIST"}}
    found = outline({"task": task, "searcher": {"name": "pso"}, "search_space": {}}, {})

    def said(path: str) -> str:
        names = path.split(".")
        within = functools.reduce(lambda tree, name: tree[name].within or {}, names[:-1], found)
        return within[names[-1]].meaning

    assert said("task.optimizer").endswith(" `sgd`, `adam`, `adamw` or `sam`.")
    assert said("objective.scale").endswith(" `raw`, `per_epoch`, `log`, `standard` or `rank`.")
    assert said("searcher.topology").endswith(" `star` or `ring`.")
    assert said("task.dataset.resident") == descriptions(Dataset)["resident"]
    assert said("task.dataset.download") == descriptions(Dataset)["download"]
    assert said("task.name") == descriptions(Settings)["name"]


@pytest.mark.parametrize("value", [1e-7, 2.5e-4, 0.1, 3, True, None, "no", "a: b", "a b", [1, "x"]])
def test_a_value_is_read_back(tmp_path: Path, value: Any) -> None:
    from ruamel.yaml import YAML

    for version in ((1, 1), (1, 2)):
        yaml = YAML(typ="safe", pure=True)
        yaml.version = version
        assert yaml.load(f"x: {flow(value)}") == {"x": value}


@pytest.mark.parametrize("task", ["command", "function"])
def test_the_program_that_it_writes_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], task: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed("init", "it's {my}.yaml", "--task", task) == 0
    wrote, check, run = capfd.readouterr().out.splitlines()
    assert re.fullmatch(r" wrote    it's \{my\}\.yaml, it_s_my_(train|task)\.py", wrote)
    assert "check" in check and "run" in run
    assert typed("check", "it's {my}.yaml") == 0
    changed = ("--set", "stop.trials=1", "--set", "task.epochs=1", "--dir", "runs/x")
    assert typed("run", "it's {my}.yaml", *changed) == 0
    assert read(Path("runs/x")).records[0].outcome.metrics["val_accuracy"] > 0.5


def test_a_wrong_choice_is_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed("init", "a.yaml", "--searcher", "bohbb") == 2
    assert capfd.readouterr().err.startswith("a: searcher.name: 'bohbb' is unknown")
    assert typed("init", "a.yaml", "--dataset", "a" * 300) == 2
    assert capfd.readouterr().err.startswith("a: task.dataset.name: 'aaa")
