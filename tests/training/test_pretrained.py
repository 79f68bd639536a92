"""Weights to begin with, from a file: all that fit, a head of other classes left new."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest
import safetensors.torch
import torch
from kept import KEYS, TASK
from torch import nn
from toys import StopsAfter, study_file
from training.features import resumed
from training.runs import CONFIG, epochs, task, trial

from hpogen.errors import UserError
from hpogen.running.runner import run
from hpogen.study.open import open_study
from hpogen.study.read import read
from hpogen.study.retrained import plan_again
from hpogen.training.forms.inputs import Inputs
from hpogen.training.models.build import build
from hpogen.training.pretrained import fill
from hpogen.training.recipe import begin
from hpogen.training.vision import torchvision

SMALL = "shufflenet_v2_x0_5"


def mlp(classes: int = 10, width: int = 16, seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return build("mlp", {"width": width, "depth": 1}, Inputs((1, 8, 8), classes))


def saved(net: nn.Module, path: Path) -> str:
    torch.save(net.state_dict(), path)
    return str(path)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_trial_begins_with_the_files_weights(ending: str, tmp_path: Path) -> None:
    file = tmp_path / f"net.{ending}"
    net = mlp()
    if ending == "pth":
        saved(net, file)
    else:
        safetensors.torch.save_file(net.state_dict(), file)
    settings = task(weights=str(file))
    recipe, state = begin(settings, trial(tmp_path), frozenset())
    for name, value in net.state_dict().items():
        assert torch.equal(state.model.state_dict()[name], value)
        assert torch.equal(recipe.untrained().state_dict()[name], value)
    settings.prepare()
    plain = epochs(task(), trial(tmp_path / "plain"))[-1].metrics
    assert epochs(settings, trial(tmp_path / "filled"))[-1].metrics != plain


def test_torchvisions_weights_of_other_classes_but_for_the_head(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = torchvision().models.get_model(SMALL, weights=None)
    path = saved(theirs, tmp_path / "net.pth")
    ours = build(f"torchvision/{SMALL}", {}, Inputs((3, 64, 64), 7))
    before = ours.fc.weight.clone()
    assert fill(ours, path) == ["fc.weight", "fc.bias"]
    assert torch.equal(ours.fc.weight, before)
    assert torch.equal(ours.conv1[0].weight, theirs.conv1[0].weight)


def test_a_new_head_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(mlp(classes=3), tmp_path / "net.pth")
    with caplog.at_level(logging.WARNING):
        task(weights=path).prepare()
    (record,) = caplog.records
    assert "head=new: of other classes there: " in record.message


def test_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path / "net.pth")
    whole, parts = resumed(task(weights=path), tmp_path, CONFIG)
    assert whole == parts


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    def refused(path: Path | str) -> str:
        with pytest.raises(UserError) as caught:
            task(weights=str(path)).prepare()
        said = str(caught.value)
        assert said.startswith(f"task.weights: {path}: ")
        assert "\n" not in said
        return said

    assert "cannot be read: No such file" in refused(tmp_path / "none.pth")
    assert "cannot be read" in refused(tmp_path)
    wider = refused(saved(mlp(width=17), tmp_path / "wide.pth"))
    assert "of another shape: " in wider and "(17, 64), in the model (16, 64)" in wider
    deeper = build("mlp", {"width": 16, "depth": 2}, Inputs((1, 8, 8), 10))
    assert "which the model has not: " in refused(saved(deeper, tmp_path / "deep.pth"))
    tensors = dict(mlp().state_dict())
    lost = sorted(tensors)[0]
    del tensors[lost]
    torch.save(tensors, tmp_path / "lost.pth")
    assert f"which it lacks: '{lost}'" in refused(tmp_path / "lost.pth")
    torch.save({"epoch": 3, "model": {}}, tmp_path / "checkpoint.pth")
    assert "has a dict, expected tensors by name" in refused(tmp_path / "checkpoint.pth")
    torch.save(mlp(), tmp_path / "code.pth")
    assert "is no file of tensors" in refused(tmp_path / "code.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("weights")
        assert "is no file of tensors" in refused(tmp_path / name)


def test_a_study_goes_on_with_the_same_file_alone(tmp_path: Path) -> None:
    file = Path(saved(mlp(width=8), tmp_path / "net.pth"))
    path = study_file(tmp_path, **{**KEYS, "task": {**TASK, "weights": str(file)}})
    with open_study(path, tmp_path / "run") as study:
        run(study, observer=StopsAfter(1))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert read(tmp_path / "run").history.header["files"] == {"task.weights": digest}
    with open_study(path, tmp_path / "run") as study:
        run(study, observer=StopsAfter(1))
    saved(mlp(width=8, seed=2), file)
    with pytest.raises(UserError, match=r"task\.weights: .* was begun with 'sha256:") as caught:
        open_study(path, tmp_path / "run")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"net\.pth has changed since the study was begun: put"):
        plan_again(read(tmp_path / "run"), 0)
    saved(mlp(width=8), file)
    assert plan_again(read(tmp_path / "run"), 0)
