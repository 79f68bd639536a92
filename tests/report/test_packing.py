"""What a trial took, from the worker to the advice of `status`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from test_kill import IMAGES
from toys import study_file

from hpogen.record import folder
from hpogen.report import pages
from hpogen.running.runner import run
from hpogen.study import status
from hpogen.study.open import open_study
from hpogen.study.read import Folder, read
from hpogen.study.status import CONTEXT, advice, memory
from hpogen.training.memory import peak_memory
from hpogen.trial import Progress

GIB = 2**30


def test_peak_memory_of_this_process() -> None:
    found = peak_memory(torch.device("cpu"))
    assert found["total"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    block = torch.ones(found["peak"] // 4 + 25_000_000)  # 100 MB more than ever before
    assert peak_memory(torch.device("cpu"))["peak"] >= found["peak"] + 90_000_000
    assert block[-1] == 1


def test_status_tells_what_a_trial_took(tmp_path: Path) -> None:
    path = study_file(tmp_path, **{**IMAGES, "stop": {"trials": 2}})
    with open_study(path, tmp_path / "run") as study:
        run(study)
    rows = folder.read_curve(tmp_path / "run", 1)
    assert ["memory" in row for row in rows] == [True] * len(rows)
    seen = read(tmp_path / "run")
    found = status.status(seen)["memory"]
    assert found["device"] == "cpu" and 50e6 < found["peak"] < found["total"]
    assert 0 < found["share"] <= 1
    text, _ = pages.status_page(seen, 100, "hpogen")
    assert "a trial took up to " in text.plain and "room for" in text.plain


def study_with(directory: Path, *peaks: int, device: str) -> Folder:
    path = study_file(directory, stop={"trials": len(peaks)})
    with open_study(path, directory / "run") as study:
        for peak in peaks:
            trial = study.next()
            assert trial is not None
            row: dict[str, Any] = {"peak": peak, "total": 80 * GIB}
            study.progress(Progress(trial.id, 1, {}, {}, device, row))
    return read(directory / "run")


def test_the_largest_peak_counts(tmp_path: Path) -> None:
    found = memory(study_with(tmp_path, 1 * GIB, 6 * GIB, 2 * GIB, device="cuda:1"))
    assert found is not None and found["peak"] == 6 * GIB
    need = 1.2 * 6 * GIB + CONTEXT
    assert found["share"] == pytest.approx(0.10) and 0.09 * 80 * GIB < need <= 0.10 * 80 * GIB
    assert advice(found) == (
        "a trial took up to 6.0 of 80.0 GiB of its GPU: --gpus-per-trial 0.1 has room"
    )


def test_one_that_fills_its_device_has_all_of_it(tmp_path: Path) -> None:
    found = memory(study_with(tmp_path, 79 * GIB, device="cuda:0"))
    assert found is not None and found["share"] == 1.0


def test_nothing_is_said_when_nothing_is_known(tmp_path: Path) -> None:
    path = study_file(tmp_path)
    with open_study(path, tmp_path / "run") as study:
        run(study)
    assert memory(read(tmp_path / "run")) is None
