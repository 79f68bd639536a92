"""`hpogen.search`: a study of a plain function, written, resumed and looked at like any other."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast

from hpogen import plugins
from hpogen.cli.drive import pool
from hpogen.errors import UserError, quoted
from hpogen.executors.choice import Where
from hpogen.notebook.result import Result
from hpogen.objective import PRESETS, Preset, preset
from hpogen.plugins import declared
from hpogen.record.folder import log_path
from hpogen.report.verdict import ending
from hpogen.space import space_form
from hpogen.spec import StudySpec
from hpogen.study.read import RUNS

FLAGS = ("resumable", "data", "split")
WHERE = ("device", "ray", "gpus_per_trial")
FAILED = ("errors", "lost", "broken", "cluster")  # ends that are no result


class More(TypedDict, total=False):
    """What else `search` takes by name.

    `sums`, `audit`, `resumable`, `data` and `split` are as `hpogen.plugins.task` has them.
    `device`, `ray` and `gpus_per_trial` are `hpogen run`'s; the others are keys of a study's YAML.
    """

    sums: Collection[str]
    audit: Collection[str]
    resumable: bool
    data: bool
    split: bool
    threads: int
    device: str
    ray: str
    gpus_per_trial: float
    name: str
    seed: int
    selection: str
    stop: Mapping[str, Any]
    prune: Any
    enqueue: Any
    budgets: Any
    rungs: str
    finalists: Any
    limits: Mapping[str, Any]
    track: Mapping[str, Any]
    baselines: Mapping[str, Any]


def search(
    function: Callable[[Any], Any],
    space: Any,
    *,
    objective: str | Mapping[str, Any] = "val",
    searcher: str | Mapping[str, Any] | None = None,
    trials: int | None = None,
    epochs: int = 1,
    metrics: Collection[str] = (),
    workers: int = 1,
    directory: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **more: Unpack[More],
) -> Result:
    """Search for the configuration whose training generalizes, and go on with it when called again.

    `function(trial)` trains `trial.config`: it yields a mapping of metrics after each of
    `trial.epochs()`, or returns one, or one number, for its only epoch. `space` is a mapping of
    names to `Float`, `Int`, `Choice`, `Constant`, the YAML's forms, ConfigSpace's hyper-parameters
    or Optuna's distributions, or a ConfigSpace. `searcher` and `objective` are the YAML's, the
    latter or the name of one of the metrics, the lower the better. `metrics` are what the function
    yields; left out, those of the objective. `epochs` is a trial's full budget; `trials` `stop`'s.

    The study is in `directory`, by default `runs/NAME` with the function's name, for the commands
    of the shell, too. With `workers` above 1, or an address of `ray`, the function travels to
    processes of Ray, with what it uses. `progress` shows the table of `hpogen run`. Ctrl-C stops
    cleanly. Raises UserError for what is wrong, and where the study had to stop itself.
    """
    given: dict[str, Any] = {**more}
    wanted, form = _objective(objective, metrics)
    entry = _entry(function, metrics or wanted, given)
    where = Where(workers=workers, **{key: given.pop(key) for key in WHERE if key in given})
    task = {"name": entry.name, "epochs": epochs, "threads": given.pop("threads", 1)}
    stop = {**({} if trials is None else {"trials": trials}), **given.pop("stop", {})}
    record = {
        "name": entry.name if directory is None else Path(directory).absolute().name,
        **given,
        **{"task": task, "search_space": space_form(space), "stop": stop},
        **{"searcher": searcher, "objective": form},
    }
    with plugins.scope((*plugins.in_scope(), plugins.bind_function(entry, function))):
        spec = StudySpec.from_record(record)
        folder = RUNS / spec.name if directory is None else Path(directory)
        return _run(spec, folder, where, progress)


def _run(spec: StudySpec, folder: Path, where: Where, progress: bool) -> Result:
    if where.ray or (where.workers or 1) > 1:
        _check_travels(spec.scope)
    ran = pool(spec.name, {folder: spec}, folder, where, "", tracks=True, shown=progress)
    with _own_threads(), ran as runs:
        study, result = runs[0]
        if result.end in FAILED:
            text = ending(spec, result.end, result.trials, result.text)
            failed = [r.trial.id for r in study.history.told() if r.failure]
            log = f"; {log_path(folder, failed[-1])}" if failed else ""
            raise UserError(f"{text}{log}")
    return Result(folder, result.end, spec.scope)


def _check_travels(scope: plugins.Scope) -> None:
    """Raise UserError before anything is written, where the function cannot go to workers."""
    from hpogen.executors.ray_functions import packed

    for name in scope:
        packed(name, plugins.FILES[name])


@contextlib.contextmanager
def _own_threads() -> Iterator[None]:
    """Trials set torch's threads; afterwards the program has its own again."""
    torch: Any = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else None
    try:
        yield
    finally:
        if before is not None:
            torch.set_num_threads(before)


def _objective(
    objective: str | Mapping[str, Any], metrics: Collection[str]
) -> tuple[frozenset[str], Any]:
    """The metrics that it names, and what the YAML has for it."""
    if isinstance(objective, str) and (objective not in PRESETS or objective in metrics):
        return frozenset([objective]), {"terms": [{"metric": objective}]}
    form = {"preset": objective} if isinstance(objective, str) else objective
    if not isinstance(form, Mapping):
        raise UserError(f"search: objective: got {quoted(form)}, expected the YAML's, or a metric")
    if (name := form.get("preset")) in PRESETS:
        terms_of = preset(cast("Preset", name), 1.0)
        return frozenset(term.metric for term in terms_of), objective
    listed = [*(form.get("terms") or ()), *(form.get("pareto") or ())]
    named = [term.get("metric") if isinstance(term, Mapping) else term for term in listed]
    return frozenset(name for name in named if isinstance(name, str)), objective


def _entry(function: Any, metrics: Collection[str], given: dict[str, Any]) -> plugins.TaskFunction:
    """The function as a task without options, under its own name; what declares it is taken out.

    Raises UserError.
    """
    sums, observed, audit = (given.pop(key, ()) for key in ("sums", "observed", "audit"))
    flags = {key: given.pop(key, False) for key in FLAGS}
    if not callable(function):
        raise UserError(f"search: got {quoted(function)}, expected a function of a trial")
    try:
        declared.function("task", function, 1)
        promised = declared.task(metrics, sums, observed, audit, flags)
    except UserError as error:
        raise UserError(str(error).replace("@task:", "search:", 1)) from None
    name = getattr(function, "__name__", type(function).__name__)
    name = name if name.isidentifier() else "function"
    if plugins.tasks.is_builtin(name):
        name = f"{name}-function"
    return plugins.TaskFunction(name, lambda trial: function(trial), **promised)
