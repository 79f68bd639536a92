"""The names of the selections, what each needs, and what `noise_cut` keeps for a study's end.

The border (`spec/`), the study and the rules themselves read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Selection = Literal["score", "val_loss", "val_accuracy", "one_se_margin", "shrunk", "noise_cut"]
SELECTIONS: tuple[str, ...] = get_args(Selection)

MARGIN = "margin_q50"  # the median margin of the measure `margin`

NEEDS: Mapping[Selection, frozenset[str]] = {
    "score": frozenset(),
    "val_loss": frozenset({"val_loss"}),
    "val_accuracy": frozenset({"val_accuracy"}),
    "one_se_margin": frozenset({"val_loss", MARGIN}),
    "shrunk": frozenset({"val_loss"}),
    "noise_cut": frozenset({"val_loss"}),
}
"""The metrics that every trial must have, besides those of the objective."""

PER_SAMPLE: frozenset[Selection] = frozenset({"one_se_margin", "shrunk"})
"""Those that read the loss of each validation sample."""

LATE = 5  # epochs that `noise_cut` averages
TOP = 5  # configurations that it evaluates again
REPEATS = 2  # times


def reserve(selection: Selection) -> int:
    """How many trials of the largest budget a study keeps of its `stop` for its end."""
    return TOP * REPEATS if selection == "noise_cut" else 0
