"""Splits, normalisation and batches; the built-in data sets on real files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpogen.errors import UserError
from hpogen.training.data import load
from hpogen.training.data.prepared import moments, prepare
from hpogen.training.data.reading import Batches, Split
from hpogen.training.data.splits import splits
from hpogen.training.forms.dataset import Dataset
from hpogen.training.forms.known import SIZES

DATA = Path(os.environ.get("HPOGEN_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def dataset(**keys: object) -> Dataset:
    return Dataset.model_validate({"name": "digits", **keys})


def test_a_folder_that_a_failed_download_left_empty_holds_no_data_set(tmp_path: Path) -> None:
    plan = dataset(name="fashion-mnist", root=str(tmp_path))
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    assert plan.missing() == f"data set 'fashion-mnist' is not in {tmp_path}"
    (raw / "train-images-idx3-ubyte").touch()
    assert plan.missing() is None


def test_a_folder_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    root = tmp_path / ("x" * 300)  # longer than a name may be, for root, too
    for plan in (dataset(name="mnist", root=str(root)), dataset(name="folder", path=str(root))):
        with pytest.raises(UserError, match=r"x+/?.* cannot be read: .+: make it readable") as said:
            plan.missing()
        assert str(said.value).startswith(f"data set '{plan.name}': {tmp_path}")
        assert "\n" not in str(said.value)


labels = st.lists(st.integers(0, 3), min_size=8, max_size=120).map(np.array)


@given(labels, st.floats(0.2, 1.0), st.integers(0, 5))
def test_splits_are_disjoint_exact_and_stratified(
    labels: np.ndarray, subset: float, seed: int
) -> None:
    total = len(labels)
    plan = Dataset.model_construct(
        name="x", subset=subset, validation=None, audit=None, augment="none", seed=seed
    )
    found = splits(plan, labels)
    everything = np.concatenate([found.subset, found.validation, found.audit])
    assert len(set(everything)) == len(everything) <= total
    assert len(found.subset) == round(subset * total)
    assert len(found.validation) == (total - len(found.subset)) // 2
    for part in (found.subset, found.validation, found.audit):
        assert list(part) == sorted(part)
    classes, sizes = np.unique(labels, return_counts=True)
    for label, size in zip(classes, sizes, strict=True):
        share = size * len(found.subset) / total
        there = int((labels[found.subset] == label).sum())
        assert abs(there - share) <= 0.5 + len(classes) * size / (2 * total) + 1e-9


def test_splits_are_the_same_everywhere_and_for_ever() -> None:
    found = splits(dataset(), np.arange(1297) % 10)
    assert found.subset[:5].tolist() == [2, 3, 11, 13, 15]
    assert found.validation[:5].tolist() == [0, 4, 5, 7, 9]


def test_a_larger_split_contains_a_smaller_one() -> None:
    labels = np.arange(1297) % 10
    small = splits(dataset(subset=0.1, validation=100), labels)
    large = splits(dataset(subset=0.3, validation=300), labels)
    assert set(small.subset) < set(large.subset)
    assert set(small.validation) < set(large.validation)
    other = splits(dataset(subset=0.1, validation=100, seed=1), labels)
    assert set(other.subset) != set(small.subset)


def test_digits() -> None:
    data = load(dataset())
    assert data.train.inputs.shape == (1297, 1, 8, 8)
    assert data.test.inputs.shape == (500, 1, 8, 8)
    assert data.train.inputs.max() == 255
    assert data.in_shape == SIZES["digits"][1]
    train, test = (np.bincount(x) for x in (data.train.targets, data.test.targets))
    assert np.abs(test - (train + test) * 500 / 1797).max() <= 1.5


def test_images_are_normalised_by_the_whole_training_set() -> None:
    prepared = prepare(dataset(), torch.device("cpu"))
    assert prepared.subset.inputs[:1].dtype == torch.uint8
    assert (len(prepared.subset), len(prepared.validation), len(prepared.audit)) == (259, 519, 519)
    images = torch.from_numpy(load(dataset()).train.inputs)
    x = prepared.normalization(images, torch.contiguous_format)
    assert abs(float(x.mean())) < 1e-5
    assert float(x.std(correction=0)) == pytest.approx(1, rel=1e-5)


def test_moments_are_those_of_each_channel() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2500, 3, 2, 2), dtype=np.uint8)
    images[:, 2] = 9
    means, scales = moments(images)
    np.testing.assert_allclose(means, images.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(scales[:2], 1 / images.std(axis=(0, 2, 3))[:2], rtol=1e-9)
    assert scales[2] == 1.0  # a constant channel


def test_batches_and_samples() -> None:
    split = Split(torch.zeros(10, 1, 2, 2, dtype=torch.uint8), torch.arange(10))
    prepared = prepare(dataset(), torch.device("cpu"))
    batches = Batches(split, prepared.normalization, torch.contiguous_format, 4)
    for _ in range(2):
        assert [y.tolist() for _, y in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [y.tolist() for _, y in batches.sample(4)] == [[0, 2, 5, 7]]
    assert batches.sample(11) is batches.sample(None) is batches


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A writable copy of the real data."""
    if not (DATA / "MNIST").is_dir():
        pytest.skip(f"no MNIST in {DATA}: set HPOGEN_TEST_DATA to a folder that has it")
    root = tmp_path_factory.mktemp("data")
    for name in ("MNIST", "FashionMNIST"):
        for path in (DATA / name / "raw").glob("*.gz"):
            target = root / name / "raw" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return root


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_compressed_files_are_unpacked_and_then_read_only_will_do(real: Path, name: str) -> None:
    given = dataset(name=name, root=str(real))
    data = load(given)
    assert data.train.inputs.shape == (60_000, 1, 28, 28)
    assert data.test.targets.shape == (10_000,)
    assert (len(data.train.targets), data.in_shape, data.classes) == SIZES[name]
    assert load(given) is data  # once per process
    again = load(dataset(name=name, root=str(real), download=False))
    assert np.array_equal(again.test.inputs, data.test.inputs)


def test_data_that_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'mnist' is not in .*download") as error:
        load(dataset(name="mnist", root=str(tmp_path), download=False))
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"'mnist' is not in .* and cannot be downloaded") as error:
        load(dataset(name="mnist", root=str(tmp_path / "file" / "data")))
    assert "\n" not in str(error.value)


def test_the_folder_of_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HPOGEN_DATA", raising=False)
    assert dataset().folder() == tmp_path / "hpogen"
    monkeypatch.setenv("HPOGEN_DATA", "/data")
    assert dataset().folder() == Path("/data")
    assert dataset(root="~/mine").folder() == Path.home() / "mine"
