"""Who looks on at a study that runs: live tables; `runner.py` calls them."""

from __future__ import annotations

from typing import Protocol

from hpogen.record.history import Record
from hpogen.trial import Progress, Trial


class Observer(Protocol):
    """Looks on at a study: what the live table is drawn from."""

    def started(self, trial: Trial) -> None: ...

    def progressed(self, progress: Progress) -> None: ...

    def finished(self, record: Record) -> None: ...

    def tick(self, stopping: bool) -> None: ...
