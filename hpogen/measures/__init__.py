"""Generalization measures that work in any PyTorch loop; the training room calls them, too."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpogen.measures.ablation import Ablation, ablation_curves
    from hpogen.measures.head import HeadStatistics
    from hpogen.measures.head_pass import head_statistics
    from hpogen.measures.meter import Meter
    from hpogen.measures.network import gradient_norms
    from hpogen.measures.online import OnlineAgn
    from hpogen.measures.sequence_pass import sequence_head

PUBLIC = {  # imported when first used: the catalogue beside it needs no torch
    "Ablation": "hpogen.measures.ablation",
    "HeadStatistics": "hpogen.measures.head",
    "Meter": "hpogen.measures.meter",
    "OnlineAgn": "hpogen.measures.online",
    "ablation_curves": "hpogen.measures.ablation",
    "gradient_norms": "hpogen.measures.network",
    "head_statistics": "hpogen.measures.head_pass",
    "sequence_head": "hpogen.measures.sequence_pass",
}

__all__ = [
    "Ablation",
    "HeadStatistics",
    "Meter",
    "OnlineAgn",
    "ablation_curves",
    "gradient_norms",
    "head_statistics",
    "sequence_head",
]


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(importlib.import_module(PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
