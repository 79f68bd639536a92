"""The metrics that a task may name beside its loss and accuracy, a row each, without torch.

`training/metrics.py` computes them, most by torchmetrics.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hpogen.errors import Refusal, UserError, unknown
from hpogen.training.forms.kinds import Kind


@dataclass(frozen=True)
class Metric:
    """A metric of a whole split: a function of torchmetrics, or, without one, hpogen's own."""

    function: str  # of torchmetrics.functional
    kinds: frozenset[str]  # of targets that it is defined for
    definition: str


_RANKED = frozenset({"classes", "binary", "labels"})  # whose probabilities are kept
_ANY = _RANKED | {"positions"}
_REAL = frozenset({"real"})

METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("", _ANY, "the share of samples whose class is the likeliest; of labels"),
    "auroc": Metric("auroc", _RANKED, "the area under the ROC curve, its mean over classes"),
    "average_precision": Metric(
        "average_precision", _RANKED, "the area under precision over recall, its mean over classes"
    ),
    "f1": Metric("f1_score", _ANY, "2 PR/(P + R) of precision and recall, its mean over classes"),
    "precision": Metric("precision", _ANY, "the mean over classes of right ones among the named"),
    "recall": Metric("recall", _ANY, "the mean over classes of those named among the right ones"),
    "mcc": Metric("matthews_corrcoef", _ANY, "Matthews' correlation of classes"),
    "rmse": Metric("", _REAL, "√ mean (z − y)², in the target's unit; its mean over several"),
    "mae": Metric("mean_absolute_error", _REAL, "mean |z − y|, in the target's unit"),
    "r2": Metric("r2_score", _REAL, "1 − Σ(z − y)²/Σ(y − ȳ)², its mean over several targets"),
}


def check_metrics(names: Iterable[str]) -> None:
    """Raise UserError for a name that is none, or where torchmetrics is missing."""
    for name in names:
        if name not in METRICS:
            raise UserError(unknown("metric", name, METRICS))
        if METRICS[name].function and importlib.util.find_spec("torchmetrics") is None:
            raise UserError(f"metric {name!r}: needs torchmetrics: pip install 'hpogen[metrics]'")


def check_defined(names: Iterable[str], kind: Kind) -> None:
    """Raise Refusal for a metric that targets of that kind do not have."""
    for name in names:
        if kind.name not in METRICS[name].kinds:
            fitting = ", ".join(n for n, metric in METRICS.items() if kind.name in metric.kinds)
            raise Refusal(
                f"the metric {name!r} is not defined for targets of the kind {kind.name!r}: "
                f"expected one of {fitting}"
            )
