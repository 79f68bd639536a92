"""What a user gives a trained network to predict of: checked, and made of a table or of lines.

`predictor.py` asks; the data sets' own readers do the reading.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from hpogen.errors import UserError, quoted
from hpogen.measures.batches import kind_of
from hpogen.training.data import coded, text
from hpogen.training.data.data import Table
from hpogen.training.data.fitted import PLAIN, ByName, X
from hpogen.training.data.stored import INPUTS, TOKENIZER, Tensors, fit_of, within
from hpogen.training.forms.tokens import check_ids
from hpogen.training.weights import DataHeader, Header

log = logging.getLogger(__name__)


def check(x: Any, header: Header, fits: Tensors) -> None:
    """Raise UserError, in one line, for inputs of another kind or shape than the data set's.

    A number of a table may be missing, NaN, where `fits` has a median for it.
    """
    shapes, dtypes = header.raw
    if not isinstance(shapes, Mapping):
        _check_part(x, shapes, str(dtypes), header)
    else:
        if not isinstance(x, Mapping) or x.keys() != shapes.keys():
            names = " and ".join(map(repr, shapes))
            raise UserError(f"got {kind_of(x)}, expected a mapping of tensors, {names}")
        for name, shape in shapes.items():
            _check_part(x[name], shape, cast(Mapping[str, str], dtypes)[name], header, repr(name))
        if len({len(part) for part in x.values()}) > 1:
            got = ", ".join(f"{len(part)} of {name!r}" for name, part in x.items())
            raise UserError(f"got rows {got}, expected as many of each")
    if isinstance(header, DataHeader):
        _check_values(x, header, any(name.endswith("/median") for name in fits))


def _check_part(
    x: Any, shape: tuple[int, ...], dtype: str, header: Header, name: str = "inputs"
) -> None:
    wanted = getattr(torch, dtype)
    if isinstance(x, Tensor):
        if x.dtype == wanted and x.ndim == len(shape) + 1 and tuple(x.shape[1:]) == shape:
            return
        got = f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
    else:
        got = kind_of(x)
    image = not isinstance(header, DataHeader) or bool(header.mean)
    raise UserError(
        f"got {'images' if image else name} {got}, expected {dtype} "
        f"({', '.join(map(str, ('N', *shape)))}){' of values from 0 to 255' * image}"
    )


def _check_values(x: Any, header: DataHeader, gaps: bool) -> None:
    """Token ids outside the vocabulary, and numbers that are none."""
    if header.tokens is not None:
        check_ids(header.tokens, x.cpu().numpy(), "got")
    for part in x.values() if isinstance(x, Mapping) else [x]:
        if part.is_floating_point():
            wrong = part.isinf() if gaps else ~part.isfinite()
            if wrong.any():
                row, *place = wrong.nonzero()[0].tolist()
                raise UserError(_of_wrong(row, tuple(place), float(part[row, *place]), header))


def _of_wrong(row: int, place: tuple[int, ...], value: float, header: DataHeader) -> str:
    if header.table is None:
        return f"row {row}, place {place} is {value}, expected a number of float32"
    column = quoted(header.table.numbers[place[0]])
    if value == value:
        return f"row {row}, column {column} is {value}, expected a number of float32"
    return f"row {row}, column {column} is missing, and in the training no number was: fill it in"


def encoded(given: Any, header: Header, fits: Tensors) -> X:
    """Rows of a table, or lines of text, as the data set gives them.

    Either may be a file. Else a table is whatever `pyarrow.table` takes, a mapping of columns or a
    data frame, and lines are a list of strings. A warning counts categories that the network does
    not know. `fits` are those of `data/stored.py`. Raises UserError for what the network does not
    take.
    """
    if isinstance(header, DataHeader) and header.table is not None:
        where = str(given) if isinstance(given, str | Path) else "the table"
        found: X = coded.rows(given, header.table, where)
        if isinstance(found, Mapping):
            _warn_of_unknown(found, header.table, fits, where)
        return found
    if isinstance(header, DataHeader) and header.lines:
        return _ids(given, header, fits)
    raise UserError("the network takes arrays as they are: only tables and lines are encoded")


def _warn_of_unknown(found: Mapping[str, Tensor], table: Table, fits: Tensors, where: str) -> None:
    """Of each column the rows whose category the network's training subset had not."""
    fit = cast(ByName, fit_of(within(INPUTS, fits), [*found]))
    device = fits[f"{INPUTS}categories/lookup"].device
    codes: Tensor = fit.parts["categories"](found["categories"].to(device), PLAIN)
    for name, count in zip(table.categories, (codes == 0).sum(0).tolist(), strict=True):
        if count:
            rows = "1 row has a category" if count == 1 else f"{count:,} rows have categories"
            text = "%s: column %s: %s that the network does not know: taken as unknown"
            log.warning(text, where, quoted(name), rows)


def _ids(given: Any, header: DataHeader, fits: Tensors) -> Tensor:
    file = Path(given).expanduser() if isinstance(given, str | Path) else Path("texts")
    texts = text.read_texts(file) if isinstance(given, str | Path) else given
    if not isinstance(texts, Sequence) or not all(isinstance(one, str) for one in texts):
        raise UserError(f"got {kind_of(given)}, expected a file, or a list of texts")
    (length,) = cast(tuple[int, ...], header.in_shape)
    content = fits[TOKENIZER].cpu().numpy().tobytes() if TOKENIZER in fits else b""
    assert header.tokens is not None
    return torch.from_numpy(text.ids_of(file, texts, length, header.tokens, content))
