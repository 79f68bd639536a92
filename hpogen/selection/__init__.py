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
    table,
    vectors,
)
from hpogen.selection.evidence import Evidence, gather
from hpogen.selection.front import front

__all__ = [
    "SELECTIONS",
    "Evidence",
    "Selection",
    "SelectionName",
    "alone",
    "best_first",
    "candidates",
    "choose",
    "front",
    "gather",
    "per_sample",
    "rescore",
    "settled",
    "table",
    "vectors",
]
