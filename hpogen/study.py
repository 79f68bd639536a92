"""A study: the spec, its searcher and objective, and the ledger that makes them resumable.

    study = Study(spec, directory)               # resumes when the folder holds the study
    while (trial := study.next()) is not None:
        study.record(Outcome(trial.id, metrics=…))

The runner drives it, and so may a loop of one's own.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import math
import platform
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpogen import folder, history
from hpogen.errors import UserError
from hpogen.history import History, Record
from hpogen.ledger import FORMAT, Event, Ledger
from hpogen.objective import Location, locate, rank
from hpogen.spec import StudySpec, changes
from hpogen.trial import Failure, Outcome, Progress, Proposal, Trial, trial_seed

log = logging.getLogger("hpogen.study")

PACKAGES = ("hpogen", "numpy", "torch", "torchvision", "cma", "pyswarms", "hpbandster", "optuna")
SAME = 1e-9  # how far a replayed number may be from the recorded one


class Study:
    """Asks the searcher, numbers and records trials, scores outcomes, tells the searcher.

    Opening takes the folder's lock; `close` gives it back. Raises UserError when the folder is in
    use, holds another study, is damaged, or when the searcher no longer proposes what it did.
    """

    def __init__(self, spec: StudySpec, directory: Path) -> None:
        self.spec = spec
        self.directory = directory
        self.history = History()
        self._searcher = spec.make_searcher()
        self._again: deque[Trial] = deque()  # asked before an interruption, to be run again
        self._running: set[int] = set()
        self._held: dict[int, None] = {}
        self._twins: dict[int, list[int]] = {}  # duplicates that wait for a running trial
        self._ended = False
        self._told: list[int] = []  # not taken yet
        self._ledger = Ledger(directory)
        try:
            self._begin()
        except BaseException:
            self._ledger.close()
            raise

    def next(self) -> Trial | None:
        """The next trial to run. None: wait for a running one, or, with none running, the end."""
        while True:
            if self._again:
                trial = self._again.popleft()
                self._running.add(trial.id)
                return trial
            proposal = None if self._ended else self._searcher.ask()
            if proposal is None:
                if self._running or not self._release():
                    return None
                continue
            if not self._fits(proposal):
                self._ended = True
                continue
            trial = self._ask(proposal)
            if self._twin_of(trial) is None:
                self._running.add(trial.id)
                return trial

    def record(self, outcome: Outcome) -> None:
        """Write down how a running trial ended, score it, and tell the searcher when it is due.

        Raises ValueError for a trial that is not running, or a metric missing or not finite.
        """
        if outcome.trial not in self._running:
            raise ValueError(f"trial {outcome.trial} is not running: it cannot be recorded")
        trial = self.history.records[outcome.trial].trial
        outcome = self._checked(outcome, trial)
        self._running.remove(outcome.trial)
        folder.keep_files(self.directory, trial.id, outcome.files)
        self._settle(outcome)

    def progress(self, progress: Progress) -> None:
        """Add an epoch to a running trial's curve."""
        folder.append_curve(self.directory, progress)

    def lost(self, trial: int, text: str) -> int:
        """Note that a trial's worker died, to be dispatched again; how often it has by now."""
        self._write({"kind": "lost", "trial": trial, "text": text})
        return self.history.records[trial].lost

    def take_told(self) -> list[Record]:
        """The trials that were told since the last call (or the opening), in that order."""
        told, self._told = self._told, []
        return [self.history.records[trial] for trial in told]

    @property
    def running(self) -> frozenset[int]:
        """The trials handed out by `next` and not recorded yet."""
        return frozenset(self._running)

    @property
    def stop(self) -> Mapping[str, int | None]:
        """The limits in force: `epochs`, `trials`."""
        return self.history.stop

    def close(self) -> None:
        """Sync the ledger and release the folder. The study cannot be used afterwards."""
        self._ledger.close()

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Opening: a new folder gets its header, an old one is replayed.

    def _begin(self) -> None:
        record = self.spec.record()
        plugins = {path.name: _sha256(path) for path in self.spec.plugins}
        if not self._ledger.events:
            if self._ledger.torn:
                log.warning("ledger header=torn action=new_study")
            (self.directory / "trials").mkdir(exist_ok=True)
            self._keep_plugins()
            header = {"kind": "study", "format": FORMAT, "spec": record, "plugins": plugins}
            self._write({**header, "versions": _versions()})
            return
        extended = self._compare(self._ledger.events, record, plugins)
        if self._ledger.torn:
            log.warning("ledger torn_bytes=%d action=cut_off", len(self._ledger.torn))
        self._replay(self._ledger.events)
        if extended is not None:
            self._write({"kind": "extended", "stop": extended})

    def _keep_plugins(self) -> None:
        for path in self.spec.plugins:
            (self.directory / "plugins").mkdir(exist_ok=True)
            kept = self.directory / "plugins" / path.name
            if not (kept.exists() and kept.samefile(path)):
                shutil.copyfile(path, kept)

    def _compare(
        self, events: list[Event], record: dict[str, Any], plugins: dict[str, str]
    ) -> dict[str, int | None] | None:
        """Refuse another study's spec; the raised `stop`, if it was raised."""
        header = events[0]
        old = {**header["spec"], "stop": _last_stop(events)}
        for key, was, now in changes(old, record):
            if key.split(".")[0] != "stop":
                raise self._differs(key, was, now)
        for name in sorted({*plugins, *header["plugins"]}):
            was, now = header["plugins"].get(name), plugins.get(name)
            if was != now:
                raise self._differs(f"plugins.{name}", _digest(was), _digest(now))
        versions = _versions()
        for package, was in header["versions"].items():
            if (now := versions.get(package)) != was:
                log.warning("version package=%s recorded=%s now=%s", package, was, now)
        return self._raised(old["stop"], record["stop"])

    def _differs(self, key: str, was: object, now: object) -> UserError:
        return UserError(
            f"{self.spec.where(key)}: {key}: {now!r}, but the study in {self.directory} was begun "
            f"with {was!r}; take that back, or start a new study with --dir"
        )

    def _raised(
        self, was: dict[str, int | None], now: dict[str, int | None]
    ) -> dict[str, int | None] | None:
        for key in was:
            if (now[key] or math.inf) < (was[key] or math.inf):
                raise UserError(
                    f"{self.spec.where(f'stop.{key}')}: stop.{key}: {now[key]}, but the study in "
                    f"{self.directory} has {was[key]}; stop can only be raised"
                )
        return now if now != was else None

    def _replay(self, events: list[Event]) -> None:
        for line, event in enumerate(events, 1):
            if event["kind"] == "asked":
                self._check_same(self._searcher.ask(), history.trial_of(event), line)
            self.history.apply(event)
            if event["kind"] == "told":
                self._searcher.tell(event["trial"], self.history.records[event["trial"]].score)
        for record in self.history.records:
            if record.state == "held":
                self._held[record.trial.id] = None
            elif record.state == "running" and record.twin is None:
                self._again.append(record.trial)
        self._catch_up()

    def _catch_up(self) -> None:
        """Do what was due when the record ends: tell what has its scale, settle duplicates."""
        for budget in sorted({self.history.records[trial].trial.budget for trial in self._held}):
            if budget in self.history.locations:
                self._tell_held(budget)
            self._freeze(budget)
        for record in self.history.records:
            if record.state == "running" and record.twin is not None:
                self._twin_of(record.trial)

    def _check_same(self, proposal: Proposal | None, trial: Trial, line: int) -> None:
        """The engine must propose what it proposed before; tiny differences are the machine's."""
        for what, was, now in _differences(proposal, trial):
            if _close(was, now):
                log.warning(
                    "replay trial=%d %s=%r now=%r action=recorded", trial.id, what, was, now
                )
                continue
            raise UserError(
                f"{self._ledger.path}:{line}: on replay {self.spec.searcher.name} proposes {what} "
                f"= {now!r} for trial {trial.id}, the ledger has {was!r}: other versions of its "
                "packages? Install those of the ledger's first line, or start a new study with "
                "--dir"
            )

    # Asking.

    def _fits(self, proposal: Proposal) -> bool:
        epochs, trials = self.stop["epochs"], self.stop["trials"]
        if trials is not None and len(self.history.records) >= trials:
            return False
        return epochs is None or self.history.charged + proposal.budget <= epochs

    def _ask(self, proposal: Proposal) -> Trial:
        trial = Trial(
            config=proposal.config,
            budget=proposal.budget,
            parent=proposal.parent,
            cohort=proposal.cohort,
            replicate=proposal.replicate,
            id=len(self.history.records),
            seed=trial_seed(self.spec.seed, proposal.config, proposal.replicate),
        )
        self._write(history.asked(trial))
        log.info("ask trial=%d budget=%d config=%s", trial.id, trial.budget, dict(trial.config))
        return trial

    def _twin_of(self, trial: Trial) -> int | None:
        """The earlier trial whose outcome serves this duplicate, now or when it has ended."""
        twin = self.history.records[trial.id].twin
        if twin is None:
            return None
        first = self.history.records[twin]
        if first.outcome is None:
            self._twins.setdefault(twin, []).append(trial.id)
        else:
            self._settle(_copied(first.outcome, trial.id))
        return twin

    # Recording.

    def _checked(self, outcome: Outcome, trial: Trial) -> Outcome:
        if outcome.failure is not None:
            return replace(outcome, epochs=outcome.epochs or 0)
        missing = sorted(self.wanted - set(outcome.metrics))
        if missing:
            raise ValueError(f"trial {trial.id}: metric {missing[0]!r} is missing in its outcome")
        outcome = replace(
            outcome,
            metrics={name: float(value) for name, value in outcome.metrics.items()},
            audit={name: float(value) for name, value in outcome.audit.items()},
        )
        for name, value in {**outcome.metrics, **outcome.audit}.items():
            if not math.isfinite(value):
                failure = Failure("diverged", f"{name} is {value}")
                return Outcome(trial.id, {}, seconds=outcome.seconds, epochs=0, failure=failure)
        return outcome if outcome.epochs is not None else replace(outcome, epochs=trial.budget)

    @property
    def wanted(self) -> frozenset[str]:
        """The metrics that every outcome must have: the objective's and the selection's."""
        selection = self.spec.selection
        return self.spec.objective.metrics | ({selection} - {"score"})

    def _settle(self, outcome: Outcome) -> None:
        """Score an outcome now, or hold it until its scale is known; then its waiting twins."""
        budget = self.history.records[outcome.trial].trial.budget
        objective = self.spec.objective
        must_wait = objective.uses("rank") or (
            objective.standardized() and budget not in self.history.locations
        )
        if outcome.failure is None and must_wait:
            self._held[outcome.trial] = None
            self._write(history.held(outcome))
        else:
            self._tell(outcome)
        for twin in self._twins.pop(outcome.trial, []):
            self._settle(_copied(outcome, twin))
        self._freeze(budget)

    def _freeze(self, budget: int) -> None:
        """Fix the `standard` scale from the first finite outcomes in trial order, once there."""
        objective = self.spec.objective
        if not objective.standardized() or budget in self.history.locations:
            return
        finite: list[Outcome] = []
        for record in self.history.records:
            if record.trial.budget != budget:
                continue
            if record.outcome is None:
                return
            if record.failure is None:
                finite.append(record.outcome)
            if len(finite) == objective.standard_after:
                self._fix(budget, _locations(objective.standardized(), finite))
                self._tell_held(budget)
                return

    def _release(self) -> bool:
        """Score what is held although the searcher waits for it; whether there was anything."""
        budgets = sorted({self.history.records[trial].trial.budget for trial in self._held})
        for budget in budgets:
            if self.spec.objective.standardized() and budget not in self.history.locations:
                lower = [b for b in self.history.locations if b < budget]
                here = [r.outcome for r in self._held_at(budget) if r.outcome]
                self._fix(
                    budget,
                    self.history.locations[max(lower)]
                    if lower
                    else _locations(self.spec.objective.standardized(), here),
                )
            self._tell_held(budget)
        return bool(budgets)

    def _held_at(self, budget: int) -> list[Record]:
        records = (self.history.records[trial] for trial in sorted(self._held))
        return [record for record in records if record.trial.budget == budget]

    def _fix(self, budget: int, locations: Mapping[str, Location]) -> None:
        self._write(history.scale(budget, locations))

    def _tell_held(self, budget: int) -> None:
        records = self._held_at(budget)
        ranks = self._cohort_ranks(records)
        for record in records:
            del self._held[record.trial.id]
            if record.outcome:
                self._tell(record.outcome, ranks.get(record.trial.id))

    def _cohort_ranks(self, records: list[Record]) -> dict[int, dict[str, float]]:
        """Per trial, the ranks of its metrics among all trials of its cohort that have them."""
        ranks: dict[int, dict[str, float]] = {}
        metrics = [t.metric for t in self.spec.objective.terms if t.scale == "rank"]
        for cohort in {record.trial.cohort for record in records if metrics}:
            outcomes = [
                record.outcome
                for record in self.history.records
                if record.trial.cohort == cohort and record.outcome and record.outcome.metrics
            ]
            for metric in metrics:
                positions = rank([outcome.metrics[metric] for outcome in outcomes])
                for outcome, position in zip(outcomes, positions, strict=True):
                    ranks.setdefault(outcome.trial, {})[metric] = position
        return ranks

    def _tell(self, outcome: Outcome, ranks: Mapping[str, float] | None = None) -> None:
        score = math.inf
        if outcome.failure is None:
            budget = self.history.records[outcome.trial].trial.budget
            locations = self.history.locations.get(budget)
            try:
                score = self.spec.objective.score(outcome.metrics, budget, locations, ranks)
                if not math.isfinite(score):
                    raise ValueError(f"the score is {score}")
            except ValueError as error:
                score = math.inf
                outcome = replace(outcome, failure=Failure("error", str(error)))
        self._write(history.told(outcome, score))
        log.info("tell trial=%d score=%r failure=%s", outcome.trial, score, outcome.failure)
        self._searcher.tell(outcome.trial, score)
        self._told.append(outcome.trial)

    def _write(self, event: Event) -> None:
        self._ledger.append(event)
        self.history.apply(event)


def _copied(outcome: Outcome, trial: int) -> Outcome:
    """A duplicate's outcome: the same numbers, nothing trained."""
    return replace(outcome, trial=trial, epochs=0, seconds={}, files={})


def _locations(metrics: tuple[str, ...], outcomes: list[Outcome]) -> dict[str, Location]:
    return {metric: locate([o.metrics[metric] for o in outcomes]) for metric in metrics}


def _differences(proposal: Proposal | None, trial: Trial) -> Iterator[tuple[str, object, object]]:
    """Where a replayed proposal is not the recorded trial: what, recorded, now."""
    if proposal is None:
        yield ("a trial", True, None)
        return
    for name in ("budget", "parent", "cohort", "replicate"):
        was, now = getattr(trial, name), getattr(proposal, name)
        if was != now:
            yield (name, was, now)
    for name in sorted({*trial.config, *proposal.config}):
        recorded, proposed = trial.config.get(name), proposal.config.get(name)
        if recorded != proposed:
            yield (name, recorded, proposed)


def _close(was: object, now: object) -> bool:
    return (
        isinstance(was, float) and isinstance(now, float) and math.isclose(was, now, rel_tol=SAME)
    )


def _last_stop(events: list[Event]) -> dict[str, int | None]:
    stop: dict[str, int | None] = events[0]["spec"]["stop"]
    for event in events:
        if event["kind"] == "extended":
            stop = event["stop"]
    return stop


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(sha256: str | None) -> str:
    return f"sha256:{sha256[:12]}" if sha256 else "no such file"
