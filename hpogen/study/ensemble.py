"""`DIR/ensemble.json`: which trials of a study are an ensemble, and how much each weighs.

`hpogen ensemble` writes it; `hpogen.load`, `predict` and `retrain` read it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hpogen.errors import UserError, explained
from hpogen.record import folder
from hpogen.spec import StudySpec
from hpogen.study import status
from hpogen.study.read import Folder
from hpogen.study.retrained import choice_of, plan, plan_again
from hpogen.trial import WEIGHTS

Metric = Literal["loss", "error"]


class Member(BaseModel):
    """A trial, and its share in the mean of the probabilities."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    trial: int = Field(ge=0)
    weight: float = Field(gt=0, le=1)


class Ensemble(BaseModel):
    """What the file holds. `members` are distinct, the heaviest first; their weights add up to 1.

    `metric` on the validation samples is what they were picked by, `size` how many picks there were
    to be at most. `figures` are what the ensemble is worth, for readers.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    format: Literal[1] = 1
    hpogen: str  # its version
    study: str
    metric: Metric
    size: int = Field(ge=1)
    members: tuple[Member, ...] = Field(min_length=1)
    figures: dict[str, Any] = {}

    @model_validator(mode="after")
    def _adds_up(self) -> Ensemble:
        if len(set(self.trials)) < len(self.trials):
            raise ValueError("a trial is a member twice")
        if not math.isclose(sum(member.weight for member in self.members), 1, abs_tol=1e-9):
            raise ValueError("the weights do not add up to 1")
        return self

    @property
    def trials(self) -> list[int]:
        return [member.trial for member in self.members]


def write(directory: Path, ensemble: Ensemble) -> Path:
    """Write the file, whole or not at all. Raises UserError."""
    path = directory / folder.ENSEMBLE
    with explained(path, UserError):
        folder.replace_file(path, ensemble.model_dump_json(indent=2).encode() + b"\n")
    return path


def read(study: Folder) -> Ensemble:
    """The study's ensemble.

    Raises UserError without one, and for a file that is damaged, or another study's.
    """
    path = study.directory / folder.ENSEMBLE
    anew = f"write it with: hpogen ensemble {study.directory}"
    with explained(path, UserError, "read"):
        if not path.exists():
            raise UserError(f"{study.directory}: there is no ensemble yet: {anew}")
        data = path.read_bytes()
    try:
        found = Ensemble.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        reason = f"{place}: {first['msg']}" if place else first["msg"]
        raise UserError(f"{path}: is no ensemble of this hpogen: {reason}: {anew}") from None
    if found.study != study.history.id:
        raise UserError(f"{path}: is of another study, which was in this folder: {anew}")
    records = study.history.records
    for trial in found.trials:
        if trial >= len(records) or records[trial].outcome is None or records[trial].failure:
            raise UserError(f"{path}: trial {trial} has not finished in this study: {anew}")
    return found


def has_weights(study: Folder, trial: int) -> bool:
    """Whether the network of a finished trial is at hand, by a glance: `hpogen.load` reads it."""
    if study.spec.checkpoints.of_all or folder.has_kept(study.directory, trial, WEIGHTS):
        return True
    again = study.again(trial)
    return again is not None and bool(again.history.told())


def plan_members(study: Folder, seeds: int) -> dict[Path, StudySpec]:
    """The studies that train the answer and each member on the full training set, by folder.

    Raises UserError as `read` and `plan`.
    """
    trials = [status.best(study)["trial"], *read(study).trials]
    return {path: spec for trial in trials for path, spec in plan(study, seeds, trial).items()}


def plan_again_members(study: Folder) -> dict[Path, StudySpec]:
    """The studies that train again, as they were, the members whose weights are gone.

    Raises UserError where there is none, and as `read` and `plan_again`.
    """
    gone = lacking(study, read(study))
    if not gone:
        raise UserError(
            f"{study.directory}: --ensemble --subset: the weights of all members are kept: "
            f"hpogen predict {study.directory} FILES --ensemble"
        )
    return {path: spec for trial in gone for path, spec in plan_again(study, trial).items()}


def lacking(study: Folder, ensemble: Ensemble) -> list[int]:
    """The members whose weights are not at hand."""
    return [trial for trial in ensemble.trials if not has_weights(study, trial)]


def check_weights(study: Folder, ensemble: Ensemble) -> None:
    """Raises UserError, naming the members, where the weights of some are gone."""
    if gone := lacking(study, ensemble):
        raise UserError(
            f"{study.directory}: the weights of {named(gone)} of the ensemble are not kept: train "
            f"them again as they were: hpogen retrain {study.directory} --ensemble --subset; or "
            f"pick among those that are kept: hpogen ensemble {study.directory} --kept"
        )


def check_retrained(study: Folder, ensemble: Ensemble) -> None:
    """The same where they have not been trained on the full training set."""
    begun = study.retrainings
    labels = {trial: choice_of(study, trial).label for trial in ensemble.trials}
    gone = [t for t, label in labels.items() if label not in begun or not begun[label].finished]
    if gone:
        raise UserError(
            f"{study.directory}: {named(gone)} of the ensemble have not been trained on the full "
            f"training set: hpogen retrain {study.directory} --ensemble"
        )


def named(trials: Sequence[int]) -> str:
    """`trial 3`, `trials 3, 7`."""
    return f"trial{'s' * (len(trials) > 1)} {', '.join(map(str, trials))}"
