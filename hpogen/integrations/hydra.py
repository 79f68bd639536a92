"""hpogen's searchers in Hydra: the sweeper `hydra/sweeper=hpogen`, beside any launcher.

    python train.py -m hydra/sweeper=hpogen 'lr=tag(log, interval(1e-4, 1))' width=64,128

Hydra finds plug-ins in the package `hydra_plugins`, where an installed hpogen has `namespaces/
hydra_plugins/hpogen.py`. In a checkout it does not look: there the app imports this file, or is run
by `python -m hpogen.integrations.hydra train.py …`, and the class is registered by hand.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
import json
import logging
import math
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpogen.errors import UserError, quoted, unknown
from hpogen.integrations.journal import Journal
from hpogen.integrations.search import Search, define
from hpogen.trial import Config, Value

try:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import (
        ChoiceSweep,
        IntervalSweep,
        Override,
        RangeSweep,
    )
    from hydra.core.plugins import Plugins
    from hydra.core.utils import JobStatus
    from hydra.errors import CompactHydraException
    from hydra.plugins.sweeper import Sweeper
    from omegaconf import DictConfig, OmegaConf

    from hpogen.integrations.hydra_options import MODULE, PACKAGE, Options, store
except ImportError as error:
    raise ImportError(f"hpogen.integrations.hydra: {error}: pip install 'hpogen[hydra]'") from None

log = logging.getLogger(__name__)

WHO = "hydra/sweeper=hpogen"
JOURNALS = Path("multirun", "hpogen")
RESULTS = "optimization_results.yaml"  # as Hydra's other optimizing sweepers call it
MAX_FAILED = 10  # jobs in a row, after which the search stops itself
MODES = ("min", "max")


class HpogenSweeper(Sweeper):
    """Searches a Hydra app: each trial is a job, whose return value is its score.

    What is searched are the sweeps among the overrides, and `space`. The search goes on where it
    was when the same command is given again: a journal, by default in `multirun/hpogen/` under a
    name that the search and the other overrides make, has every ask and tell.
    """

    hydra_context: Any
    config: Any
    launcher: Any

    def __init__(self, **options: Any) -> None:
        plain: dict[str, Any] = {
            k: OmegaConf.to_object(x) if OmegaConf.is_config(x) else x for k, x in options.items()
        }
        self._options = Options(**plain)

    def setup(self, *, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Config | None:
        """The best configuration that was found; None where every trial failed."""
        try:
            return self._sweep(arguments)
        except UserError as error:
            raise CompactHydraException(str(error)) from None

    def _sweep(self, arguments: Sequence[str]) -> Config | None:
        options = self._options
        _check(options)
        params = [f"{key}={value}" for key, value in options.params.items()]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*params, *arguments])
        by_key = {override.get_key_element(): override for override in overrides}
        fixed = [str(o.input_line) for o in by_key.values() if not o.is_sweep_override()]
        sweeps = {key: o for key, o in by_key.items() if o.is_sweep_override()}
        search = self._search({**options.space, **{k: space_of(o) for k, o in sweeps.items()}})
        beside = {"fixed": fixed, "objective": options.objective, "mode": options.mode}
        home = Path(self.config.hydra.sweep.dir)
        home.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, home / "multirun.yaml")
        path = Path(options.journal) if options.journal else self._journal(search, beside)
        journal = Journal(path, search, beside)
        try:
            self._run(journal, fixed, path)
        finally:
            journal.close()
        return _best(journal, options, home)

    def _search(self, space: Mapping[str, Any]) -> Search:
        given = self._options.searcher
        named = {"name": given} if isinstance(given, str) else {**given}
        name = named.pop("name", "")
        if not space:
            raise UserError(f"{WHO}: nothing is searched: give 'lr=interval(1e-4, 1)' or the like")
        own = {key: self._with_default(key, form) for key, form in space.items()}
        instead = "which a job has not: use another searcher"
        options = self._options
        return define(WHO, own, name, options.seed, options.enqueue, named, instead)

    def _with_default(self, key: str, form: Any) -> Any:
        """With the value that the app's own configuration has, where the range has it."""
        value = OmegaConf.select(self.config, key.lstrip("+"), default=None)
        if not isinstance(form, dict) or "default" in form or isinstance(value, DictConfig):
            return form
        (kind, given), *_ = form.items()
        if kind == "choice":
            fits = any(value == one and type(value) is type(one) for one in given)
        else:
            right = int if kind == "int" else float
            number = isinstance(value, int | float) and not isinstance(value, bool)
            fits = number and right(value) == value and given[0] <= value <= given[1]
            fits = fits and "step" not in form
            value = right(value) if fits else value
        return {**form, "default": value} if fits else form

    def _journal(self, search: Search, beside: Mapping[str, Any]) -> Path:
        text = json.dumps([search.record(), beside], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        cwd = Path(self.config.hydra.runtime.cwd)
        return cwd / JOURNALS / f"{self.config.hydra.job.name}-{digest}.jsonl"

    def _run(self, journal: Journal, fixed: Sequence[str], path: Path) -> None:
        if journal.configs:
            log.info("%s goes on after %d trials", path, len(journal.scores))
        failed = 0
        while batch := self._batch(journal):
            lines = [[*fixed, *overrides_of(journal.configs[trial])] for trial in batch]
            self.validate_batch_is_legal(lines)
            jobs = self.launcher.launch(lines, initial_job_idx=batch[0])
            for trial, job in zip(batch, jobs, strict=True):
                score = self._score(trial, job)
                failed = failed + 1 if math.isinf(score) else 0
                journal.tell(trial, score)
            if failed >= MAX_FAILED:
                raise UserError(f"{WHO}: {failed} jobs in a row have failed, see the log for why")

    def _batch(self, journal: Journal) -> list[int]:
        """The next trials: first those that were under way, as long as they follow each other."""
        size = self._options.max_batch_size
        if left := journal.left:
            following = itertools.takewhile(
                lambda pair: pair[0] == pair[1], zip(left, itertools.count(left[0]))
            )
            return [trial for trial, _ in following][:size]
        begin = len(journal.configs)
        while len(journal.configs) < min(begin + size, self._options.trials):
            if journal.ask() is None:
                break
        return [*range(begin, len(journal.configs))]

    def _score(self, trial: int, job: Any) -> float:
        """Of what the app returned; infinite where it failed, or that is not finite."""
        if job.status != JobStatus.COMPLETED:
            log.warning("trial=%d failed: %s", trial, job._return_value)
            return math.inf
        value, name = job.return_value, self._options.objective
        if isinstance(value, Mapping):
            if name not in value:
                raise UserError(unknown(f"{WHO}: objective", name, map(str, value)))
            value = value[name]
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise UserError(
                f"{WHO}: the app returned {quoted(value)}, expected a number, or a mapping and "
                "hydra.sweeper.objective=NAME"
            ) from None
        score = -number if self._options.mode == "max" else number
        return score if math.isfinite(score) else math.inf


def _check(options: Options) -> None:
    if options.mode not in MODES:
        raise UserError(unknown(f"{WHO}: mode", options.mode, MODES))
    for name in ("trials", "max_batch_size"):
        if (value := getattr(options, name)) < 1:
            raise UserError(f"{WHO}: {name}: got {value}, expected at least 1")


def _best(journal: Journal, options: Options, home: Path) -> Config | None:
    """Write the answer down, and say it."""
    trial = min(journal.scores, key=lambda one: journal.scores[one], default=0)
    score = journal.scores.get(trial, math.inf)
    if math.isinf(score):
        log.warning("all %d trials have failed", len(journal.scores))
        return None
    config, value = journal.configs[trial], -score if options.mode == "max" else score
    found = {"name": "hpogen", "best_trial": trial, "best_value": value}
    OmegaConf.save(OmegaConf.create({**found, "best_evaluated_params": config}), home / RESULTS)
    words = " ".join(overrides_of(config))
    log.info("best of %d trials: trial %d: %.6g: %s", len(journal.scores), trial, value, words)
    return config


def space_of(override: Override) -> dict[str, Any]:
    """A sweep in the form of hpogen's YAML. Strings stand for what Hydra makes of them."""
    sweep: Any = override.value()
    log_scale = {"log": True} if "log" in sweep.tags else {}
    if isinstance(sweep, IntervalSweep):
        whole = isinstance(sweep.start, int) and isinstance(sweep.end, int)
        return {"int" if whole else "float": [sweep.start, sweep.end], **log_scale}
    if isinstance(sweep, RangeSweep):
        return _range([*sweep.range()], sweep, log_scale)
    ordered = {"ordered": True} if "ordered" in sweep.tags else {}
    texts = [*override.sweep_string_iterator()]
    if not isinstance(sweep, ChoiceSweep):  # a glob
        return {"choice": texts}
    return {
        "choice": [_plain(x, text) for x, text in zip(sweep.list, texts, strict=True)],
        **ordered,
    }


def _range(values: list[Any], sweep: RangeSweep, log_scale: Mapping[str, Any]) -> dict[str, Any]:
    if len(values) < 2:
        return {"choice": values}
    low, high = min(values), max(values)
    kind = "int" if isinstance(low, int) else "float"
    step = abs(sweep.step)
    return {kind: [low, high], **log_scale} | (
        {} if step == 1 and kind == "int" else {"step": step}
    )


def _plain(value: Any, text: str) -> Any:
    """A number, a truth value or null as it is; of all else the text by which Hydra knows it."""
    return value if value is None or isinstance(value, bool | int | float) else text


def overrides_of(config: Config) -> list[str]:
    """A configuration in Hydra's words."""
    return [f"{key}={_word(value)}" for key, value in config.items()]


def _word(value: Value) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def register() -> None:
    """Make `hydra/sweeper=hpogen` known to Hydra, in this process."""
    plugins = Plugins.instance()  # once it has looked for the others
    try:
        package = importlib.import_module(PACKAGE)
    except ImportError:  # no other plug-in is installed
        package = sys.modules[PACKAGE] = types.ModuleType(PACKAGE)
        package.__path__ = []
    module = types.ModuleType(MODULE)
    vars(module)[HpogenSweeper.__name__] = HpogenSweeper
    vars(package)[MODULE.rpartition(".")[2]] = sys.modules[MODULE] = module
    HpogenSweeper.__module__ = MODULE
    plugins.register(HpogenSweeper)
    store()


def run_app() -> None:
    """Run the app of the command line, which need not import this file."""
    import runpy

    if len(sys.argv) < 2:
        sys.exit("usage: python -m hpogen.integrations.hydra APP.py -m hydra/sweeper=hpogen …")
    app = sys.argv[1]
    if not Path(app).is_file():
        sys.exit(f"{app}: is no file, expected the Hydra app to run")
    sys.argv = sys.argv[1:]
    sys.path[0] = str(Path(app).resolve().parent)
    runpy.run_path(app, run_name="__main__")


if __name__ == "__main__":
    from hpogen.integrations import hydra as registered

    registered.run_app()
else:
    register()
