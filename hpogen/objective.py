"""What makes one trial better than another: terms, scales and presets; metrics in, score out.

Lower is better. A term's scale makes metrics of one budget comparable; scores of different budgets
are never compared.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Scale = Literal["raw", "per_epoch", "log", "standard", "rank"]
SCALES: tuple[str, ...] = get_args(Scale)
Preset = Literal["val", "train", "agn+val", "agn+train"]
PRESETS: tuple[str, ...] = get_args(Preset)

LOG_FLOOR = 1e-12
MAD_TO_SD = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class Term:
    """`weight · scale(metric)`; the weight may have any sign."""

    metric: str
    weight: float
    scale: Scale = "raw"


@dataclass(frozen=True)
class Location:
    """The frozen centre and spread that a `standard` term subtracts and divides by."""

    center: float
    spread: float


@dataclass(frozen=True)
class Objective:
    """`score = Σ weight · scaled(metric)`.

    `sums` are the metrics that are sums over epochs (`agn`), which `per_epoch` and `log` divide by
    the budget. Those that are sums over training steps (`step_sums`) are divided by epochs of as
    many steps on the `subset`, a fraction of the training set. `standard_after` is how many finite
    outcomes of a budget freeze a `standard` scale.
    """

    terms: tuple[Term, ...]
    label: str
    sums: frozenset[str] = frozenset()
    standard_after: int = 8
    step_sums: frozenset[str] = frozenset()
    subset: float = 1.0

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset(term.metric for term in self.terms)

    @property
    def shown_first(self) -> tuple[str, ...]:
        """The metrics that stand first wherever metrics are listed: `val_loss`, then the terms'."""
        return tuple(dict.fromkeys(["val_loss", *(term.metric for term in self.terms)]))

    @property
    def is_validation(self) -> bool:
        """Whether validation loss alone decides, on whatever scale."""
        return [(term.metric, term.weight > 0) for term in self.terms] == [("val_loss", True)]

    def uses(self, scale: Scale) -> bool:
        return any(term.scale == scale for term in self.terms)

    def standardized(self) -> tuple[str, ...]:
        """The metrics for which `score` needs a Location."""
        return tuple(sorted({t.metric for t in self.terms if t.scale == "standard"}))

    def score(
        self,
        metrics: Mapping[str, float],
        budget: int,
        locations: Mapping[str, Location] | None = None,
        ranks: Mapping[str, float] | None = None,
        data: float | None = None,
    ) -> float:
        """The score after `budget` epochs on the fraction `data` of the training set.

        None: on `subset`. Raises ValueError where a term is not defined.
        """
        total = 0.0
        for term in self.terms:
            if (value := metrics.get(term.metric)) is None:
                raise ValueError(f"there is no metric {term.metric!r}")
            if term.scale == "standard":
                location = (locations or {})[term.metric]
                scaled = (value - location.center) / location.spread
            elif term.scale == "rank":
                scaled = (ranks or {})[term.metric]
            else:
                scaled = self._pointwise(term, value, budget, data)
            total += term.weight * scaled
        return total

    def record(self) -> dict[str, Any]:
        """In the form of the YAML: the preset that it is called by, else its terms."""
        first = self.terms[0]
        for name in get_args(Preset):
            agn: dict[str, Any] = {}
            if "+" in name:
                agn = {"alpha": float(first.weight), "scale": first.scale}
            if (self.terms, self.label) == (preset(name, **agn), label(name, **agn)):
                return {"preset": name, **agn, "standard_after": self.standard_after}
        terms = [{**asdict(term), "weight": float(term.weight)} for term in self.terms]
        return {"terms": terms, "standard_after": self.standard_after}

    def _pointwise(self, term: Term, value: float, budget: int, data: float | None) -> float:
        if term.scale == "raw":
            return value
        if term.metric in self.sums:
            value /= budget
            if data is not None and term.metric in self.step_sums:
                value /= data / self.subset
        if term.scale == "per_epoch":
            return value
        if value < 0:
            raise ValueError(f"{term.metric} = {value:g} is negative: it has no logarithm")
        return math.log(max(value, LOG_FLOOR))


def preset(name: Preset, alpha: float | None = None, scale: Scale = "raw") -> tuple[Term, ...]:
    """The papers' objectives: `agn+val` is alpha · scale(agn) + val_loss."""
    *agn, split = name.split("+")
    loss = Term(f"{split}_loss", 1.0)
    if not agn:
        return (loss,)
    if alpha is None:
        raise ValueError(f"objective {name!r} needs alpha")
    return (Term("agn", alpha, scale), loss)


def label(name: Preset, alpha: float | None = None, scale: Scale = "raw") -> str:
    """How people call it: `agn+val (α 0.05, log)`."""
    if alpha is None:
        return name
    return f"{name} (α {alpha:g}{'' if scale == 'raw' else ', ' + scale})"


def locate(values: Sequence[float]) -> Location:
    """Median and 1.4826·MAD; a MAD of 0 gives way to the standard deviation, that 0 to 1."""
    center = statistics.median(values)
    spread = MAD_TO_SD * statistics.median(abs(v - center) for v in values)
    return Location(center, spread or statistics.pstdev(values) or 1.0)


def rank(values: Sequence[float]) -> list[float]:
    """Ranks from 1, ties sharing their mean rank."""
    ordered = sorted(values)
    first = {v: i for i, v in reversed(list(enumerate(ordered)))}
    last = {v: i for i, v in enumerate(ordered)}
    return [1 + (first[v] + last[v]) / 2 for v in values]
