"""What data sets call their classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from training.pictures_on_disk import write

from hpogen.errors import UserError
from hpogen.training.data import ImageData, load
from hpogen.training.data.folder import names_of
from hpogen.training.data.image_data import check
from hpogen.training.data.torchvision import compact, image_data
from hpogen.training.forms.dataset import Dataset


def small(classes: int, **keys: object) -> ImageData:
    images, labels = np.zeros((6, 1, 4, 4), np.uint8), np.arange(6) % classes
    data = ImageData(images, labels, images[:0], labels[:0], classes, "small")
    return replace(data, **keys)  # type: ignore[arg-type]


def test_digits_and_folders(tmp_path: Path) -> None:
    assert load(Dataset(name="digits")).class_names == tuple("0123456789")
    write(tmp_path)
    data = load(Dataset.model_validate({"name": "folder", "path": str(tmp_path)}))
    assert data.class_names == ("a", "b", "c")


def test_only_where_each_class_has_one() -> None:
    assert names_of(SimpleNamespace(classes=["a", "b"]), 3) == ()
    assert names_of(SimpleNamespace(), 3) == ()
    named = SimpleNamespace(classes=[("tench", "Tinca tinca"), ("goldfish",)])
    assert names_of(named, 2) == ("tench, Tinca tinca", "goldfish")


def test_classes_that_are_left_out_take_their_names_along() -> None:
    part = SimpleNamespace(  # as EMNIST's letters
        data=np.zeros((4, 5, 5), np.uint8), targets=np.array([1, 3, 3, 1]), classes=[*"NABC"]
    )
    data = compact(image_data("letters", part, None, None))
    assert (data.classes, data.class_names) == (2, ("A", "C"))


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c"), ("a", 2)])
def test_a_loader_that_gives_others(names: tuple[str, ...]) -> None:
    check(small(2), "small")
    check(small(2, class_names=("a", "b")), "small")
    with pytest.raises(UserError, match="expected a string for each of the 2 classes, or none"):
        check(small(2, class_names=names), "small")
