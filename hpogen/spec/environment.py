"""`${env:NAME}` and `${env:NAME,default}` in the values of a study's YAML, also as `${oc.env:…}`.

`positions.py` asks for each value as it is read, so that a study, its record and its ledger have
what was meant, and go on without the variable. `$${env:NAME}` is the text itself.
"""

from __future__ import annotations

import os
import re

from hpogen.errors import quoted

REFERENCE = re.compile(r"(\$+)\{(?:oc\.)?env:(?:([^{}]*)\})?")  # without its end: a mistake
BEGIN = re.compile(r"\$\{(?:oc\.)?env:")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FORM = "${env:NAME} or ${env:NAME,default}"


def refers(text: str) -> bool:
    """Whether there is anything to replace in a text."""
    return BEGIN.search(text) is not None


def is_one(text: str) -> bool:
    """Whether the text is a reference and nothing else: what stands for it may be a number."""
    match = REFERENCE.fullmatch(text)
    return match is not None and match[1] == "$" and match[2] is not None


def expanded(text: str) -> str:
    """With what the environment has in the place of each reference, which is looked at no further.

    Raises ValueError for a variable that is not set and has no default, and for what is none.
    """
    return REFERENCE.sub(_value, text)


def escaped(text: str) -> str:
    """The text as a YAML has it that is to say this and no more."""
    return BEGIN.sub(lambda match: f"${match[0]}", text)


def _value(match: re.Match[str]) -> str:
    if match[1] != "$":
        return match[0][1:]
    name, comma, default = (match[2] or "").partition(",")
    name = name.strip()
    if not NAME.fullmatch(name):
        got = match[0] if match[2] is not None else match.string[match.start() :]
        raise ValueError(f"got {quoted(got)}, expected {FORM}")
    found = os.environ.get(name, default.strip() if comma else None)
    if found is None:
        raise ValueError(
            f"{match[0]}: the environment has no {name}: export {name}=…, or give a default, "
            f"${{env:{name},default}}"
        )
    try:
        found.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{match[0]}: what {name} holds is not UTF-8 text") from None
    return found
