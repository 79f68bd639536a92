"""Trials that several studies of a pool have in common: each is trained once.

The runner asks here before it submits a job, and again when one has ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from hpogen.errors import CannotGoOn
from hpogen.record.provenance import code_of, digest, digests
from hpogen.spec.recorded import observed
from hpogen.study.study import Study
from hpogen.tasks import keys
from hpogen.trial import Outcome, Trial, canonical

UNSURE = "command"  # the task whose code hpogen does not know


@dataclass(frozen=True)
class Claim:
    """A trial that a study has been given to run."""

    study: Study
    trial: Trial


class Sharing:
    """What has been trained by the `studies`, and what is: by what makes two trials equal.

    That is the task, the configuration, the rung, the seed and the code on its type of device.
    Failures other than `diverged` are tried again, and a trial that another rung may continue is
    trained in its own study, where its checkpoints are. A study that scores by a metric of which
    another run gives other numbers takes none: its scores would be another run's.
    """

    def __init__(self, studies: Iterable[Study], device_type: str) -> None:
        self._tasks: dict[int, str] = {}
        self._code: dict[int, str] = {}
        self._known: dict[str, tuple[Study, Outcome]] = {}
        self._running: dict[str, Claim] = {}
        self._waiting: dict[str, list[Claim]] = {}
        for study in studies:
            spec = study.spec
            self._tasks[id(study)] = _task(study)
            self._code[id(study)] = code_of(digest(digests(spec.sources)), device_type)
            for record in study.history.records:
                if not record.reused and record.twin is None:
                    self._learn(Claim(study, record.trial))

    def serves(self, study: Study, trial: Trial) -> bool:
        """Whether the trial need not be submitted: it has been told, or waits for its twin."""
        claim = Claim(study, trial)
        key = self._key(claim)
        if key is None:
            return False
        own = bool(observed(study.spec))
        known = None if own else self._known.get(key)
        if known is not None and _suffices(*known, study.wanted):
            study.reuse(trial.id, known[1], known[0].directory)
            return True
        running = self._running.setdefault(key, claim)
        given = running.study.spec.task.gives(running.study.wanted)
        if running is claim or own or not study.wanted <= given:
            return False
        self._waiting.setdefault(key, []).append(claim)
        return True

    def ended(self, study: Study, trial: Trial) -> list[Claim]:
        """Tell the trials that have waited for this one; those to be run after all are returned."""
        claim = Claim(study, trial)
        key = self._key(claim)
        if key is None or self._running.get(key) != claim:
            return []
        del self._running[key]
        self._learn(claim)
        waiting = self._waiting.pop(key, [])
        return [other for other in waiting if not self.serves(other.study, other.trial)]

    def _learn(self, claim: Claim) -> None:
        """Know a trial that has ended, if its outcome serves others, too."""
        outcome = claim.study.history.records[claim.trial.id].outcome
        if outcome is None or outcome.code != self._code[id(claim.study)]:
            return
        key = self._key(claim)
        if key is not None and (outcome.failure is None or outcome.failure.kind == "diverged"):
            self._known.setdefault(key, (claim.study, outcome))

    def _key(self, claim: Claim) -> str | None:
        spec, trial = claim.study.spec, claim.trial
        elsewhere = spec.checkpoints.of_all and spec.checkpoints.path is not None
        if not spec.shares(trial) or elsewhere or spec.task.name == UNSURE:
            return None
        parts = (canonical(trial.config), trial.rung, trial.seed, self._code[id(claim.study)])
        return json.dumps([self._tasks[id(claim.study)], *parts])


def _suffices(study: Study, outcome: Outcome, wanted: frozenset[str]) -> bool:
    """Whether a known outcome serves one who wants those metrics, and its files are still there."""
    try:
        study.check()
    except CannotGoOn:
        return False
    return outcome.failure is not None or wanted <= outcome.metrics.keys()


def _task(study: Study) -> str:
    """The task and what is kept of its trials, wherever the data lie."""
    record = study.spec.record()
    task = keys.part(record["task"], *keys.NUMBERS)
    return digest({"task": json.dumps([task, record["checkpoints"]], sort_keys=True)})
