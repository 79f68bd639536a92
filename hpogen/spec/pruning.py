"""The form of `prune`: which rule ends running trials; `form.py` has the others.

`budgets.py` checks that a study's parts go together with it, `study/pruning.py` prunes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import model_validator

from hpogen.spec.strict import Count, Form

Rule = Literal["median", "percentile", "asha", "wilcoxon"]
FINISHED: Mapping[str, Any] = {"n_startup_trials": 5, "interval_steps": 1, "n_min_trials": 1}
RULES: Mapping[str, Mapping[str, Any]] = {
    "median": FINISHED,
    "percentile": {"percentile": None, **FINISHED},
    "asha": {"reduction_factor": 4, "min_early_stopping_rate": 0, "bootstrap_count": 0},
    "wilcoxon": {"p_threshold": 0.1, "n_startup_steps": 2},
}
"""The options of each rule with Optuna's defaults; None: it has none."""
OF_TRAININGS = "wilcoxon"


class Prune(Form):
    """Ends trials whose objective says early that they will not be among the best.

    The rules are Optuna's pruners, and their options have Optuna's names and defaults.
    """

    rule: Rule
    """What a running trial is compared by: `median`, `percentile`, `asha`, or `wilcoxon`."""
    after: Count = 1
    """Epochs that every trial trains first; the lowest rung of `asha`. Not for `wilcoxon`."""
    patience: Annotated[int, Ge(0)] | None = None
    """Prune only where the objective has not improved for more epochs than these, too."""
    min_delta: Annotated[float, Ge(0)] | None = None
    """What does not count as a rise for `patience`."""
    n_startup_trials: Annotated[int, Ge(0)] | None = None
    """Trials that finish before the first is pruned (`median`, `percentile`)."""
    interval_steps: Count | None = None
    """Epochs from one look at a trial to the next (`median`, `percentile`)."""
    n_min_trials: Count | None = None
    """Finished trials with that epoch, at least, to compare with (`median`, `percentile`)."""
    percentile: Annotated[float, Ge(0), Le(100)] | None = None
    """The share in % of the finished trials among which a trial must be to go on (`percentile`)."""
    reduction_factor: Annotated[int, Ge(2)] | None = None
    """One in so many trials goes on beyond a rung, and rungs lie so far apart (`asha`)."""
    min_early_stopping_rate: Annotated[int, Ge(0)] | None = None
    """The lowest rung is `after` times the factor to this power (`asha`)."""
    bootstrap_count: Annotated[int, Ge(0)] | None = None
    """Trials that reach a rung before any goes beyond it (`asha`)."""
    p_threshold: Annotated[float, Gt(0), Lt(1)] | None = None
    """The p-value below which a trial is worse than the best (`wilcoxon`)."""
    n_startup_steps: Annotated[int, Ge(0)] | None = None
    """Folds or repeats that every trial trains first (`wilcoxon`)."""

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, data: Any) -> Any:
        """With the defaults of the rule's options."""
        rule = data.get("rule") if isinstance(data, dict) else None
        if not isinstance(rule, str) or rule not in RULES:
            return data
        given = {key: value for key, value in data.items() if value is not None}
        patience = {"min_delta": 0.0} if "patience" in given else {}
        return {**RULES[rule], **patience, **given}

    def mistaken(self) -> tuple[str, str] | None:
        """An option that does not go with the rule, and what is wrong with it, if there is one."""
        trainings = self.rule == OF_TRAININGS
        known = [*RULES[self.rule], *(() if trainings else ("patience", "min_delta"))]
        own = {*known, "rule", *(() if trainings else ("after",))}
        given = {key for key in self.model_fields_set if getattr(self, key) is not None}
        for key in sorted(given - own):
            return key, f"is no option of the rule {self.rule!r}: it has {', '.join(known)}"
        if "percentile" in known and self.percentile is None:
            return "rule", "'percentile' needs one, as in {rule: percentile, percentile: 25}"
        if self.min_delta is not None and self.patience is None:
            return "min_delta", "is an option of patience: add it, or drop min_delta"
        return None

    def record(self) -> dict[str, Any]:
        """With every default of the rule's options, and none of other rules."""
        without = {"after"} if self.rule == OF_TRAININGS else set()
        return self.model_dump(exclude=without, exclude_none=True)

    @property
    def options(self) -> dict[str, Any]:
        """Of the rule alone, and `patience`; under Optuna's names."""
        return self.model_dump(exclude={"rule", "after"}, exclude_none=True)
