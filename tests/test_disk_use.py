"""What `hpogen check` says of the disk that kept networks take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kept import DIGITS, KEYS, TASK, finished, written
from toys import study_file

from hpogen.report.planned import check_matrix_page, check_page
from hpogen.report.text import size_of
from hpogen.spec import load_study
from hpogen.study.rehearsal import plan, plans
from hpogen.training.models.catalog import MODELS


def said(directory: Path, **keys: Any) -> tuple[dict[str, int | None], str]:
    spec = written(directory, **keys)
    planned = plan(spec)
    return planned["disk"], "\n".join(check_page(spec, planned, "a.yaml"))


def test_a_model_of_the_table_is_looked_up(tmp_path: Path) -> None:
    task = {**TASK, "dataset": "mnist", "model": "lenet5"}
    size = 4 * MODELS["lenet5"].parameters["28×28×1"]
    disk, page = said(tmp_path, task=task, checkpoints={"top": 3})
    assert disk == {"weights": size, "kept": 3 * size, "probabilities": 0}
    assert "kept:       the weights of the best 3 trials, about 0.740 MB" in page


def test_it_is_what_the_files_hold(tmp_path: Path) -> None:
    directory = finished(tmp_path)
    disk, page = said(tmp_path)
    (path,) = directory.glob("trials/*.safetensors")
    weights = disk["weights"]
    assert weights == 4 * (64 * 8 + 8 + 8 * 10 + 10)
    assert weights < path.stat().st_size < weights + 2000  # the header
    assert "kept:       the weights of the best trial, about 2.44 kB" in page


def test_of_a_searched_width_the_largest_counts(tmp_path: Path) -> None:
    space = {**KEYS["search_space"], "width": {"int": [2, 16], "default": 4}}
    disk, _ = said(
        tmp_path, task={**TASK, "model": {"name": "mlp", "depth": 1}}, search_space=space
    )
    assert disk["weights"] == 4 * (64 * 16 + 16 + 16 * 10 + 10)


def test_what_is_not_known_is_not_said(tmp_path: Path) -> None:
    disk, page = said(tmp_path, checkpoints={"keep": "none"})
    assert disk == {"weights": None, "kept": 0, "probabilities": 0} and "kept:" not in page
    disk, page = said(tmp_path, checkpoints={"keep": "final"})
    assert disk["weights"] is not None and disk["kept"] == 4 * 3 * disk["weights"]
    disk, page = said(tmp_path, checkpoints={"keep": "all"})
    assert disk["kept"] is None and "all checkpoints; one trial's weights take 2.44 kB" in page
    dataset = {**DIGITS, "name": "folder", "path": str(tmp_path)}
    disk, page = said(tmp_path, task={**TASK, "dataset": dataset})
    assert disk == {"weights": None, "kept": None, "probabilities": 0}
    assert "trial; their size is known once the data have been read" in page


def test_of_a_matrix_the_sum_is_said(tmp_path: Path) -> None:
    spec = written(tmp_path)
    page = "\n".join(check_matrix_page(plans([spec, spec]), "a.yaml"))
    assert "kept networks take about 4.88 kB" in page
    spec = written(tmp_path, checkpoints={"keep": "none"})
    assert "kept networks" not in "\n".join(check_matrix_page(plans([spec]), "a.yaml"))


def test_a_task_without_weights_takes_nothing(tmp_path: Path) -> None:
    spec = load_study(study_file(tmp_path))
    assert plan(spec)["disk"] == {"weights": None, "kept": 0, "probabilities": 0}


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 kB"), (2440, "2.44 kB"), (246_824, "0.247 MB"), (45e6, "45.0 MB"), (1.5e9, "1.50 GB")],
)
def test_sizes(size: int, text: str) -> None:
    assert size_of(int(size)) == text
