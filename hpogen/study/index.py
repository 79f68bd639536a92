"""A study's folder read for a look: by the index beside a long ledger, which is kept up to date.

`status`, `best` and `show` read so; what passes over all trials reads the ledger (`read.py`).
"""

from __future__ import annotations

from pathlib import Path

from hpogen.record import index, ledger
from hpogen.study.read import Folder, folder_of, is_matrix, studies_in
from hpogen.study.standing import leaders


def read(directory: Path) -> Folder:
    """As `read.read`; the same is to be seen in it."""
    if inner := studies_in(directory):
        raise is_matrix(directory, inner)
    process = ledger.holder(directory)
    found = index.read(directory)
    study = folder_of(directory, found.history, process)
    found.keep(lambda: leaders(study))
    return study
