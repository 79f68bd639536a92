"""Which studies are one arm, one task, one search seed; what they are called; what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from analysis.searches import AGN, Made, matrix, search
from toys import study_file

from hpogen.analysis.arms import Design, arrange
from hpogen.errors import UserError
from hpogen.spec import load_studies
from hpogen.study.open import open_studies
from hpogen.study.read import read_all

LOG = {**AGN, "scale": "log"}
FASHION = {"dataset": {"name": "fashion-mnist"}, "model": "lenet5"}


def design(*folders: Path) -> Design:
    return arrange(read_all(folders))


def shape(found: Design) -> dict[str, dict[str, list[int]]]:
    return {arm.label: {t: [*seeds] for t, seeds in arm.studies.items()} for arm in found.arms}


def test_a_matrix_is_arms_by_seeds(tmp_path: Path) -> None:
    arms: dict[str, Any] = {"cmaes__agn": {"searcher": "cmaes", "objective": AGN}}
    arms |= {"random__agn": {"objective": AGN}, "random__val": {}}
    found = design(matrix(tmp_path, 3, arms))
    assert found.tasks == ("digits, mlp",) and found.notes == ()
    assert shape(found) == {arm: {"digits, mlp": [0, 1, 2]} for arm in arms}


def test_single_folders_are_the_same_and_every_study_counts_once(tmp_path: Path) -> None:
    home = matrix(tmp_path, 2)
    folders = sorted(home.iterdir())
    assert shape(design(*folders)) == shape(design(home)) == shape(design(home, *folders, home))


def test_the_labels_of_a_real_matrix(tmp_path: Path) -> None:
    varied = {
        "searcher": ["random", {"name": "cmaes", "population": 4, "label": "small"}],
        "objective": ["val", {"preset": "agn+val", "alpha": 0.1, "label": "agn-raw"}],
        "task.mood": [{"value": "good", "label": "happy"}, "nan"],
        "seed": [3, 4],
    }
    specs = {tmp_path / s.name: s for s in load_studies(study_file(tmp_path, matrix=varied)).specs}
    for study in open_studies(specs):
        study.next()
        study.close()
    found = design(tmp_path)
    assert found.tasks == ("bowl, mood good", "bowl, mood nan")
    arms = ["random__agn-raw", "random__val", "small__agn-raw", "small__val"]
    assert shape(found) == {arm: {t: [3, 4] for t in found.tasks} for arm in arms}


@pytest.mark.parametrize(
    ("first", "second", "labels"),
    [
        ({"objective": "val"}, {"objective": LOG}, ("val", "agn+val (α 0.1, log)")),
        ({}, {"searcher": "cmaes"}, ("random", "cmaes")),
        (
            {"objective": AGN, "searcher": "cmaes"},
            {},
            ("cmaes, agn+val (α 0.1)", "random, val"),
        ),
        ({}, {"selection": "val_loss"}, ("selected by score", "selected by val_loss")),
        (
            {"searcher": {"name": "cmaes", "sigma": 0.2}},
            {"searcher": {"name": "cmaes", "sigma": 0.3}},
            ("searcher.sigma 0.2", "searcher.sigma 0.3"),
        ),
        ({}, {"task": {"threads": 2}}, ("task.threads 1", "task.threads 2")),
    ],
)
def test_folders_of_any_name_are_called_by_what_differs(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], labels: tuple[str, str]
) -> None:
    for i, keys in enumerate((first, second)):
        for seed in (0, 1):
            search(tmp_path / f"run-{i}{seed}", [Made()], seed=seed, **keys)
    assert tuple(shape(design(tmp_path))) == labels


def test_a_single_arm_is_called_by_searcher_and_objective(tmp_path: Path) -> None:
    folders = [search(tmp_path / str(seed), [Made()], seed=seed) for seed in (0, 1)]
    assert shape(design(*folders)) == {"random, val": {"digits, mlp": [0, 1]}}


def test_what_does_not_part_arms(tmp_path: Path) -> None:
    """Names, limits, checkpoints and where the data lie."""
    search(tmp_path / "a", [Made()], seed=0)
    keys: dict[str, Any] = {"limits": {"trial_seconds": 9.0}, "checkpoints": {"keep": "final"}}
    places = {"root": "/data", "download": False, "resident": True}
    task = {"dataset": {"name": "digits", "validation": 400, **places}}
    search(tmp_path / "b", [Made()], seed=1, task=task, **keys)
    assert len(design(tmp_path).arms) == len(design(tmp_path).tasks) == 1


@pytest.mark.parametrize("key", ["threads", "deterministic", "cuda_graphs", "compile", "measures"])
def test_the_way_of_training_parts_arms_and_not_tasks(key: str, tmp_path: Path) -> None:
    values = {"threads": [1, 2], "measures": [[], ["gsnr"]]}
    for arm, value in zip("ab", values.get(key, [False, True]), strict=True):
        search(tmp_path / f"{arm}__seed-0", [Made()], seed=0, task={key: value})
    assert shape(design(tmp_path)) == {arm: {"digits, mlp": [0]} for arm in "ab"}


@pytest.mark.parametrize(
    ("task", "label"),
    [
        ({"epochs": 8}, "digits, mlp, epochs 8"),
        ({"dataset": {"name": "digits", "validation": 50}}, "digits, mlp, validation 50"),
        ({"dataset": {"name": "digits", "validation": 400, "seed": 1}}, "digits, mlp, seed 1"),
        ({"schedule": {"name": "cosine"}}, "digits, mlp, schedule name cosine"),
        (FASHION, "fashion-mnist, lenet5"),
    ],
)
def test_tasks_differ_in_data_splits_model_epochs_and_schedule(
    tmp_path: Path, task: dict[str, Any], label: str
) -> None:
    for arm, objective in {"val": "val", "agn": AGN}.items():
        for t, keys in enumerate(({}, task)):
            search(
                tmp_path / f"{arm}__t{t}__seed-5", [Made()], seed=5, objective=objective, task=keys
            )
    found = design(tmp_path)
    assert label in found.tasks and len(found.tasks) == 2
    assert shape(found) == {arm: {t: [5] for t in found.tasks} for arm in ("agn", "val")}


def test_tasks_may_have_budgets_of_their_own_and_that_is_said(tmp_path: Path) -> None:
    for arm, objective in {"val": "val", "agn": AGN}.items():
        search(tmp_path / f"{arm}__a", [Made()], objective=objective)
        search(tmp_path / f"{arm}__b", [Made()] * 3, objective=objective, task=FASHION)
    found = design(tmp_path)
    assert [*shape(found)] == ["agn", "val"]
    assert found.notes == ("the tasks differ in stop.trials, too",)


def test_arms_of_unequal_budgets_are_said(tmp_path: Path) -> None:
    search(tmp_path / "short", [Made()])
    search(tmp_path / "long", [Made()] * 2)
    assert design(tmp_path).notes == ("the arms differ in stop.trials: they had unequal budgets",)


def test_different_tasks_with_one_arm_each_are_refused(tmp_path: Path) -> None:
    search(tmp_path / "a", [Made()])
    search(tmp_path / "b", [Made()], task=FASHION, objective=AGN)
    with pytest.raises(UserError) as error:
        design(tmp_path)
    assert str(error.value).startswith("nothing to compare: these studies have 2 different tasks")
    assert "\n" not in str(error.value)


def test_the_same_search_twice_is_refused(tmp_path: Path) -> None:
    search(tmp_path / "a", [Made()], seed=3)
    search(tmp_path / "b", [Made()], seed=3)
    with pytest.raises(UserError, match=r"the search seed \(3\) of .*a: give one of the two"):
        design(tmp_path)


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    search(tmp_path / "a", [Made()])
    with pytest.raises(UserError, match=r"empty: there is no study here \(no ledger.jsonl\)"):
        design(tmp_path / "a", tmp_path / "empty")
    with pytest.raises(UserError, match="got no folder"):
        design()


def test_an_audit_on_the_test_set_is_said(tmp_path: Path) -> None:
    search(tmp_path / "a", [Made()], task={"dataset": {"name": "digits", "audit": "test"}})
    [note] = design(tmp_path).notes
    assert note == "the audit images are the standard test set (task.dataset.audit: test)"
