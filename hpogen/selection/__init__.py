"""Which finished trial is the answer: the told scores steer the search, the selection decides."""

from hpogen.selection.choosing import (
    SELECTIONS,
    Selection,
    SelectionName,
    alone,
    best_first,
    candidates,
    choose,
    per_sample,
    rescore,
    settled,
)
from hpogen.selection.evidence import Evidence, gather

__all__ = [
    "SELECTIONS",
    "Evidence",
    "Selection",
    "SelectionName",
    "alone",
    "best_first",
    "candidates",
    "choose",
    "gather",
    "per_sample",
    "rescore",
    "settled",
]
