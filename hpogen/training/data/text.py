"""The data set `text`: token ids in an .npz file, or lines of text that are made into token ids.

`loaded.py` calls the loader. Lines are read as bytes, or by a file of the package `tokenizers`.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import doc
from numpy.typing import NDArray
from pydantic import Field

from hpogen.errors import UserError, explained, quoted, shortened
from hpogen.training.data.data import Data, Samples
from hpogen.training.data.numpy import arrays
from hpogen.training.forms.kinds import KindName, kind_for
from hpogen.training.forms.tokens import Tokens

log = logging.getLogger(__name__)

LONGEST = 512  # tokens, where no length is given
BYTES = Tokens(257, 256)
Count = Annotated[int, Field(ge=1)]


def text(
    root: Path,
    *,
    path: Annotated[str, doc("lines of `label<TAB>text`, or token ids in an .npz file")],
    test_path: Annotated[str | None, doc("the lines of the test set; left out: none")] = None,
    tokenizer: Annotated[
        str | None, doc("a file of the package `tokenizers`; left out: each byte is a token")
    ] = None,
    length: Annotated[
        Count | None, doc("tokens of each sample; left out: the longest line's, 512 at most")
    ] = None,
    vocabulary: Annotated[
        Count | None, doc("how many token ids there are; left out: the tokenizer's, or those seen")
    ] = None,
    padding: Annotated[
        Annotated[int, Field(ge=0)] | None,
        doc("the id that is no token; left out: the tokenizer's"),
    ] = None,
) -> Data:
    """Samples of token ids (N, T), padded at their end or cut to one length. Raises UserError."""
    file, content = Path(path).expanduser(), _content(tokenizer)
    given = _tokenizer(content, str(tokenizer))
    if file.suffix == ".npz":
        if test_path or length:
            raise UserError(
                f"{file}: got {'test_path' if test_path else 'length'}, which is for lines of "
                "text: the arrays x_test, y_test of the file are the test set, as long as x_train"
            )
        return _of_ids(file, given, content, vocabulary, padding)
    tokens = _tokens(given, vocabulary, padding)
    train = _read(file)
    test = _read(Path(test_path).expanduser()) if test_path else Lines(file, [], [])
    names = _names(train.labels)
    encoded, tested = (_encoded(lines, given) for lines in (train, test))
    length = length or min(LONGEST, max(map(len, encoded)))
    return Data(
        Samples(_padded(train, encoded, length, tokens, given), _classes(train, names)),
        Samples(_padded(test, tested, length, tokens, given), _classes(test, names)),
        "classes",
        name="text",
        class_names=tuple(names),
        tokens=tokens,
        lines=content or b"",
    )


def ids_of(
    file: Path, texts: Sequence[str], length: int, tokens: Tokens, tokenizer: bytes
) -> NDArray[np.int64]:
    """Lines of a file without labels as the same token ids, (N, length). Raises UserError."""
    lines, given = Lines(file, [], [*texts]), _tokenizer(tokenizer or None, "the tokenizer")
    return _padded(lines, _encoded(lines, given), length, tokens, given)


def read_texts(file: Path) -> list[str]:
    """The texts of a file's lines; a label and a tab may stand before each, and a warning says so.

    Raises UserError, naming the line.
    """
    lines, texts, labelled = _lines(file, "a text in each line"), [], 0
    for number, line in enumerate(lines, 1):
        _, tab, rest = line.partition("\t")
        labelled += bool(tab)
        texts.append((rest if tab else line).strip())
        if not texts[-1]:
            raise UserError(f"{file}:{number}: is empty, expected a text")
    if labelled:
        log.warning(
            "%s: %d of %d lines have a tab: what stands before it is taken for a label, and left "
            "out", file, labelled, len(lines),
        )  # fmt: skip
    return texts


@dataclass(frozen=True)
class Lines:
    """The labelled lines of a file."""

    file: Path
    labels: list[str]
    texts: list[str]

    def at(self, row: int) -> str:
        return f"{self.file}:{row + 1}"


def _of_ids(
    file: Path, given: Any, content: bytes | None, vocabulary: int | None, padding: int | None
) -> Data:
    """The arrays of an .npz file, whose x_train and x_test are token ids."""
    found = arrays(Path(), path=str(file))
    train, test = _integers(found.train.inputs), _integers(found.test.inputs)
    targets = found.train.targets
    if given is None:
        seen = max(int(np.max(train, initial=0)), padding or 0) + 1
        tokens = Tokens(vocabulary or seen, padding)
    else:
        tokens = _tokens(given, vocabulary, padding)
    each = targets.shape == train.shape and targets.dtype.kind in "biu"
    kind: KindName = "positions" if each else kind_for(targets)
    both = Samples(train, targets), Samples(test, found.test.targets)
    return Data(*both, kind, name="text", tokens=tokens, lines=content)


def _integers(inputs: Any) -> NDArray[Any]:
    return np.asarray(inputs, np.int64 if inputs.dtype == np.uint8 else None)


def _lines(file: Path, expected: str) -> list[str]:
    """The lines of a file. Raises UserError, naming the line."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from error
    try:
        content = data.decode("utf-8-sig").removesuffix("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{file}:{line}: the byte {data[error.start]:#04x} is not UTF-8: save the file as UTF-8"
        ) from None
    if not content:
        raise UserError(f"{file}: is empty, expected {expected}")
    return content.split("\n")


def _read(file: Path) -> Lines:
    """Lines `label<TAB>text`. Raises UserError, naming the line."""
    labels, texts = [], []
    for number, written in enumerate(_lines(file, "lines of label<TAB>text"), 1):
        label, _, rest = (part.strip() for part in written.partition("\t"))
        if not (label and rest):
            got = f"is {quoted(shortened(written))}" if written.strip() else "is empty"
            raise UserError(f"{file}:{number}: {got}, expected label<TAB>text")
        labels.append(label)
        texts.append(rest)
    return Lines(file, labels, texts)


def _names(labels: Sequence[str]) -> list[str]:
    """The classes: by number where all are numbers, else by name."""
    names = sorted(set(labels))
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


def _classes(lines: Lines, names: list[str]) -> NDArray[np.int64]:
    numbers = {name: number for number, name in enumerate(names)}
    for row, label in enumerate(lines.labels):
        if label not in numbers:
            raise UserError(
                f"{lines.at(row)}: the label {quoted(label)} is not in the training set"
            )
    return np.array([numbers[label] for label in lines.labels], np.int64)


def _content(path: str | None) -> bytes | None:
    if path is None:
        return None
    _check_package(path)
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{file}: there is no such file")
    with explained(file, UserError, "read"):
        return file.read_bytes()


def _check_package(where: str) -> None:
    if importlib.util.find_spec("tokenizers") is None:
        raise UserError(
            f"{where}: reading a tokenizer needs tokenizers: pip install 'hpogen[text]'"
        )


def _tokenizer(content: bytes | None, where: str) -> Any:
    """The tokenizer of a file's content, of which messages say `where` it is; of none None."""
    if content is None:
        return None
    _check_package(where)
    import tokenizers

    try:
        found = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the package raises no narrower one
        raise UserError(
            f"{where}: is no file of the package tokenizers ({shortened(error)}): write it with "
            "Tokenizer.save"
        ) from error
    found.no_truncation()
    return found


def _tokens(given: Any, vocabulary: int | None, padding: int | None) -> Tokens:
    """Those of a tokenizer, or of bytes; one id more is for padding where it has none."""
    if given is None:
        found = BYTES
    else:
        size = max(given.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        own = padding if padding is not None else (given.padding or {}).get("pad_id")
        found = Tokens(size + 1, size) if own is None else Tokens(size, own)
    if vocabulary not in (None, found.vocabulary):
        what = "bytes have" if given is None else "the tokenizer has"
        raise UserError(
            f"{what} {found.vocabulary} token ids, padding among them, and vocabulary says "
            f"{vocabulary}: leave it out, or name the tokenizer that it is of"
        )
    return Tokens(found.vocabulary, found.padding if padding is None else padding)


def _encoded(lines: Lines, given: Any) -> list[list[int]]:
    """The token ids of each line. Raises UserError, naming the line, where there are none."""
    if given is None:
        return [list(line.encode()) for line in lines.texts]
    given.no_padding()
    found = [_ids(lines.at(row), given, line) for row, line in enumerate(lines.texts)]
    for row, ids in enumerate(found):
        if not ids:
            raise UserError(f"{lines.at(row)}: the tokenizer finds no token: leave the line out")
    return found


def _ids(where: str, given: Any, line: str) -> list[int]:
    try:
        return list(given.encode(line).ids)
    except Exception as error:  # the package raises no narrower one
        raise UserError(
            f"{where}: the tokenizer fails ({shortened(error)}): its vocabulary does not fit the "
            "text"
        ) from error


def _padded(
    lines: Lines, encoded: list[list[int]], length: int, tokens: Tokens, given: Any
) -> NDArray[np.int64]:
    """(N, length): padded at the end, or cut, which leaves a tokenizer's own marks there."""
    ids = np.full((len(encoded), length), tokens.padding, np.int64)
    if given is not None:
        given.enable_truncation(length)
    cut = 0
    for row, found in enumerate(encoded):
        if len(found) > length:
            cut += 1
            found = (
                found[:length] if given is None else _ids(lines.at(row), given, lines.texts[row])
            )
        ids[row, : len(found)] = found
    if given is not None:
        given.no_truncation()
    if cut:
        log.warning("%s: %d of %d lines are cut to %d tokens", lines.file, cut, len(ids), length)
    return ids
