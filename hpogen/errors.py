"""The one exception that means "the user's input is wrong".

Raised wherever input is validated; the command line prints it as one line and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: one line saying what was got, expected, and how to mend."""


class Refusal(UserError):
    """A part (searcher, measure, task) says by name what it cannot do with what it was given."""


def unknown(what: str, got: object, valid: Iterable[str]) -> str:
    """`'bohbb' is unknown; did you mean 'bohb'? (asha, bohb, cmaes)`, for any closed set of names.

    `what` goes in front when it is not empty: `metric 'agnn' is unknown; …`.
    """
    names = sorted(valid)
    near = difflib.get_close_matches(str(got), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{what + ' ' if what else ''}{got!r} is unknown{hint} ({', '.join(names) or 'none'})"
