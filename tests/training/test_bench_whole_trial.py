"""The benchmark of whole trials, on a few images of noise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_trial_is_told_by_its_parts() -> None:
    command = [sys.executable, str(ROOT / "scripts/bench/whole_trial.py"), "--device", "cpu"]
    command += ["--model", "lenet5", "--epochs", "2", "--images", "50", "--together", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    header, alone, together = done.stdout.splitlines()
    assert "lenet5, batch 128, 50 images to train and as many to validate, 2 epochs" in header
    for part in ("train", "validation", "measures", "total", "peak memory"):
        assert f" {part} " in alone
    assert together.startswith("  2 in turns: ")
