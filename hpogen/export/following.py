"""The process that shows studies in one program: `tracking.py` starts it, and tells it to end.

    python -m hpogen.export.following mlflow < orders

It reads the studies' folders as they are written, and brings the program up to them: ledger and
curves are its queue. What the program has already it is asked for, after every beginning and every
error, so that nothing is missed or doubled, whatever was killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hpogen.errors import shortened, text_of
from hpogen.export.rows import curve
from hpogen.export.trackers import Shown, opener
from hpogen.record.history import Record, checked, go_on
from hpogen.record.ledger import LEDGER
from hpogen.record.tail import CurveTail, LedgerTail
from hpogen.spec.recorded import recorded
from hpogen.spec.tracking import Track
from hpogen.study.read import Folder
from hpogen.study.standing import chosen

LOOK_SECONDS = 1.0  # between two looks at the folders
AGAIN_SECONDS = (5.0, 300.0)  # between two tries to reach a program; twice as long each time
LEAST_NICE = 10  # training goes first
OVER = "over"  # the order to bring what is left, and end

Tell = Callable[[dict[str, Any]], None]


class Following:
    """One study, brought to one program. `left` counts the told trials that it does not have."""

    def __init__(self, directory: Path, track: Track, tracker: str) -> None:
        self._directory, self._track, self._tracker = directory, track, tracker
        self._tail = LedgerTail(directory)
        self._study: Folder | None = None
        self._shown: Shown | None = None
        self._left: dict[int, CurveTail] = {}  # trials that are not there to their end
        self._known = 0  # how many trials that has been asked of
        self._news, self._answer = False, -1  # whether a trial was told since; what was shown

    @property
    def left(self) -> int:
        records = self._study.history.records if self._study else []
        asked = [*self._left, *range(self._known, len(records))]
        return sum(records[trial].state == "told" for trial in asked)

    def bring(self) -> None:
        """Show what is new since the last call. Raises what the program raises."""
        study = self._read()
        if self._shown is None:
            self._shown = opener(self._tracker)(self._track, study)
            self._left, self._known, self._answer, self._news = {}, 0, -1, True
        for record in study.history.records[self._known :]:
            trial = record.trial.id
            if trial not in self._shown.ended:
                self._left[trial] = CurveTail(self._directory, trial, study.history.id)
        self._known = len(study.history.records)
        for trial in [*self._left]:
            self._bring(self._shown, study, study.history.records[trial])
        if self._news:
            self._show_answer(self._shown, study)

    def close(self) -> None:
        """Leave the program, which the next call of `bring` opens anew."""
        shown, self._shown = self._shown, None
        if shown is not None:
            shown.close()

    def _read(self) -> Folder:
        """The study as its folder has it now."""
        before, events = self._tail.read_on()
        path = self._directory / LEDGER
        if self._study is None or before == 0:
            history = checked(events, path)
            self._study = Folder(self._directory, recorded(history), history)
        else:
            go_on(self._study.history, events, path)
        self._news = self._news or any(event["kind"] == "told" for event in events)
        return self._study

    def _bring(self, shown: Shown, study: Folder, record: Record) -> None:
        trial, told = record.trial.id, record.state == "told"
        rows = curve(study, record) if told else self._left[trial].rows()
        if whole := [row for row in rows if row["metrics"]]:  # a failed trial may have none
            shown.show(record, whole)
        if told:
            shown.end(record)
            del self._left[trial]

    def _show_answer(self, shown: Shown, study: Folder) -> None:
        answer = chosen(study)
        if answer is not None and answer.trial.id != self._answer:
            shown.answer(answer)
            self._answer = answer.trial.id
        self._news = False


def follow(studies: Sequence[Following], over: threading.Event, tell: Tell) -> None:
    """Bring the studies up to their folders until `over`, and once more.

    `tell` is given how many trials are `left`, and the `error` of a program that cannot be used:
    whatever it and its library raise, it is tried again.
    """
    fails = 0
    while True:
        last = over.is_set()
        errors = [error for one in studies if (error := _attempt(one.bring))]
        if errors:
            for one in studies:
                _attempt(one.close)
        fails = fails + 1 if errors else 0
        tell({"left": sum(one.left for one in studies), "error": errors[0] if errors else ""})
        if last:
            break
        low, high = AGAIN_SECONDS
        over.wait(min(low * 2 ** min(fails - 1, 9), high) if errors else LOOK_SECONDS)
    for one in studies:
        _attempt(one.close)


def _attempt(call: Callable[[], None]) -> str:
    """The text of what it raised; empty: it could be done."""
    try:
        call()
    except Exception as error:
        return shortened(text_of(error))
    return ""


def _wait_for_order(over: threading.Event) -> None:
    """Where the driver has died, another may soon go on with its studies: nothing more is sent."""
    if sys.stdin.readline().strip() != OVER:
        os._exit(1)
    over.set()


def main() -> None:
    """The studies stand in the first line of standard input: folder and `track` of each."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print
    sys.modules["torch"] = None  # type: ignore[assignment]  # libraries load it where they can
    with contextlib.suppress(OSError):
        os.nice(LEAST_NICE)
    given = json.loads(sys.stdin.readline())
    studies = [Following(Path(path), Track(**track), sys.argv[1]) for path, track in given]
    over = threading.Event()
    threading.Thread(target=_wait_for_order, args=(over,), daemon=True).start()
    said: dict[str, Any] = {}

    def tell(news: dict[str, Any]) -> None:
        if news != said:
            said.update(news)
            answers.write(json.dumps(news) + "\n")

    follow(studies, over, tell)
    answers.close()
    os._exit(0)  # what a library has left running is not waited for


if __name__ == "__main__":
    main()
