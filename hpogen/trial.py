"""What passes between the rooms: what is asked, what is trained, what came back.

Frozen data on the standard library alone, so that every room may import it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

from hpogen.errors import KEPT, shortened

Value = int | float | str | bool | None
"""What a hyper-parameter may be; None is a choice alone: YAML's `null`."""
Config = Mapping[str, Value]
"""A configuration: plain Python values only, because it goes through JSON."""

Keep = Literal["best", "none", "final", "all"]
WEIGHTS = "weights.safetensors"  # of a trial's files: its network, ready to predict
FailureKind = Literal["lost", "oom", "diverged", "timeout", "error", "pruned"]
"""`pruned`: the study has ended the trial, by what others came to."""


class Parts(NamedTuple):
    """How often a trial trains, each time on other samples, and what one such training is called.

    Once, unless the task is cross-validated.
    """

    number: int = 1
    word: str = "training"  # "fold" or "repeat"

    @property
    def each(self) -> Sequence[int | None]:
        """What `RunningTrial.part` is of them, one after the other."""
        return range(self.number) if self.number > 1 else [None]


ONE = Parts()


class Rung(NamedTuple):
    """How much a trial trains. Only trials of the same rung are compared."""

    epochs: int
    data: float | None = None  # see `Proposal.data`


@dataclass(frozen=True)
class Proposal:
    """What a searcher wants to know: the score of `config` after `budget` epochs.

    `data` is the fraction of the training set that they go through, counted before validation and
    audit are taken, in (0, 1]; None: the study's subset.
    """

    config: Config
    budget: int  # epochs
    parent: int | None = None  # the trial that ran the same config at the rung below
    cohort: int | None = None  # the generation or rung that is learned from together
    replicate: int = 0
    data: float | None = None

    @property
    def rung(self) -> Rung:
        return Rung(self.budget, self.data)


@dataclass(frozen=True, kw_only=True)
class Trial(Proposal):
    """A proposal that was given a number and a seed, and counts against the study's `stop`."""

    id: int  # 0, 1, 2, … in ask order
    seed: int  # of (study seed, config, replicate): same config, same seed


@dataclass(frozen=True, kw_only=True)
class RunningTrial(Trial):
    """What a task is given: the trial, where it may write, and the epoch to go on from.

    `start_epoch` is 0 for a task that is not resumable, else the number of epochs whose results
    have been received.
    """

    start_epoch: int
    home: Path  # see `directory`
    device: str = "cpu"  # "cpu" or "cuda:K"
    gpus: int = 0  # how many it has, the first being `device`; a share of one counts as one
    attempt: int = 0  # how often the trial was started before
    keep: Keep = "none"  # which of its checkpoints outlive the trial; best: its weights alone
    checkpoints: str = ""  # the URL of the place for them; empty: `directory`
    inherited: str = ""  # the same of the trial that is continued, where that is a URL, or `warm`
    warm: bool = False  # whether it begins anew, with the weights that are there
    study: str = ""  # its id, which the names of checkpoints have
    part: int | None = None  # the number of this training, where the trial is several: see `Parts`

    @property
    def directory(self) -> Path:
        """The trial's own folder, for a user's task. It survives retries.

        It is made when first asked for: to make and remove one takes longer than a short trial.
        """
        self.home.mkdir(exist_ok=True)
        return self.home


@dataclass(frozen=True)
class Failure:
    """Why a trial has no metrics: its class, which decides the policy, and one line of text."""

    kind: FailureKind
    text: str

    def __post_init__(self) -> None:
        """However long and odd the text of an exception is, this is one line."""
        object.__setattr__(self, "text", shortened(self.text, KEPT))


@dataclass(frozen=True)
class Outcome:
    """How a trial ended. Metrics and audit are finite and hold no times; empty after a failure,
    but for the metrics of a pruned one.

    `seconds` has the keys train, validation, measures, total. `epochs` is what was really trained
    (None: the whole budget); `spared` epochs of the budget are not charged. `files` are small files
    to keep beside the trial's curve, by suffix; `code` names the code and the type of device that
    trained it.
    """

    trial: int
    metrics: Mapping[str, float]  # at the last epoch
    audit: Mapping[str, float] = field(default_factory=dict)  # held-out truth, for analysis only
    seconds: Mapping[str, float] = field(default_factory=dict)
    epochs: int | None = None
    failure: Failure | None = None  # without which it has finished
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    code: str = ""
    spared: int = 0


@dataclass(frozen=True)
class Progress:
    """One epoch of a running trial, as its worker reports it: a row of the trial's curve."""

    trial: int
    epoch: int  # epochs done, 1 after the first
    metrics: Mapping[str, float]
    seconds: Mapping[str, float] = field(default_factory=dict)
    device: str = "cpu"
    memory: Mapping[str, int] = field(default_factory=dict)  # bytes: see `Epoch`
    audit: Mapping[str, float] = field(default_factory=dict)  # where the epoch has one


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(config: Config) -> str:
    """The configuration as JSON that does not depend on the order of its keys."""
    return _ENCODER.encode(dict(config))


def derive_seed(*parts: int | str) -> int:
    """A seed in [0, 2⁶³) from SHA-256 of the parts: the one way in which seeds are made."""
    text = _ENCODER.encode(parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def exact(epochs: int, data: float | None, subset: float) -> int | Fraction:
    """Epochs on a fraction of the training set as epochs on another, `subset`, of as many samples.

    Fractions are the decimal numbers that they are written as, so that no sum of them is rounded.
    """
    return epochs if data is None else epochs * Fraction(repr(data)) / Fraction(repr(subset))


def plain(epochs: int | Fraction) -> int | float:
    """For JSON, and to be shown."""
    return int(epochs) if epochs == int(epochs) else float(epochs)


def trial_seed(study_seed: int, config: Config, replicate: int = 0) -> int:
    """The seed of every trial of `config` in a study, whatever its budget, worker or attempt."""
    return derive_seed(study_seed, canonical(config), replicate)
