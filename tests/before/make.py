"""Makes the studies of `tests/test_before.py`, each interrupted, and what was known of them then.

    .venv/bin/python tests/before/make.py [CASE …]

It was run at 8438a39, to have what that hpogen wrote. It proves nothing about the hpogen that runs
it: run it again only to add a case, and name that one. A case's folder holds

- `study.yaml`, and `study/`, which that hpogen left when it was interrupted; its `plugins/toy.py`
  is the `toy.py` here, for all of them;
- `rest.jsonl`: the lines that an undisturbed run has and the interrupted one has not yet;
- `said.json`: what the commands said of the interrupted study, and of the undisturbed one.

Paths of plug-ins and the machine are neutral ones, in lines that are encoded anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from test_before import called, end, key, said  # noqa: E402
from toys import ShuffledExecutor, StopsAfter, essence  # noqa: E402

from hpogen import Outcome, load_studies, open_study, run, run_all  # noqa: E402
from hpogen.record import ledger  # noqa: E402
from hpogen.running.fork import fork  # noqa: E402
from hpogen.study.open import open_studies  # noqa: E402

TOY = "toy.py"
MACHINE = {"system": "Linux", "processor": "x86_64", "cores": 2}
SPACE = {"x": {"float": [0.0, 1.0], "default": 0.5}, "y": {"int": [1, 1000], "log": True}}
CHOICES = {
    "shape": {"choice": ["flat", "steep"]},
    "x": {"float": [0.0, 1.0], "when": {"shape": "steep"}},
    "y": {"int": [1, 2]},
}
TWO = {"name": "toy", "epochs": 2}
RUNGS = {"min": 1, "max": 4, "eta": 2}
STANDARD = [{"metric": "val_loss"}, {"metric": "agn", "weight": 0.3, "scale": "standard"}]
RANK = [{"metric": "val_loss", "scale": "rank"}, {"metric": "agn", "weight": 0.1, "scale": "rank"}]
DIGITS = {"name": "digits", "subset": 0.05, "validation": 40, "audit": 40}
MLP = {"name": "mlp", "width": 4, "depth": 1}
LR = {"lr": {"float": [0.01, 0.5], "log": True, "default": 0.1}}
SHELL = (
    'sh -c \'for e in $(seq {budget}); do echo "{{\\"val_loss\\": $0, \\"agn\\": $e}}"; done\' {x}'
)

CASES: dict[str, dict[str, Any]] = {
    "random": {"task": TWO, "stop": {"trials": 8}},
    "grid": {"searcher": {"name": "grid", "points": 3}, "enqueue": []},
    "cmaes": {"searcher": {"name": "cmaes", "population": 4}, "objective": {"terms": RANK}},
    "pso": {
        "searcher": {"name": "pso", "population": 4},
        "objective": {"terms": STANDARD, "standard_after": 6},
    },
    "bohb": {
        "searcher": {"name": "bohb", "brackets": 4, "min_points_in_model": 3},
        "task": {"name": "toy", "epochs": 4},
        "budgets": RUNGS,
        "objective": {"terms": STANDARD, "standard_after": 3},
        "stop": {"epochs": 20},
    },
    "hyperband": {
        "searcher": {"name": "hyperband", "brackets": 1},
        "task": {"name": "keeper", "epochs": 4},
        "budgets": RUNGS,
        "rungs": "continue",
        "stop": {"epochs": 100},
    },
    "asha": {
        "searcher": {"name": "asha", "sampler": "TPESampler", "n_startup_trials": 3},
        "task": {"name": "toy", "epochs": 4},
        "budgets": RUNGS,
        "objective": {"preset": "agn+val", "alpha": 0.1, "scale": "log"},
        "stop": {"trials": 9},
    },
    "tpe": {
        "searcher": {"name": "optuna", "multivariate": True, "n_startup_trials": 3},
        "task": {"name": "toy", "epochs": 1, "moody": True},
        "stop": {"trials": 8},
    },
    "failures": {
        "task": {"name": "toy", "epochs": 2, "moody": True},
        "search_space": CHOICES,
        "objective": {"terms": STANDARD, "standard_after": 5},
        "stop": {"trials": 10},
    },
    "repeats": {"task": TWO, "selection": "noise_cut", "stop": {"trials": 15}},
    "fork": {"task": TWO, "objective": {"preset": "agn+val", "alpha": 0.5}, "searcher": "optuna"},
    "command": {
        "task": {"name": "command", "command": SHELL, "metrics": ["val_loss", "agn"], "epochs": 2},
        "search_space": {"x": SPACE["x"]},
        "searcher": {"name": "optuna", "sampler": "NSGAIISampler", "population_size": 3},
        "plugins": [],
    },
    "matrix": {
        "task": {"dataset": DIGITS, "model": MLP, "epochs": 1, "measures": ["agn"]},
        "search_space": LR,
        "plugins": [],
        "matrix": {"objective": ["val", {"preset": "agn+val", "alpha": 0.1}], "seed": [0, 1]},
        "stop": {"trials": 3},
    },
    "digits": {
        "task": {"dataset": DIGITS, "model": MLP, "epochs": 3},
        "search_space": LR,
        "plugins": [],
        "selection": "one_se_margin",
        "checkpoints": {"keep": "final"},
        "stop": {"trials": 3},
    },
}
EPOCHS = {"random": 7, "bohb": 17, "hyperband": 10, "asha": 13, "failures": 7}
EPOCHS |= {"repeats": 25, "fork": 3, "command": 9, "tpe": 4, "matrix": 2, "digits": 5}  # else 5


class Steps(ShuffledExecutor):
    """Epoch by epoch, so that a stop comes in the middle of a trial."""

    def wait(self, timeout: float) -> list[Any]:
        job = self._random.choice([*self._running])
        step = next(self._running[job])
        if isinstance(step, Outcome):
            del self._running[job]
        return [] if step is None else [(job, step)]


def yaml(name: str, home: Path, plugin: str = TOY, **keys: Any) -> Path:
    """The case's study.yaml."""
    spec = {
        "name": name,
        "task": {"name": "toy", "epochs": 1},
        "search_space": SPACE,
        "searcher": "random",
        "stop": {"trials": 7},
        "plugins": [plugin],
        **CASES[name],
        **keys,
    }
    home.mkdir(parents=True, exist_ok=True)
    spec["plugins"] = spec["plugins"] and [plugin]
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(x)}" for k, x in spec.items())
    (home / "study.yaml").write_text(f"{{{lines}}}\n")  # JSON is YAML
    return home / "study.yaml"


def train(path: Path, directory: Path, *overrides: str, epochs: int = 0, many: int = 1) -> None:
    """Run the study, for so many epochs where they are named, with so many trials at a time."""
    observer = StopsAfter(epochs) if epochs else None
    with open_study(path, directory, overrides) as study:
        run(study, Steps(0, many), observer=observer)


def random(path: Path, directory: Path, epochs: int) -> None:
    train(path, directory, epochs=epochs, many=4 if epochs else 1)
    if epochs:
        with open(directory / ledger.LEDGER, "ab") as file:
            file.write(b'{"kind":"asked","trial":7,"config":{"x":0.1')


def grid(path: Path, directory: Path, epochs: int) -> None:
    """Its stop is raised on the way."""
    train(path, directory, "stop.trials=3")
    train(path, directory, epochs=epochs and epochs - 3)


def command(path: Path, directory: Path, epochs: int) -> None:
    """The worker of its first trial dies."""
    with open_study(path, directory) as study:
        assert study.next() is not None
        study.lost(0, "its worker died")
    train(path, directory, epochs=epochs)


def forked(path: Path, directory: Path, epochs: int) -> None:
    yaml("fork", path.parent / "old", f"../{TOY}", searcher="random", stop={"trials": 4})
    train(path.parent / "old" / "study.yaml", Path("before"))
    fork(Path("before"), path, directory)
    shutil.rmtree("before")
    train(path, directory, epochs=epochs)


def matrix(path: Path, directory: Path, epochs: int) -> None:
    specs = {directory / spec.name: spec for spec in load_studies(path).specs}
    with contextlib.ExitStack() as stack:
        studies = [stack.enter_context(study) for study in open_studies(specs)]
        observers = [StopsAfter(epochs) for _ in specs] if epochs else ()
        run_all(studies, Steps(0, 1), observers=observers)
    forget(directory)


def forget(directory: Path) -> None:
    """Take out the weights, which are large: the trials that need them are trained again."""
    for checkpoint in [*directory.rglob("checkpoint-*")]:
        checkpoint.unlink()


def digits(path: Path, directory: Path, epochs: int) -> None:
    """It was measured and retrained, before its second trial had ended."""
    train(path, directory, epochs=epochs)
    if epochs:
        assert called("measure", "study", "--add", "param_norm")
        assert called("retrain", "study", "--seeds", "1")
        forget(directory / "retrain")


MAKERS: dict[str, Callable[[Path, Path, int], None]] = {
    "random": random,
    "grid": grid,
    "command": command,
    "fork": forked,
    "matrix": matrix,
    "digits": digits,
}


def neutral(path: Path) -> None:
    """A ledger whose header names neither this machine nor its folders."""
    lines = path.read_bytes().splitlines(keepends=True)
    header = ledger.decode(lines[0].rstrip(b"\n"), 0)
    plugins = [f"/studies/{Path(plugin).name}" for plugin in header["spec"]["plugins"]]
    header |= {"spec": header["spec"] | {"plugins": plugins}, "machine": MACHINE}
    if "forked" in header:
        header["forked"]["study"] = "/studies/before"
    path.write_bytes(b"".join([ledger.encode(header, 0), *lines[1:]]))


def clean(directory: Path) -> None:
    """Take out what is of this machine alone."""
    for path in [*directory.rglob("*")]:
        if path.name in ("lock", "hpogen.log"):
            path.unlink()
        elif path.name == "__pycache__":
            shutil.rmtree(path)
        elif path.suffix == ".log":
            text = path.read_text().replace(str(HERE.parents[1]), "/hpogen")
            path.write_text(text.replace(str(Path.cwd()), "/studies"))
        elif path.name == ledger.LEDGER:
            neutral(path)


def rest(directory: Path, whole: Path) -> list[dict[str, Any]]:
    """What the undisturbed study has and this one has not, by the study of a matrix."""
    found = []
    for path in sorted(whole.rglob(ledger.LEDGER)):
        inner = path.parent.relative_to(whole)
        known = {key(event) for event in ledger.read(directory / inner)}
        events = (e for e in essence(ledger.read(path.parent)) if key(e) not in known)
        found += [{"study": str(inner), **e} for e in events if e["kind"] != "reused"]
    return found


def make(name: str) -> None:
    home = HERE / name
    shutil.rmtree(home, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        os.chdir(work)
        shutil.copy(HERE / TOY, work)
        path, maker = yaml(name, work), MAKERS.get(name, default)
        maker(path, work / "whole", 0)
        maker(path, work / "study", EPOCHS.get(name, 5))
        clean(work / "study")
        yaml(name, home, f"study/plugins/{TOY}")
        shutil.copytree(work / "study", home / "study", ignore=shutil.ignore_patterns("plugins"))
        lines = [json.dumps(event) for event in rest(work / "study", work / "whole")]
        (home / "rest.jsonl").write_text("".join(f"{line}\n" for line in lines))
        found = {**said("study"), "end": end("whole")}
        (home / "said.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")
    os.chdir(HERE)


def default(path: Path, directory: Path, epochs: int) -> None:
    train(path, directory, epochs=epochs)


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        make(case)
