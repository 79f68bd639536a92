"""What a network says of a user's samples, as a table: `hpogen predict`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from hpogen.answer import images
from hpogen.answer.sources import Net, source
from hpogen.answer.told import columns, told
from hpogen.errors import UserError, explained
from hpogen.record.folder import replace_file


def predict(net: Net, paths: Sequence[Path], out: Path) -> int:
    """Write a CSV file with a row per sample: file, row and what the network says; how many.

    Of a network of images `paths` are files, folders with files in them, however deep, and .npz
    files of one array. Pictures are decoded as the data set was that the network was trained on. Of
    others they are tables, files of lines or .npz files, as the data set was. Raises UserError for
    what is not of the network's size and kind, and has written nothing then.
    """
    given = images.sources(net, paths) if net.header.mean else [source(net, p) for p in paths]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["file", "row", *columns(net)])
    for one in given:
        for start in range(0, len(one.rows), net.batch):
            part = slice(start, min(start + net.batch, len(one.rows)))
            for row, said in zip(one.rows[part], told(net, one.take(part)), strict=True):
                writer.writerow([*row, *said])
    with explained(out, UserError):
        replace_file(out, table.getvalue().encode())
    return sum(len(one.rows) for one in given)
