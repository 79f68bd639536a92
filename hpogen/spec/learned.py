"""The file of a learned objective, `gap.json`: what it holds, and what it predicts of trials.

`analysis/learned.py` makes it from finished studies; `analysis/rescoring.py` chooses by it. It is
plain JSON: a boosted model is its trees' thresholds and values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from annotated_types import Len
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from hpogen.errors import UserError, explained, quoted, shortened
from hpogen.objective import rank
from hpogen.record.folder import replace_file
from hpogen.spec.strict import Count, Form

Array = NDArray[np.float64]
Target = Literal["error", "gap", "retrained"]
TARGETS: tuple[str, ...] = get_args(Target)

FORMAT, VERSION = "hpogen-learned-objective", 1
UNKNOWN = "it cannot be told how many validation labels the study has"
TRANSFORMATION = "rank within the study, equal values share their mean rank, scaled to [0, 1]"


class Linear(Form):
    """intercept + Σ coefficient · rank, fitted by ridge, or by least squares to ζ and κ (eq. 7)."""

    kind: Literal["ridge", "sparsity"]
    penalty: float
    intercept: float
    coefficients: dict[str, float]

    def predict(self, ranks: Array, measures: Sequence[str]) -> Array:
        weights = [self.coefficients.get(name, 0.0) for name in measures]
        found: Array = ranks @ np.array(weights) + self.intercept
        return found


class Tree(Form):
    """A row per node, the root first; children stand behind their parent, a leaf has none (0)."""

    measure: Annotated[list[int], Len(1)]
    threshold: list[float]  # at most it: to the left
    left: list[int]
    right: list[int]
    value: list[float]

    @model_validator(mode="after")
    def _is_a_tree(self) -> Tree:
        n = len(self.measure)
        if {len(self.threshold), len(self.left), len(self.right), len(self.value)} != {n}:
            raise ValueError("the columns of a tree have different lengths")
        for i, pair in enumerate(zip(self.left, self.right, strict=True)):
            if pair != (0, 0) and not all(i < child < n for child in pair):
                raise ValueError(f"node {i} has the children {pair}, of {n} nodes")
        return self

    def predict(self, ranks: Array) -> Array:
        """The values (n,) of the leaves that the rows of ranks (n, measures) come to."""
        left, right, measure = (np.array(x) for x in (self.left, self.right, self.measure))
        threshold, rows = np.array(self.threshold), np.arange(len(ranks))
        at = np.zeros(len(ranks), dtype=np.intp)
        while (inner := left[at] > 0).any():
            lower = ranks[rows, measure[at]] <= threshold[at]
            at = np.where(inner, np.where(lower, left[at], right[at]), at)
        return np.array(self.value)[at]


class Boosted(Form):
    """start + Σ trees; `signs` are the directions in which it was made to be monotone."""

    kind: Literal["boosted"]
    signs: dict[str, int]
    start: float
    trees: list[Tree]

    def predict(self, ranks: Array, _: Sequence[str]) -> Array:
        found = np.full(len(ranks), self.start)
        for tree in self.trees:
            found += tree.predict(ranks)
        return found


Model = Annotated[Linear | Boosted, Field(discriminator="kind")]


class Figure(Form):
    """What a rule came to on a task left out, averaged over the task's studies.

    `correlation` is Spearman's, of the rule with the held-out error; None where one of them is
    constant. `error` is that of the trial that the rule chooses, `regret` what it is above the
    least.
    """

    correlation: float | None
    error: float
    regret: float


class LeftOut(Form):
    """A task that the models were not fitted to, and were judged by.

    `learned` is the model chosen without this task, `told` its rank correlation with the target;
    `validation` is that of the validation loss by number of labels.
    """

    task: str
    studies: Count
    trials: Count
    best: float
    learned: Figure
    told: float | None
    others: dict[str, Figure]
    validation: dict[int, Figure]

    def at(self, labels: int) -> Figure | None:
        """The validation loss with the least number of labels that is not below this one."""
        enough = [size for size in self.validation if size >= labels]
        return self.validation[min(enough)] if enough else None


class Association(Form):
    """A measure and the target on one task: Spearman's ρ, and whether it is beyond chance.

    Beyond: |ρ| > 1.96 / √(trials − 1).
    """

    correlation: float | None
    clear: bool


class Source(Form):
    """A study that the model was learned from; `id` is empty where it is older than ids."""

    id: str
    name: str
    seed: int
    task: str
    trials: Count


class LearnedObjective(Form):
    """All of a `gap.json`."""

    format: str
    version: int
    target: Target
    judged_by: str  # "audit error", "test error", …
    transformation: str
    measures: Annotated[list[str], Len(1)]
    model: Model
    signs: dict[str, dict[str, Association]]  # by measure and task
    left_out: Annotated[list[LeftOut], Len(2)]
    dropped: dict[str, str]  # measure: why
    studies: list[Source]

    @model_validator(mode="after")
    def _of_its_measures(self) -> LearnedObjective:
        """The model speaks of the measures that are listed, and of no other."""
        if isinstance(self.model, Boosted):
            numbers = {i for tree in self.model.trees for i in tree.measure}
            other = [f"number {i}" for i in numbers if not 0 <= i < len(self.measures)]
        else:
            other = sorted(self.model.coefficients.keys() - {*self.measures})
        if other:
            raise ValueError(f"the model is of the measure {other[0]}, which is not listed")
        if {*self.signs} != {*self.measures}:
            raise ValueError("the signs are not those of the measures")
        return self

    @property
    def tasks(self) -> list[str]:
        return [one.task for one in self.left_out]

    def turning(self) -> list[str]:
        """The measures whose sign is clear on several tasks, and not the same on all of them."""
        return [name for name in self.measures if len(self.clear(name)) > 1]

    def clear(self, measure: str) -> dict[str, list[str]]:
        """The tasks on which the target rises (`+`) or falls (`-`) with the measure, clearly."""
        found: dict[str, list[str]] = {}
        for task, one in self.signs[measure].items():
            if one.clear and one.correlation:
                found.setdefault("+" if one.correlation > 0 else "-", []).append(task)
        return found

    def scores(self, metrics: Sequence[Mapping[str, float]]) -> list[float]:
        """The score of each of n trials of one study, lower is better.

        A predicted gap is added to the error on the training data. Raises UserError where a trial
        lacks a measure.
        """
        columns = [_column(metrics, name) for name in self.measures]
        found = self.model.predict(np.column_stack([scaled(x) for x in columns]), self.measures)
        if self.target == "gap":
            found = found + np.array([training_error(own) for own in metrics])
        return [float(x) for x in found]

    def against(self, labels: int) -> tuple[float, float, int] | None:
        """The mean regret of the model and of so many labels, over the tasks that can tell.

        The third is how many tasks these are; None where there are none.
        """
        pairs = [(one.learned, other) for one in self.left_out if (other := one.at(labels))]
        if not pairs:
            return None
        own, theirs = (
            float(np.mean([f.regret for f in side])) for side in zip(*pairs, strict=True)
        )
        return own, theirs, len(pairs)

    def beats(self, labels: int) -> bool:
        """Whether on tasks left out it chose better than validation loss with so many labels."""
        found = self.against(labels)
        return labels == 0 or (found is not None and found[0] < found[1])

    def caution(self, labels: int | None) -> str:
        """Why it is refused where a study has so many labels, in one clause; empty: it is not.

        None: it cannot be told how many it has.
        """
        if labels is None:
            return UNKNOWN
        if self.beats(labels):
            return ""
        if (figures := self.against(labels)) is None:
            return f"on tasks left out nothing was measured with {labels:,} labels or more"
        own, theirs, tasks = figures
        return (
            f"on {tasks} tasks left out the {self.judged_by} of its choice was {own:.3g} above the "
            f"best, that of validation loss with {labels:,} labels (or the next number measured) "
            f"{theirs:.3g}"
        )


def scaled(values: Sequence[float]) -> Array:
    """Ranks within a study, (n,), from 0 to 1; of a single trial 1/2."""
    n = len(values)
    return (np.array(rank(values)) - 1) / (n - 1) if n > 1 else np.full(n, 0.5)


def training_error(metrics: Mapping[str, float]) -> float:
    """The share of training samples that are wrong. Raises UserError where it is not there."""
    if "train_accuracy" in metrics:
        return 1 - metrics["train_accuracy"]
    if "train_error" in metrics:
        return metrics["train_error"]
    raise UserError("a trial has neither train_accuracy nor train_error, to which a gap is added")


def _column(metrics: Sequence[Mapping[str, float]], name: str) -> list[float]:
    lacking = sum(name not in own for own in metrics)
    if lacking:
        raise UserError(
            f"{lacking} of {len(metrics)} trials do not have the measure {name} of the learned "
            "objective: add it with hpogen measure DIR --add, or learn one without it"
        )
    return [own[name] for own in metrics]


def read_learned(path: Path) -> LearnedObjective:
    """The file that `hpogen learn` wrote. Raises UserError for any other, or a damaged one."""
    with explained(path, UserError, "read"):
        text = path.read_bytes()
    return checked_learned(text, str(path))


def checked_learned(text: str | bytes, path: str) -> LearnedObjective:
    """What such a file holds. Raises UserError, beginning with the path."""
    anew = "make it anew with hpogen learn"
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: is no JSON ({shortened(error)}): {anew}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise UserError(f"{path}: got {_format(data)}, expected a file that hpogen learn has made")
    if data.get("version") != VERSION:
        raise UserError(
            f"{path}: got version {quoted(data.get('version'))}, expected {VERSION}: {anew}"
        )
    try:
        return LearnedObjective.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path}: is damaged at {place}: {first['msg']}: {anew}") from None


def write_learned(found: LearnedObjective, path: Path) -> None:
    """Write it, whole or not at all. Raises UserError."""
    with explained(path, UserError):
        replace_file(path, (found.model_dump_json(indent=1) + "\n").encode())


def _format(data: Any) -> str:
    return f"format {quoted(data.get('format'))}" if isinstance(data, dict) else quoted(data)
