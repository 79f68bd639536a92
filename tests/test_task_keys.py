"""What the keys of a task mean, asked of records as they stand in ledgers."""

from __future__ import annotations

from typing import Any

import pytest

from hpogen.tasks.keys import NUMBERS, Meaning, part
from hpogen.training.task import ImageClassification

IMAGES = ImageClassification.model_validate(
    {"dataset": {"name": "digits", "root": "/d"}, "model": "mlp", "epochs": 3, "measures": ["gn"]}
).record()


def test_where_and_how_it_trains_and_what_is_observed_are_told_apart() -> None:
    assert part(IMAGES, Meaning.WHERE) == {
        "dataset": {"root": "/d", "download": True, "resident": "auto"}
    }
    assert part(IMAGES, Meaning.SPEED) == {
        "threads": 1,
        "deterministic": False,
        "cuda_graphs": True,
        "compile": False,
        "together": 1,
    }
    assert part(IMAGES, Meaning.OBSERVED) == {
        "measures": IMAGES["measures"],
        "keep": None,
    }
    what = part(IMAGES, Meaning.WHAT)
    assert {*what} == {
        *("name", "dataset", "model", "epochs", "optimizer", "schedule"),
        *("label_smoothing", "precision", "class_weights", "average", "weights", "patience"),
    }
    assert what["dataset"]["subset"] == 0.2 and what["model"] == {"name": "mlp"}
    assert part(IMAGES, *Meaning) == {**IMAGES, "together": 1}


def test_all_that_numbers_depend_on() -> None:
    data = {k: v for k, v in IMAGES["dataset"].items() if k not in ("root", "download", "resident")}
    assert part(IMAGES, *NUMBERS) == {**IMAGES, "together": 1, "dataset": data}


@pytest.mark.parametrize("name", ["nobody's", "command"])
def test_of_another_task_only_the_threads_do_not_matter(name: str) -> None:
    record: dict[str, Any] = {"name": name, "root": "/d", "download": {"resident": 1}, "threads": 2}
    assert part(record, Meaning.SPEED) == {"threads": 2}
    assert part(record, Meaning.WHERE, Meaning.OBSERVED) == {}
    assert part(record, Meaning.WHAT).items() >= {"name": name, "root": "/d"}.items()
    assert part(record, Meaning.WHAT)["download"] == {"resident": 1}


def test_a_record_older_than_a_key_has_its_default() -> None:
    data = {k: v for k, v in IMAGES["dataset"].items() if k != "balanced"}
    older = {k: v for k, v in IMAGES.items() if k not in ("schedule", "compile")}
    assert part({**older, "dataset": data}, *Meaning) == {**IMAGES, "together": 1}
