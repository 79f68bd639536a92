"""Balanced subsets, redrawn validation, wrong labels: what of it is promised, by brute force."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hpogen.errors import UserError
from hpogen.training.data import load
from hpogen.training.data.prepared import data_for, prepare
from hpogen.training.data.splits import redrawn, splits, wrong_labels
from hpogen.training.forms.dataset import Corruption, Dataset, Redraw, check_batch_sizes
from hpogen.training.forms.hyperparameters import Hyperparameters, hyperparameters

CPU = torch.device("cpu")
REDRAW = {"size": 100, "redraw": True}


def dataset(**keys: object) -> Dataset:
    return Dataset.model_validate({"name": "digits", **keys})


def mistake(**keys: object) -> str:
    with pytest.raises(ValidationError) as caught:
        dataset(**keys)
    return str(caught.value.errors(include_url=False)[0]["msg"])


def unequal(*counts: int) -> np.ndarray:
    """Labels of classes with so many images, mixed."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return labels[np.random.default_rng(0).permutation(len(labels))]


# -- balanced


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.127])
def test_a_balanced_subset_has_as_many_of_each_class(fraction: float) -> None:
    labels = unequal(900, 300, 100, 200)
    plain = splits(dataset(subset=fraction, validation=300, audit=300), labels)
    found = splits(dataset(subset=fraction, validation=300, audit=300, balanced=True), labels)
    counts = np.bincount(labels[found.subset])
    assert counts.sum() == len(found.subset) == round(fraction * 1500)
    assert counts.max() - counts.min() <= 1
    assert np.array_equal(found.validation, plain.validation)  # in the classes' proportions
    assert np.array_equal(found.audit, plain.audit)
    assert np.bincount(labels[found.validation]).tolist() == pytest.approx([180, 60, 20, 40], abs=1)
    parts = [*found.subset, *found.validation, *found.audit]
    assert len({*parts}) == len(parts)


def test_a_larger_balanced_subset_contains_a_smaller_one() -> None:
    labels = unequal(900, 300, 100, 200)
    keys = {"validation": 300, "audit": 300, "balanced": True}
    small, large = (splits(dataset(subset=x, **keys), labels) for x in (0.051, 0.13))
    assert {*small.subset} < {*large.subset}


def test_a_class_with_too_few_images_is_named() -> None:
    labels = unequal(900, 300, 100, 200)
    keys = {"subset": 0.2, "validation": 300, "audit": 300, "balanced": True}
    with pytest.raises(ValueError, match="needs 75 of each class, and class 2 has 60 beside"):
        splits(dataset(**keys), labels)
    with pytest.raises(UserError, match=r"needs 65 of each class, and class \d has 6\d beside"):
        load(dataset(subset=0.5, balanced=True, validation=300, audit=348))


def test_the_digits_balanced() -> None:
    prepared = prepare(dataset(balanced=True), CPU)
    counts = np.bincount(prepared.subset.targets.numpy())
    assert counts.tolist() == [26] * 9 + [25]


# -- validation drawn anew


def test_forms_of_validation() -> None:
    assert dataset(validation={"size": 100}).validation == 100
    assert dataset(validation={"redraw": False}).validation is None
    assert dataset(validation=REDRAW).validation == Redraw(size=100, redraw=True)
    assert dataset(validation=REDRAW).redraws and not dataset(validation=100).redraws
    assert dataset(validation=REDRAW).validates
    again = Dataset.model_validate(dataset(validation=REDRAW).model_dump(mode="json"))
    assert again == dataset(validation=REDRAW)


def test_redrawing_with_the_default_sizes_leaves_something_to_draw_from() -> None:
    assert dataset().counts(1297) == (259, 519, 519)
    assert dataset(validation={"redraw": True}).counts(1297) == (259, 519, 259)
    assert dataset(name="mnist", validation={"redraw": True}).counts(60_000) == (
        *(12_000, 5_000, 10_000),
    )


@pytest.mark.parametrize(
    "keys",
    [
        {"validation": {"size": 519, "redraw": True}, "audit": 519},  # the same set always
        {"validation": {"size": 0, "redraw": True}},
        {"validation": {"redraw": True}, "subset": 1.0},
    ],
)
def test_nothing_to_redraw_is_a_mistake(keys: dict[str, Any]) -> None:
    text = mistake(**keys)
    assert "validation.redraw: " in text and "fewer than there are" in text and "\n" not in text


def test_validation_is_drawn_anew_for_each_seed() -> None:
    one, fixed = dataset(validation=REDRAW, audit=400), dataset(validation=100, audit=400)
    prepared, plain, data = prepare(one, CPU), prepare(fixed, CPU), load(one)
    values = Hyperparameters(lr=0.1)
    drawn = [data_for(prepared, one, values, seed) for seed in (1, 2, 1)]
    assert data_for(plain, fixed, values, 1).validation.inputs is plain.validation.inputs
    place = {image.tobytes(): i for i, image in enumerate(data.train.inputs)}
    assert len(place) == 1297  # so an image tells its number
    rows = [[place[x.numpy().tobytes()] for x in d.validation.inputs[:]] for d in drawn]
    found = splits(one, data.train.targets)
    assert rows[0] == rows[2] != rows[1]
    assert {*found.outside} == {*range(1297)} - {*found.subset} - {*found.audit}
    for d, images in zip(drawn, rows, strict=True):
        assert images == sorted({*images}) and {*images} <= {*found.outside.tolist()}
        assert np.array_equal(d.validation.targets.numpy(), data.train.targets[images])
        expected = np.bincount(data.train.targets[splits(fixed, data.train.targets).validation])
        assert np.array_equal(np.bincount(d.validation.targets), expected)
        assert d.subset.inputs is prepared.subset.inputs and d.audit is prepared.audit
        assert np.array_equal(d.subset.targets, plain.subset.targets)
        assert np.array_equal(d.audit.targets, plain.audit.targets)


def test_a_class_of_which_none_is_drawn() -> None:
    labels = unequal(10, 30, 5)
    found = redrawn(labels, np.array([4, 0, 5]), 0)
    assert np.bincount(labels[found]).tolist() == [4, 0, 5]


def test_every_image_of_a_class_is_drawn_equally_often() -> None:
    labels = unequal(10, 30)
    counts = np.array([4, 6])
    times = Counter(i for seed in range(3000) for i in redrawn(labels, counts, seed).tolist())
    for label, share in ((0, 0.4), (1, 0.2)):
        seen = np.array([times[i] for i in np.flatnonzero(labels == label)]) / 3000
        assert np.abs(seen - share).max() < 4.5 * (share * (1 - share) / 3000) ** 0.5


# -- wrong labels


def labels_of(fraction: float, **keys: object) -> np.ndarray:
    given = dataset(**keys)
    values = Hyperparameters(lr=0.1, corruption=fraction)
    return data_for(prepare(given, CPU), given, values, 1).subset.targets.numpy()


@given(
    st.lists(st.integers(0, 500), min_size=1, max_size=80, unique=True),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_larger_fraction_corrupts_more_in_the_same_way(
    rows: list[int], first: float, second: float
) -> None:
    low, high = sorted((first, second))
    images = np.sort(np.array(rows))
    few, more = (wrong_labels(images, fraction, 10, 3) for fraction in (low, high))
    assert len(few[0]) == round(low * len(rows)) and len({*few[0]}) == len(few[0])
    later = dict(zip(*(part.tolist() for part in more), strict=True))
    assert all(later[i] == label for i, label in zip(*few, strict=True))


def test_wrong_labels_are_drawn_uniformly() -> None:
    places, labels = wrong_labels(np.arange(100_000), 0.5, 10, 0)
    counts = np.bincount(labels, minlength=10)
    assert len(counts) == 10
    assert ((counts - 5000) ** 2 / 5000).sum() < 27.9  # χ² with 9 degrees of freedom, p = 0.001
    assert np.abs(np.bincount(places // 10_000) - 5000).max() < 250
    assert not np.array_equal(places, wrong_labels(np.arange(100_000), 0.5, 10, 1)[0])


def test_an_image_gets_the_same_wrong_label_in_another_subset() -> None:
    small, large = np.arange(0, 300, 3), np.arange(300)
    of_small = dict(zip(*wrong_labels(small, 1.0, 10, 0), strict=True))
    of_large = dict(zip(*wrong_labels(large, 1.0, 10, 0), strict=True))
    assert all(of_large[3 * i] == label for i, label in of_small.items())


def test_labels_of_the_subset_alone_are_corrupted() -> None:
    given = dataset()
    prepared = prepare(given, CPU)
    right = prepared.subset.targets.clone()
    half = data_for(prepared, given, Hyperparameters(lr=0.1, corruption=0.5), 1)
    places, wrong = wrong_labels(prepared.rows, 0.5, 10, _seed(0))
    expected = right.numpy().copy()
    expected[places] = wrong
    assert np.array_equal(half.subset.targets, expected)
    assert 0 < (half.subset.targets != right).sum() <= round(0.5 * len(right))
    assert torch.equal(prepared.subset.targets, right)  # the other trials' are untouched
    assert half.validation is prepared.validation and half.audit is prepared.audit
    assert half.subset.inputs is prepared.subset.inputs


def _seed(seed: int) -> int:
    from hpogen.trial import derive_seed

    return derive_seed(seed, "corruption")


def test_the_seed_of_the_corruption() -> None:
    assert np.array_equal(labels_of(0.5), labels_of(0.5, corruption={"seed": 0}))
    assert not np.array_equal(labels_of(0.5), labels_of(0.5, corruption={"seed": 1}))
    one = prepare(dataset(), CPU)
    other = prepare(dataset(corruption={"fraction": 0.3, "seed": 1}, augment="standard"), CPU)
    assert other is one  # what a trial may vary costs no copy of the images


def test_forms_of_corruption() -> None:
    assert dataset(corruption=0.1).corruption == Corruption(fraction=0.1)
    assert dataset(corruption={"fraction": 0.1, "seed": 3}).corruption.seed == 3
    assert "less than or equal to 1" in mistake(corruption=1.5)
    assert "valid number" in mistake(corruption=True)
    again = Dataset.model_validate(dataset(corruption=0.1).model_dump(mode="json"))
    assert again == dataset(corruption=0.1)


# -- hyper-parameters of the data


def test_what_the_data_set_says_is_the_default_of_a_trial() -> None:
    given = dataset(augment="standard", rotate=15, corruption=0.25)
    values = hyperparameters({"lr": 0.1}, **given.hyperparameters())
    assert (values.augment, values.rotate, values.corruption) == ("standard", 15, 0.25)
    searched = hyperparameters({"lr": 0.1, "augment": "none"}, **given.hyperparameters())
    assert searched.augment == "none"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [("augment", "standard", "'standard'"), ("rotate", 15, "15"), ("corruption", 0.1, "0.1")],
)
def test_set_and_searched_is_a_mistake(name: str, value: object, shown: str) -> None:
    dataset().check_searched(name)
    dataset(**{name: value}).check_searched("lr")
    with pytest.raises(ValueError, match=f"{name} is searched, and task.dataset.{name} .*{shown}"):
        dataset(**{name: value}).check_searched(name)


def test_a_seed_alone_sets_no_corruption() -> None:
    dataset(corruption={"seed": 4}).check_searched("corruption")


@pytest.mark.parametrize(("name", "value"), [("rotate", 181), ("rotate", -1), ("corruption", 1.01)])
def test_ranges(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}.*expected|hyper-parameter '{name}'"):
        hyperparameters({"lr": 0.1, name: value})
    assert "Input should be" in mistake(**{name: value})


def test_batch_sizes_against_the_subset() -> None:
    assert dataset().subset_size() == 259
    assert dataset(name="torchvision/KMNIST").subset_size() is None
    assert check_batch_sizes([32, 259], 259) is check_batch_sizes([259], 259) is None
    assert "may come to be 260" in (check_batch_sizes([32, 260], 259) or "")
    with pytest.raises(ValueError, match="at least 260, and the subset has 259"):
        check_batch_sizes([260, 300], 259)
