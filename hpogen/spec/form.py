"""The form of a study's YAML: its keys, their types and defaults, as pydantic models.

`loading.py` validates with them; what a task, a space or a searcher allows, its owner checks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Len
from pydantic import (
    AfterValidator,
    ConfigDict,
    field_validator,
    model_validator,
)

from hpogen.record.stores import is_url
from hpogen.selection import SelectionName
from hpogen.spec.choice import RACE, Bound, Finalists, ObjectiveForm, also, mapping_with
from hpogen.spec.pruning import Prune
from hpogen.spec.strict import STRICT, Count, Form
from hpogen.spec.tracking import Track
from hpogen.trial import Keep, Rung, plain

USUAL, USUAL_WITH_RUNGS = "optuna", "asha"  # searchers, where a study names none
Seconds = Annotated[float, Gt(0)]
Rungs = Literal["retrain", "continue"]
Matrix = dict[str, Annotated[list[Any], Len(1)]]  # by dotted key; one study per combination


class Stop(Form):
    """When to stop asking: after so many epochs charged, trials, or hours; at least one of them.

    With more of them, or `no_improvement`, the first that comes.
    """

    epochs: Count | None = None
    """No trial is asked for whose budget would bring the epochs charged above this number."""
    trials: Count | None = None
    """No more than this number of trials is asked for."""
    hours: Annotated[float, Gt(0)] | None = None
    """Hours of running, in all runs of the study, after which no trial is asked for."""
    no_improvement: Count | None = None
    """Trials in a row without a better score, after which no trial is asked for."""

    @model_validator(mode="after")
    def _at_least_one(self) -> Stop:
        if self.epochs is None and self.trials is None and self.hours is None:
            raise ValueError("needs epochs, trials or hours")
        return self

    def record(self) -> dict[str, Any]:
        """Without `hours` and `no_improvement` where they are not given, as before there were."""
        young = {"hours", "no_improvement"}
        given = self.model_dump()
        return {key: x for key, x in given.items() if x is not None or key not in young}


class Limits(Form):
    """When a study gives up: on a trial or an epoch that takes so many seconds (it is told inf),
    on itself after so many trials in a row that ended with an error."""

    trial_seconds: Seconds | None = None
    """Seconds after which a trial fails as `timeout`, counted from its last start."""
    epoch_seconds: Seconds | None = None
    """Seconds that one epoch may take; after them the trial fails as `timeout`."""
    max_consecutive_errors: Count = 10
    """Trials in a row that fail as `error`, after which the study stops itself."""

    @property
    def times(self) -> dict[str, float]:
        """Those limits of time that are set."""
        return self.model_dump(include={"trial_seconds", "epoch_seconds"}, exclude_none=True)


class Checkpoints(Form):
    """What is kept of the trials' networks, and where their checkpoints are.

    `best` keeps the weights of the answer and of the `top` best trials, in the study's folder, for
    `hpogen.load`. `final` and `all` keep checkpoints of every trial, `none` nothing. `path` is a
    folder for checkpoints that every worker sees, or a URL for fsspec (`s3://bucket/folder`); each
    study has a folder of its own in it. Default: in the study's folder.
    """

    keep: Keep = "best"
    """What outlives a trial: the weights of the best, the final checkpoint, all of them, none."""
    top: Count = 1
    """Of how many trials, the best first, the weights are kept with `keep: best`."""
    path: Annotated[str, Len(1)] | None = None
    """A folder that every worker sees, or a URL for fsspec; left out: the study's own folder."""

    @model_validator(mode="after")
    def _top_of_the_best(self) -> Checkpoints:
        if self.top > 1 and self.keep != "best":
            raise ValueError(f"top {self.top} is a number of best trials: it needs keep: best")
        return self

    @property
    def of_all(self) -> bool:
        """Whether the checkpoints of every trial outlive it."""
        return self.keep in ("final", "all")

    def anchored(self, folder: Path) -> Checkpoints:
        """With a relative path beginning at `folder`."""
        if self.path is None or is_url(self.path):
            return self
        path = os.path.abspath(folder / Path(self.path).expanduser())
        return self.model_copy(update={"path": path})


def _one_form(over: str | list[str]) -> str | list[str]:
    """`data`, `epochs`, or both of them in this order."""
    if isinstance(over, str):
        return over
    if len(over) != len({*over}):
        raise ValueError(f"got {over[0]!r} twice")
    return over[0] if len(over) == 1 else ["data", "epochs"]


class BudgetsForm(Form):
    """The rungs of a multi-fidelity searcher: in epochs, or in fractions of the training set.

    Over `data`, each rung trains `task.epochs` epochs on its fraction; over `[data, epochs]` the
    epochs go down from `task.epochs` by the same factor as the fraction.
    """

    over: Annotated[
        Literal["epochs", "data"] | Annotated[list[Literal["data", "epochs"]], Len(1)],
        AfterValidator(_one_form),
    ] = "epochs"
    """What the rungs have more and more of: `epochs`, `data`, or both, `[data, epochs]`."""
    min: Annotated[int | float, Gt(0)]
    """The lowest rung: epochs, or the fraction of the training set."""
    max: Annotated[int | float, Gt(0)]
    """The highest rung, `min` times a power of `eta`: `task.epochs`, or a fraction of at most 1."""
    eta: Annotated[int, Ge(2)]
    """Each rung has this many times as much as the one below; the best 1/eta are promoted."""
    warm: bool = False
    """Over data, with `rungs: continue`: a promoted trial begins with the weights of its rung."""

    @model_validator(mode="after")
    def _divides(self) -> BudgetsForm:
        self._in_range()
        if self.min > self.max:
            raise ValueError(f"got min {self.min} > max {self.max}")
        if self.amounts()[-1] != Fraction(repr(self.max)):
            rungs = ", ".join(f"{plain(x)}" for x in self.amounts())
            raise ValueError(
                f"max {self.max} is not {self.min} times a power of {self.eta} ({rungs}, …)"
            )
        return self

    def _in_range(self) -> None:
        for name in ("min", "max"):
            value = getattr(self, name)
            if self.on_data and value > 1:
                raise ValueError(f"{name} {value} is no fraction of the data, expected at most 1")
            if not self.on_data and not isinstance(value, int):
                raise ValueError(
                    f"{name} {value} is no number of epochs; fractions of the data need over: data"
                )

    @classmethod
    def of(cls, rungs: Sequence[int]) -> BudgetsForm:
        """What gives those rungs of epochs; of a single one any eta does."""
        return cls(min=rungs[0], max=rungs[-1], eta=rungs[1] // rungs[0] if rungs[1:] else 2)

    @property
    def on_data(self) -> bool:
        """Whether the rungs are fractions of the training set."""
        return self.over != "epochs"

    def amounts(self) -> list[Fraction]:
        """min, min·eta, min·eta², … up to max, exactly: 0.1 is a tenth."""
        amounts, most = [Fraction(repr(self.min))], Fraction(repr(self.max))
        while amounts[-1] * self.eta <= most:
            amounts.append(amounts[-1] * self.eta)
        return amounts

    def rungs(self) -> tuple[int, ...]:
        """What a searcher is told of: epochs, or how many times the data of the lowest rung."""
        amounts = self.amounts()
        unit = amounts[0] if self.on_data else 1
        return tuple(int(amount / unit) for amount in amounts)

    def ladder(self, epochs: int, subset: float | None) -> tuple[Rung, ...]:
        """What a trial of each rung trains, where `epochs` are the task's; see `Task.subset`.

        Raises ValueError where the epochs of a rung are not whole.
        """
        amounts = self.amounts()
        if not self.on_data:
            return tuple(Rung(int(amount)) for amount in amounts)
        low = Fraction(epochs) * amounts[0] / amounts[-1]
        if self.over == "data":
            each = [epochs] * len(amounts)
        elif low.denominator > 1:
            raise ValueError(
                f"task.epochs {epochs} does not go down by {self.eta} to the lowest of "
                f"{len(amounts)} rungs: expected a multiple of {amounts[-1] / amounts[0]}"
            )
        else:
            each = [int(low * amount / amounts[0]) for amount in amounts]
        fractions = (None if (f := float(a)) == subset else f for a in amounts)
        return tuple(map(Rung, each, fractions))

    def record(self) -> dict[str, Any]:
        """Without `over` and `warm` where they are as they were before there were others."""
        young = {"over", "warm"} if not self.on_data else set()
        return self.model_dump(exclude=young)


class SearcherForm(Form):
    """A searcher's name; its options stand beside it and are the searcher's to check."""

    model_config = ConfigDict(**{**STRICT, "extra": "allow"})

    name: str
    """One of `hpogen list searchers`, or a plug-in's; a bare string is the short form."""

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class StudyForm(Form):
    """A study. A key that is null and not required is as if it were not there."""

    name: str = ""
    """The study's folder is `runs/NAME`; left out or empty: the name of the file."""
    seed: Annotated[int, Ge(0)] = 0
    """The search seed: what the searcher draws, and the seeds of the trials."""
    task: dict[str, Any]
    """What is trained: images by a built-in loop, a command line, or a task of your own."""
    search_space: dict[str, Any]
    """The hyper-parameters by name, or the path of a YAML file that holds them."""
    searcher: Annotated[SearcherForm, mapping_with("name")] | None = None
    """What proposes configurations; left out: `optuna`, which is TPE, and with `budgets` `asha`."""
    objective: Annotated[ObjectiveForm, mapping_with("preset")] = ObjectiveForm(preset="val")
    """What the searcher minimises; a bare string is a preset."""
    selection: Annotated[SelectionName, also(RACE)] = "score"
    """The rule that chooses the answer among the finished trials; of `pareto` left out: `knee`.

    `race` is `val_loss` with the defaults of `finalists`.
    """
    finalists: Finalists | None = None
    """The best trials, trained again with other seeds in a race for the answer; left out: none."""
    constraints: Annotated[dict[str, Bound], Len(1)] | None = None
    """What the answer must satisfy, by metric: `<= 0.2`, or `>=` and a number; left out: nothing.

    A trial that does not is told to the searcher as infeasible, and is never the answer.
    """
    stop: Stop
    """When the search ends: `trials`, `epochs` or `hours` is needed. It may be raised later."""
    prune: Annotated[Prune, mapping_with("rule")] | None = None
    """Which running trials end before their budget; a bare string is its rule; left out: none."""
    baselines: dict[str, dict[str, Any]] | None = None
    """Configurations by name, set beside the answer; left out: `default`, the space's defaults."""
    limits: Limits = Limits()
    """When a trial, an epoch or the study is given up."""
    enqueue: list[Literal["default"] | dict[str, Any]] | None = None
    """Configurations that replace the searcher's first draws; left out: the space's defaults."""
    plugins: list[str] = []  # noqa: RUF012  # pydantic copies it
    """Python files beside the YAML that register parts of your own; reading it runs them."""
    checkpoints: Checkpoints = Checkpoints()
    """Which checkpoints are kept, and where running trials keep theirs."""
    budgets: BudgetsForm | None = None
    """The rungs of a searcher that stops trials early: `bohb`, `hyperband`, `asha`."""
    rungs: Rungs = "retrain"
    """Whether a promoted configuration is trained anew, or goes on from its checkpoint."""
    primary: str | None = None
    """The contrast of arms, `A - B`, that a comparison is made for, declared beforehand."""
    track: Track | None = None
    """Programs that show the study while it runs: `mlflow`, `wandb`, `tensorboard`."""
    matrix: Matrix | None = None
    """Values by dotted key: the file stands for a study of each combination."""

    @property
    def proposes(self) -> SearcherForm:
        """The searcher that is named, else the usual one; why it is that: docs/searchers.md."""
        rungs = self.budgets is not None and self.budgets.min < self.budgets.max
        return self.searcher or SearcherForm(name=USUAL_WITH_RUNGS if rungs else USUAL)

    @model_validator(mode="before")
    @classmethod
    def _selection(cls, data: Any) -> Any:
        """`race` in its long form; of a Pareto front the knee where nothing is said."""
        if not isinstance(data, dict):
            return data
        objective = data.get("objective")
        if "selection" not in data and isinstance(objective, dict) and objective.get("pareto"):
            return {**data, "selection": "knee"}
        if data.get("selection") != RACE:
            return data
        return {**data, "selection": "val_loss", "finalists": data.get("finalists") or {}}

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not is_folder_name(name):
            raise ValueError(f"got {name!r}, expected the name of a folder, without / or \\")
        return name

    @field_validator("selection", mode="before")
    @classmethod
    def _not_audit(cls, selection: object) -> object:
        if isinstance(selection, str) and selection.startswith("audit"):
            raise ValueError(f"{AUDIT}: no selection can name {selection!r}")
        return selection


AUDIT = "audit is for analysis only"

REQUIRED = {name for name, field in StudyForm.model_fields.items() if field.is_required()}
PLACEHOLDERS: dict[str, Any] = {  # stand for what is wrong, so that the rest can be checked
    "task": {},
    "search_space": {},
    "stop": {"trials": 1},
}


def is_folder_name(name: str) -> bool:
    """Whether a study of that name can have the folder `runs/NAME`."""
    return name.isprintable() and not (set("/\\") & set(name)) and name.strip(". ") != ""
