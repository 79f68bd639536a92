"""Which finished trial is the answer: the told scores steer the search, the selection decides."""

from hpogen.selection.choosing import (
    SELECTIONS,
    Selection,
    SelectionName,
    best_first,
    candidates,
    choose,
    rescore,
)
from hpogen.selection.evidence import Evidence, gather

__all__ = [
    "SELECTIONS",
    "Evidence",
    "Selection",
    "SelectionName",
    "best_first",
    "candidates",
    "choose",
    "gather",
    "rescore",
]
