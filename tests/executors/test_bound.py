"""Each study runs its own plug-ins: those files, as they were when it was loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toys import ShuffledExecutor, study_file

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.executors.inline import InlineExecutor
from hpogen.record import ledger
from hpogen.running.runner import run, run_all
from hpogen.spec import StudySpec, load_study
from hpogen.study.open import loaded, open_study
from hpogen.study.read import read
from hpogen.study.study import Study

TASK = """
from hpogen.plugins import searcher, task
from hpogen.searchers.random import RandomSearcher

@task("mytask", metrics=("val_loss",))
def train(trial, *, shift: float = {shift}):
    for epoch in range(trial.budget):
        yield {{"val_loss": {value} + shift}}

@searcher("mine")
class Mine(RandomSearcher):
    def ask(self):
        proposal = super().ask()
        return type(proposal)({{"x": {x}, "y": 3}}, proposal.budget)
"""
KEYS: dict[str, Any] = {"task": {"name": "mytask", "epochs": 2}, "plugins": ["mine.py"]}


def written(directory: Path, value: float, **keys: Any) -> Path:
    path = study_file(directory, stop={"trials": 3}, **KEYS, **keys)
    source = TASK.format(value=value, shift=value / 10, x=value / 100)
    (directory / "mine.py").write_text(source)
    return path


def losses(study: Study) -> set[float]:
    return {r.outcome.metrics["val_loss"] for r in study.history.told() if r.outcome}


@pytest.fixture(params=["inline", "in any order", pytest.param("ray", marks=pytest.mark.ray)])
def executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "ray":
        request.getfixturevalue("cluster")
        from hpogen.executors.ray import RayExecutor

        with_two = RayExecutor(2)
        yield with_two
        with_two.stop()
    else:
        yield InlineExecutor("cpu") if request.param == "inline" else ShuffledExecutor(0)


def test_studies_that_run_together_run_their_own(executor: Any, tmp_path: Path) -> None:
    specs = [load_study(written(tmp_path / name, value)) for name, value in (("a", 1), ("b", 2))]
    studies = [Study(spec, tmp_path / str(i)) for i, spec in enumerate(specs)]
    assert {result.end for result in run_all(studies, executor)} == {"finished"}
    assert [losses(study) for study in studies] == [{1.1}, {2.2}]


def test_studies_that_run_one_after_the_other(tmp_path: Path) -> None:
    first, second = (written(tmp_path / name, i) for i, name in ((1, "a"), (2, "b")))
    studies = [open_study(path, path.parent / "q", ["searcher=mine"]) for path in (first, second)]
    for study, value in zip(studies, (1, 2), strict=True):
        run(study)
        assert losses(study) == {value * 1.1}
        assert {record.trial.config["x"] for record in study.history.records} == {value / 100}
        study.close()
    again = [loaded(read(path.parent / "q")) for path in (first, second)]
    assert [spec.searcher.part for spec in again] != [again[0].searcher.part] * 2
    assert [spec.task.record()["shift"] for spec in again] == [0.1, 0.2]


def test_a_file_that_is_edited_between_two_loads(tmp_path: Path) -> None:
    """Of the same size, in the same moment: not even its bytecode is the first one's."""
    specs = [load_study(written(tmp_path, value)) for value in (1, 2)]
    for spec, value in zip(specs, (1, 2), strict=True):
        directory = tmp_path / f"q{value}"
        with Study(spec, directory) as study:
            run(study)
            assert losses(study) == {value * 1.1}
        kept = (directory / "plugins" / "mine.py").read_text()
        assert f"{value} + shift" in kept
        past = read(directory).history
        assert loaded(read(directory)).sources == spec.sources == {"mine.py": kept.encode()}
        with Study(spec, directory) as study:  # it goes on, whatever the file is now
            assert study.history.records == past.records


def test_a_study_of_another_record_has_the_same_plug_ins(tmp_path: Path) -> None:
    spec = load_study(written(tmp_path, 1))
    written(tmp_path, 2)
    other = spec.with_record({**spec.record(), "seed": 5})
    assert (other.seed, other.plugins, other.sources) == (5, spec.plugins, spec.sources)
    assert other.task == spec.task and other.task.metrics() == {"val_loss"}


def test_no_other_study_sees_a_study_s_parts(tmp_path: Path) -> None:
    spec = load_study(written(tmp_path, 1))
    assert "mytask" not in plugins.tasks.names() and "mine" not in plugins.searchers
    record = {**spec.record(), "plugins": []}
    with pytest.raises(UserError, match="'mytask'"):
        StudySpec.from_record(record)
    plugins.load_file(tmp_path / "mine.py")  # asked for by itself, it is everyone's
    assert StudySpec.from_record(record).task.epochs == 2
    del plugins.tasks._added["mytask"], plugins.searchers._added["mine"]


def test_what_a_plug_in_imports_is_everyone_s(tmp_path: Path) -> None:
    """It is imported once, whichever file came first."""
    lines = TASK.format(value=3, shift=0, x=0).replace("mytask", "lent").replace('"mine"', '"l"')
    (tmp_path / "lent_parts.py").write_text(lines)
    for name in ("a", "b"):
        path = written(tmp_path / name, 1)
        (tmp_path / name / "mine.py").write_text(f"# {name}\nimport lent_parts\n")
        (tmp_path / name / "lent_parts.py").write_text(lines)
        assert load_study(path, ["task.name=lent"]).task.metrics() == {"val_loss"}
    del plugins.tasks._added["lent"], plugins.searchers._added["l"]


PARTS = """
import numpy as np
from hpogen.plugins import dataset, measure, model
from hpogen.training.data import ImageData

@dataset("grey")
def grey(root):
    images = np.full((60, 1, 8, 8), {value}, dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(60)
    labels = np.arange(60) % 2
    return ImageData(images, labels, images, labels, 2, "grey")

@model("layer")
def layer(in_shape, classes, *, width: int = {value}):
    from torch import nn
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, classes))

@measure("told", of="network", metrics=("told", "images"))
def told(model, batches):
    shades = {{float(x[..., -1, -1].mean() > 0) for x, _ in batches}}
    return {{"told": {value}, "images": model[1].out_features}}
"""


def test_models_data_sets_and_measures(executor: Any, tmp_path: Path) -> None:
    studies = []
    for value in (5, 7):
        directory = tmp_path / str(value)
        task = {"dataset": "grey", "model": "layer", "epochs": 1, "measures": ["told"]}
        space = {"lr": {"float": [0.01, 0.1]}, "batch_size": {"int": [8, 16]}}
        keys = {"search_space": space, "plugins": ["parts.py"], "stop": {"trials": 2}}
        path = study_file(directory, task=task, **keys)
        (directory / "parts.py").write_text(PARTS.format(value=value))
        studies.append(open_study(path, directory / "q"))
    assert {result.end for result in run_all(studies, executor)} == {"finished"}
    for study, value in zip(studies, (5, 7), strict=True):
        assert study.spec.task.model.options() == {"width": value}  # type: ignore[attr-defined]
        data = study.spec.task.dataset.loader(tmp_path)  # type: ignore[attr-defined]
        assert data.train_images.max() == max(value, 59) and data.train_images[0, 0, 1, 1] == value
        for event in ledger.read(study.directory):
            if event["kind"] == "told":
                metrics = json.loads(json.dumps(event["metrics"]))
                assert (metrics["told"], metrics["images"]) == (value, value)
