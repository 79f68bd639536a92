"""How many trials a second hpogen itself can do: a task that yields at once, the ledger on.

    .venv/bin/python scripts/bench/null_trials.py [--trials 500 2000 10000] [--rounds 5]

Prints a table; exits with 1 only when a study did not do what it was asked to.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import hpogen
from hpogen.record import ledger
from hpogen.running.drive import Result

TASK = """
from hpogen.plugins import task

@task("null", metrics=("val_loss",))
def null(trial):
    yield {"val_loss": trial.config["lr"]}
"""
STUDY = """
plugins: [null.py]
task: {{name: "null", epochs: 1}}
search_space:
  batch_size: {{int: [32, 1000], log: true, default: 100}}
  lr: {{float: [1.0e-7, 0.5], log: true, default: 0.01}}
  momentum: {{float: [0.0, 0.99], default: 0.6}}
  weight_decay: {{float: [5.0e-7, 0.05], log: true, default: 5.0e-4}}
searcher: random
stop: {{trials: {trials}}}
"""


def rate(trials: int) -> float:
    """Trials per second of one study, from opening its folder to closing it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "null.py").write_text(TASK)
        path = Path(folder) / "study.yaml"
        path.write_text(STUDY.format(trials=trials))
        spec = hpogen.load_study(path)
        begin = time.perf_counter()
        with hpogen.Study(spec, Path(folder) / "run") as study:
            result = hpogen.run(study)
        seconds = time.perf_counter() - begin
        check(result, ledger.read(Path(folder) / "run"), trials)
        return trials / seconds


def check(result: Result, events: list[ledger.Event], trials: int) -> None:
    told = [event for event in events if event["kind"] == "told" and event["failure"] is None]
    if result.end != "finished" or len(told) != trials:
        sys.exit(f"wrong: {len(told)} of {trials} trials told, the run ended as {result.end!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[500, 2_000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    versions = f"hpogen {version('hpogen')}, Python {platform.python_version()}"
    load = f"load {os.getloadavg()[0]:.1f} before"
    print(f"{versions}, {os.cpu_count()} cores, {load}, {arguments.rounds} rounds interleaved")
    rate(100)  # imports, caches
    rounds = [{n: rate(n) for n in arguments.trials} for _ in range(arguments.rounds)]
    print(f"{'trials':>8} {'median/s':>9} {'min/s':>8} {'max/s':>8} {'of the first':>13}")
    for n in arguments.trials:
        rates = [measured[n] for measured in rounds]
        share = statistics.median(
            measured[n] / measured[arguments.trials[0]] for measured in rounds
        )
        numbers = f"{statistics.median(rates):9,.0f} {min(rates):8,.0f} {max(rates):8,.0f}"
        print(f"{n:8,} {numbers} {share:13.2f}")


if __name__ == "__main__":
    main()
