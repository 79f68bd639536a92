"""What a split's predictions come to: its loss, its accuracy, and the metrics that a task names.

`evaluate.py` asks, once for a whole split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from hpogen.measures.passes import Predictions
from hpogen.measures.sequences import SequencePredictions
from hpogen.training.data.fitted import Normalization
from hpogen.training.forms.kinds import KINDS, UNLABELLED, Kind
from hpogen.training.forms.metrics import METRICS

TASKS = {  # of torchmetrics
    "classes": "multiclass",
    "binary": "binary",
    "labels": "multilabel",
    "positions": "multiclass",
}
Seen = Predictions | SequencePredictions


def figures(
    seen: Seen, kind: Kind, unit: Normalization | None, names: Iterable[str]
) -> dict[str, Tensor]:
    """The loss and the named metrics of a split, () float64 by name, on the device.

    Accuracy and root mean square error are there where the kind of target has them.
    """
    wanted = dict.fromkeys([kind.error, *names])
    return {"loss": seen.mean_loss, **{name: _value(name, seen, kind, unit) for name in wanted}}


def _value(name: str, seen: Seen, kind: Kind, unit: Normalization | None) -> Tensor:
    if isinstance(seen, SequencePredictions):
        return seen.hit_rate if name == "accuracy" else _of_positions(name, seen)
    if name == "accuracy":
        return hits(seen, kind).sum().double() / seen.labels.numel()
    if name == "rmse":
        return squared_errors(seen, unit).mean(0).sqrt().mean()
    return _computed(name, *_given(seen, kind, unit), **_options(name, kind, seen.logits.shape[1]))


def _of_positions(name: str, seen: SequencePredictions) -> Tensor:
    """Of the likeliest class of each labelled position."""
    chosen, kind = seen.labels != UNLABELLED, KINDS["positions"]
    given = seen.predicted[chosen], seen.labels[chosen]
    return _computed(name, *given, **_options(name, kind, seen.outputs))


def _computed(name: str, *given: Tensor, **options: Any) -> Tensor:
    import torchmetrics.functional

    function: Callable[..., Any] = getattr(torchmetrics.functional, METRICS[name].function)
    found: Tensor = function(*given, **options)
    return found.double().mean()


def hits(seen: Predictions, kind: Kind) -> Tensor:
    """Whether each sample's class is predicted, (N,) bool; of labels whether each is, (N, L)."""
    if kind.name == "labels":
        return ((seen.logits > 0) == (seen.labels > 0.5)) & ~seen.logits.isnan()
    return seen.hits


def squared_errors(seen: Predictions, unit: Normalization | None) -> Tensor:
    """(z − y)² (N, K) float64, in the target's unit."""
    errors = (seen.logits.double() - seen.labels.double()).square()
    return errors if unit is None else errors / unit.scale.double().square()


def _given(seen: Predictions, kind: Kind, unit: Normalization | None) -> tuple[Tensor, Tensor]:
    """Probabilities and classes, or values and targets in their unit."""
    logits, targets = seen.logits, seen.labels
    if kind.name == "real":
        back = unit.undone if unit is not None else lambda values: values
        values, targets = back(logits.double()), back(targets.double())
        single = values.shape[1] == 1
        return (values[:, 0], targets[:, 0]) if single else (values, targets)
    if kind.name == "classes":
        return logits.softmax(1), targets
    return logits.sigmoid().reshape(targets.shape), targets.long()


def _options(name: str, kind: Kind, outputs: int) -> dict[str, Any]:
    if kind.name == "real":
        return {"num_outputs": outputs} if name == "mae" else {}
    options: dict[str, Any] = {"task": TASKS[kind.name]}
    if kind.name != "binary":
        options["num_labels" if kind.name == "labels" else "num_classes"] = outputs
        if name != "mcc":
            options["average"] = "macro"
    return options
