"""What the pages' three own words mean, said once, under the block where they first appear.

The command line prints its pages through this, but not with `--quiet`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from rich.text import Text

from hpogen.report.text import paragraph

TERMS = {  # how a word appears in a block of lines: what it means
    r"\bcharged\b": "charged: epochs counted against stop, also of failed trials and duplicates",
    r"α|\balpha\b": "α (alpha): the weight of AGN, the accumulated gradient norm, in the score",
    r"\baudit\b.*\berror\b": "audit error: share misclassified of samples the search never saw",
}


def explained(lines: Iterable[str], width: int) -> Iterator[str]:
    """The lines of a page; under each block of them what it is the first to use."""
    said: set[str] = set()
    for blank, block in itertools.groupby(lines, key=lambda line: not line.strip()):
        page = [*block]
        yield from page
        new = [] if blank else [term for term in _used("\n".join(page)) if term not in said]
        said.update(new)
        for term in new:
            yield from paragraph(f"({TERMS[term]})", width)


def with_terms(text: Text, width: int) -> Text:
    """The text of a table that is redrawn, and under it what it uses."""
    more = [line for term in _used(text.plain) for line in paragraph(f"({TERMS[term]})", width)]
    return Text("\n").join([text, *map(Text, more)])


def _used(block: str) -> list[str]:
    return [term for term in TERMS if re.search(term, block, re.DOTALL)]
