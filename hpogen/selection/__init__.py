"""Which finished trial is the answer: the told scores steer the search, the selection decides."""

from hpogen.selection.choosing import candidates, choose, figures, rescore
from hpogen.selection.evidence import Evidence, gather
from hpogen.selection.names import NEEDS, PER_SAMPLE, SELECTIONS, Selection, reserve

__all__ = [
    "NEEDS",
    "PER_SAMPLE",
    "SELECTIONS",
    "Evidence",
    "Selection",
    "candidates",
    "choose",
    "figures",
    "gather",
    "rescore",
    "reserve",
]
