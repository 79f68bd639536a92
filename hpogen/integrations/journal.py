"""A search that another program runs, written down ask by ask and tell by tell, so that it goes on.

`hydra.py` keeps one. A line of JSON each; the first says what is searched. A searcher's state is
what it was asked and told, so that replay brings it back, as in a study's ledger.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpogen import spec
from hpogen.errors import UserError, explained, quoted
from hpogen.integrations.search import Search, alike
from hpogen.trial import Config

FORMAT = 1


class Journal:
    """A searcher, and the file of its calls. `left` are the trials asked and not told, in order."""

    def __init__(self, path: Path, search: Search, beside: Mapping[str, Any]) -> None:
        """Begin, or go on where the file is.

        `beside` is what else makes it this search, as plain values. Raises UserError for another
        search's file, a damaged one, and where the searcher no longer proposes what it did.
        """
        self.configs: list[Config] = []
        self.scores: dict[int, float] = {}
        self._path = path
        self._searcher = search.make()
        head = {"format": FORMAT, **beside, **search.record()}
        with explained(path, UserError):
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = self._lines()
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # `close` closes it
        try:
            if not lines:
                self._write(head)
            else:
                self._replay(head, lines)
        except BaseException:
            self._file.close()
            raise

    @property
    def left(self) -> list[int]:
        return [trial for trial in range(len(self.configs)) if trial not in self.scores]

    def ask(self) -> Config | None:
        """The configuration of the next trial. None: it wants to be told first, or has no more."""
        proposal = self._searcher.ask()
        if proposal is None:
            return None
        config = dict(proposal.config)
        self._write({"asked": len(self.configs), "config": config})
        self.configs.append(config)
        return config

    def tell(self, trial: int, score: float) -> None:
        """Lower is better; infinite for a failed trial. Once each."""
        self._write({"told": trial, "score": score if math.isfinite(score) else None})
        self._tell(trial, score)

    def close(self) -> None:
        self._file.close()

    def _tell(self, trial: int, score: float) -> None:
        self.scores[trial] = score
        self._searcher.tell(trial, score)

    def _write(self, line: Mapping[str, Any]) -> None:
        with explained(self._path, UserError):
            self._file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
            os.fsync(self._file.fileno())

    def _lines(self) -> list[Any]:
        """Those that are whole; what a killed process has left of another is cut off."""
        if not self._path.exists():
            return []
        whole, end, rest = self._path.read_bytes().rpartition(b"\n")
        if rest:
            os.truncate(self._path, len(whole) + len(end))
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise UserError(f"{self._path}: is damaged: {error}; delete it to begin anew") from None

    def _replay(self, head: Mapping[str, Any], lines: list[Any]) -> None:
        first, *calls = lines
        for key, was, now in self._changes(first, head):
            raise UserError(
                f"{self._path}: {key}: begun with {quoted(was)}, but it is now {quoted(now)}: take "
                "that back, or name another journal"
            )
        for call in calls:
            if "told" in call:
                score = call["score"]
                self._tell(call["told"], math.inf if score is None else score)
                continue
            proposal, was = self._searcher.ask(), call["config"]
            if proposal is None or not alike(proposal.config, was):
                now = quoted(proposal and dict(proposal.config))
                raise UserError(
                    f"{self._path}: on replay the searcher proposes {now} for trial "
                    f"{call['asked']}, which was {quoted(was)}: other versions of its packages?"
                )
            self.configs.append(call["config"])

    def _changes(self, first: Any, head: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
        if not isinstance(first, dict) or "format" not in first:
            raise UserError(f"{self._path}: is no journal of a search: name another, or delete it")
        yield from spec.changes(first, json.loads(json.dumps(head)))
