"""A name that is unknown where it stands leads to what is meant; all mistakes are listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from hpogen.cli import launching, results
from hpogen.cli.app import app
from hpogen.errors import Several, UserError, unknown
from hpogen.spec import load_studies, load_study

assert launching and results  # they register the commands
TASK = {"dataset": {"name": "digits"}, "model": "mlp", "epochs": 4}
COMMAND = {"command": "train --lr {lr}", "metrics": ["loss"], "epochs": 4}
STUDY: dict[str, Any] = {
    "task": TASK,
    "search_space": {"lr": {"float": [0.1, 1.0]}},
    "searcher": "random",
    "stop": {"trials": 4},
}


def write(folder: Path, **changed: Any) -> Path:
    path = folder / "a.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changed}, sort_keys=False))
    return path


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def mistake(folder: Path, **changed: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_study(write(folder, **changed))
    error = caught.value
    return error.lines[0] if isinstance(error, Several) else str(error)


@pytest.mark.parametrize(
    ("given", "sampler"),
    [
        ("tpe", "TPESampler"),
        ("TPESampler", "TPESampler"),
        ("optuna/tpe", "TPESampler"),
        ("cmaes-optuna", "CmaEsSampler"),
        ("CmaEsSampler", "CmaEsSampler"),
        ("nsga2", "NSGAIISampler"),
        ("NSGA-III", "NSGAIIISampler"),
        ("gp", "GPSampler"),
        ("bayesian", "GPSampler"),
        ("sobol", "QMCSampler"),
    ],
)
def test_a_sampler_of_optuna_is_told_to_be_one(tmp_path: Path, given: str, sampler: str) -> None:
    text = mistake(tmp_path, searcher=given)
    assert text.endswith(
        f"{given!r} is unknown; it is a sampler of Optuna: write {{name: optuna, sampler: "
        f"{sampler}}}"
    )
    load_study(write(tmp_path, searcher={"name": "optuna", "sampler": "TPESampler"}))


@pytest.mark.parametrize(
    ("given", "ours"),
    [("CMA-ES", "cmaes"), ("grid_search", "grid"), ("RandomSearch", "random"), ("BOHB", "bohb")],
)
def test_a_searcher_of_ours_is_found_by_any_spelling(tmp_path: Path, given: str, ours: str) -> None:
    assert f"{given!r} is unknown; did you mean {ours!r}?" in mistake(tmp_path, searcher=given)


@pytest.mark.parametrize(
    ("metric", "objective"),
    [
        ("val_loss", "val"),
        ("loss", "val"),
        ("train_loss", "train"),
        ("val_accuracy", "{terms: [{metric: val_accuracy, weight: -1}]}"),
        ("accuracy", "{terms: [{metric: val_accuracy, weight: -1}]}"),
        ("sharpness", "{terms: [{metric: sharpness}]}"),
        ("agn", "{terms: [{metric: agn}]}"),
    ],
)
def test_a_metric_as_objective_leads_to_how_it_is_written(
    tmp_path: Path, metric: str, objective: str
) -> None:
    for given in (metric, {"preset": metric}):
        text = mistake(tmp_path, objective=given)
        assert f"{metric!r} is unknown; " in text
        assert text.endswith(f": write objective: {objective}")
    load_study(write(tmp_path, objective=yaml.safe_load(objective)))


def test_the_metric_of_a_command_leads_to_a_term(tmp_path: Path) -> None:
    task = {"name": "command", **COMMAND}
    assert mistake(tmp_path, task=task, objective="loss").endswith("{terms: [{metric: loss}]}")


def test_the_test_set_is_no_objective(tmp_path: Path) -> None:
    assert "no search sees the test set: hpogen retrain" in mistake(
        tmp_path, objective="test_error"
    )


FIXED = " A single value there is held fixed."


@pytest.mark.parametrize(
    ("changed", "key", "meant"),
    [
        ({"task": {**TASK, "warmup": 3}}, "warmup", "task.schedule.warmup?"),
        ({"warmup": 3}, "warmup", "task.schedule.warmup?"),
        ({"task": {**TASK, "lr": 0.1}}, "lr", f"search_space.lr?{FIXED}"),
        ({"lr": 0.1}, "lr", f"search_space.lr?{FIXED}"),
        ({"learning_rate": 0.1}, "learning_rate", f"search_space.lr?{FIXED}"),
        ({"weight_deca": 0.1}, "weight_deca", f"search_space.weight_decay?{FIXED}"),
        ({"task": {**TASK, "batch-size": 9}}, "batch-size", f"search_space.batch_size?{FIXED}"),
        (
            {"task": {**TASK, "dataset": {"name": "digits", "batch_size": 9}}},
            "batch_size",
            f"search_space.batch_size?{FIXED}",
        ),
        (
            {"task": {**TASK, "width": 9}},
            "width",
            f"task.model.width or search_space.width?{FIXED}",
        ),
        ({"epochs": 9}, "epochs", "stop.epochs or task.epochs?"),
        ({"task": {**TASK, "subset": 0.5}}, "subset", "task.dataset.subset?"),
        ({"task": {**TASK, "stop": {"trials": 4}}}, "stop", "stop at the top?"),
        ({"model": "resnet18"}, "model", "task.model?"),
        ({"architecture": "resnet18"}, "architecture", "task.model?"),
        ({"trials": 4}, "trials", "stop.trials?"),
        ({"n_trials": 4}, "n_trials", "stop.trials?"),
        (
            {"objective": {"metric": "val_loss"}},
            "metric",
            "objective.terms.0.metric or objective.pareto.0.metric?",
        ),
        (
            {"stop": {"trials": 4, "time": "6h"}},
            "time",
            "stop.hours, hpogen run --for 6h or limits.trial_seconds?",
        ),
        ({"device": "cuda"}, "device", "hpogen run --device cuda:0?"),
        (
            {"search_space": {"lr": 0.1, "warmup": {"int": [0, 5]}}},
            "warmup",
            "task.schedule.warmup? It is not searched: a matrix varies it.",
        ),
        (
            {"search_space": {**STUDY["search_space"], "wd": 0.1}},
            "wd",
            "search_space.weight_decay?",
        ),
    ],
)
def test_a_key_at_the_wrong_place_leads_to_its_own(
    tmp_path: Path, changed: dict[str, Any], key: str, meant: str
) -> None:
    assert mistake(tmp_path, **changed).endswith(f"{key!r} is unknown; did you mean {meant}")


@pytest.mark.parametrize(
    ("changed", "meant"),
    [
        ({"task": {**TASK, "dataset": "resnet18"}}, "model: did you mean task.model: resnet18?"),
        ({"task": {**TASK, "name": "resnet18"}}, "model: did you mean task.model: resnet18?"),
        ({"searcher": "resnet18"}, "model: did you mean task.model: resnet18?"),
        ({"task": {**TASK, "model": "mnist"}}, "data set: did you mean task.dataset: mnist?"),
    ],
)
def test_a_name_of_another_kind_leads_to_its_place(
    tmp_path: Path, changed: dict[str, Any], meant: str
) -> None:
    assert mistake(tmp_path, **changed).endswith(f"is unknown; it is the name of a {meant}")


def test_the_key_of_another_task_leads_to_that_task(tmp_path: Path) -> None:
    assert mistake(tmp_path, task=COMMAND).endswith(
        "'command' is unknown; it is a key of the task 'command': write name: command"
    )
    task = {"name": "command", **COMMAND, "lr": 0.1}
    assert "did you mean search_space.lr?" in mistake(tmp_path, task=task)


@pytest.mark.parametrize(
    ("changed", "such"),
    [
        ({"stop": 32}, "{trials: 32} or {epochs: 640}"),
        ({"objective": [{"metric": "val_loss"}]}, "{terms: [{metric: val_loss}]}"),
        ({"objective": {"terms": ["val_loss"]}}, "{metric: val_loss}"),
        ({"task": "mlp"}, "{dataset: digits, model: mlp, epochs: 12}"),
        ({"searcher": ["cmaes"]}, "{name: cmaes}"),
        ({"checkpoints": True}, "{keep: final}"),
    ],
)
def test_a_mapping_is_shown_where_one_is_expected(
    tmp_path: Path, changed: dict[str, Any], such: str
) -> None:
    assert mistake(tmp_path, **changed).endswith(f"expected a mapping such as {such}")
    for key in changed.keys() & {"stop", "task", "checkpoints"}:
        load_study(write(tmp_path, **{key: yaml.safe_load(such.partition(" or ")[0])}))


@pytest.mark.parametrize(
    ("changed", "such"),
    [
        ({"task": {**TASK, "measures": "agn"}}, "expected a list such as ['agn']"),
        ({"search_space": {"lr": [0.1, 1.0]}}, ", or {float: [0.1, 1.0]}"),
        ({"search_space": {"lr": [1e-4, 1.0]}}, ", or {float: [0.0001, 1.0], log: true}"),
        ({"search_space": {"lr": [-1e-4, 1.0]}}, ", or {float: [-0.0001, 1.0]}"),
        ({"search_space": {"batch_size": [8, 64]}}, ", or {int: [8, 64]}"),
        ({"search_space": {"optimizer": ["sgd", "adam"]}}, ", or {choice: ['sgd', 'adam']}"),
        ({"objective": "agn+val"}, "as in {preset: agn+val, alpha: 0.1, scale: log}"),
    ],
)
def test_what_to_write_is_shown(tmp_path: Path, changed: dict[str, Any], such: str) -> None:
    assert mistake(tmp_path, **changed).endswith(such)


@pytest.mark.parametrize(
    ("given", "such"),
    [
        ({"min": 0.001, "max": 1.0, "scale": "log"}, "{float: [0.001, 1.0], log: true}"),
        ({"low": 0.001, "high": 1.0, "log": True}, "{float: [0.001, 1.0], log: true}"),
        ({"low": 0.001, "high": 1, "log": False}, "{float: [0.001, 1]}"),
        ({"type": "uniform", "lower": 1, "upper": 9}, "{int: [1, 9]}"),
        ({"values": [0.1, 0.2]}, "{choice: [0.1, 0.2]}"),
    ],
)
def test_a_range_as_other_tools_write_it_leads_to_ours(
    tmp_path: Path, given: dict[str, Any], such: str
) -> None:
    assert mistake(tmp_path, search_space={"lr": given}).endswith(f" or a constant: write {such}")
    load_study(write(tmp_path, search_space={"lr": yaml.safe_load(such)}))


def test_ends_that_are_exponents_lead_nowhere(tmp_path: Path) -> None:
    given = {"distribution": "log_uniform", "min": -9, "max": 0}
    assert mistake(tmp_path, search_space={"lr": given}).endswith(" or a constant")


@pytest.mark.parametrize("part", ["model", "dataset"])
def test_a_part_of_ones_own_is_led_to_its_file(tmp_path: Path, part: str) -> None:
    for given in ("my_own", {"name": "my_own"}):
        text = mistake(tmp_path, task={**TASK, part: given})
        assert "'my_own' is unknown" in text
        assert text.endswith("); one of your own needs plugins: [FILE.py]")
    text = mistake(tmp_path, task={**TASK, part: "torchvision/my_own"})
    assert "is unknown" in text and "plugins" not in text


def test_a_folder_beside_the_study_is_told_to_be_images(tmp_path: Path) -> None:
    (tmp_path / "my_photos").mkdir()
    for given in ("my_photos", {"name": "my_photos"}):
        assert mistake(tmp_path, task={**TASK, "dataset": given}).endswith(
            "'my_photos' is unknown; a folder of images: {name: folder, path: my_photos}"
        )
    assert "a folder of images" not in mistake(tmp_path, task={**TASK, "model": "my_photos"})


@pytest.mark.parametrize(
    ("part", "given", "meant"),
    [
        ("model", "resnet50", "torchvision/resnet50?"),
        ("model", "ResNet-18", "'resnet18'? ("),
        ("dataset", "EMNIST", "torchvision/EMNIST?"),
        ("dataset", "CIFAR10", "'cifar10'? (breast_cancer, cifar10, "),
    ],
)
def test_a_part_of_torchvision_is_found(tmp_path: Path, part: str, given: str, meant: str) -> None:
    text = mistake(tmp_path, task={**TASK, part: given})
    assert f"{given!r} is unknown; did you mean {meant}" in text


def test_a_name_is_found_by_its_beginning_in_any_case() -> None:
    assert "did you mean 'sgd'?" in unknown("", "SGD", ["adam", "sgd"])
    assert "did you mean 'TPESampler'?" in unknown("", "tpe", ["GPSampler", "TPESampler"])
    assert "did you mean" not in unknown("", "agn", ["agn_a_long_tail", "agn_another_long_tail"])
    assert "did you mean" not in unknown("", "tp", ["GPSampler", "TPESampler"])


MANY = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "seed": "x"}


@pytest.mark.parametrize("name", ["check", "run", "fork", "compare", "report"])
def test_five_mistakes_are_listed_or_all(tmp_path: Path, name: str) -> None:
    path = str(write(tmp_path, **MANY))
    words = [name, *([str(tmp_path)] if name == "fork" else []), path]
    found = run(*words).stderr.splitlines()
    assert [line.rpartition("a.yaml:")[2].split(":")[0] for line in found[:5]] == [
        str(line) for line in range(14, 19)
    ]
    assert found[5:] == ["(and 2 more mistakes: --all lists them)"]
    every = run(*words, "--all")
    assert every.exit_code == 2
    assert len(every.stderr.splitlines()) == 7 and "more mistake" not in every.stderr


def test_the_mistakes_of_all_studies_of_a_matrix_are_listed(tmp_path: Path) -> None:
    matrix = {"searcher": ["cmaez", "random", "tpe"], "seed": [0, 1]}
    found = run("check", str(write(tmp_path, matrix=matrix, searcher=None))).stderr.splitlines()
    assert ["matrix.searcher.0.name" in found[0], "matrix.searcher.2.name" in found[1]] == [
        True
    ] * 2
    assert len(found) == 2
    with pytest.raises(UserError, match=r"'cmaez' is unknown.* \(and 1 more mistake\)"):
        load_studies(tmp_path / "a.yaml")
