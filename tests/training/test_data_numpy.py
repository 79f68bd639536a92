"""The data set `numpy`: arrays in an .npz file, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hpogen.errors import UserError
from hpogen.training.data import load
from hpogen.training.data.image_data import ImageData
from hpogen.training.data.prepared import prepare
from hpogen.training.forms.dataset import Dataset

LETTER = np.random.default_rng(1).integers(0, 256, (60, 2, 5, 3), dtype=np.uint8)  # narrow
RANDOM = np.random.default_rng(0)
CHANNELS_FIRST = RANDOM.integers(0, 256, (60, 3, 6, 5), dtype=np.uint8)
LABELS = np.arange(60) % 4


def dataset(file: Path, **keys: object) -> Dataset:
    return Dataset.model_validate({"name": "numpy", "path": str(file), **keys})


def written(file: Path, **changed: Any) -> Path:
    """A right file but for what is changed; None: left out."""
    arrays = {
        "x_train": CHANNELS_FIRST,
        "y_train": LABELS,
        "x_test": CHANNELS_FIRST[:9],
        "y_test": LABELS[:9],
        **changed,
    }
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
    return file


def loaded(file: Path, **changed: Any) -> ImageData:
    return load(dataset(written(file, **changed)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (CHANNELS_FIRST, CHANNELS_FIRST),
        (CHANNELS_FIRST.transpose(0, 2, 3, 1), CHANNELS_FIRST),
        (CHANNELS_FIRST[:, 0], CHANNELS_FIRST[:, :1]),
        (CHANNELS_FIRST[:, 0, :, :, None], CHANNELS_FIRST[:, :1]),
        (LETTER, LETTER),
        (CHANNELS_FIRST[:, [0, 1, 2, 0]].transpose(0, 2, 3, 1), CHANNELS_FIRST[:, [0, 1, 2, 0]]),
    ],
    ids=["NCHW", "NHWC", "NHW", "NHW1", "NCH3", "NHW4"],
)
def test_orders_of_the_axes(tmp_path: Path, given: np.ndarray, expected: np.ndarray) -> None:
    data = loaded(tmp_path / "a.npz", x_train=given, x_test=given[:9])
    assert np.array_equal(data.train.inputs, expected)
    assert np.array_equal(data.test.inputs, expected[:9])
    assert np.array_equal(data.train.targets, LABELS) and data.classes == 4
    prepared = prepare(dataset(tmp_path / "a.npz", audit="test"), torch.device("cpu"))
    assert prepared.in_shape == expected.shape[1:]
    assert np.array_equal(prepared.audit.inputs[0:9], expected[:9])


@pytest.mark.parametrize(
    ("shape", "said"), [((4, 4, 3), True), ((3, 4, 4), True), ((3, 5, 4), True), ((5, 5, 3), False)]
)
def test_an_order_that_could_be_another_is_said(
    tmp_path: Path, shape: tuple[int, ...], said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    images = RANDOM.integers(0, 256, (60, *shape), dtype=np.uint8)
    data = loaded(tmp_path / "a.npz", x_train=images, x_test=None, y_test=None)
    assert data.in_shape == (shape if said else (3, 5, 5))
    messages = [record.message for record in caplog.records]
    expected = f"x_train: the shape (60, {str(shape)[1:]} is read as (N, C, H, W)"
    assert len(messages) == said and all(expected in message for message in messages)


@pytest.mark.parametrize("top", [10**7, 2**40, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_label_that_is_no_class_takes_no_memory(tmp_path: Path, top: int) -> None:
    labels = LABELS.astype(np.uint64)
    labels[7] = top
    with pytest.raises(
        UserError, match=r"y_train: (there is no image of class 4 of|got the class)"
    ):
        loaded(tmp_path / "a.npz", y_train=labels)
    with pytest.raises(UserError, match=r"y_test: (class|got the class) [0-9]+"):
        loaded(tmp_path / "b.npz", y_test=labels[:9])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_labels_of_any_integers(tmp_path: Path, dtype: Any) -> None:
    data = loaded(tmp_path / "a.npz", y_train=LABELS.astype(dtype)[:, None])  # as Keras' CIFAR
    assert data.train.targets.dtype == np.int64 and np.array_equal(data.train.targets, LABELS)


def test_without_a_test_set(tmp_path: Path) -> None:
    data = loaded(tmp_path / "a.npz", x_test=None, y_test=None)
    assert data.test.inputs.shape == (0, 3, 6, 5) and len(data.test.targets) == 0
    with pytest.raises(UserError, match="'numpy' has no test set, which audit: test-each-epoch"):
        load(dataset(tmp_path / "a.npz", audit="test-each-epoch"))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"x_train": CHANNELS_FIRST / 255}, "x_train: got float64, expected uint8 from 0 to 255"),
        ({"x_train": CHANNELS_FIRST.astype(np.int16)}, "x_train: got int16, expected uint8"),
        ({"x_train": CHANNELS_FIRST[0]}, "y_train: got the shape (60,), expected (3,)"),
        ({"x_train": CHANNELS_FIRST[0, 0]}, "x_train: got the shape (6, 5), expected (N, H, W)"),
        ({"x_train": np.zeros((60, 5, 6, 5), np.uint8)}, "with at most 4 channels"),
        ({"x_train": CHANNELS_FIRST[:0], "y_train": LABELS[:0]}, "got the shape (0, 3, 6, 5)"),
        ({"x_train": np.array([None] * 60)}, "plain arrays"),  # what needs pickle is never read
        ({"x_train": None}, "has no array 'x_train'"),
        ({"y_train": None}, "has no array 'y_train'"),
        ({"y_test": None}, "has no array 'y_test'"),
        ({"x_test": None}, "has no array 'x_test'"),
        ({"y_train": LABELS[:59]}, "y_train: got the shape (59,), expected (60,)"),
        ({"y_test": LABELS[:8]}, "y_test: got the shape (8,), expected (9,)"),
        ({"y_train": LABELS * 1.0}, "y_train: got float64, expected the classes' numbers"),
        ({"y_train": LABELS - 1}, "y_train: got the class -1, expected numbers from 0 on"),
        ({"y_train": LABELS + 1}, "y_train: there is no image of class 0 of 0 to 4"),
        ({"y_train": LABELS * 2}, "y_train: there is no image of class 1 of 0 to 6"),
        ({"y_test": LABELS[:9] + 1}, "y_test: class 4 is not in y_train"),
        ({"x_test": CHANNELS_FIRST[:9, :, :5]}, "x_test has images (3, 5, 5), x_train (3, 6, 5)"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, changed: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError) as caught:
        loaded(tmp_path / "a.npz", **changed)
    message = str(caught.value)
    assert text in message and message.startswith(str(tmp_path / "a.npz")) and "\n" not in message


def test_files_that_are_none(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole.npz").read_bytes()
    np.save(tmp_path / "one.npy", LABELS)
    (tmp_path / "text.npz").write_text("words")
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.npz").touch()
    for name in ("one.npy", "text.npz", "half.npz", "empty.npz"):
        with pytest.raises(UserError, match=r"cannot be read as an \.npz file of plain arrays"):
            load(dataset(tmp_path / name))
    with pytest.raises(UserError, match="there is no such file"):
        load(dataset(tmp_path / "nowhere.npz"))


def test_damage_anywhere_is_one_line(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.npz").read_bytes()
    random = np.random.default_rng(1)
    for i in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 8):
            damaged[place] = random.integers(0, 256)
        file = tmp_path / f"{i}.npz"
        file.write_bytes(damaged)
        try:
            load(dataset(file))
        except UserError as error:
            assert "\n" not in str(error)
