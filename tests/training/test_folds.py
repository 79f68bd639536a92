"""Folds and repeats: which rows train and which judge, and that each is a training of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from hpogen.errors import UserError
from hpogen.executors.inline import InlineExecutor
from hpogen.running.runner import run
from hpogen.spec import StudySpec, load_study
from hpogen.study.open import prepare as prepare_study
from hpogen.study.study import Study
from hpogen.training.data.loaded import load
from hpogen.training.data.parts import splits_of
from hpogen.training.data.prepared import prepare
from hpogen.training.data.splits import Division, Splits, splits
from hpogen.training.data.summary import summary, unknown
from hpogen.training.forms.dataset import Dataset
from hpogen.training.forms.supervised import Samples
from hpogen.training.forms.validation import Folds, Repeats
from hpogen.trial import Parts

CPU = torch.device("cpu")


def dataset(**keys: object) -> Dataset:
    return Dataset.model_validate({"name": "digits", **keys})


def every(given: Dataset, labels: Any, division: Division | None = None) -> list[Splits]:
    return [splits_of(given, labels, division, part) for part in given.parts.each]


def study(**keys: Any) -> StudySpec:
    """Of the digits; `keys` are the dataset's, or the study's where they are of those names."""
    task = {"dataset": {"name": "digits", "subset": 0.1, "audit": 100}, "model": "mlp", "epochs": 4}
    own = {name: keys.pop(name) for name in [*keys] if name in StudySpec.__dataclass_fields__}
    task |= own.pop("task", {})
    task["dataset"] = {**task["dataset"], **keys}  # type: ignore[dict-item]
    record = {
        "name": "s",
        "task": task,
        "search_space": {"lr": {"float": [0.01, 0.1]}, "batch_size": 16},
        "searcher": "random",
        "stop": {"trials": 3},
    }
    return StudySpec.from_record({**record, **own})


# -- the forms


def test_what_the_yaml_says() -> None:
    folds, repeats = dataset(validation={"folds": 5}), dataset(validation={"repeats": 3, "size": 9})
    assert folds.validation == Folds(folds=5) and folds.parts == Parts(5, "fold")
    assert repeats.validation == Repeats(repeats=3, size=9) and repeats.parts == (3, "repeat")
    assert dataset(validation=100).parts == dataset().parts == Parts()
    assert folds.model_dump(mode="json")["validation"] == {"folds": 5}
    assert folds.validates and folds.counts(1000)[:2] == (200, 0)
    assert repeats.counts(1000)[:2] == (200, 9)
    assert (folds.trained(1000), folds.trained(1009), repeats.trained(1000)) == (160, 161, 200)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"validation": {"folds": 1}}, "task.dataset.validation.folds: got 1, expected at least 2"),
        ({"validation": {"folds": 2.5}}, "validation.folds: got 2.5, expected an integer"),
        ({"validation": {"repeats": 0}}, "validation.repeats: got 0, expected at least 2"),
        ({"validation": {"folds": 5, "size": 10}}, "got size beside folds, expected folds alone"),
        ({"validation": {"folds": 5, "redraw": True}}, "got folds and redraw, expected one of"),
        ({"validation": {"folds": 5, "repeats": 2}}, "got folds and repeats, expected one of"),
        ({"validation": {"fold": 5}}, "'fold' is unknown"),
        ({"validation": {"folds": 5, "seed": 1}}, "'seed' is unknown"),
        ({"validation": {"repeats": 5, "size": 0}}, "validation.repeats: got 0 images"),
        ({"validation": {"repeats": 5}, "subset": 1.0, "audit": 0}, "repeats: got 0 images"),
        ({"validation": {"folds": 500}}, "got 500 folds of a subset of 130"),
        (
            {"validation": {"folds": 3}, "task": {"keep": "probabilities"}},
            "keep: probabilities: a trial of 3 folds has no one network",
        ),
        (
            {"validation": {"folds": 3}, "finalists": {"count": 2, "data": 0.2}},
            "finalists: are judged by one training each, and a trial is 3 folds",
        ),
        (
            {
                "validation": {"folds": 3},
                "searcher": "asha",
                "budgets": {"over": "data", "min": 0.05, "max": 0.1, "eta": 2},
            },
            "budgets.over: is refused with validation.folds: each of a trial's 3 trainings",
        ),
        (
            {"validation": {"repeats": 3}, "checkpoints": {"keep": "final"}},
            "checkpoints.keep: got 'final', but of a trial of 3 repeats no network is the trial's",
        ),
        (
            {"validation": {"repeats": 3}, "selection": "one_se_margin"},
            "'one_se_margin' reads the loss of each validation sample, which",
        ),
        (
            {"validation": {"folds": 3}, "stop": {"epochs": 11}},
            "stop.epochs: got 11, but one trial takes 12 epochs",
        ),
    ],
)
def test_what_does_not_go_together_is_told_in_one_line(keys: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError) as caught:
        study(**keys)
    assert text in str(caught.value) and "\n" not in str(caught.value)


def test_times_are_refused(tmp_path: Path) -> None:
    keys = {"name": "csv", "path": "a.csv", "target": "y", "time": "day"}
    for validation in ({"folds": 3}, {"repeats": 3}):
        with pytest.raises(ValueError, match="rows are divided by time, and training on later"):
            Samples.model_validate({**keys, "validation": validation})
    own = Division("time", "day", np.arange(1297))  # a plug-in's data set
    with pytest.raises(ValueError, match="divided by time"):
        splits_of(dataset(validation={"folds": 3}), np.zeros(1297, np.int64), own, 0)


# -- which rows


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(30, 200), min_size=1, max_size=4),
    folds=st.integers(2, 6),
    subset=st.floats(0.4, 0.7),
    seed=st.integers(0, 2**40),
    even=st.booleans(),
)
def test_every_row_of_the_subset_validates_once(
    counts: list[int], folds: int, subset: float, seed: int, even: bool
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = labels[np.random.default_rng(seed).permutation(len(labels))]
    even = even and subset * len(labels) / len(counts) < min(counts) * 0.7
    keys = {"subset": subset, "audit": len(labels) // 5, "seed": seed, "balanced": even}
    whole = splits(dataset(**keys, validation=0), labels)
    found = every(dataset(**keys, validation={"folds": folds}), labels)
    judging = np.concatenate([split.validation for split in found])
    assert np.array_equal(np.sort(judging), whole.subset)
    shares = np.bincount(labels[whole.subset], minlength=len(counts)) / folds
    for split in found:
        assert np.array_equal(np.union1d(split.subset, split.validation), whole.subset)
        assert not {*split.subset} & {*split.validation}
        assert np.array_equal(split.audit, whole.audit)
        assert not {*split.audit} & {*whole.subset}
        assert abs(len(split.validation) - len(whole.subset) / folds) < 1
        mine = np.bincount(labels[split.validation], minlength=len(counts))
        assert np.abs(mine - shares).max() < 2  # the classes' proportions to within about a row
        assert (np.diff(split.subset) > 0).all() and (np.diff(split.validation) > 0).all()


@settings(deadline=None)
@given(seed=st.integers(0, 2**40), folds=st.integers(2, 6), groups=st.integers(14, 40))
def test_no_group_stands_on_two_sides_of_a_fold(seed: int, folds: int, groups: int) -> None:
    places = np.random.default_rng(seed).integers(groups, size=300)
    division, labels = Division("group", "site", places), np.zeros(300, np.int64)
    given = dataset(subset=0.8, audit=50, seed=seed, validation={"folds": folds})
    found = every(given, labels, division)
    judging = np.concatenate([split.validation for split in found])
    assert np.array_equal(np.sort(judging), splits(given, labels, division).subset)
    for split in found:
        sides = [{*places[rows]} for rows in (split.subset, split.validation, split.audit)]
        assert len(set.union(*sides)) == sum(map(len, sides))
        assert len(split.validation) and len(split.subset)


@settings(deadline=None)
@given(seed=st.integers(0, 2**40), by_group=st.booleans(), even=st.booleans())
def test_repeats_draw_all_but_the_audit_anew(seed: int, by_group: bool, even: bool) -> None:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat([0, 1, 2], [150, 100, 50]))
    places = random.integers(40, size=300)
    division = Division("group", "site", places) if by_group else None
    even = even and not by_group
    keys = {"subset": 0.3, "audit": 60, "seed": seed, "balanced": even}
    plain = splits(dataset(**keys, validation=60), labels, division)
    given = dataset(**keys, validation={"repeats": 3, "size": 60})
    found = every(given, labels, division)
    for name in ("subset", "validation", "audit"):
        assert np.array_equal(getattr(found[0], name), getattr(plain, name))
    for split in found:
        assert np.array_equal(split.audit, plain.audit)
        sides = [{*rows} for rows in (split.subset, split.validation, split.audit)]
        if by_group:
            sides = [{*places[rows]} for rows in (split.subset, split.validation, split.audit)]
            assert 0 < len(split.validation) <= 60
        else:
            assert [len(side) for side in sides] == [90, 60, 60]
        assert len(set.union(*sides)) == sum(map(len, sides))
        if even:
            assert np.ptp(np.bincount(labels[split.subset])) <= 1
    for a, b in ((0, 1), (1, 2)):
        assert {*found[a].subset} != {*found[b].subset}
        assert {*found[a].validation} != {*found[b].validation}
    again = every(given, labels, division)
    assert all(np.array_equal(a.subset, b.subset) for a, b in zip(found, again, strict=True))


def test_too_many_folds_for_a_class_or_for_the_groups() -> None:
    labels = np.repeat([0, 1], [90, 10])
    given = dataset(subset=0.5, audit=0, validation={"folds": 6})
    with pytest.raises(ValueError, match="got 6 folds, and class 1 of the data set 'digits' has 5"):
        splits_of(given, labels, None, 0)
    division = Division("group", "site", np.arange(100) % 4)
    with pytest.raises(ValueError, match="no whole group of the column 'site' is left for fold"):
        splits_of(given, labels, division, 0)


# -- a fold is a training on those rows


def table(path: Path, rows: np.ndarray, **more: Any) -> Path:
    """Ninety rows of three classes, or those of them, in that order; a number may be missing."""
    random = np.random.default_rng(3)
    x, y = random.normal(size=(90, 3)).round(3), np.repeat(["a", "b", "c"], 30)
    x[:, 0] += 2 * np.repeat([0, 1, 2], 30)
    x[random.random((90, 3)) < 0.1] = np.nan
    city = random.choice(["Rome", "Oslo", "Bonn"], 90)
    columns = {f"x{i}": pa.array(x[rows, i], from_pandas=True) for i in range(3)}
    named = {**columns, "city": pa.array(city[rows]), "y": pa.array(y[rows])}
    parquet.write_table(pa.table({**named, **{k: pa.array(v) for k, v in more.items()}}), path)
    return path


def table_study(path: Path, **keys: Any) -> Study:
    """Of one configuration, beside the table."""
    audit = table(path.parent / "audit.parquet", np.arange(0, 90, 4))
    given = {"name": "parquet", "path": str(path), "target": "y", "test_path": str(audit)}
    task = {
        "name": "supervised",
        "dataset": {**given, "audit": "test", **keys},
        "model": {"name": "mlp", "width": 8},
        "epochs": 3,
        "measures": ["agn"],
    }
    file = path.with_suffix(".yaml")
    mapping = {
        "task": task,
        "search_space": {"lr": {"float": [0.01, 0.1]}, "batch_size": 16},
        "searcher": "random",
        "stop": {"trials": 1},
    }
    file.write_text(json.dumps({"name": "s", **mapping}))
    spec = load_study(file)
    prepare_study(spec)
    return Study(spec, path.with_suffix(""))


@pytest.mark.parametrize(
    "way", [{"folds": 3}, {"repeats": 3, "size": 20}], ids=["folds", "repeats"]
)
def test_each_part_is_the_training_on_a_table_of_its_rows(
    way: dict[str, int], tmp_path: Path
) -> None:
    subset = 1.0 if "folds" in way else 0.5
    with table_study(
        table(tmp_path / "all.parquet", np.arange(90)), validation=way, subset=subset
    ) as whole:
        assert run(whole, InlineExecutor()).end == "finished"
        (record,) = whole.history.records
        given = whole.spec.task.dataset  # type: ignore[attr-defined]
    labels, found = np.repeat([0, 1, 2], 30), []
    for split in every(given, labels):
        rows = np.concatenate([split.subset, split.validation])  # by time the last ones validate
        path = table(tmp_path / f"{len(found)}.parquet", rows, day=np.arange(len(rows)))
        share, judges = len(split.subset) / len(rows), len(split.validation)
        with table_study(path, subset=share, validation=judges, time="day") as alone:
            run(alone, InlineExecutor())
            found.append(alone.history.records[0].outcome)
    assert record.outcome is not None and [*record.parts] == [0, 1, 2]
    for own, twin in zip(record.parts.values(), found, strict=True):
        assert twin is not None
        assert dict(own.metrics) == dict(twin.metrics) and dict(own.audit) == dict(twin.audit)
        assert own.epochs == twin.epochs == 3
    for name, value in record.outcome.metrics.items():
        assert value == pytest.approx(np.mean([x.metrics[name] for x in found if x]), rel=1e-14)
    assert len({x.metrics["val_loss"] for x in found if x}) == 3


def test_nothing_is_fitted_to_the_rows_that_judge(tmp_path: Path) -> None:
    rows = np.arange(90)
    path = table(tmp_path / "a.parquet", rows)
    keys = {"name": "parquet", "path": str(path), "target": "y", "subset": 0.9, "audit": 9}
    given = Samples.model_validate({**keys, "validation": {"folds": 3}})
    fitted = [prepare(given, CPU, None, part) for part in range(3)]
    split = splits_of(given, np.repeat([0, 1, 2], 30), None, 1)
    other = np.setdiff1d(rows, split.subset)
    random = rows.copy()
    random[other] = np.random.default_rng(0).permutation(other)  # within the rows that do not train
    labels = np.repeat([0, 1, 2], 30)
    swapped = np.array([i if labels[i] == labels[j] else j for j, i in enumerate(random)])
    moved = table(tmp_path / "b.parquet", swapped)
    assert (swapped != rows).any()
    again = prepare(given.model_copy(update={"path": str(moved)}), CPU, None, 1)
    text = repr(fitted[1].normalization)
    assert repr(again.normalization) == text
    assert len({repr(each.normalization) for each in fitted}) == 3  # each has its own


def test_categories_that_a_fold_s_training_lacks_are_counted(tmp_path: Path) -> None:
    city = np.repeat("Rome", 90)
    city[[3, 40]] = ["Bern", "Bonn"]
    path = tmp_path / "a.parquet"
    columns = {"x": np.arange(90.0), "city": city, "y": np.repeat(["a", "b", "c"], 30)}
    parquet.write_table(pa.table(columns), path)
    keys = {"name": "parquet", "path": str(path), "target": "y", "subset": 1.0, "audit": 0}
    given = Samples.model_validate({**keys, "validation": {"folds": 3}})
    first, second, _ = summary(given, load(given))
    assert first == "90 rows, 0 of a test set: subset 90, validation 0, audit 0"
    assert second.endswith("each row of the subset validates once, 60 or more train")
    (line,) = unknown(given, load(given))
    assert line.startswith("column 'city': of the rows, 2 of validation have categories that")
