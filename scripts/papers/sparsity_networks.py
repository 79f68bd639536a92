"""The networks of the sparsity paper's Figure 2, as their studies' folders have them.

`sparsity_evolution.py` calls it: each network when it fits its labels and at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sparsity_parts import FITS, ablation

from hpogen.errors import UserError
from hpogen.measures import Ablation
from hpogen.record import history
from hpogen.record.folder import read_curve
from hpogen.spec import StudySpec
from hpogen.training.task import ImageClassification

MEANS = ("zeta", "kappa", "n0", "n0r")  # of the classes
AT_FIT = ("epoch", "zeta", "kappa", "zeta_reaching", "kappa_reaching")
Row = dict[str, Any]


@dataclass(frozen=True)
class Network:
    """One training: how well it fits, ζ and κ when it fits, and its curves at the end."""

    model: str
    seed: int
    corruption: float  # the share of random labels
    train_accuracy: float
    audit_accuracy: float
    fit: Mapping[str, float | None] | None  # `when_it_fits`
    seconds: float
    ablation: Ablation

    @property
    def gap(self) -> float:
        return self.train_accuracy - self.audit_accuracy


def networks(specs: Mapping[Path, StudySpec]) -> list[Network]:
    """By model, seed and the share of random labels. Raises UserError where one failed."""
    found = []
    for directory, spec in specs.items():
        assert isinstance(spec.task, ImageClassification)
        own = []
        for record in history.read(directory).records:
            if record.outcome is None or record.outcome.failure is not None:
                raise UserError(f"{directory}: trial {record.trial.id} failed: see its log")
            own.append(
                Network(
                    model=spec.task.model.name,
                    seed=spec.seed,
                    corruption=float(record.trial.config["corruption"]),
                    train_accuracy=record.outcome.metrics["train_accuracy"],
                    audit_accuracy=record.outcome.audit["accuracy"],
                    fit=when_it_fits(read_curve(directory, record.trial.id)),
                    seconds=record.outcome.seconds["total"],
                    ablation=ablation(directory, record.trial.id),
                )
            )
        found += sorted(own, key=lambda network: network.corruption)
    return found


def when_it_fits(curve: Sequence[Row]) -> dict[str, float | None] | None:
    """`epoch`, ζ and κ of the first measured epoch whose training accuracy is at least `FITS`.

    `zeta_reaching` and `kappa_reaching` are of the classes whose E(n) falls to chance.
    """
    for row in curve:
        metrics = row["metrics"]
        if metrics["train_accuracy"] >= FITS and "zeta_now" in metrics:
            reaching = {
                name: metrics[name] if metrics["classes_reaching"] else None
                for name in ("zeta_reaching", "kappa_reaching")
            }
            means = {"zeta": metrics["zeta_now"], "kappa": metrics["kappa_now"]}
            return {"epoch": row["epoch"], **means, **reaching}
    return None


def per_class(network: Network) -> list[Row]:
    """One row per class at the end: its images, ζ_j and κ_j, the turning points over M."""
    found = network.ablation
    shares = (found.turning_points.double() / found.units).tolist()
    columns = (found.classes, found.samples, found.zetas.tolist(), found.kappas.tolist(), shares)
    return [
        {
            "model": network.model,
            "seed": network.seed,
            "corruption": network.corruption,
            "class": label,
            "images": images,
            "zeta": zeta,
            "kappa": kappa,
            "n0": first,
            "n0r": last,
            "reaches_chance": int(reaches),
        }
        for label, images, zeta, kappa, (first, last), reaches in zip(
            *columns, found.reaches_chance.tolist(), strict=True
        )
    ]


def mean(rows: Sequence[Row], name: str) -> float | None:
    return float(np.mean([row[name] for row in rows])) if rows else None


def summary(found: Sequence[Network]) -> list[Row]:
    """One row per network; `zeta_reaching`, … are means of the classes that fall to chance."""
    rows = []
    for network in found:
        classes = per_class(network)
        reaching = [row for row in classes if row["reaches_chance"]]
        fit = network.fit or dict.fromkeys(AT_FIT)
        rows.append(
            {
                "model": network.model,
                "seed": network.seed,
                "corruption": network.corruption,
                "train_accuracy": network.train_accuracy,
                "test_accuracy": network.audit_accuracy,
                "gap": network.gap,
                **{f"{name}_when_fit": fit[name] for name in AT_FIT},
                **{name: mean(classes, name) for name in MEANS},
                **{f"{name}_reaching": mean(reaching, name) for name in MEANS},
                "classes_above_chance": len(classes) - len(reaching),
                "seconds": round(network.seconds, 1),
            }
        )
    return rows
