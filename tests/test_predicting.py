"""`hpogen predict`, and the files that `hpogen best` writes of a network."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from kept import TASK, audit_images, audit_of, finished, records
from PIL import Image
from test_before import call, called
from training.pictures_on_disk import picture, write

from hpogen.answer.load import load
from hpogen.answer.predict import predict
from hpogen.errors import UserError
from hpogen.report.text import size_of
from hpogen.spec import load_study
from hpogen.training.predictor import Predictor

GRAY_SIZE = (8, 8)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of pictures of 10×8 pixels of the classes a, b and c, resized to 8×8."""
    home = tmp_path_factory.mktemp("pictures")
    write(home / "images" / "train")
    write(home / "images" / "test", (4, 3, 5), first=1000)
    dataset = {
        "name": "folder", "path": str(home / "images"), "size": 8, "subset": 0.5,
        "validation": 10, "audit": "test",
    }  # fmt: skip
    return finished(home, task={**TASK, "dataset": dataset}, stop={"trials": 2})


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def refused(net: Predictor, *images: Path) -> str:
    out = Path("never.csv")
    with pytest.raises(UserError) as caught:
        predict(net, images, out)
    assert "\n" not in str(caught.value) and not out.exists()
    return str(caught.value)


def test_an_archive(digits: Path, tmp_path: Path) -> None:
    x, labels = audit_images(load_study(digits.parent / "study.yaml"))
    np.savez(tmp_path / "x.npz", x_test=x.numpy(), y_test=labels.numpy())
    called("predict", str(digits), str(tmp_path / "x.npz"), "--out", str(tmp_path / "p.csv"))
    rows = rows_of(tmp_path / "p.csv")
    assert list(rows[0]) == ["file", "row", "class", *(f"p_{digit}" for digit in range(10))]
    assert [row["row"] for row in rows] == [str(i) for i in range(len(x))]
    hits = sum(row["class"] == str(int(y)) for row, y in zip(rows, labels, strict=True))
    net = load(digits)
    outcome = records(digits)[net.header.trial].outcome
    assert outcome is not None and hits / len(x) == outcome.audit["accuracy"]
    shares = torch.softmax(net(x).double(), 1)
    found = [[float(row[f"p_{digit}"]) for digit in range(10)] for row in rows]
    assert torch.allclose(torch.tensor(found, dtype=torch.float64), shares, rtol=1e-5)


def test_a_folder_is_decoded_as_the_data_set_was(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    folder = pictures.parent / "images" / "test"
    assert predict(load(pictures), [folder], out) == 12
    rows = rows_of(out)
    assert list(rows[0])[2:] == ["class", "p_a", "p_b", "p_c"]
    assert [row["file"] for row in rows] == [str(path) for path in sorted(folder.glob("*/*.png"))]
    labels = torch.tensor(["abc".index(Path(row["file"]).parent.name) for row in rows])
    logits = torch.tensor([[float(row[f"p_{name}"]) for name in "abc"] for row in rows]).log()
    net = load(pictures)
    outcome = records(pictures)[net.header.trial].outcome
    assert outcome is not None
    assert audit_of(logits, labels)["loss"] == pytest.approx(outcome.audit["loss"], rel=1e-4)
    x, y = audit_images(load_study(pictures.parent / "study.yaml"))
    assert audit_of(net(x), y) == outcome.audit and net.header.size == 8


def test_files_and_folders_together(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    picture(1).save(tmp_path / "in" / "deep" / "one.png")
    picture(2, "L").save(tmp_path / "two.PNG")  # gray among colours, as the data set takes it
    (tmp_path / "in" / "words.txt").write_text("no image")
    out = tmp_path / "p.csv"
    assert predict(load(pictures), [tmp_path / "two.PNG", tmp_path / "in"], out) == 2
    said = "1 gray among the pictures: taken as colour ones, as in the training"
    assert caplog.messages == [said]
    assert [Path(row["file"]).name for row in rows_of(out)] == ["two.PNG", "one.png"]
    assert {row["row"] for row in rows_of(out)} == {""}


def test_images_of_another_size_or_kind(digits: Path, tmp_path: Path) -> None:
    net = load(digits)
    picture(1, "L", (9, 8)).save(tmp_path / "wide.png")
    assert "wide.png: got 8×9 pixels in 1 channel, expected 8×8 in 1" in refused(
        net, tmp_path / "wide.png"
    )
    picture(1, "RGB", GRAY_SIZE).save(tmp_path / "red.png")
    assert "red.png: is a picture in colour (RGB)" in refused(net, tmp_path / "red.png")
    Image.fromarray(np.zeros(GRAY_SIZE, np.uint16)).save(tmp_path / "deep.png")
    assert "deep.png" in refused(net, tmp_path / "deep.png")
    (tmp_path / "words.png").write_text("no image")
    assert "words.png' cannot be read as an image" in refused(net, tmp_path / "words.png")
    (tmp_path / "empty").mkdir()
    assert "empty: no image is in it" in refused(net, tmp_path / "empty")
    assert "there is no such file or folder" in refused(net, tmp_path / "nothing")
    long = tmp_path / ("a" * 300)  # what may not be looked at raises as this does
    assert "cannot be read: File name too long" in refused(net, long)
    with pytest.raises(UserError, match="cannot be read: File name too long"):
        load(long)


def test_archives_of_another_kind(digits: Path, tmp_path: Path) -> None:
    net, path = load(digits), tmp_path / "x.npz"
    np.savez(path, a=np.zeros((2, 3, 8, 8), np.uint8))
    assert "x.npz: got 8×8 pixels in 3 channels, expected 8×8 in 1" in refused(net, path)
    np.savez(path, a=np.zeros((2, 8, 8), np.float32))
    assert "x.npz: a: got float32, expected uint8" in refused(net, path)
    np.savez(path, a=np.zeros((2, 8, 8), np.uint8), b=np.zeros((2, 8, 8), np.uint8))
    assert "has the arrays ['a', 'b'], expected x_test, or one alone" in refused(net, path)
    path.write_bytes(b"no archive")
    assert "cannot be read as an .npz file" in refused(net, path)


def test_what_the_command_line_says(digits: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", np.zeros((3, 8, 8), np.uint8))
    arguments = ("predict", str(digits), str(tmp_path / "x.npz"))
    out = called(*arguments, "--out", str(tmp_path / "p.csv"), "--trial", str(best(digits)))
    assert out == f"the classes of 3 images written to {tmp_path / 'p.csv'}\n"
    code, _, err = call(*arguments, "--trial", "99")
    assert code == 2 and "there is no trial 99" in err and err.count("\n") == 1
    code, _, err = call(*arguments, "--out", str(tmp_path / "no" / "p.csv"))
    assert code == 2 and "cannot be written" in err and err.count("\n") == 1


def best(directory: Path) -> int:
    return int(json.loads(called("best", str(directory), "--json"))["trial"])


def test_best_writes_the_weights(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    code, out, err = call("best", str(digits), "--weights", str(path))
    assert code == 0 and "trial: " in out
    assert err == f"weights written to {path} ({size_of(path.stat().st_size)})\n"
    (there,) = digits.glob("trials/*.safetensors")
    assert path.read_bytes() == there.read_bytes()
    code, _, err = call("best", str(digits), "--weights", str(tmp_path / "no" / "w"))
    assert code == 2 and "cannot be written" in err


PACKAGES = ("onnx", "onnxscript", "onnxruntime")
ONNX = all(importlib.util.find_spec(name) for name in PACKAGES)


@pytest.mark.skipif(not ONNX, reason=f"needs {', '.join(PACKAGES)}: pip install 'hpogen[onnx]'")
def test_best_writes_onnx(digits: Path, tmp_path: Path) -> None:
    import onnxruntime

    path = tmp_path / "w.onnx"
    _, _, err = call("best", str(digits), "--onnx", str(path))
    assert err == f"ONNX network written to {path} ({size_of(path.stat().st_size)})\n"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.name, given.type) == ("images", "tensor(uint8)")
    x, _ = audit_images(load_study(digits.parent / "study.yaml"))
    net = load(digits)
    for count in (1, 7):
        (logits,) = session.run(["logits"], {"images": x[:count].numpy()})
        assert np.allclose(logits, net(x[:count]).numpy(), rtol=1e-4, atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map["hpogen"]
    assert json.loads(about)["class_names"] == list("0123456789")


def test_without_the_extra_a_line_says_what_to_install(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    without = lambda name: None if name.startswith("onnx") else there(name)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", without)
    code, _, err = call("best", str(digits), "--onnx", str(tmp_path / "w.onnx"))
    assert code == 2 and err == "--onnx: needs packages: pip install 'hpogen[onnx]'\n"
