"""A model in a study's YAML: images it cannot take, and options that the search space has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn
from training.runs import epochs, task, trial

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.spec import StudySpec, load_study
from hpogen.training.forms.hyperparameters import Hyperparameters
from hpogen.training.models.catalog import MODELS
from hpogen.training.recipe import begin
from hpogen.training.task import ImageClassification


def written(folder: Path, model: str, space: str = "", dataset: str = "cifar10") -> Path:
    path = folder / "a.yaml"
    path.write_text(
        f"task:\n  dataset: {dataset}\n  model: {model}\n  epochs: 2\n"
        f"search_space:\n  lr: {{float: [0.1, 0.2]}}\n  {space}\n"
        "searcher: random\nstop: {trials: 2}\n"
    )
    return path


def message(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_study(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", [name for name, row in MODELS.items() if row.smallest > 8])
def test_images_that_are_too_small_are_told_with_the_smallest(name: str, tmp_path: Path) -> None:
    text = message(written(tmp_path, name, dataset="digits"))
    least = MODELS[name].smallest
    assert "a.yaml:2:3: task: " in text
    assert f"model '{name}' needs images of at least {least}×{least}" in text and "8×8" in text


def test_what_options_make_too_small(tmp_path: Path) -> None:
    load_study(written(tmp_path, "vgg-like", dataset="digits"))
    text = message(written(tmp_path, "{name: vgg-like, blocks: 4}", dataset="digits"))
    assert "data set 'digits': model 'vgg-like' needs images of at least 16×16, got 8×8" in text
    text = message(written(tmp_path, "{name: vgg16, width: 0}"))
    assert "a.yaml:2:3: task: data set 'cifar10': model 'vgg16' needs width of at least 1" in text
    text = message(written(tmp_path, "torchvision/alexnet"))
    assert "model 'torchvision/alexnet' cannot take images of 32×32; 64×64 would do" in text


@pytest.mark.parametrize(
    ("model", "space", "words"),
    [
        ("vgg16", "width: {int: [0, 64]}", "width may come to be 0: model 'vgg16' needs width of"),
        ("vgg16", "width: {float: [8, 64]}", "width may come to be 8.0, expected a valid integer"),
        ("vgg16", "dropout: {float: [0.0, 1.5]}", "dropout may come to be 1.5: model 'vgg16' need"),
        ("vgg16", "batch_norm: {choice: [0, 1]}", "batch_norm may come to be 0, expected a valid"),
        ("vgg-like", "blocks: {choice: [1, 6]}", "blocks may come to be 6: model 'vgg-like' needs"),
        (
            "{name: vgg16, width: 8}",
            "width: {int: [8, 64]}",
            "width is searched, but task.model sets it to 8: drop one of them",
        ),
        (
            "torchvision/vgg11",
            "dropout: {float: [0.0, 1.5]}",
            "dropout may come to be 1.5: model 'torchvision/vgg11' cannot take images of 32×32: dr",
        ),
        ("lenet5", "width: {int: [1, 2]}", "hyper-parameter 'width' is unknown"),
        ("vgg16", "widht: {int: [1, 2]}", "is unknown; did you mean 'width'?"),
    ],
)
def test_options_that_cannot_be_searched(
    model: str, space: str, words: str, tmp_path: Path
) -> None:
    text = message(written(tmp_path, model, space))
    assert "a.yaml:7:" in text and f"search_space.{space.partition(':')[0]}: " in text
    assert words in text


def test_options_that_can(tmp_path: Path) -> None:
    space = (
        "width: {int: [4, 64]}\n  batch_norm: {choice: [true, false]}\n  dropout: {float: [0, 0.9]}"
    )
    task_of = load_study(written(tmp_path, "vgg16", space)).task
    assert isinstance(task_of, ImageClassification)
    config = {"lr": 0.1, "width": 8, "batch_norm": True, "dropout": 0.25}
    assert task_of.model.options_with(config) == {"width": 8, "batch_norm": True, "dropout": 0.25}


def test_the_task_sets_some_and_the_space_the_others(tmp_path: Path) -> None:
    spec = load_study(written(tmp_path, "{name: vgg16, dropout: 0.1}", "width: {int: [4, 32]}"))
    again = StudySpec.from_record(spec.record())  # where the defaults are filled in
    for found in (spec, again):
        assert isinstance(found.task, ImageClassification)
        options = found.task.model.options_with({"lr": 0.1, "width": 8})
        assert options == {"dropout": 0.1, "width": 8, "batch_norm": False}


def test_two_trials_train_two_widths(tmp_path: Path) -> None:
    """Weights of the first layer: 64 pixels to `width` units."""
    settings = task(model={"name": "mlp", "depth": 1})
    for width in (3, 9):
        running = trial(tmp_path / str(width), {"lr": 0.05, "batch_size": 32, "width": width})
        recipe, state = begin(settings, running, frozenset({"val_loss"}))
        assert next(state.model.parameters()).shape == (width, 64)
        assert next(recipe.untrained().parameters()).shape == (width, 64)
        assert len(epochs(settings, running)) == 3


def test_training_has_its_names_first() -> None:
    @plugins.model("with-momentum")
    def builder(
        in_shape: tuple[int, int, int], classes: int, *, momentum: float = 0.1, width: int = 3
    ) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, classes))

    try:
        settings = task(model="with-momentum")
        assert settings.model.searchable() == {"width"}
        assert settings.parameters() == {*Hyperparameters.model_fields, "width"}
        config = {"lr": 1.0, "momentum": 0.9, "width": 5}
        assert settings.model.options_with(config) == {"momentum": 0.1, "width": 5}
        settings.check_value("width", 4)  # a default that was filled in is not a choice
        with pytest.raises(ValueError, match=r"task\.model sets it to 7"):
            task(model={"name": "with-momentum", "width": 7}).check_value("width", 4)
        again = ImageClassification.model_validate(settings.record())
        again.check_value("width", 4)
        with pytest.raises(ValueError, match="momentum may come to be 2"):
            settings.check_value("momentum", 2.0)
    finally:
        del plugins.models._added["with-momentum"]


def test_a_plug_in_data_set_has_no_size_to_check_with() -> None:
    settings = task(model="vgg-like")
    with pytest.raises(ValueError, match="at least 16×16, got 8×8"):
        settings.check_value("blocks", 4)
    model = settings.model
    model.check_value("blocks", 4, None)
    with pytest.raises(ValueError, match="needs blocks of at least 1"):
        model.check_value("blocks", 0, None)


def test_a_space_of_training_alone_imports_no_torch(tmp_path: Path) -> None:
    written(tmp_path, "vgg16")
    code = (
        "import sys; from pathlib import Path; from hpogen.spec import load_study;"
        f"spec = load_study(Path({str(tmp_path / 'a.yaml')!r}));"
        "assert 'width' in spec.task.parameters();"
        "assert not {'torch', 'torchvision'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
