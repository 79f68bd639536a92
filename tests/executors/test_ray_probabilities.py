"""What a task keeps of each sample comes from Ray's workers as from this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kept import TASK, written

from hpogen.analysis.ensemble import select
from hpogen.executors.ray import RayExecutor
from hpogen.running.runner import run
from hpogen.study.read import read
from hpogen.study.study import Study

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_probabilities_are_the_same_bits(cluster: Any, tmp_path: Path) -> None:
    spec = written(tmp_path, task={**TASK, "keep": "probabilities"})
    found = {}
    for name, executor in (("ray", RayExecutor(2)), ("inline", None)):
        with Study(spec, tmp_path / name) as study:
            assert run(study, executor).end == "finished"
        paths = (tmp_path / name / "trials").glob("*_*.npy")
        kept = {path.name: path.read_bytes() for path in paths}
        assert sum(path.endswith("_probabilities.npy") for path in kept) == 8
        found[name] = kept, select(read(tmp_path / name)).path
    assert found["ray"] == found["inline"]
