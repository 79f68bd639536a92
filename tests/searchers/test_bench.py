"""The benchmarks of the searchers run, and find what they claim, in tiny versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "expected"),
    [
        ("searchers_time.py", ["--rounds", "1"], "ms at 400"),
        ("searchers_quality.py", ["--seeds", "2"], "bohb / HpBandSter"),
        ("searchers_choices.py", ["pso", "--seeds", "2"], "clerc   − random   all"),
        ("searchers_choices.py", ["failures", "--seeds", "2", "--sampler", "NSGAIISampler"], "all"),
        ("searchers_hpbandster.py", ["--brackets", "4"], "ours: 0 asks"),
    ],
)
def test_a_benchmark_succeeds(script: str, options: list[str], expected: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "bench" / script, *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert expected in done.stdout
