"""What the data of a trial cost in memory: the peak of a trial on 10⁶ × 50 floats.

    .venv/bin/python scripts/bench/memory.py [--metric agn] [--rows 1000000] [--columns 50]

A trial of 2,000 such rows runs first, so that all is there that a process needs anyhow. The figure
is the peak of the resident memory above what that leaves (Linux), over the bytes of the data set's
arrays. Stated before the first run: at most 1.2.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hpogen.training.task import Supervised
from hpogen.trial import RunningTrial

SMALL = 2_000


def resident(what: str) -> int:
    """Bytes: `VmRSS` now, or `VmHWM`, the most since it was last asked."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{what}:\s+(\d+) kB", status)
    assert found is not None
    Path("/proc/self/clear_refs").write_text("5")  # the most begins anew
    return 1024 * int(found[1])


def table(path: Path, rows: int, columns: int) -> int:
    """Write it; its bytes."""
    x = np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    np.savez(path, x_train=x, y_train=y)
    return x.nbytes + y.nbytes


def trial(path: Path, rows: int, metric: str, look: Callable[[str], None]) -> None:
    held = rows // 20
    split = {"subset": 0.8, "validation": held, "audit": held}
    dataset = {"name": "numpy", "path": str(path), "kind": "binary", **split}
    task = Supervised.model_validate(
        {
            "name": "supervised",
            "dataset": {**dataset, "kind": "binary"},
            "model": "mlp",
            "epochs": 1,
        }
    )
    task.cargo.load()
    look("load")
    task.prepare()
    look("prepare")
    config = {"lr": 0.05, "batch_size": 1024}
    home = path.parent / path.stem
    given = RunningTrial(id=0, seed=1, start_epoch=0, budget=1, config=config, home=home)
    for epoch in task.train(given, task.gives(frozenset({"val_loss", metric}))):
        look("train" if epoch is None else "epoch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--metric", default="agn")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=50)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.npz", Path(folder) / "large.npz"
        table(small, SMALL, given.columns)
        size = table(large, given.rows, given.columns)
        trial(small, SMALL, given.metric, lambda _: None)
        resident("VmHWM")
        base = resident("VmRSS")
        most: dict[str, int] = {}

        def look(stage: str) -> None:
            most[stage] = max(most.get(stage, 0), resident("VmHWM") - base)

        trial(large, given.rows, given.metric, look)
    print(f"{size / 1e6:.0f} MB of data, {given.metric}, torch {torch.__version__}")
    for stage, peak in most.items():
        print(f"{stage:8} {peak / 1e6:7.0f} MB {peak / size:6.2f} times the data")


if __name__ == "__main__":
    main()
