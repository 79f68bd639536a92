"""Several trials on one real GPU: the cap on each one's memory, and what `status` advises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toys import study_file, typed

from hpogen.study.read import read
from hpogen.study.status import memory

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
NOISE = """
import numpy as np
from hpogen.plugins import dataset
from hpogen.training.data import ImageData

@dataset("noise")
def noise(root):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (12_000, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(12_000, dtype=np.int64) % 10
    return ImageData(images, labels, images[:10], labels[:10], 10, "noise")
"""


def study(directory: Path, batch: int) -> Path:
    """Four trials of ResNet-20 with batches of that size."""
    path = study_file(
        directory,
        task={
            "dataset": {"name": "noise", "subset": 0.8, "validation": 1000, "audit": 0},
            "model": "resnet20",
            "epochs": 1,
        },
        search_space={"lr": {"float": [0.001, 0.1], "log": True}, "batch_size": batch},
        plugins=["noise.py"],
        stop={"trials": 4},
    )
    (directory / "noise.py").write_text(NOISE)
    return path


def test_a_trial_above_its_share_is_tried_alone_and_fits(tmp_path: Path) -> None:
    """A batch of 8,192 takes GiBs; its share is one hundredth of the GPU."""
    path = study(tmp_path, 8192)
    run = ("run", path, "--dir", tmp_path / "run", "--workers", 2, "--gpus-per-trial", 0.01)
    assert typed(*run) == 0
    records = read(tmp_path / "run").history.records
    assert [record.failure for record in records] == [None] * 4
    log = (tmp_path / "run" / "hpogen.log").read_text()
    assert "failure=oom action=once_more_alone" in log


def test_trials_fit_into_the_share_that_status_advises(tmp_path: Path) -> None:
    path = study(tmp_path, 512)
    assert typed("run", path, "--dir", tmp_path / "one", "--workers", 1) == 0
    found = memory(read(tmp_path / "one"))
    assert found is not None
    assert found["share"] < 0.5
    run = ("run", path, "--dir", tmp_path / "two", "--workers", 2)
    assert typed(*run, "--gpus-per-trial", found["share"]) == 0
    assert "oom" not in (tmp_path / "two" / "hpogen.log").read_text()
