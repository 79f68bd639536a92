"""`hpogen.load`: the network is bit for bit what the trial's audit saw, or a line says why not."""

from __future__ import annotations

import io
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kept import DIGITS, KEYS, TASK, audit_images, audit_of, finished, kept, records, written
from safetensors import safe_open
from toys import study_file

import hpogen
from hpogen import plugins
from hpogen.answer.files import write_weights
from hpogen.errors import UserError
from hpogen.record import folder
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study import status
from hpogen.study.read import read
from hpogen.study.study import Study
from hpogen.training.data import load as load_data
from hpogen.training.data.loaded import moments
from hpogen.training.models.catalog import MODELS
from hpogen.trial import WEIGHTS

SMALL: dict[str, int | float] = {"width": 4, "growth": 4, "channels": 2, "depth": 1}
PLUGIN = '''
import torch
from torch import nn
from hpogen.plugins import model

class Attends(nn.Module):
    """In evaluation without gradients torch takes another way through its layer."""

    def __init__(self, in_shape, classes):
        super().__init__()
        channels, height, width = in_shape
        self.layer = nn.TransformerEncoderLayer(channels * width, 2, 16, batch_first=True)
        self.last = nn.Linear(height * channels * width, classes)

    def forward(self, x):
        rows = x.transpose(1, 2).flatten(2)
        return self.last(self.layer(rows).flatten(1))

@model("attends")
def attends(in_shape, classes):
    return Attends(in_shape, classes)
'''


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .npz file of images large enough for every built-in model."""
    path = tmp_path_factory.mktemp("data") / "noise.npz"
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (40, 3, 20, 20), dtype=np.uint8)
    np.savez(path, x_train=x, y_train=np.arange(40) % 4)
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("done"))


def agrees(directory: Path, **which: Any) -> None:
    """The loaded network gives exactly the figures of the trial's audit."""
    spec = load_study(directory.parent / "study.yaml")
    x, labels = audit_images(spec)
    net = hpogen.load(directory, **which)
    outcome = records(directory)[net.header.trial].outcome
    assert outcome is not None
    assert audit_of(net(x), labels) == outcome.audit
    assert not net.training and (net.classes, net.in_shape) == (net.header.classes, x.shape[1:])


@pytest.mark.parametrize("name", MODELS)
def test_every_model_predicts_what_its_audit_saw(name: str, images: Path, tmp_path: Path) -> None:
    options = {key: value for key, value in SMALL.items() if key in MODELS[name].options}
    options |= {"width": 0.25} if name == "mobilenet" else {}
    dataset = {"name": "numpy", "path": str(images), "subset": 0.4, "validation": 4, "audit": 20}
    task = {"dataset": dataset, "model": {"name": name, **options}, "epochs": 1}
    agrees(finished(tmp_path, task=task, stop={"trials": 1}))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_32"])
def test_models_of_torchvision(name: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 3, 64, 64), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=np.arange(20) % 2)
    dataset = {"name": "numpy", "path": str(tmp_path / "x.npz"), "subset": 0.4, "validation": 4}
    model = {"name": f"torchvision/{name}"}
    task = {"dataset": {**dataset, "audit": 8}, "model": model, "epochs": 1}
    agrees(finished(tmp_path, task=task, stop={"trials": 1}))


@pytest.mark.parametrize(
    "keys",
    [
        {"precision": "bf16"},
        {"threads": 2},
        {"deterministic": True},
        {"dataset": {**DIGITS, "audit": "test"}},
        {"model": {"name": "vgg-like", "width": 8, "batch_norm": True}},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_whatever_decides_the_bits(keys: dict[str, Any], tmp_path: Path) -> None:
    agrees(finished(tmp_path, task={**TASK, **keys}, stop={"trials": 1}))


def test_a_call_leaves_threads_and_random_numbers_alone(done: Path) -> None:
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        hpogen.load(done)(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(before, torch.get_rng_state())


def test_without_more_it_is_the_answer(done: Path) -> None:
    best = status.best(read(done))["trial"]
    assert hpogen.load(done).header.trial == best
    assert kept(done) == {best}
    agrees(done)


def test_the_header_says_all_that_it_takes(done: Path) -> None:
    net = hpogen.load(done)
    record = records(done)[net.header.trial]
    header = net.header
    assert (header.config, header.seed) == (record.trial.config, record.trial.seed)
    assert (header.model, header.options) == ("mlp", {"width": 8, "depth": 1})
    assert net.class_names == tuple("0123456789") and header.class_names == net.class_names
    spec = load_study(done.parent / "study.yaml")
    mean, scale = moments(load_data(spec.task.dataset).train.inputs)  # type: ignore[attr-defined]
    assert header.mean == tuple(np.float32(mean).tolist())
    assert header.scale == tuple(np.float32(scale).tolist())
    path = folder.trial_stem(done, net.header.trial).with_suffix(f".{WEIGHTS}")
    with safe_open(path, "pt") as file:  # any program can read it
        assert json.loads(file.metadata()["hpogen"])["study"] == read(done).history.id
        assert set(file.keys()) == set(net.network.state_dict())


def test_a_file_of_an_image_network_stays_as_it_is(done: Path) -> None:
    path = folder.trial_stem(done, hpogen.load(done).header.trial).with_suffix(f".{WEIGHTS}")
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["hpogen"])
    assert header["format"] == 1
    assert " ".join(header) == (
        "format hpogen study trial config seed budget model options in_shape classes class_names "
        "mean scale size precision deterministic threads device layout batch plugins crc32"
    )


def test_a_file_of_weights_stands_for_the_folder(done: Path, tmp_path: Path) -> None:
    net = hpogen.load(done)
    write_weights(net, tmp_path / "w.safetensors")
    x, _ = audit_images(load_study(done.parent / "study.yaml"))
    again = hpogen.load(tmp_path / "w.safetensors")
    assert torch.equal(again(x), net(x)) and again.header == net.header
    assert "a trial is named of a study's folder" in refused(tmp_path / "w.safetensors", trial=1)


def test_gradients_where_they_are_asked_for(done: Path) -> None:
    net = hpogen.load(done)
    x = torch.full((2, 1, 8, 8), 9, dtype=torch.uint8)
    assert not net(x).requires_grad
    net.requires_grad_(True)
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("keep", ["final", "all"])
def test_kept_checkpoints_are_weights_too(keep: str, tmp_path: Path) -> None:
    directory = finished(tmp_path, checkpoints={"keep": keep}, stop={"trials": 2})
    assert kept(directory) == set()
    for trial in (0, 1):
        agrees(directory, trial=trial)
    for checkpoint in directory.glob("trials/00001/*.pt"):
        content = torch.load(checkpoint, weights_only=True)
        content["identity"]["format"] = 9
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getvalue()
        name = f"{checkpoint.stem[:-8]}{zlib.crc32(data):08x}.pt"
        checkpoint.unlink()
        checkpoint.with_name(name).write_bytes(data)
    text = refused(directory, trial=1)
    assert "the weights of trial 1 are gone: it has no checkpoint that this hpogen reads" in text


def test_a_duplicate_has_the_weights_of_the_first(tmp_path: Path) -> None:
    config = {"lr": 0.1, "batch_size": 64}
    directory = finished(tmp_path, searcher="random", enqueue=[config, config], stop={"trials": 2})
    assert records(directory)[1].twin == 0
    assert hpogen.load(directory, trial=1).header.trial == 0


def test_a_plugin_model(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(PLUGIN)
    task = {**TASK, "model": "attends"}
    directory = finished(tmp_path, task=task, plugins=["net.py"], stop={"trials": 1})
    agrees(directory)
    (tmp_path / "net.py").write_text(PLUGIN + "\n# changed")  # the folder's copy is as it was
    agrees_still = hpogen.load(directory)
    assert set(agrees_still.header.plugins) == {"net.py"}
    copy = directory / "plugins" / "net.py"
    copy.write_text(PLUGIN.replace("16,", "17,"))
    text = refused(directory)
    assert "'attends' is of the plug-in net.py" in text and "has changed since" in text
    copy.unlink()
    text = refused(directory)
    assert str(copy) in text and "does not exist: put the file there" in text


def test_no_plugin_is_imported_for_a_built_in_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more.py").write_text("import hpogen")
    directory = finished(tmp_path, plugins=["more.py"], stop={"trials": 1})
    monkeypatch.setattr(plugins, "bind_file", lambda path: pytest.fail(f"{path} is imported"))
    hpogen.load(directory)


def refused(directory: Path, **which: Any) -> str:
    with pytest.raises(UserError) as caught:
        hpogen.load(directory, **which)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_study_without_a_finished_trial(tmp_path: Path) -> None:
    with Study(written(tmp_path), tmp_path / "run") as study:
        study.next()
    assert "there is no answer yet" in refused(tmp_path / "run")
    assert "trial 0 has not finished" in refused(tmp_path / "run", trial=0)
    assert "there is no trial 7: its trials are 0 to 0" in refused(tmp_path / "run", trial=7)


def test_a_trial_that_failed(tmp_path: Path) -> None:
    space = {**KEYS["search_space"], "lr": {"float": [0.1, 1e30], "log": True, "default": 1e30}}
    with Study(written(tmp_path, search_space=space), tmp_path / "run") as study:
        run(study)
    assert kept(tmp_path / "run") <= {
        r.trial.id for r in records(tmp_path / "run") if not r.failure
    }
    assert "trial 0 failed (diverged), it has no weights" in refused(tmp_path / "run", trial=0)


def test_weights_that_are_gone(done: Path) -> None:
    other = next(iter({0, 1, 2, 3} - kept(done)))
    text = refused(done, trial=other)
    assert f"the weights of trial {other} are gone" in text
    assert f"hpogen retrain {done} --trial {other} --subset" in text
    text = refused(done, retrained=True)
    assert "has not been trained on the full training set: hpogen retrain" in text


def test_nothing_is_kept_where_that_is_asked(tmp_path: Path) -> None:
    directory = finished(tmp_path, checkpoints={"keep": "none"}, stop={"trials": 1})
    assert "trial 0 are gone: keep: none keeps no trial's" in refused(directory)


def copied(done: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the study, and the file of its weights there."""
    directory = tmp_path / "copy"
    shutil.copytree(done, directory)
    (path,) = directory.glob(f"trials/*.{WEIGHTS}")
    return directory, path


def test_damaged_weights(done: Path, tmp_path: Path) -> None:
    directory, path = copied(done, tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    text = refused(directory)
    assert "are damaged" in text and "--subset" in text
    assert "its numbers are not those written" in refused(path)
    path.write_bytes(data[: len(data) // 2])
    assert "is damaged" in refused(path)
    path.write_bytes(b"words")
    assert "is no file of weights that hpogen has kept" in refused(path)
    path.write_bytes(b"")
    assert "is no file of weights that hpogen has kept" in refused(path)


def rewritten(path: Path, old: str, new: str) -> Path:
    """The file with another text in its header, of the same length."""
    data = path.read_bytes()
    assert len(old) == len(new) and data.count(old.encode()) == 1
    target = path.with_name("other.safetensors")
    target.write_bytes(data.replace(old.encode(), new.encode()))
    return target


def test_weights_of_another_version(done: Path, tmp_path: Path) -> None:
    _, path = copied(done, tmp_path)
    text = refused(rewritten(path, '\\"format\\":1', '\\"format\\":9'))
    assert "has the format 9 of hpogen" in text and "expected 1" in text
    text = refused(rewritten(path, '\\"width\\":8', '\\"width\\":9'))
    assert "the weights are not those of the model 'mlp' as it is here" in text
    text = refused(rewritten(path, '\\"seed\\":', '\\"sede\\":'))
    assert "is no file of weights that hpogen has kept: seed: Field required" in text


def test_tasks_that_keep_nothing_hpogen_knows(tmp_path: Path) -> None:
    with Study(load_study(study_file(tmp_path)), tmp_path / "run") as study:
        run(study)
    assert "the task 'bowl' keeps no weights" in refused(tmp_path / "run")


def test_images_of_another_kind(done: Path) -> None:
    net = hpogen.load(done)
    for wrong in (torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 9, 8, dtype=torch.uint8)):
        with pytest.raises(UserError, match=r"expected uint8 \(N, 1, 8, 8\)"):
            net(wrong)
    assert net(torch.zeros(0, 1, 8, 8, dtype=torch.uint8)).shape == (0, 10)


def test_a_device_that_is_not_there(done: Path) -> None:
    assert "cuda:99" in refused(done, device="cuda:99")
