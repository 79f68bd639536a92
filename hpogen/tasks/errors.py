"""What an answer is judged by: an error, the lower the better, made of a figure of its audit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpogen.plugins import OWN_TASKS


@dataclass(frozen=True)
class Error:
    """The error of a `metric`, called `text`: 1 − the metric where that is better the higher.

    A text beside `error` names another unit than a share of samples: it is written as a number.
    """

    metric: str
    text: str
    complement: bool = False

    def of(self, figures: Mapping[str, float], before: str = "") -> float | None:
        """Of the figures of a split, whose names begin with `before`; None where it is not there.

        The audit's names are bare, those of the others begin with `train_`, `val_`.
        """
        if f"{before}{self.metric}" not in figures:
            return None
        return self.required(figures, before)

    def required(self, figures: Mapping[str, float], before: str = "") -> float:
        """The same. Raises KeyError."""
        found = figures[f"{before}{self.metric}"]
        return 1 - found if self.complement else found

    def on(self, split: str) -> str:
        """`audit error`, `test RMSE`."""
        return f"{split} {self.text}"


ERRORS: Mapping[str, Error] = {
    error.metric: error
    for error in (
        Error("accuracy", "error", complement=True),
        Error("error", "error"),
        Error("loss", "loss"),
        Error("rmse", "RMSE"),
        Error("mae", "MAE"),
        Error("r2", "1 − R²", complement=True),
        Error("auroc", "1 − AUROC", complement=True),
        Error("average_precision", "1 − average precision", complement=True),
        Error("f1", "1 − F1", complement=True),
        Error("precision", "1 − precision", complement=True),
        Error("recall", "1 − recall", complement=True),
        Error("mcc", "1 − MCC", complement=True),
    )
}
LOSS = ERRORS["loss"]


def audit_key(task: str) -> str:
    """What gives the trials of the task of that name audit figures, as a user writes it."""
    own = {"command": "task.audit", **dict.fromkeys(OWN_TASKS, "task.dataset.audit")}
    return own.get(task, "@task(…, audit=…)")


USUAL = ("accuracy", "error", "rmse", "loss")  # the first that is there, where none is declared


def is_share(text: str) -> bool:
    """Whether figures so called, `audit error` say, are shares of samples, written in percent."""
    return text == "error" or text.endswith(" error")


def judging(declared: Iterable[str | None], figures: Iterable[Mapping[str, float]]) -> Error | None:
    """The error that all figures have; None where there is none. `declared` are the tasks' own.

    Where tasks declare different ones, or some have not the one declared, the first usual one.
    """
    found, own = list(figures), set(declared)
    names = [*(name for name in own if name is not None and len(own) == 1), *USUAL]
    return next((_error(name) for name in names if found and all(name in f for f in found)), None)


def _error(metric: str) -> Error:
    return ERRORS.get(metric, Error(metric, metric))
