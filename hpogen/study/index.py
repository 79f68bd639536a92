"""A study's folder read for a look: by the index beside a long ledger, which is kept up to date.

`status`, `best` and `show` read so; what passes over all trials reads the ledger (`read.py`).
"""

from __future__ import annotations

import contextlib
from array import array
from pathlib import Path

from hpogen.errors import UserError
from hpogen.record import index, ledger
from hpogen.record.history import Table
from hpogen.selection import SELECTIONS, table
from hpogen.study.read import AnyStudy, Folder, folder_of, is_matrix, studies_in
from hpogen.study.standing import leaders

LOSSES = ("train_loss", "val_loss")


def read(directory: Path) -> Folder:
    """As `read.read`; the same is to be seen in it."""
    if inner := studies_in(directory):
        raise is_matrix(directory, inner)
    process = ledger.holder(directory)
    found = index.read(directory)
    study = folder_of(directory, found.history, process)
    found.keep(lambda: (leaders(study), _table(study)))
    return study


def keep(study: AnyStudy) -> None:
    """Write the index of a study that was closed just now, so that the next look has it."""
    with contextlib.suppress(OSError, ValueError, UserError):  # of which the next look will tell
        index.of(study.history, study.directory).keep(lambda: (leaders(study), _table(study)))


def _table(study: AnyStudy) -> Table:
    """Of what the choice looks at, and of what tells whether that is to be trusted."""
    spec, rung = study.spec, study.spec.ladder[-1]
    names = sorted({*spec.objective.metrics, *SELECTIONS[spec.selection].needs, *LOSSES})
    trials, values = table(study.history, rung, names)
    metrics = {name: array("d", own) for name, own in zip(names, values.T, strict=True)}
    return Table(rung, array("Q", trials.tolist()), metrics)
