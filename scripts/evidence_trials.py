"""What the evidence trains: a task's searches, its finalists, and its answers on all of the data.

`evidence.py` calls it. Every study is kept under its folder; one that was interrupted goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpogen import run_all
from hpogen.spec import StudySpec
from hpogen.study.open import open_study
from hpogen.study.read import Folder, read
from hpogen.trial import Config, canonical

PLUGIN = Path(__file__).parents[1] / "studies" / "evidence" / "data.py"
SUBSET, MORE = 0.2, 0.6  # of the training set: in a search, and of finalists
TRIALS, COUNT = 32, 5  # of a search with finalists, and how many those are
EQUAL = TRIALS + round(COUNT * MORE / SUBSET)  # the trials of a search without, for equal epochs
VALIDATION = 1000  # rows, a third of the training set at most
FEW = 250  # labelled rows that a searcher which learns is told of
RETRAININGS = 3
SPACE: Mapping[str, Any] = {  # the gradient-norm paper's: search_spaces/sgd.yaml
    "batch_size": {"int": [32, 1000], "log": True, "default": 100},
    "lr": {"float": [1e-7, 0.5], "log": True, "default": 0.01},
    "momentum": {"float": [0.0, 0.99], "default": 0.6},
    "weight_decay": {"float": [5e-7, 0.05], "log": True, "default": 5e-4},
}
DEFAULT = {name: row["default"] for name, row in SPACE.items()}
LEARNING = {
    f"{name}, {label}": (searcher, objective)
    for name, searcher in (("cmaes", {"name": "cmaes", "population": 8}), ("tpe", "optuna"))
    for label, objective in (
        ("val", "val"),
        ("agn+val 0.1", {"preset": "agn+val", "alpha": 0.1, "scale": "log"}),
    )
}
"""Arms whose searcher is told the scores: searcher and objective."""


@dataclass(frozen=True)
class Task:
    """Data, network and epochs; `kin` are tasks on the same data, and count with them."""

    name: str
    rows: int  # of the training set
    data: Mapping[str, Any]
    model: Any = ("mlp", {"width": 128, "depth": 2})
    epochs: int = 20
    kin: str = ""

    @property
    def learns(self) -> bool:
        """Whether searchers that learn are run: on tables that stand for themselves."""
        return not self.kin and self.model[0] == "mlp"

    @property
    def validation(self) -> int:
        return min(VALIDATION, self.rows // 3)


@dataclass(frozen=True)
class Bench:
    """A task in a folder, with the search seeds of a block."""

    task: Task
    home: Path
    seeds: Sequence[int]

    def searched(self) -> dict[int, Folder]:
        """Random search, by seed. Its trials have all that any rule reads."""
        keys = {"searcher": "random", "objective": "val", "stop": {"trials": EQUAL}}
        names = {f"random-{seed}": {**keys, "seed": seed} for seed in self.seeds}
        return dict(zip(self.seeds, self._studies(names, self.task.validation), strict=True))

    def learned(self) -> dict[str, dict[int, Folder]]:
        """The searches of searchers that learn, by arm and seed."""
        found = {}
        for arm, (searcher, objective) in LEARNING.items():
            keys = {"searcher": searcher, "objective": objective, "stop": {"trials": EQUAL}}
            names = {f"{arm}-{seed}": {**keys, "seed": seed} for seed in self.seeds}
            few = min(FEW, self.task.validation)
            found[arm] = dict(zip(self.seeds, self._studies(names, few), strict=True))
        return found

    def finalists(self, configs: Iterable[Config]) -> Folder:
        """Those configurations, trained once with another seed on `MORE` of the training set."""
        rung = {"over": "data", "min": MORE, "max": MORE, "eta": 2}
        keys = {**_listed(configs, 1), "objective": "val", "seed": 1, "budgets": rung}
        return self._studies({self._block("finalists"): keys}, self.task.validation)[0]

    def whole(self, configs: Iterable[Config]) -> Folder:
        """Those configurations on all of the training set, with `RETRAININGS` seeds, tested."""
        keys = _listed([DEFAULT, *configs], RETRAININGS)
        keys["objective"] = {"terms": [{"metric": "train_loss_online"}]}
        return self._studies({self._block("whole"): keys}, 0)[0]

    def _block(self, name: str) -> str:
        return f"{name}-{self.seeds[0]}-{self.seeds[-1]}"

    def _studies(
        self, studies: Mapping[str, Mapping[str, Any]], validation: int
    ) -> Sequence[Folder]:
        """Those studies in one pool, in which a trial that two have in common is trained once."""
        name, options = self.task.model
        task = {
            "name": "supervised",
            "dataset": {"name": "evidence", **self.task.data, "validation": validation}
            | {"subset": SUBSET if validation else 1.0, "audit": "test"},
            "model": {"name": name, **options},
            "epochs": self.task.epochs,
            "schedule": "cosine",
            "measures": ["agn", "margin"] if validation else [],
        }
        common = {"task": task, "search_space": dict(SPACE), "plugins": [str(PLUGIN)]}
        common |= {"checkpoints": {"keep": "none"}}
        folders = [self.home / self.task.name / name for name in studies]
        opened = [
            open_study(StudySpec.from_record({"name": name, **common, **keys}), directory)
            for (name, keys), directory in zip(studies.items(), folders, strict=True)
        ]
        try:
            for result in run_all(opened):
                if result.end != "finished":
                    raise SystemExit(f"{self.task.name}: {result.end}: {result.text}")
        finally:
            for study in opened:
                study.close()
        return [read(directory) for directory in folders]


def _listed(configs: Iterable[Config], times: int) -> dict[str, Any]:
    unlike = {canonical(config): dict(config) for config in configs}
    trials = {"trials": times * len(unlike)}
    return {"searcher": "listed", "enqueue": [*unlike.values()], "stop": trials}


def errors(study: Folder) -> dict[str, float]:
    """By configuration the mean test error over its seeds; 1 of a training that failed."""
    found: dict[str, list[float]] = {}
    for record in study.history.told():
        audit = record.outcome.audit if record.outcome else {}
        found.setdefault(canonical(record.trial.config), []).append(1 - audit.get("accuracy", 0.0))
    return {key: float(np.mean(values)) for key, values in found.items()}
