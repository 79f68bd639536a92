"""The benchmark of per-sample gradient norms runs, with or without its peers, in a tiny version."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_benchmark_succeeds() -> None:
    options = ["--models", "MLP", "--batches", "32", "--rounds", "2"]
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/bench/gradient_norms.py", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MLP, batch 32" in done.stdout
    assert "backpack-for-pytorch" in done.stdout and "opacus" in done.stdout  # there, or skipped
    assert "hpogen          1.0000 to 1.0000" in done.stdout
