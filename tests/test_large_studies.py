"""Studies of many trials within the limits of `docs/speed.md`: by `scripts/bench/driver.py`."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench" / "driver.py"
LOOKS = ("status", "best", "show")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("driver", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "driver", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(os.environ, "PYTHONPATH", str(SCRIPT.parents[2]))
    return module


@pytest.mark.slow
@pytest.mark.parametrize("trials", [6_000, 100_000])
def test_a_look_is_as_quick_as_at_a_short_study(trials: int, bench: Any, tmp_path: Path) -> None:
    """Processor time is compared within the test; memory has the limit of the issue: 1 GiB."""
    looks = [f"{look}{again}" for look in LOOKS for again in ("", " again")]
    rows = [*looks, "resume, 10 left", "resume, none left", "export csv"]
    short = bench.measure(tmp_path / "short", 100, "random", [f"{look} again" for look in LOOKS])
    found = bench.measure(tmp_path / "long", trials, "random", rows)
    assert all(cost.peak <= 2**30 for cost in found.values())
    for look in looks:
        assert found[look].cpu < 2 * short[f"{look.split()[0]} again"].cpu
