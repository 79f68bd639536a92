"""Trials on another fraction of the training set: nested subsets, and nothing else differs."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training.runs import epochs, task, trial

from hpogen.training.data.prepared import prepare
from hpogen.training.data.splits import part, splits
from hpogen.training.forms.dataset import Dataset

FRACTIONS = (0.05, 0.1, 0.2, 0.25, 0.4, 0.5, 1.0)


def slow_order(labels: list[int], seed: int) -> list[int]:
    """The stratified order with exact numbers, an image at a time."""
    random = [int(x) for x in np.random.PCG64(seed).random_raw(len(labels))]
    keys = {}
    for label in {*labels}:
        members = [i for i, own in enumerate(labels) if own == label]
        for j, i in enumerate(sorted(members, key=lambda i: (random[i], i))):
            keys[i] = (float(Fraction(2 * j + 1, 2 * len(members))), random[i])
    return sorted(keys, key=keys.__getitem__)


def slow_part(dataset: Dataset, labels: list[int], data: float) -> list[int]:
    _, validation, audit = dataset.counts(len(labels))
    order = slow_order(labels, dataset.seed)[: len(labels) - validation - audit]
    count = len(order) if data == 1 else round(data * len(labels))
    if not dataset.balanced or count == len(order):
        return sorted(order[:count])
    classes, left = max(labels) + 1, {}
    for label in range(classes):
        left[label] = count // classes + (label < count % classes)
    chosen = []
    for i in order:
        if left[labels[i]]:
            left[labels[i]] -= 1
            chosen.append(i)
    return sorted(chosen)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=60, max_size=90), st.integers(0, 3), st.booleans())
def test_parts_are_nested_and_those_of_a_slow_twin(
    labels: list[int], seed: int, balanced: bool
) -> None:
    plan = Dataset.model_construct(
        name="x", subset=0.2, validation=10, audit=12, seed=seed, balanced=balanced
    )
    given = np.array([*labels, *(3 * [0, 1, 2] * 10)])
    if min(np.bincount(given)) < 45:
        plan = plan.model_copy(update={"balanced": False})  # a class would be too small for 0.5
    parts = [part(plan, given, data) for data in FRACTIONS]
    for data, found in zip(FRACTIONS, parts, strict=True):
        assert found.tolist() == slow_part(plan, given.tolist(), data)
    for small, large in itertools.pairwise(parts):
        assert {*small.tolist()} < {*large.tolist()}
    whole = splits(plan, given)
    assert parts[2].tolist() == whole.subset.tolist()
    held_out = {*whole.validation.tolist(), *whole.audit.tolist()}
    assert {*parts[-1].tolist()} == {*range(len(given))} - held_out


def test_only_the_images_that_are_trained_on_differ() -> None:
    plan, device = task({"validation": 300, "audit": 200}).dataset, torch.device("cpu")
    own, small, all_ = prepare(plan, device), prepare(plan, device, 0.1), prepare(plan, device, 1.0)
    assert (len(own.subset), len(small.subset), len(all_.subset)) == (259, 130, 797)
    assert prepare(plan, device, 0.2) is prepare(plan, device)
    for other in (small, all_):
        assert other.validation is own.validation and other.audit is own.audit
        assert other.normalization is own.normalization
        places = np.flatnonzero(np.isin(other.rows, own.rows))
        shared = np.flatnonzero(np.isin(own.rows, other.rows))
        both = (other.subset, places), (own.subset, shared)
        pair = [subset.inputs[torch.from_numpy(chosen)] for subset, chosen in both]
        assert torch.equal(pair[0], pair[1])
        assert torch.equal(other.subset.targets[places], own.subset.targets[shared])


def test_a_trial_on_a_fraction_is_one_of_a_study_with_that_subset(tmp_path: Path) -> None:
    held_out = {"validation": 300, "audit": 200}
    for i, data in enumerate((0.1, 0.4)):
        here = epochs(task(held_out), trial(tmp_path / f"a{i}", data=data), "val_loss", "agn")
        there = epochs(
            task({**held_out, "subset": data}), trial(tmp_path / f"b{i}"), "val_loss", "agn"
        )
        assert here[-1].metrics == there[-1].metrics and here[-1].audit == there[-1].audit
    subset = epochs(task(held_out), trial(tmp_path / "c", data=0.2), "val_loss", "agn")
    assert (
        subset[-1].metrics
        == epochs(task(held_out), trial(tmp_path / "d"), "val_loss", "agn")[-1].metrics
    )


@pytest.mark.parametrize(
    ("dataset", "data", "text"),
    [
        ({"validation": 300, "audit": 200}, 0.7, "are 908, expected 1 to 797"),
        ({}, 0.4, "are 519, expected 1 to 259"),
        (
            {"validation": 300, "audit": 200},
            0.005,
            "are 6, expected at least one of each of its 10",
        ),
        ({"validation": {"size": 100, "redraw": True}}, 0.4, "more than the subset of 0.2"),
    ],
)
def test_fractions_that_there_are_not(dataset: dict[str, object], data: float, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        task(dataset).check_data(data)
