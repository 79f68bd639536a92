"""One thing that is wrong with a search space, and where in its mapping."""

from __future__ import annotations

Location = tuple[str | int, ...]


class Mistake(Exception):
    """What was got at a place, in a line that says what was expected."""

    def __init__(self, location: Location, got: object, text: str) -> None:
        super().__init__(text)
        self.location = location
        self.got = got
