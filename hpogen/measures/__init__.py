"""Generalization measures that work in any PyTorch loop; the training room calls them, too."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpogen.measures.head import HeadStatistics, head_statistics

PUBLIC = {  # imported when first used: the catalogue beside it needs no torch
    "HeadStatistics": "hpogen.measures.head",
    "head_statistics": "hpogen.measures.head",
}

__all__ = ["HeadStatistics", "head_statistics"]


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(importlib.import_module(PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
