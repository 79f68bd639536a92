"""The preset `learned`: a learned objective that a searcher is told, while the study runs.

Ranks within the study are known when it has ended. Until then a measure's rank is taken from the
frozen centre and spread of its first finished trials, as the scale `standard` has them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from hpogen.errors import UserError
from hpogen.objective import Location, Term
from hpogen.spec.choice import ObjectiveForm
from hpogen.spec.learned import LearnedObjective, checked_learned, read_learned, training_error
from hpogen.spec.mistakes import Mistakes
from hpogen.tasks.base import Task

LEARNED: Final = "learned"
TRAINING = ("train_accuracy", "train_error")  # one of them, for a gap that is added to it


@dataclass(frozen=True)
class Learned:
    """A `gap.json` (`text`, so that equal ones are equal) in a study of so many labels."""

    text: str
    force: bool
    labels: int | None  # None: it cannot be told

    @cached_property
    def model(self) -> LearnedObjective:
        return LearnedObjective.model_validate_json(self.text)

    def score(self, metrics: Mapping[str, float], locations: Mapping[str, Location]) -> float:
        """The prediction, with Φ((x − centre) / spread) for the rank of a measure x."""
        ranks = [_normal(metrics[name], locations[name]) for name in self.model.measures]
        found = float(self.model.model.predict(np.array([ranks]), self.model.measures)[0])
        return found + (training_error(metrics) if self.model.target == "gap" else 0.0)

    def record(self) -> dict[str, Any]:
        """In the form of the YAML, the model inline: another file of that name changes nothing."""
        return {"preset": LEARNED, "model": json.loads(self.text), "force": self.force}

    @property
    def caution(self) -> str:
        """Why it is not to be trusted in this study, in one clause; empty: there is no reason."""
        return self.model.caution(self.labels)


def learned_of(form: ObjectiveForm, task: Task, mistakes: Mistakes) -> Learned | None:
    """The model that the objective names; None: it names none, or there is a mistake."""
    path = ("objective", "model")
    if form.preset != LEARNED or form.terms is not None:
        for key in ("model", "force"):
            if getattr(form, key):
                mistakes.add(("objective", key), f"belongs to preset {LEARNED!r} alone")
        return None
    for key in ("alpha", "scale"):
        if getattr(form, key) is not None:
            mistakes.add(("objective", key), f"does not go together with preset {LEARNED!r}")
    if form.model is None:
        such = "{preset: learned, model: gap.json}"
        mistakes.add(path, f"is required by preset 'learned', as in {such}")
        return None
    found = None
    with mistakes.under(*path):
        found = _read(form.model, mistakes)
    if found is None:
        return None
    learned = Learned(found.model_dump_json(), form.force, labels_of(task))
    if learned.caution and not form.force:
        text = f"{learned.caution}: write force: true to use it all the same"
        mistakes.add(path, text)
        return None
    return learned


def terms_of(learned: Learned, task: Task) -> tuple[Term, ...]:
    """The metrics that it reads; their weights are the model's."""
    measures = tuple(Term(name, 1.0, "standard") for name in learned.model.measures)
    if learned.model.target != "gap":
        return measures
    name = next((name for name in TRAINING if name in task.metrics()), TRAINING[0])
    given = {term.metric for term in measures}
    return measures if name in given else (*measures, Term(name, 1.0))


def labels_of(task: Task) -> int | None:
    """How many validation labels a study of the task has; None: its YAML does not say."""
    if "val_loss" not in task.metrics():
        return 0
    dataset = task.record().get("dataset")
    images = dataset.get("validation") if isinstance(dataset, Mapping) else None
    return images if isinstance(images, int) else None


def _read(model: str | dict[str, Any], mistakes: Mistakes) -> LearnedObjective:
    """A path is relative to the study's file."""
    if isinstance(model, str):
        source = mistakes.source
        folder = Path() if source.study is None else Path(source.label).parent
        if not (folder / model).exists():
            raise UserError(
                f"{folder / model}: there is no such file, expected one that hpogen learn has "
                "made; a study that was begun with it goes on without: hpogen resume DIR"
            )
        return read_learned(folder / model)
    try:
        return checked_learned(json.dumps(model), "the model")
    except ValueError as error:
        raise UserError(str(error)) from error


def _normal(x: float, at: Location) -> float:
    """Φ, the share of a normal distribution that is below x."""
    return 0.5 * math.erfc(-(x - at.center) / at.spread / math.sqrt(2))
