"""A study shown in other programs while it runs: what the key `track` asks for.

    with tracked([study]):
        run(study)

Each program has a process of its own, `following.py`, so that whatever its library imports, locks
or waits for, the study is none the wiser. The command line calls it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from hpogen.export.following import OVER
from hpogen.export.trackers import place
from hpogen.spec.tracking import Track
from hpogen.study.read import AnyStudy

LAST_SECONDS = 60.0  # that the end of the studies waits for a program that answers
DOWN_SECONDS = 3.0  # and for one that does not

log = logging.getLogger(__name__)


class Tracker:
    """The process of one program. That it cannot be used is told once."""

    def __init__(self, name: str, studies: Sequence[tuple[AnyStudy, Track]]) -> None:
        (first, track), *_ = studies
        self._label = f"track.{name}: {place(name, first.directory, track)}"
        self._left, self._error, self._told = -1, "", False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hpogen.export.following", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is the driver's
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )
        self._orders, answers = self._process.stdin, self._process.stdout
        given = [(str(study.directory.absolute()), track.record()) for study, track in studies]
        self._order(json.dumps(given))
        self._reader = threading.Thread(target=self._read, args=(answers,), daemon=True)
        self._reader.start()

    def finish(self) -> None:
        """Let it bring what is left, for as long as that may take; tell whether all is there."""
        self._order(OVER)
        begin = time.monotonic()
        while self._reader.is_alive():
            if time.monotonic() > begin + (DOWN_SECONDS if self._error else LAST_SECONDS):
                break
            self._reader.join(0.05)
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._orders is not None:
            with contextlib.suppress(OSError):
                self._orders.close()
        if self._left or self._error:
            log.warning("%s lacks trials: hpogen resume sends them", self._label)

    def _order(self, line: str) -> None:
        with contextlib.suppress(OSError):  # it has gone
            if self._orders is not None:
                self._orders.write(f"{line}\n")
                self._orders.flush()

    def _read(self, answers: IO[str]) -> None:
        for line in answers:
            with contextlib.suppress(ValueError):  # cut off by its end
                self._take(json.loads(line))
        answers.close()

    def _take(self, news: Mapping[str, str | int]) -> None:
        self._left, self._error = int(news["left"]), str(news["error"])
        if self._error and not self._told:
            self._told = True
            text = "%s cannot be used: %s; the study goes on, and what is missed is sent later"
            log.warning(text, self._label, self._error)


@contextlib.contextmanager
def tracked(studies: Sequence[AnyStudy], *, event_files: bool = False) -> Iterator[None]:
    """Within the block, what is recorded of the studies is shown where their `track` says.

    `event_files` are TensorBoard's, also of studies that do not ask for them. The end of the block
    waits for a program that answers, `LAST_SECONDS` at most.
    """
    asked: dict[str, list[tuple[AnyStudy, Track]]] = {}
    for study in studies:
        track = study.spec.track
        if event_files:
            track = (track or Track(tensorboard=True)).model_copy(update={"tensorboard": True})
        if track is not None:
            for name in track.names:
                asked.setdefault(name, []).append((study, track))
    trackers = [Tracker(name, followed) for name, followed in asked.items()]
    try:
        yield
    finally:
        for tracker in trackers:
            tracker.finish()
