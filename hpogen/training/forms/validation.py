"""What judges a trial: the YAML's `dataset.validation`, a number or one of its long forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Discriminator, Field, Tag

from hpogen.training.forms.options import STRICT
from hpogen.trial import ONE, Parts

WAYS = ("folds", "repeats", "redraw")  # of which one is taken
Size = Annotated[int, Field(ge=0)]
Several = Annotated[int, Field(ge=2, le=1_000)]


class Redraw(BaseModel):
    """The long form of `validation`: how many images, and whether each configuration has others."""

    model_config = STRICT

    size: Size | None = None
    """How many images; left out: 5,000, at most half of what the subset leaves."""
    redraw: bool = False
    """Whether each configuration is judged on images of its own, drawn by the trial's seed."""


class Folds(BaseModel):
    """Cross-validation: a trial is so many trainings, each judged on the part that it has not seen.

    The folds are made of the subset, and each of its rows is in the validation of one training.
    """

    model_config = STRICT

    folds: Several
    """How many trainings a trial is, and how many parts the subset is divided into."""

    @property
    def parts(self) -> Parts:
        return Parts(self.folds, "fold")


class Repeats(BaseModel):
    """Repeated splits: a trial is so many trainings, each on a subset and validation of its own.

    They are drawn from all rows but audit, which stays; the first is as it is without repeats.
    """

    model_config = STRICT

    repeats: Several
    """How many trainings a trial is, and how often subset and validation are drawn."""
    size: Size | None = None
    """How many validation images each has; left out: 5,000, at most half of the rest."""

    @property
    def parts(self) -> Parts:
        return Parts(self.repeats, "repeat")


def parts_of(form: object) -> Parts:
    """The trainings that a trial is."""
    return form.parts if isinstance(form, Folds | Repeats) else ONE


def size_of(form: int | Redraw | Folds | Repeats | None) -> int | None:
    """How many images outside the subset are to be validation; None: the default."""
    if isinstance(form, Folds):
        return 0
    return form.size if isinstance(form, Redraw | Repeats) else form


def check_sizes(form: object, subset: int, validation: int, noun: str) -> None:
    """Raise ValueError where the trainings of a trial have not enough of either, in that noun."""
    if isinstance(form, Folds) and form.folds > subset:
        raise ValueError(
            f"validation.folds: got {form.folds} folds of a subset of {subset} {noun}, expected "
            "one for each fold: take fewer folds, or a larger subset"
        )
    if isinstance(form, Repeats) and validation < 1:
        raise ValueError(
            f"validation.repeats: got 0 {noun} for validation, expected at least 1: make the "
            "subset smaller, or name a larger size"
        )


def unlike(form: object) -> str:
    """Why the probabilities that two trials keep cannot be added; empty where they can."""
    if isinstance(form, Redraw):
        text = "validation.redraw gives each configuration validation images of its own"
        return f"{text}, so that no two can be added"
    number, word = parts_of(form)
    if number > 1:
        return f"a trial of {number} {word}s has no one network whose probabilities they were"
    return ""


def _one_way(given: object) -> object:
    """One of the long forms. Raises ValueError for a mix of them."""
    ways = [way for way in WAYS if way in given] if isinstance(given, Mapping) else []
    if len(ways) > 1:
        text = f"got {' and '.join(ways)}, expected one of {', '.join(WAYS)}: drop the other"
        raise ValueError(text)
    if ways == ["folds"] and isinstance(given, Mapping) and "size" in given:
        raise ValueError(
            "got size beside folds, expected folds alone: each fold is judged on the subset's rows "
            "that are not in its training: drop size"
        )
    return given


def _form(given: object) -> str:
    if isinstance(given, BaseModel):
        return type(given).__name__
    keys = given if isinstance(given, Mapping) else ()
    long = "Folds" if "folds" in keys else "Repeats" if "repeats" in keys else "Redraw"
    return long if isinstance(given, Mapping) else "int"


def _short(given: int | Redraw | Folds | Repeats) -> int | Redraw | Folds | Repeats | None:
    """One form for one meaning."""
    return given.size if isinstance(given, Redraw) and not given.redraw else given


Validation = Annotated[
    Annotated[Size, Tag("int")]
    | Annotated[Redraw, Tag("Redraw")]
    | Annotated[Folds, Tag("Folds")]
    | Annotated[Repeats, Tag("Repeats")],
    Discriminator(_form),
    BeforeValidator(_one_way),
    AfterValidator(_short),
]
