"""What makes one trial better than another: terms, scales and presets; metrics in, score out.

Lower is better. A term's scale makes metrics of one budget comparable; scores of different budgets
are never compared.
"""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, get_args

Scale = Literal["raw", "per_epoch", "log", "standard", "rank"]
SCALES: tuple[str, ...] = get_args(Scale)
PointwiseScale = Literal["raw", "per_epoch", "log"]  # of one trial, whatever the others are
Preset = Literal["val", "train", "agn+val", "agn+train"]
PRESETS: tuple[str, ...] = get_args(Preset)
Found = Literal["auto", "swept"]  # how α is found from the trials
Alpha = float | Found

PART = 0.25  # of the loss's spread, which `alpha: auto` gives to AGN's

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


class Learned(Protocol):
    """A model that predicts a score from the terms' metrics and frozen scales."""

    @property
    def caution(self) -> str: ...

    def score(self, metrics: Mapping[str, float], locations: Mapping[str, Location]) -> float: ...

    def record(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Objective:
    """`score = Σ weight · scaled(metric)`.

    `sums` are the metrics that are sums over epochs (`agn`), which `per_epoch` and `log` divide by
    the budget. Those that are sums over training steps (`step_sums`) are divided by epochs of as
    many steps on the `subset`, a fraction of the training set. `standard_after` is how many finite
    outcomes of a budget freeze a `standard` scale. A `learned` model weighs the terms itself.

    Two objectives have α, the weight of their first term, found from the trials, and 1 stands in
    its place. With `part` (`alpha: auto`), α · spread(scaled first) = part · spread(second), both
    spreads frozen as those of a `standard` scale. `swept`: the score is the other terms' alone, and
    α is chosen when the trials are there (`selection/sweep.py`).

    Of a `pareto` objective each term is a score of its own; a negative weight says that a large
    metric is good.
    """

    terms: tuple[Term, ...]
    label: str
    sums: frozenset[str] = frozenset()
    standard_after: int = 8
    step_sums: frozenset[str] = frozenset()
    subset: float = 1.0
    part: float | None = None
    swept: bool = False
    learned: Learned | None = None
    pareto: bool = False

    @property
    def metrics(self) -> frozenset[str]:
        return frozenset(term.metric for term in self.terms)

    @property
    def count(self) -> int:
        """How many scores a trial has."""
        return len(self.terms) if self.pareto else 1

    @property
    def score_label(self) -> str:
        """What `score` is called: of a Pareto objective its first score."""
        return score_name(self.terms[0]) if self.pareto else self.label

    @property
    def shown_first(self) -> tuple[str, ...]:
        """The metrics that stand first wherever metrics are listed: `val_loss`, then the terms'."""
        return tuple(dict.fromkeys(["val_loss", *(term.metric for term in self.terms)]))

    @property
    def is_validation(self) -> bool:
        """Whether validation loss alone decides, on whatever scale."""
        named = [(term.metric, term.weight > 0) for term in self.terms]
        return named == [("val_loss", True)]

    def uses(self, scale: Scale) -> bool:
        return any(term.scale == scale for term in self.terms)

    @property
    def finds_alpha(self) -> bool:
        """Whether α is found from the trials."""
        return self.swept or self.part is not None

    def weighing(self, alpha: float) -> Objective:
        """The same with that number as its α, by its old label."""
        first, *others = self.terms
        terms = (replace(first, weight=alpha), *others)
        return replace(self, terms=terms, part=None, swept=False)

    def alpha(self, locations: Mapping[str, Location]) -> float:
        """α where it is given, or a `part`; the Locations are those of `standardized`."""
        first = self.terms[0]
        if self.part is None:
            return first.weight
        of, by = (locations[_located(term)].spread for term in (self.terms[1], first))
        return self.part * of / by

    def standardized(self) -> tuple[str, ...]:
        """What `score` needs a Location of: metrics, or scaled ones such as `log(agn)`."""
        return tuple(sorted(self._located()))

    def locations(
        self, trials: Sequence[Mapping[str, float]], budget: int, data: float | None = None
    ) -> dict[str, Location]:
        """The Locations of the metrics of trials of one rung, as far as a scale is defined there.

        Where it is for none of them, center 0 and spread 1.
        """
        found = {}
        for name, term in sorted(self._located().items()):
            values = []
            for metrics in trials:
                with contextlib.suppress(ValueError):
                    values.append(self._pointwise(term, metrics[term.metric], budget, data))
            found[name] = locate(values) if values else Location(0.0, 1.0)
        return found

    def _located(self) -> dict[str, Term]:
        own = [term for term in self.terms if term.scale == "standard"]
        return {_located(t): t for t in (own if self.part is None else self.terms)}

    def score(
        self,
        metrics: Mapping[str, float],
        budget: int,
        locations: Mapping[str, Location] | None = None,
        ranks: Mapping[str, float] | None = None,
        data: float | None = None,
    ) -> float:
        """The score after `budget` epochs on the fraction `data` of the training set.

        None: on `subset`. The first of a Pareto objective. Raises ValueError where a term is not
        defined.
        """
        if self.pareto:
            return self.scores(metrics, budget, data)[0]
        if self.learned is not None and self.metrics <= metrics.keys():
            return self.learned.score(metrics, locations or {})
        total = 0.0
        for i, term in enumerate(self.terms):
            if self.swept and i == 0:
                continue
            weight = term.weight if i else self.alpha(locations or {})
            if (value := metrics.get(term.metric)) is None:
                raise ValueError(f"there is no metric {term.metric!r}")
            if term.scale == "standard":
                location = (locations or {})[term.metric]
                scaled = (value - location.center) / location.spread
            elif term.scale == "rank":
                scaled = (ranks or {})[term.metric]
            else:
                scaled = self._pointwise(term, value, budget, data)
            total += weight * scaled
        return total

    def scores(
        self, metrics: Mapping[str, float], budget: int, data: float | None = None
    ) -> tuple[float, ...]:
        """The scores of a Pareto objective, one per term. Raises ValueError as `score` does."""
        if lacking := [term.metric for term in self.terms if term.metric not in metrics]:
            raise ValueError(f"there is no metric {lacking[0]!r}")
        own = ((t.weight, self._pointwise(t, metrics[t.metric], budget, data)) for t in self.terms)
        return tuple(weight * value for weight, value in own)

    def record(self) -> dict[str, Any]:
        """In the form of the YAML: the preset that it is called by, else its terms."""
        if self.pareto:
            terms = [
                {"metric": t.metric, "scale": t.scale, "maximize": t.weight < 0} for t in self.terms
            ]
            return {"pareto": terms, "standard_after": self.standard_after}
        if self.learned is not None:
            return {**self.learned.record(), "standard_after": self.standard_after}
        first = self.terms[0]
        alpha: Alpha = float(first.weight)
        if self.finds_alpha:
            alpha = "swept" if self.swept else "auto"
        part = None if self.part is None else float(self.part)
        kept = {} if part is None else {"part": part}
        for name in get_args(Preset):
            agn: dict[str, Any] = {}
            if "+" in name:
                agn = {"alpha": alpha, "scale": first.scale}
            if (self.terms, self.label) == (preset(name, **agn), label(name, **agn, part=part)):
                return {"preset": name, **agn, **kept, "standard_after": self.standard_after}
        terms = [{**asdict(term), "weight": float(term.weight)} for term in self.terms]
        return {"terms": terms, "standard_after": self.standard_after}

    def _pointwise(self, term: Term, value: float, budget: int, data: float | None) -> float:
        if term.scale in ("raw", "standard"):
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


def _located(term: Term) -> str:
    """What a Location of a term's values is called."""
    return term.metric if term.scale in ("raw", "standard") else f"{term.scale}({term.metric})"


def named(term: Term) -> str:
    """How people call it: `val_loss`, `log(agn)`, `0.1·log(agn)`, `−val_accuracy`."""
    scaled = term.metric if term.scale == "raw" else f"{term.scale}({term.metric})"
    return scaled if term.weight == 1 else f"{term.weight:g}·{scaled}"


def score_name(term: Term) -> str:
    """What a score of a Pareto objective is called: `log(agn)`, `max val_accuracy`."""
    return f"max {named(replace(term, weight=1))}" if term.weight < 0 else named(term)


def preset(name: Preset, alpha: Alpha | None = None, scale: Scale = "raw") -> tuple[Term, ...]:
    """The papers' objectives: `agn+val` is alpha · scale(agn) + val_loss.

    1 stands for an alpha that is found.
    """
    *agn, split = name.split("+")
    loss = Term(f"{split}_loss", 1.0)
    if not agn:
        return (loss,)
    if alpha is None:
        raise ValueError(f"objective {name!r} needs alpha")
    return (Term("agn", 1.0 if isinstance(alpha, str) else alpha, scale), loss)


def label(
    name: Preset, alpha: Alpha | None = None, scale: Scale = "raw", part: float | None = None
) -> str:
    """How people call it: `agn+val (α 0.05, log)`, `agn+val (α auto 0.25, log)`."""
    if alpha is None:
        return name
    text = alpha if isinstance(alpha, str) else f"{alpha:g}"
    text = text if part is None else f"{text} {part:g}"
    return f"{name} (α {text}{'' if scale == 'raw' else ', ' + scale})"


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
