"""What is likely meant by a name that is unknown where it stands: a key, or a part, of elsewhere.

`mistakes.py` asks when it tells of one. What is only misspelt has its neighbour's name already.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpogen import plugins
from hpogen.errors import UserError, nearest, quoted
from hpogen.objective import PRESETS, preset
from hpogen.spec.described import keys, known_keys
from hpogen.spec.form import StudyForm
from hpogen.spec.positions import KeyPath

SYNONYMS = {  # what keys are called elsewhere, in lower case
    **dict.fromkeys(("network", "net", "architecture", "arch", "backbone"), "task.model"),
    **dict.fromkeys(("data", "dataset_name"), "task.dataset"),
    **dict.fromkeys(("max_epochs", "num_epochs", "n_epochs"), "task.epochs"),
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_schedule"), "task.schedule"),
    **dict.fromkeys(("warmup_epochs", "warm_up"), "task.schedule.warmup"),
    "warmup_steps": "task.schedule.warmup: {steps: N}",
    **dict.fromkeys(("grad_clip", "max_grad_norm", "gradient_clip_val"), "search_space.clip"),
    **dict.fromkeys(("ema", "swa"), "task.average"),
    **dict.fromkeys(("data_dir", "data_root"), "task.dataset.root"),
    **dict.fromkeys(("val_split", "validation_split", "val_size"), "task.dataset.validation"),
    **dict.fromkeys(("train_fraction", "fraction"), "task.dataset.subset"),
    **dict.fromkeys(("learning_rate", "init_lr", "initial_lr"), "search_space.lr"),
    **dict.fromkeys(("bs", "batch", "batchsize", "train_batch_size"), "search_space.batch_size"),
    **dict.fromkeys(("wd", "l2", "decay"), "search_space.weight_decay"),
    **dict.fromkeys(("forbid", "forbidden", "constraints"), "search_space.forbid"),
    **dict.fromkeys(("space", "parameters", "params", "hyperparameters"), "search_space"),
    **dict.fromkeys(("algorithm", "search_algorithm", "search_alg", "tuner"), "searcher"),
    **dict.fromkeys(("sampler",), "searcher: {name: optuna, sampler: …}"),
    "pruner": "prune: {rule: median, after: 10}",
    "early_stopping": "prune: {rule: median, after: 10} or task.patience",
    **dict.fromkeys(("max_hours", "time_budget"), "stop.hours"),
    **dict.fromkeys(("loss", "criterion", "monitor", "target"), "objective"),
    **dict.fromkeys(("n_trials", "num_trials", "max_trials", "num_samples"), "stop.trials"),
    **dict.fromkeys(("random_seed", "random_state"), "seed"),
    **dict.fromkeys(
        ("time", "timeout", "duration", "max_time"),
        "stop.hours, hpogen run --for 6h or limits.trial_seconds",
    ),
    **dict.fromkeys(("dir", "directory", "output", "output_dir"), "hpogen run --dir DIR"),
    **dict.fromkeys(("workers", "n_jobs", "parallel", "concurrency"), "hpogen run --workers N"),
    **dict.fromkeys(("gpus", "gpus_per_trial", "num_gpus"), "hpogen run --gpus-per-trial 1"),
    **dict.fromkeys(("cpus", "cpus_per_trial", "num_cpus"), "hpogen run --cpus-per-trial 4"),
    **dict.fromkeys(
        ("mode", "direction", "maximize"), "objective.terms.0.weight: -1 (lower scores are better)"
    ),
    "device": "hpogen run --device cuda:0",
}
FILE = ("objective", "model")  # a `model` that stands elsewhere is the network
SEARCHERS = {  # what samplers of Optuna are called elsewhere
    **dict.fromkeys(("bayesian", "bayesianoptimization", "bayesopt", "bo"), "gp"),
    **dict.fromkeys(("hyperopt", "parzen"), "tpe"),
    **dict.fromkeys(("genetic", "nsga", "nsga2"), "nsgaii"),
    "nsga3": "nsgaiii",
    "sobol": "qmc",
}
METRICS = {"loss": "val_loss", "accuracy": "val_accuracy", "acc": "val_accuracy"}
PLACES = {  # where the name of a part of each kind stands
    "searcher": plugins.searchers,
    "task.name": plugins.tasks,
    "task.model": plugins.models,
    "task.dataset": plugins.datasets,
}
MAPPINGS = {  # what could stand where a mapping is expected
    "task": "{dataset: digits, model: mlp, epochs: 12}",
    "searcher": "{name: cmaes}",
    "stop": "{trials: 32} or {epochs: 640}",
    "objective": "{terms: [{metric: val_loss}]}",
    "objective.terms.0": "{metric: val_loss}",
    "budgets": "{min: 1, max: 9, eta: 3}",
    "prune": "{rule: median, after: 10}",
    "limits": "{trial_seconds: 600}",
    "checkpoints": "{keep: final}",
    "track": "{mlflow: http://127.0.0.1:5000} or {tensorboard: true}",
}
SEARCHED, MOST = "search_space", 3
OWN = "; one of your own needs plugins: [FILE.py]"
ENDS = ("low", "min", "lower"), ("high", "max", "upper")  # in other tools
FAR = 100  # times the lower end: a range that is likely searched by its logarithm
ALIKE = 0.8  # of names that may stand anywhere


def led_on(path: KeyPath, text: str, data: Mapping[str, Any], folder: Path) -> str:
    """What is wrong at `path`, with what is likely meant in place of all the names that there are.

    `data` is the whole study, `folder` where its file lies. Unchanged where nothing is known better
    than the nearest name, but for a part that may be one's own.
    """
    if text.startswith("got "):
        return text + (_searched(path, data) or _shape(path, text))
    subject, is_unknown, _ = text.partition(" is unknown")
    named = re.search(r"'([^']*)'$", subject)
    if not is_unknown or not named:
        return text
    if not (path and named[1] == path[-1]):
        better = _value(path, named[1], data) or _images(path, named[1], folder)
    elif path[2:] and path[0] in (SEARCHED, "baselines", "enqueue"):
        better = ""  # the space's own keys, and names of hyper-parameters
    else:
        better = _key(path, named[1], data, misspelt="did you mean" in text)
    if better:
        return f"{subject} is unknown; {better}"
    may_be_own = _named(path) in ("task.model", "task.dataset") and "/" not in named[1]
    return text + OWN * may_be_own


def _named(path: KeyPath) -> str:
    """The dotted key whose part is named at `path`, in the short form or the long one."""
    return ".".join(str(part) for part in path if part not in ("name", "preset"))


def _images(path: KeyPath, got: str, folder: Path) -> str:
    """How a folder is a data set, where there is one of that name."""
    is_folder = _named(path) == "task.dataset" and os.path.isdir(folder / got)
    return f"a folder of images: {{name: folder, path: {got}}}" if is_folder else ""


def _shape(path: KeyPath, text: str) -> str:
    """` such as [agn]`: what to write in place of a value of another shape."""
    got, _, expected = text.removeprefix("got ").rpartition(", expected ")
    dotted = ".".join("0" if isinstance(part, int) else str(part) for part in path)
    if expected == "a mapping" and dotted in MAPPINGS:
        return f" such as {MAPPINGS[dotted]}"
    if expected == "a list" and got[:1] in "'{":
        return f" such as [{got}]"
    return ""


def _searched(path: KeyPath, data: Mapping[str, Any]) -> str:
    """The range or the choice that a list, or a mapping with another tool's keys, likely means."""
    space = data.get(SEARCHED)
    if path[:1] != (SEARCHED,) or len(path) != 2 or not isinstance(space, Mapping):
        return ""
    given = space.get(path[1])
    if isinstance(given, list):
        is_log = _is_range(given) and given[0] > 0 and given[1] >= FAR * given[0]
        return f", or {_parameter(given, is_log)}" if given else ""
    if not isinstance(given, Mapping):
        return ""
    values = next((given[key] for key in ("values", "choices") if key in given), None)
    if isinstance(values, list):
        return f": write {{choice: {quoted(values)}}}"
    ends: list[Any] = [next((given[key] for key in keys if key in given), None) for keys in ENDS]
    is_log = given.get("log") is True or any("log" in str(v) for v in given.values())
    fits = _is_range(ends) and (ends[0] > 0 or not is_log)
    return f": write {_parameter(ends, is_log)}" if fits else ""


def _is_range(ends: Sequence[Any]) -> bool:
    return [*map(type, ends)] in ([int, int], [float, float], [int, float], [float, int])


def _parameter(values: Sequence[Any], is_log: bool) -> str:
    """`{float: [0.001, 1.0], log: true}`, or a choice of what are no two numbers."""
    kind = "float" if float in map(type, values) else "int"
    kind = kind if _is_range(values) else "choice"
    return f"{{{kind}: {quoted([*values])}{', log: true' * is_log}}}"


def _key(path: KeyPath, key: str, data: Mapping[str, Any], *, misspelt: bool) -> str:
    """`did you mean task.schedule.warmup?` of a key that belongs elsewhere."""
    names = _named_elsewhere(path, key, _places(data), misspelt=misspelt)
    if not names:
        return _of_another_task(path, key)
    more = ""
    if any(name.startswith(f"{SEARCHED}.") for name in names):
        more = " A single value there is held fixed." * (path[0] != SEARCHED)
    elif path[0] == SEARCHED:
        more = " It is not searched: a matrix varies it."
    return f"did you mean {' or '.join(names)}?{more}"


def _named_elsewhere(
    path: KeyPath, key: str, places: Sequence[KeyPath], *, misspelt: bool
) -> list[str]:
    """The places of the key, the nearest first; else what it is a synonym of, or resembles."""
    word = key.lower().replace("-", "_")
    if word not in {place[-1] for place in places}:
        if word in SYNONYMS:
            return [SYNONYMS[word]]
        word = "" if misspelt else nearest(key, {str(place[-1]) for place in places}, ALIKE)
    found = [place for place in places if place[-1] == word and place != path]
    found.sort(key=lambda place: (-_shared(place, path), len(place)))
    return [*map(_dotted, found[:MOST])]


def _shared(place: KeyPath, path: KeyPath) -> int:
    return next((i for i, (a, b) in enumerate(zip(place, path, strict=False)) if a != b), 0)


def _dotted(place: KeyPath) -> str:
    return ".".join(map(str, place)) if place[1:] else f"{place[0]} at the top"


def _places(data: Mapping[str, Any]) -> list[KeyPath]:
    """Every key of a study of such a task, but for names; a list's entry is 0."""
    form, task = _task(data)
    places: list[KeyPath] = [*keys(StudyForm)]
    if isinstance(form, plugins.TaskFunction):
        places += [("task", option) for option in plugins.options_of(form.function)]
    places += [*keys(form, ("task",))]
    elsewhere = getattr(form, "elsewhere", None)
    places += elsewhere(task) if elsewhere else []
    return [place for place in dict.fromkeys(places) if place[-1] != "name" and place != FILE]


def _task(data: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """What is registered for the study's task, the default where that is not known."""
    given = data.get("task")
    task: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    name = task.get("name", plugins.DEFAULT_TASK)
    return plugins.tasks.get(name if name in plugins.tasks else plugins.DEFAULT_TASK), task


def _of_another_task(path: KeyPath, key: str) -> str:
    """Of a key of a task that the study would have to name."""
    if path != ("task", key):
        return ""
    for name in filter(plugins.tasks.is_builtin, plugins.tasks.names()):
        if key in known_keys(plugins.tasks.get(name), ()):
            return f"it is a key of the task {name!r}: write name: {name}"
    return ""


def _value(path: KeyPath, got: str, data: Mapping[str, Any]) -> str:
    dotted = _named(path)
    if path == ("searcher",):
        return ""  # what a searcher itself refuses
    if dotted == "searcher" and (sampler := _sampler(got)):
        return f"it is a sampler of Optuna: write {{name: optuna, sampler: {sampler}}}"
    if dotted == "objective" and (text := _metric(got, data)):
        return text
    here = "task.name" if path == ("task", "name") else dotted
    if here in PLACES and (full := _in_a_family(got, PLACES[here])):
        return f"did you mean {full}?"
    for place, parts in PLACES.items():
        if place != here and got in parts:
            return f"it is the name of a {parts.kind}: did you mean {place}: {got}?"
    return ""


def _in_a_family(got: str, parts: plugins.Registry[Any]) -> str:
    """`torchvision/resnet50` of a name that is none of ours, whatever its case."""
    if got.lower() in parts.names():
        return ""
    names = (choice.replace("NAME", got) for choice in parts.choices() if choice.endswith("/NAME"))
    return next((name for name in names if name in parts), "")


def _sampler(got: str) -> str:
    """The class of `optuna.samplers` that is called so, unless one of ours is."""
    word = re.sub(r"[\W_]", "", got).lower()
    short = word.replace("optuna", "").replace("sampler", "")
    short = SEARCHERS.get(short, short)
    if short == word and word in plugins.searchers:
        return ""
    from hpogen.searchers.optuna_samplers import offered

    return {name.removesuffix("Sampler").lower(): name for name in offered()}.get(short, "")


def _metric(got: str, data: Mapping[str, Any]) -> str:
    """How a metric is an objective: by a preset, or as a term."""
    known = _metrics(data)
    if got not in known and got.lower().startswith("test"):
        return "no search sees the test set: hpogen retrain tests what was chosen"
    name = got if got in known else METRICS.get(got.lower(), got.lower())
    presets = {preset(p)[0].metric: p for p in PRESETS if "+" not in p}  # type: ignore[arg-type]
    if name in presets and name in known:
        return f"{name} alone is the objective {presets[name]}: write objective: {presets[name]}"
    if name not in known:
        return ""
    weight = ", weight: -1" * ("accuracy" in name)  # lower is better
    return f"it is a metric: write objective: {{terms: [{{metric: {name}{weight}}}]}}"


def _metrics(data: Mapping[str, Any]) -> frozenset[str]:
    """Those that the study's task has, or as many as can be told of a task with mistakes."""
    form, task = _task(data)
    try:
        if isinstance(form, plugins.TaskFunction):
            return form.metrics
        if isinstance(listed := task.get("metrics"), list):
            return frozenset(map(str, listed))
        return frozenset(form.every_metric())
    except (AttributeError, UserError):
        return frozenset()
