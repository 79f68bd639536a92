"""torchvision's data sets by name: real files, files made like theirs, and none at all."""

from __future__ import annotations

import bz2
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from training.pictures_on_disk import picture, write

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.training.data import load
from hpogen.training.data.builtin import arrays
from hpogen.training.data.pictures import Pictures
from hpogen.training.data.prepared import prepare
from hpogen.training.data.torchvision import SETS, image_data
from hpogen.training.forms.dataset import Dataset

DATA = Path(os.environ.get("HPOGEN_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
REQUIRED = {"EMNIST": {"split": "digits"}}


def dataset(name: str, root: Path, **keys: object) -> Dataset:
    given = {"name": f"torchvision/{name}", "root": str(root), "download": False, **keys}
    return Dataset.model_validate(given)


def mistake(name: str, **keys: object) -> str:
    with pytest.raises(ValidationError) as caught:
        dataset(name, Path(), **keys)
    text = str(caught.value.errors(include_url=False)[0]["msg"])
    assert "\n" not in text
    return text


@pytest.mark.parametrize(("name", "ours"), [("MNIST", "mnist"), ("FashionMNIST", "fashion-mnist")])
def test_the_same_as_the_built_in_one(tmp_path: Path, name: str, ours: str) -> None:
    if not (DATA / name / "raw").is_dir():
        pytest.skip(f"no {name} in {DATA}: set HPOGEN_TEST_DATA to a folder that has it")
    files = (DATA / name / "raw").iterdir()
    (tmp_path / name / "raw").mkdir(parents=True)
    for file in files:  # torchvision unpacks them beside themselves
        (tmp_path / name / "raw" / file.name).symlink_to(file)
    theirs = load(dataset(name, tmp_path, download=True))
    built_in = load(Dataset(name=ours, root=str(tmp_path), download=False))
    assert theirs.classes == built_in.classes == 10
    assert theirs.class_names == built_in.class_names
    assert built_in.class_names[0] == {"MNIST": "0 - zero", "FashionMNIST": "T-shirt/top"}[name]
    for mine, other in ((theirs.train, built_in.train), (theirs.test, built_in.test)):
        assert np.array_equal(mine.inputs, other.inputs)
        assert np.array_equal(mine.targets, other.targets)


@pytest.mark.parametrize("name", SETS)
def test_each_that_is_not_there_is_one_line_with_a_remedy(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError) as caught:
        load(dataset(name, tmp_path, **REQUIRED.get(name, {})))
    text = str(caught.value)
    assert text.startswith(f"data set 'torchvision/{name}' is not in {str(tmp_path)!r}")
    assert "put it there" in text and "\n" not in text


@pytest.mark.parametrize("name", ["CelebA", "VOCDetection", "CocoDetection", "Kinetics"])
def test_what_is_not_for_classification_is_refused_by_name(name: str) -> None:
    text = mistake(name)
    assert f"'torchvision/{name}' is not a data set of images with one class each" in text


def test_an_unknown_name_has_the_nearest() -> None:
    assert "did you mean 'torchvision/KMNIST'?" in mistake("KMINST")
    assert "torchvision/KMNIST" not in plugins.datasets.names()
    assert "torchvision/KMNIST" in plugins.datasets and "torchvision/CelebA" not in plugins.datasets


def idx(array: np.ndarray) -> bytes:
    """The format of MNIST's files."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def test_arrays_with_channels_first_or_last() -> None:
    first = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 4), dtype=np.uint8)
    as_svhn = SimpleNamespace(data=first, labels=np.arange(7))
    as_cifar = SimpleNamespace(data=first.transpose(0, 2, 3, 1), targets=[*range(7)])
    for part in (as_svhn, as_cifar):
        images, labels = arrays(part)
        assert np.array_equal(images, first) and images.flags.c_contiguous
        assert labels.dtype == np.int64 and labels.tolist() == [*range(7)]


def test_arrays_of_more_than_a_class_are_refused() -> None:
    """QMNIST's targets without `compat`: writer, place, …"""
    part = SimpleNamespace(data=np.zeros((7, 5, 4), np.uint8), targets=np.zeros((7, 8)))
    with pytest.raises(
        UserError, match=r"its targets have the shape \(7, 8\), expected the number"
    ):
        image_data("torchvision/QMNIST", part, None, None)


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """EMNIST's letters, whose classes are 1 to 26."""
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 130), ("test", 26)):
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28))
        stem = f"emnist-letters-{part}"
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(idx(np.arange(count) % 26 + 1))
    return tmp_path


def test_options_of_a_class_and_labels_from_nought(letters: Path) -> None:
    data = load(dataset("EMNIST", letters, split="letters"))
    assert data.train.inputs.shape == (130, 1, 28, 28) and data.classes == 26
    assert np.array_equal(data.train.targets, np.arange(130) % 26)
    assert np.array_equal(data.test.targets, np.arange(26))
    expected = np.random.default_rng(26).integers(0, 256, (26, 28, 28))
    assert np.array_equal(data.test.inputs[:, 0], expected)


def test_mistakes_in_options(letters: Path) -> None:
    assert mistake("EMNIST") == "Field required"
    assert "'splt' is unknown; did you mean 'split'?" in mistake("EMNIST", splt="letters")
    with pytest.raises(UserError, match="Unknown value 'letter' for argument split"):
        load(dataset("EMNIST", letters, split="letter"))


def test_arrays_are_resized_when_asked_for(letters: Path) -> None:
    data = load(dataset("EMNIST", letters, split="letters", size=14, resident=False))
    assert isinstance(data.train.inputs, Pictures)
    assert data.train.inputs.shape == (130, 1, 14, 14)
    assert np.array_equal(data.train.targets, np.arange(130) % 26)


def test_usps(tmp_path: Path) -> None:
    """Arrays (N, 16, 16), and classes in a list."""
    for name, count in (("usps.bz2", 30), ("usps.t.bz2", 20)):
        rows = [
            f"{i % 10 + 1} " + " ".join(f"{k + 1}:{(i + k) % 3 - 1}.0" for k in range(256))
            for i in range(count)
        ]
        (tmp_path / name).write_bytes(bz2.compress("\n".join(rows).encode()))
    data = load(dataset("USPS", tmp_path))
    assert data.train.inputs.shape == (30, 1, 16, 16) and data.classes == 10
    assert data.train.inputs[0, 0, 0, :3].tolist() == [0, 127, 255]
    assert data.test.targets.tolist() == [i % 10 for i in range(20)]


def test_pictures_without_a_test_set(tmp_path: Path) -> None:
    write(tmp_path / "eurosat" / "2750", (6, 4, 5))
    data = load(dataset("EuroSAT", tmp_path))
    assert data.train.inputs.shape == (15, 3, 8, 10) and data.classes == 3
    expected = np.asarray(picture(14)).transpose(2, 0, 1)
    assert np.array_equal(data.train.inputs[np.array([14])][0], expected)
    with pytest.raises(UserError, match="'torchvision/EuroSAT' has no test set"):
        load(dataset("EuroSAT", tmp_path, audit="test"))


@pytest.fixture
def imagenette(tmp_path: Path) -> Path:
    """Its layout: JPEG of many sizes, two of its ten classes."""
    for part, count in (("train", 12), ("val", 4)):
        for i in range(count):
            folder = tmp_path / "imagenette2" / part / ("n01440764", "n02102040")[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            picture(i, side=(20 + i, 24)).save(folder / f"{i:02}.JPEG")
    return tmp_path


def test_pictures_of_mixed_size_need_a_size(imagenette: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(dataset("Imagenette", imagenette))
    assert "00.JPEG' is 20×24 pixels" in str(caught.value)
    assert "set size, such as size: 20" in str(caught.value)
    given = [dataset("Imagenette", imagenette, size=16, resident=r) for r in (True, False)]
    resident, streamed = (prepare(one, torch.device("cpu")) for one in given)
    assert resident.in_shape == (3, 16, 16)
    assert torch.equal(resident.subset.inputs[0:2], streamed.subset.inputs[0:2])
    assert load(given[1]).test.targets.tolist() == [0, 0, 1, 1]
    assert torch.equal(resident.audit.targets, streamed.audit.targets)


def test_a_broken_picture_is_named(imagenette: Path) -> None:
    (imagenette / "imagenette2" / "train" / "n01440764" / "04.JPEG").write_bytes(b"none")
    with pytest.raises(UserError, match=r"n01440764/04.JPEG' cannot be read as an image"):
        load(dataset("Imagenette", imagenette, size=16))


@pytest.mark.filterwarnings("ignore:unclosed file")  # torchvision's, of the target
def test_targets_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    """With such options a pet's target is a picture of its outline."""
    base = tmp_path / "oxford-iiit-pet"
    (base / "annotations" / "trimaps").mkdir(parents=True)
    (base / "images").mkdir()
    for part, first in (("trainval", 0), ("test", 4)):
        lines = []
        for i in range(first, first + 4):
            lines.append(f"Cat_{i} {i % 2 + 1} 1 1")
            picture(i).save(base / "images" / f"Cat_{i}.jpg")
            picture(i, "L").save(base / "annotations" / "trimaps" / f"Cat_{i}.png")
        (base / "annotations" / f"{part}.txt").write_text("\n".join(lines))
    data = load(dataset("OxfordIIITPet", tmp_path, subset=0.5))
    assert data.train.targets.tolist() == [0, 1, 0, 1]
    with pytest.raises(UserError, match="the target of image 0 is not the number of a class"):
        load(dataset("OxfordIIITPet", tmp_path, subset=0.5, target_types="segmentation"))
