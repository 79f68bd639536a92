"""The one exception that means "the user's input is wrong", and how messages are written.

Raised wherever input is validated; the command line prints it as one line and exits with 2.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

SHOWN = 200  # characters of a value in a message
LONG = re.compile(rf"\S{{{SHOWN + 1},}}")  # a name or a path
SHORTEST = 3  # characters by which a name is known
KEPT = 2000  # characters of an exception in the ledger; a trial's log has all


class UserError(Exception):
    """A mistake in what the user gave: one line saying what was got, expected, and how to mend."""

    def __str__(self) -> str:
        return LONG.sub(lambda word: shortened(word[0]), super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the line alone."""
        return [f"{UserError.__name__}: {self}"]


class Refusal(UserError):
    """A part (searcher, measure, task) says by name what it cannot do with what it was given."""


class NoTestImages(UserError):
    """A data set has no test images, which the task wants; `mend` says what to do, or nothing.

    `noun` is what its samples are called: images, or samples.
    """

    def __init__(self, text: str, dataset: str = "", mend: str = "", noun: str = "images") -> None:
        super().__init__(text)
        self.dataset, self.mend, self.noun = dataset, mend, noun


class Several(UserError):
    """More than one mistake: its text is the first and how many more; `lines` has each of them."""

    def __init__(self, lines: Sequence[str]) -> None:
        more = len(lines) - 1
        super().__init__(f"{lines[0]} (and {more} more mistake{'s' * (more > 1)})")
        self.lines = tuple(lines)


def mistaken(lines: Sequence[str]) -> UserError:
    """What is raised for these mistakes."""
    return Several(lines) if lines[1:] else UserError(lines[0])


class CannotGoOn(UserError):
    """What befell a study under way and is nobody's mistake: a full disk, a folder that has gone.

    The study stops itself, exit code 1; what is recorded stays.
    """


def check_system() -> None:
    """Raises UserError where there are no POSIX locks and limits: on Windows."""
    if importlib.util.find_spec("fcntl") is None:
        raise UserError(
            "hpogen runs on Linux and macOS, and this Python has no fcntl; on Windows use WSL"
        )


@contextlib.contextmanager
def explained(
    path: Path | str, what: type[UserError] = CannotGoOn, done: str = "written", todo: str = ""
) -> Iterator[None]:
    """Turn an operating system's error in writing `path`, or reading it, into one line.

    An option may stand before the path. `todo` is what to do, where that may be said.
    """
    try:
        yield
    except OSError as error:
        if what is CannotGoOn:
            todo = "; what is recorded stays, and hpogen resume goes on"
        reason = shortened(error.strerror or error)
        raise what(f"{shortened(path)}: cannot be {done}: {reason}{todo}") from error


def shortened(value: object, limit: int = SHOWN) -> str:
    """The text of a value on one line, without control characters; its middle is cut if long."""
    whole, half = str(value), limit // 2
    if len(whole) > 40 * limit:
        whole = whole[: 20 * limit] + whole[-20 * limit :]
    words = " ".join(whole.split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in words)
    return text if len(text) <= limit else f"{text[:half]}…{text[half + 1 - limit :]}"


def quoted(value: object) -> str:
    """A value as Python writes it, cut where it is long."""
    return shortened(repr(value))


def why(error: BaseException) -> str:
    """The text of an exception, whatever it does when it is asked for it."""
    try:
        return str(error)
    except Exception as another:
        return f"(its text cannot be had: {type(another).__name__})"


def text_of(error: BaseException) -> str:
    """`ValueError: why`, on one line."""
    return shortened(f"{type(error).__name__}: {why(error)}", KEPT)


def unknown(what: str, got: object, valid: Iterable[str]) -> str:
    """`'bohbb' is unknown; did you mean 'bohb'? (asha, bohb, cmaes)`, for any closed set of names.

    `what` goes in front when it is not empty: `metric 'agnn' is unknown; …`.
    """
    names = sorted(valid)
    near = nearest(str(got), names)
    hint = f"; did you mean {near!r}?" if near else ""
    known = ", ".join(names) or "none"
    return f"{what + ' ' if what else ''}{quoted(got)} is unknown{hint} ({known})"


def nearest(got: str, names: Iterable[str], likeness: float = 0.6) -> str:
    """The name that `got` resembles, whatever its case and punctuation, or the only one that it
    begins or that begins it (`TPE`: `TPESampler`); empty: none. `likeness` is that of difflib.
    """
    folded = {_folded(name): name for name in names}
    word = _folded(got[:SHOWN])
    near = difflib.get_close_matches(word, folded, n=1, cutoff=likeness)
    begun = [name for name in folded if _begins(name, word) or _begins(word, name)]
    if not near and len(begun) == 1:
        near = begun
    return folded[near[0]] if near else ""


def _begins(word: str, name: str) -> bool:
    return len(word) >= SHORTEST and name.startswith(word)


def _folded(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower() or name
