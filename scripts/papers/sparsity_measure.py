"""A plug-in of studies/papers/sparsity-evolution.yaml: ζ and κ after every epoch.

hpogen's own measure `zeta` is computed at a trial's last epoch only; `sparsity_evolution.py` reads
those of the epoch at which a network fits.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from hpogen.measures import ablation_curves
from hpogen.measures.batches import Batch
from hpogen.plugins import measure

METRICS = ("zeta_now", "kappa_now", "zeta_reaching", "kappa_reaching", "classes_reaching")


@measure("zeta_each_epoch", of="network", metrics=METRICS)
def zeta_each_epoch(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """Means of ζ_j and κ_j over all classes (eq. 6), and over those whose E(n) falls to chance.

    The latter are 0 where no class does.
    """
    found = ablation_curves(model, batches)
    reaching = found.reaches_chance  # (K,)
    counted = found.zetas[reaching], found.kappas[reaching]
    zeta, kappa = (float(values.mean()) if len(values) else 0.0 for values in counted)
    means = float(found.zetas.mean()), float(found.kappas.mean())
    values = (*means, zeta, kappa, float(torch.count_nonzero(reaching)))
    return dict(zip(METRICS, values, strict=True))
