"""What a study chose and what that is worth: held-out figures, epochs, seconds.

The figures of `comparison.py`, one study at a time. What chooses sees none of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpogen.analysis.truth import held_out, validated
from hpogen.record import history
from hpogen.record.history import History
from hpogen.record.ledger import LEDGER
from hpogen.study.read import Folder
from hpogen.study.retrained import Run, retrained
from hpogen.study.standing import chosen
from hpogen.tasks.errors import Error
from hpogen.trial import Config

if TYPE_CHECKING:
    from hpogen.analysis.figure import Figure

Siblings = Mapping[Path, History]  # of the studies that trained what others reuse, by folder


@dataclass(frozen=True)
class Answer:
    """The finished trial that a study's own objective and selection choose, and what it cost.

    `truth` is its error on the audit; `validation` the same of the validation set; `test` the
    retrained nets' errors on the test set, one per retraining. `oracle` is the smallest truth of
    all its trials at that budget: nobody can choose so. `figure` is what the answer is worth, with
    an interval, or why that is not known. Seconds are those of training, wherever in the matrix a
    trial was trained.
    """

    study: Path
    seed: int
    trial: int
    config: Config
    val_loss: float | None
    validation: float | None
    truth: float | None
    test: tuple[float, ...]
    oracle: float | None
    figure: Figure | str
    tested: str  # what the errors on the test set are called: `error`, `RMSE`; empty: none
    charged: float  # epochs
    trained: float  # epochs
    seconds: float
    measures: float  # seconds

    @property
    def test_error(self) -> float | None:
        """Averaged over the retrainings."""
        return math.fsum(self.test) / len(self.test) if self.test else None


def answer(study: Folder, truth: Error | None, siblings: Siblings) -> Answer | None:
    """What the study has chosen so far; None while no trial of the largest budget has finished."""
    record = chosen(study)
    if record is None or record.outcome is None:
        return None
    from hpogen.analysis.figure import figure  # scipy

    spent = [*seconds(study, siblings).values()]
    tested = tests(study)
    truths = [x for r in study.finished if (x := held_out(r, truth)) is not None]
    return Answer(
        study=study.directory,
        seed=study.seed,
        trial=record.trial.id,
        config=dict(record.trial.config),
        val_loss=record.outcome.metrics.get("val_loss"),
        validation=validated(record, truth),
        truth=held_out(record, truth),
        test=tuple(run.error for run in tested),
        oracle=min(truths, default=None),
        figure=figure(study, record),
        tested=tested[0].judged.text if tested else "",
        charged=study.history.charged,
        trained=study.history.trained,
        seconds=math.fsum(times.get("total", 0.0) for times in spent),
        measures=math.fsum(times.get("measures", 0.0) for times in spent),
    )


def siblings_of(studies: Sequence[Folder]) -> Siblings:
    """The histories of the studies that trained what these reuse, as far as they still exist."""
    known = {study.directory: study.history for study in studies}
    found: dict[Path, History] = {}
    for study in studies:
        names = {r.reused.rpartition("/")[0] for r in study.history.records if r.reused}
        for path in (study.directory.parent / name for name in names):
            if path in known:
                found[path] = known[path]
            elif path not in found and (path / LEDGER).exists():
                found[path] = history.read(path)
    return found


def seconds(study: Folder, siblings: Siblings) -> dict[int, Mapping[str, float]]:
    """What each told trial took; of one that a sibling has trained, what it took there."""
    found: dict[int, Mapping[str, float]] = {}
    for number in study.order:
        record = study.history.records[number]
        if record.reused:
            name, _, twin = record.reused.rpartition("/")
            source = siblings.get(study.directory.parent / name)
            if source is not None and int(twin) < len(source.records):
                record = source.records[int(twin)]
        found[number] = record.outcome.seconds if record.outcome else {}
    return found


def tests(study: Folder) -> list[Run]:
    """The retrainings of a study's answer, as many as there are."""
    answers = [found for found in retrained(study) if found.choice.is_answer]
    return [run for found in answers for run in found.runs]
