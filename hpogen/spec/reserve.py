"""What a study keeps of its `stop` for its end, when its best trials are trained again.

`loading.py` checks here that the task can race finalists, `budgets.py` that there is room for them;
the study and its plan read it of the spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from hpogen.selection import SELECTIONS, SelectionName
from hpogen.spec.choice import Finalists
from hpogen.spec.form import StudyForm
from hpogen.spec.mistakes import Mistakes
from hpogen.spec.positions import KeyPath
from hpogen.tasks.base import Task

NO_END = 2**100


@dataclass(frozen=True)
class Reserve:
    """So many trials, charged so many epochs in all."""

    trials: int
    epochs: int | Fraction

    def room(self, stop: Mapping[str, int | None]) -> tuple[int, int | Fraction]:
        """The trials and the epochs of `stop` that are the searcher's; NO_END without a limit."""
        trials, epochs = stop["trials"], stop["epochs"]
        return (
            NO_END if trials is None else trials - self.trials,
            NO_END if epochs is None else epochs - self.epochs,
        )


def reserve(selection: SelectionName, finalists: Finalists | None, cost: int | Fraction) -> Reserve:
    """`cost` is what each of these trials is charged, in epochs."""
    trials = SELECTIONS[selection].reserve
    if finalists is not None:
        trials = finalists.count * finalists.seeds
    return Reserve(trials, trials * cost)


def check_finalists(form: StudyForm, task: Task, mistakes: Mistakes) -> None:
    """The task gives what a race looks at, and nothing else trains the best again."""
    path: KeyPath = ("finalists",)
    if form.finalists is None:
        return
    if SELECTIONS[form.selection].reserve:
        text = f"selection {form.selection!r} trains the best again itself: use another, or drop"
        mistakes.add(path, f"{text} finalists")
    if task.parts.number > 1:
        count, word = task.parts
        text = (
            f"are judged by one training each, and a trial is {count} {word}s: drop finalists, or"
        )
        mistakes.add(path, f"{text} give validation a number")
    elif not task.keeps_losses:
        text = "finalists are judged by the loss of each validation sample, which task"
        mistakes.add(path, f"{text} {task.name!r} does not keep: drop finalists")
    elif "val_loss" not in task.metrics():
        text = "finalists are judged by validation images, and there are none: set"
        mistakes.add(path, f"{text} task.dataset.validation")
    else:
        _data(form, form.finalists.data, task, mistakes)


def _data(form: StudyForm, data: float, task: Task, mistakes: Mistakes) -> None:
    """Finalists train on as much as the search, or more, and the task has it."""
    path: KeyPath = ("finalists", "data")
    budgets, subset = form.budgets, task.subset or 1.0
    most = float(budgets.max) if budgets is not None and budgets.on_data else subset
    if data < most:
        text = f"got {data:g}, expected the search's {most:g} or more: a race on less data"
        mistakes.add(path, f"{text} than the search had tells less than that")
    elif data > most:
        try:
            samples, before = task.check_data(data), task.check_data(most)
        except ValueError as error:
            mistakes.add(path, str(error))
            return
        if samples is not None and before is not None and samples <= before:
            text = f"{data:g} of the training images are {samples}, no more than the search's"
            mistakes.add(path, f"{text} {before}: take fewer for validation or audit")
