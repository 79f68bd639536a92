"""What each rule of `prune` saves and loses on the recorded curves of a real study.

    .venv/bin/python scripts/bench/pruning.py [--runs DIR] [--trials 200] [--epochs 30] [--seed 0]

A random search over learning rate, batch size, momentum and width of an MLP on `digits` trains its
trials to the end, once; the folder is kept under `--runs` and an interrupted run goes on. Then each
rule is shown the curves as `hpogen rescore --prune` does. With `--check` the study is also run with
the first rule: what it charges and finds must be what the table says.

Reached where the first rule, the median after a third of the epochs, charges at most 60 % of the
epochs and its best score is less than 1 % worse than the best of all trials.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpogen import run
from hpogen.analysis.choices import Trials
from hpogen.analysis.pruning import Pruned, would_prune
from hpogen.spec import StudySpec
from hpogen.spec.recorded import with_prune
from hpogen.study.open import open_study
from hpogen.study.read import Folder, read

CHARGED, LOST = 0.60, 0.01
SPACE: Mapping[str, Any] = {
    "lr": {"float": [1e-4, 1.0], "log": True, "default": 0.05},
    "batch_size": {"int": [16, 256], "log": True, "default": 64},
    "momentum": {"float": [0.0, 0.95], "default": 0.9},
    "width": {"int": [4, 64], "log": True, "default": 32},
}


def rules(epochs: int) -> list[Mapping[str, Any]]:
    after = epochs // 3
    return [
        {"rule": "median", "after": after},
        {"rule": "median", "after": 1},
        {"rule": "median", "after": after, "patience": 2},
        {"rule": "percentile", "percentile": 25.0, "after": after},
        {"rule": "percentile", "percentile": 75.0, "after": after},
        {"rule": "asha", "after": max(epochs // 16, 1)},
        {"rule": "asha", "after": max(epochs // 8, 1), "reduction_factor": 2},
    ]


def record(given: argparse.Namespace) -> dict[str, Any]:
    return {
        "name": f"curves-{given.trials}-{given.epochs}-{given.seed}",
        "seed": given.seed,
        "task": {
            "dataset": {"name": "digits", "subset": 0.5, "validation": 400},
            "model": {"name": "mlp", "depth": 2},
            "epochs": given.epochs,
        },
        "search_space": dict(SPACE),
        "searcher": {"name": "random"},
        "stop": {"trials": given.trials},
        "checkpoints": {"keep": "none"},
    }


def finished(spec: StudySpec, runs: Path) -> Folder:
    """The study, run to its end in its folder."""
    directory = runs / spec.name
    with open_study(spec, directory) as study:
        result = run(study)
    if result.end != "finished":
        raise SystemExit(f"{directory}: {result.end} {result.text}")
    return read(directory)


def row(given: Mapping[str, Any], found: Pruned) -> str:
    options = ", ".join(f"{key} {value}" for key, value in given.items() if key != "rule")
    lost = "" if found.lost is None else f"{found.lost:.2%}"
    return (
        f"| {given['rule']} | {options} | {len(found.pruned)} | {found.charged / found.whole:.1%} "
        f"| {found.left:.5g} | {lost} |"
    )


def check(spec: StudySpec, prune: Mapping[str, Any], said: Pruned, runs: Path) -> None:
    """Run the study with the rule, and compare it with what was said."""
    own = {**spec.record(), "name": f"{spec.name}-pruned", "prune": dict(prune)}
    study = finished(StudySpec.from_record(own), runs)
    ends = {r.trial.id: r.outcome.epochs for r in study.history.records if r.pruned and r.outcome}
    best = min(record.score for record in study.finished)
    same = (ends, study.history.charged, best) == (dict(said.pruned), said.charged, said.left)
    print(
        f"run with prune: {study.history.charged} epochs charged, best score {best:.5g}: ", end=""
    )
    print("as the table says" if same else "NOT as the table says")
    if not same:
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-pruning"))
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="also run the study with the rule")
    given = parser.parse_args()
    spec = StudySpec.from_record(record(given))
    study = finished(spec, given.runs)
    trials, listed = Trials(study), rules(given.epochs)
    prunes = [with_prune(study.spec, rule).prune for rule in listed]
    found = [would_prune(study, trials, prune) for prune in prunes if prune is not None]
    first = found[0]
    print(f"{first.trials} curves of {given.epochs} epochs, best score {first.best:.5g}")
    print("| rule | options | pruned | charged | best left | lost |\n|---|---|---|---|---|---|")
    for rule, one in zip(listed, found, strict=True):
        print(row(rule, one))
    reached = first.charged <= CHARGED * first.whole and (first.lost or 0.0) < LOST
    print("reached" if reached else "NOT reached")
    if given.check:
        check(spec, listed[0], first, given.runs)


if __name__ == "__main__":
    main()
