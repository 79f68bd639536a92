"""The rows of the sparsity paper's measures, by ablating units; `catalog.py` collects them."""

from __future__ import annotations

from hpogen.plugins import Measure

ABLATION: tuple[Measure, ...] = (
    Measure(
        "zeta",
        "hpogen.measures.ablation:zeta_and_kappa",
        ("zeta", "kappa", "kappa_fit"),
        "network",
        final=True,
        needs="hpogen.measures.ablation_layer:require_ablation_layer",
        definition="mean over classes of (n0 + M − n0r)/2M, removing the M units of a layer by "
        "activity; Σ|E_r − E|/M; that over E(0)",
        cost="at the end: one pass and partial sums; up to 66 tail passes where units do not reach "
        "the last layer by averaging",
        source="sparsity paper, eq. 2 to 6",
    ),
)
