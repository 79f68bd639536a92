"""What is wrong with a study: collected from every check, told as one line, the first by position.

pydantic's errors are put into plain words here; `loading.py` and `checks.py` add their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hpogen.errors import UserError, mistaken, unknown
from hpogen.spec.described import known_keys
from hpogen.spec.hints import led_on
from hpogen.spec.positions import KeyPath
from hpogen.spec.source import Place, Source, one_line

EXPECTED = {  # by pydantic's type of error; what is not here has the words of pydantic
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing"), "an integer"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    "string_type": "a string",
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "dataclass_type"), "a mapping"),
    **dict.fromkeys(("model_type", "model_attributes_type"), "a mapping"),
    "none_required": "nothing",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "at least {min_length} values",
    "too_long": "at most {max_length} values",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
}
REQUIRED = "is required"
OWN_WORDS = ("value_error", "assertion_error")


class Mistakes:
    """Collects mistakes, one per key: the first that is added for a key is the one told."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._texts: dict[KeyPath, str] = {}

    def add(self, path: KeyPath, text: str) -> None:
        self._texts.setdefault(path, text)

    @property
    def wrong(self) -> set[str]:
        """The study's own keys that have a mistake."""
        return {str(path[0]) for path in self._texts if path}

    @contextmanager
    def under(self, *path: str | int, model: type[BaseModel] | None = None) -> Iterator[None]:
        """Collect what is raised inside about the value at `path`; `model` says its known keys."""
        try:
            yield
        except ValidationError as error:
            data: Any = self.source.data
            for part in path:
                data = _child(data, part)
            for inner, text in reworded(error, data, model).items():
                self.add((*path, *inner), text)
        except (UserError, OSError) as error:
            self.add(path, str(error))

    def raise_first(self) -> None:
        """Raise UserError with the first mistake in the order of the files, if there is one.

        It is Several where there are more. Missing keys come last: what is misspelt is unknown and
        missing, and the former helps more.
        """
        if not self._texts:
            return
        told = sorted(
            map(self._told, self._texts), key=lambda pair: (pair[1].endswith(REQUIRED), pair[0])
        )
        raise mistaken([line for _, line in told])

    def _told(self, path: KeyPath) -> tuple[Place, str]:
        text = self._texts[path]
        # "'x' is unknown" is about the key itself where that is x, else about its value
        subject, is_unknown, _ = text.partition(" is unknown")
        about_key = bool(is_unknown and path) and subject.endswith(repr(path[-1]))
        place = self.source.place(path, key=about_key)
        dotted = ".".join(map(str, place.path))
        text = led_on(path, text, self.source.data, Path(self.source.label).parent)
        return place, one_line(": ".join(filter(None, (place.label, dotted, text))))


def reworded(
    error: ValidationError, data: Any, model: type[BaseModel] | None = None
) -> dict[KeyPath, str]:
    """pydantic's errors in plain words by the key they are about, without its own path parts.

    `data` is what was validated. The branches of a union become "expected a or b", and give way
    to what is wrong inside the branch that the value resembles.
    """
    texts: dict[KeyPath, str] = {}
    expected: dict[KeyPath, list[str]] = {}
    branched: set[KeyPath] = set()
    for detail in error.errors(include_url=False):
        path = _written(detail, data)
        if len(path) < len(detail["loc"]):
            branched.add(path)
        inner = (detail.get("ctx") or {}).get("error")
        if isinstance(inner, ValidationError):
            for rest, text in reworded(inner, detail["input"]).items():
                texts.setdefault((*path, *rest), text)
        elif detail["type"] in EXPECTED or detail["msg"].startswith("Input should be "):
            expected.setdefault(path, []).append(_expected(detail))
            texts[path] = _got(detail, expected[path])
        else:
            texts.setdefault(path, _own_words(detail, path, model))
    deeper = {path[:length] for path in texts for length in range(len(path))}
    return {path: text for path, text in texts.items() if path not in branched & deeper}


def _written(detail: ErrorDetails, data: Any) -> KeyPath:
    """The part of pydantic's `loc` that is in the data; what a missing key would be, too."""
    path: KeyPath = ()
    for i, part in enumerate(detail["loc"]):
        child = _child(data, part)
        last = i == len(detail["loc"]) - 1
        if child is not None or (isinstance(data, Mapping) and part in data):
            data = child
            path = (*path, part)
        elif last and detail["type"] == "missing" and isinstance(data, Mapping):
            path = (*path, part)
    return path


def _child(data: Any, part: str | int) -> Any:
    if isinstance(data, Mapping):
        return data.get(part)
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def _expected(detail: ErrorDetails) -> str:
    words = EXPECTED.get(detail["type"])
    if words is None:
        return detail["msg"].removeprefix("Input should be ")
    return words.format(**(detail.get("ctx") or {}))


def _got(detail: ErrorDetails, expected: list[str]) -> str:
    got = detail["input"]
    names = re.findall(r"'([^']*)'", expected[0]) if detail["type"] == "literal_error" else []
    if names and isinstance(got, str) and len(expected) == 1:
        return unknown("", got, names)
    return f"got {shown(got)}, expected {' or '.join(dict.fromkeys(expected))}"


def _own_words(detail: ErrorDetails, path: KeyPath, model: type[BaseModel] | None) -> str:
    key = detail["loc"][-1] if detail["loc"] else ""
    if detail["type"] == "missing":
        return REQUIRED if path[-1:] == (key,) else f"{key} {REQUIRED}"
    if detail["type"] == "extra_forbidden":
        names = known_keys(model, path[:-1]) if model is not None else set()
        return unknown("", key, names) if names else f"{key!r} is unknown"
    if detail["type"] in OWN_WORDS:
        return str((detail.get("ctx") or {}).get("error"))
    return detail["msg"]


def shown(value: object) -> str:
    """A value as it is written in YAML, on one line, not too long."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    if len(text) <= 60:
        return text
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    return text[:57] + "..."
