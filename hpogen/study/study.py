"""A study: the spec, its searcher and objective, and the ledger that makes them resumable.

    study = Study(spec, directory)               # resumes when the folder holds the study
    while (trial := study.next()) is not None:
        study.record(Outcome(trial.id, metrics=…))

The runner drives it, and so may a loop of one's own.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpogen.record import events, folder, history
from hpogen.record.history import History, Record
from hpogen.record.ledger import Event, Ledger
from hpogen.spec import StudySpec
from hpogen.study import index, parts, places, replay, scales
from hpogen.study.ending import Ending
from hpogen.study.outcomes import checked, copied, scored
from hpogen.study.pruning import Pruning
from hpogen.study.repeats import Engine, Repeats
from hpogen.study.standing import fits, wanted
from hpogen.trial import Outcome, Progress, Proposal, Rung, RunningTrial, Trial, trial_seed

log = logging.getLogger("hpogen.study")


class Study:
    """Asks the searcher, numbers and records trials, scores outcomes, tells the searcher.

    Opening takes the folder's lock; `close` gives it back. Raises UserError when the folder is in
    use, holds another study, is damaged, or when the searcher no longer proposes what it did.
    """

    def __init__(self, spec: StudySpec, directory: Path) -> None:
        self.spec = spec
        self.directory, self.place = directory, directory.absolute()
        self.history = History()
        self._searcher = Engine(spec.make_searcher(), spec.rung)
        self._repeats = Repeats(self)
        self._pruning = Pruning(self)
        self._ending = Ending(self, self._write)
        self._again: deque[int] = deque()  # asked before an interruption, to be run again
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
                return self.history.records[self._again.popleft()].trial
            self._ended = self._ended or self._ending.has_come()
            proposal = None if self._ended else self._searcher.ask()
            if proposal is not None and not fits(self, proposal.rung):
                self._ended = True
                continue
            repeat = None
            if proposal is None:
                if not self.history.running and self._release():
                    continue
                repeat = self._repeats.next()
            if (proposal := proposal or repeat) is None:
                return None
            trial = self._ask(proposal, repeat is not None)
            if trial.id in self.history.running:
                return trial
            self._settle_twin(trial.id)

    def record(self, outcome: Outcome, part: int | None = None) -> None:
        """Write down how a running trial ended, score it, and tell the searcher when it is due.

        `part` is the number of its training that ended: with the last of them the trial has, too.
        Raises ValueError for a trial that is not running, or a metric missing or not finite.
        """
        self._ledger.owner.check()
        if outcome.trial not in self.running:
            raise ValueError(f"trial {outcome.trial} is not running: it cannot be recorded")
        record = self.history.records[outcome.trial]
        if part in record.parts:
            raise ValueError(f"training {part} of trial {outcome.trial} has been recorded")
        outcome = checked(outcome, record.trial, self.wanted)
        folder.keep_files(self.directory, outcome.trial, outcome.files, self.history.id, part)
        if part is None:
            self._settle(outcome)
        else:
            self._write(events.part(part, outcome))
            self._settle_whole(record)

    def reuse(self, trial: int, outcome: Outcome, source: Path) -> None:
        """Record a running trial with the outcome that its twin has in another study's folder.

        Nothing is trained; the twin's curve, files and kept checkpoints are copied. Raises
        ValueError as `record` does.
        """
        folder.copy_trial(source, outcome.trial, self.directory, trial)
        self._write(events.reused(trial, source.name, outcome.trial))
        self.record(copied(outcome, trial))

    def progress(self, progress: Progress, part: int | None = None) -> bool:
        """Add an epoch to a running trial's curve, or to that of its training `part`.

        Of a single epoch the ledger says it all. True: with this epoch `prune` has ended the
        trial, which is told; what else comes of it is not to be recorded.
        """
        self._ledger.owner.check()
        if self.history.records[progress.trial].trial.budget > 1:
            folder.append_curve(self.directory, progress, self.history.id, part)
        self._ending.tick()
        outcome = self._pruning.progressed(progress)
        if outcome is not None:
            self._settle(outcome)
        return outcome is not None

    def lost(self, trial: int, text: str, part: int | None = None) -> int:
        """Note that a trial's worker died, to be dispatched again; how often it has by now.

        Of a trial that is several trainings, that of number `part`.
        """
        self._write(events.lost(trial, text, part))
        return self.history.records[trial].losses[part]

    def add_metrics(self, trial: int, metrics: Mapping[str, float]) -> None:
        """Add what was measured afterwards on the kept weights of a finished trial.

        Told scores stay as they are. Raises ValueError for a trial that has no metrics, a metric
        that it has already, or a number that is not finite.
        """
        record = self.history.records[trial]
        known = record.outcome.metrics if record.outcome else {}
        if record.state != "told" or not known:
            raise ValueError(f"trial {trial} has no metrics to add to")
        for name, value in metrics.items():
            if name in known or not math.isfinite(value):
                raise ValueError(f"trial {trial}: {name} = {value}, known: {known.get(name)}")
        self._write(events.measured(trial, metrics))

    def take_told(self) -> list[Record]:
        """The trials that were told since the last call (or the opening), in that order."""
        told, self._told = self._told, []
        return [self.history.records[trial] for trial in told]

    def given(self, trial: int, part: int | None = None) -> RunningTrial:
        """A trial, or its training `part`, as its task is given it, at its first attempt."""
        record = self.history.records[trial]
        return places.given(record, self.spec, self.place, self.history.id, part)

    @property
    def running(self) -> frozenset[int]:
        """The trials handed out by `next` and not recorded yet."""
        return frozenset(self.history.running.difference(self._again))

    @property
    def stop(self) -> Mapping[str, Any]:
        """The limits in force: `epochs`, `trials`; `hours` and `no_improvement` if given."""
        return self.history.stop

    def check(self) -> None:
        """Raise CannotGoOn where the folder has been deleted, moved or replaced meanwhile."""
        self._ledger.check()

    def sync(self) -> None:
        """Bring what was recorded to the disk, which happens by itself within a moment."""
        self._ledger.sync()

    def close(self) -> None:
        """Sync the ledger and release the folder. The study cannot be used afterwards."""
        self._ending.close()
        if self._ledger.close():
            index.keep(self)

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Opening: a new folder gets its header, an old one is replayed.

    def _begin(self) -> None:
        lines = self._ledger.events
        if not lines:
            self._write(replay.begin(self.spec, self.directory))
            return
        history.checked(lines, self._ledger.path)
        extended = replay.check_same_study(self.spec, lines, self.directory)
        self._replay(lines)
        folder.own(self.directory / folder.TRIALS, self.history.id)
        if extended is not None:
            self._write(events.extended(extended))

    def _replay(self, lines: list[Event]) -> None:
        for number, event in enumerate(replay.replayed(lines), 1):
            if event["kind"] == "asked":
                self._ask_again(event, f"{self._ledger.path}:{number}")
            self.history.apply(event)
            if event["kind"] == "told":
                self._learn(self.history.records[event["trial"]])
        self._catch_up()
        self._again.extend(sorted(self.history.running))

    def _ask_again(self, event: Event, where: str) -> None:
        """Take the searcher past one of its recorded proposals."""
        if not event.get("repeat", False):
            proposal, trial = self._searcher.ask(), events.trial_of(event)
            replay.check_same_proposal(proposal, trial, where, self.history.header)
            self._searcher.asked(event["trial"])

    def _catch_up(self) -> None:
        """Do what was due when the record ends: tell what has its scale, settle duplicates."""
        for trial in sorted(self.history.running):
            self._settle_whole(self.history.records[trial])
        for rung in self._held_rungs():
            if rung in self.history.locations:
                self._tell_held(rung)
            self._freeze(rung)
        for record in self.history.records:
            if record.state == "running" and record.twin is not None:
                self._settle_twin(record.trial.id)
        for trial in sorted(self.history.running):
            if (outcome := self._pruning.resumed(self.history.records[trial])) is not None:
                self._settle(outcome)

    # Asking.

    def _ask(self, proposal: Proposal, repeat: bool) -> Trial:
        seed = trial_seed(self.spec.seed, proposal.config, proposal.replicate)
        trial = Trial(**vars(proposal), id=len(self.history.records), seed=seed)
        self._write(events.asked(trial, repeat))
        if not repeat:
            self._searcher.asked(trial.id)
        asked = (self.spec.name, trial.id, trial.budget, dict(trial.config))
        log.info("ask study=%s trial=%d budget=%d config=%s", *asked)
        return trial

    def _settle_twin(self, trial: int) -> None:
        """A duplicate ends with the earlier trial, whose outcome serves it."""
        twin = self.history.records[trial].twin
        first = None if twin is None else self.history.records[twin].outcome
        if first is not None:
            self._settle(copied(first, trial))

    # Recording.

    @property
    def wanted(self) -> frozenset[str]:
        """The metrics that every outcome must have: the objective's and the selection's."""
        return wanted(self.spec)

    def _settle(self, outcome: Outcome) -> None:
        """Score an outcome now, or hold it until its scale is known; then its waiting twins."""
        rung = self.history.records[outcome.trial].trial.rung
        must_wait = scales.must_wait(self.spec.objective, self.history, rung)
        if outcome.failure is None and must_wait:
            self._write(events.held(outcome))
        else:
            self._tell(outcome)
        for twin in self.history.twins.get(outcome.trial, ()):
            self._settle_twin(twin)
        self._freeze(rung)

    def _settle_whole(self, record: Record) -> None:
        """A trial that is several trainings ends with the last of them, or is pruned before."""
        if not record.parts:
            return
        outcome = parts.whole(self, record) or self._pruning.training_ended(record)
        if outcome is not None:
            self._settle(outcome)

    def _freeze(self, rung: Rung) -> None:
        locations = scales.frozen(self.spec.objective, self.history, rung)
        if locations is not None:
            self._write(events.scale(rung, locations))
            self._tell_held(rung)

    def _release(self) -> bool:
        """Score what is held although the searcher waits for it; whether there was anything."""
        rungs, objective = self._held_rungs(), self.spec.objective
        for rung in rungs:
            held = self._held_at(rung)
            if objective.standardized() and rung not in self.history.locations:
                locations = scales.served(objective, self.history, rung, held)
                self._write(events.scale(rung, locations))
            self._tell_held(rung)
        return bool(rungs)

    def _held_rungs(self) -> list[Rung]:
        rungs = {self.history.records[trial].trial.rung for trial in self.history.held}
        return sorted(rungs, key=self.history.cost)

    def _held_at(self, rung: Rung) -> list[Record]:
        records = (self.history.records[trial] for trial in sorted(self.history.held))
        return [record for record in records if record.trial.rung == rung]

    def _tell_held(self, rung: Rung) -> None:
        records = self._held_at(rung)
        ranks = scales.cohort_ranks(self.spec.objective, self.history, records)
        for record in records:
            if record.outcome:
                self._tell(record.outcome, ranks.get(record.trial.id))

    def _tell(self, outcome: Outcome, ranks: Mapping[str, float] | None = None) -> None:
        outcome, scores = scored(self, outcome, ranks)
        self._write(events.told(outcome, score := scores[0] if scores else math.inf, scores))
        told = (self.spec.name, outcome.trial, score, outcome.failure)
        log.info("tell study=%s trial=%d score=%r failure=%s", *told)
        self._learn(self.history.records[outcome.trial])
        self._told.append(outcome.trial)

    def _learn(self, record: Record) -> None:
        """What was told goes to the searcher, and to those who prune."""
        self._searcher.tell(record, self.history)
        self._pruning.told(record)
        self._ending.told(record)

    def _write(self, event: Event) -> None:
        self._ledger.append(event)
        self.history.apply(event)
