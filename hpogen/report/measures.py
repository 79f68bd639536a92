"""The measures that there are, as `hpogen list measures` shows them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpogen import plugins

INDENT = 4


def rows() -> list[dict[str, Any]]:
    """Every measure in the order of names, with the metrics that it gives."""
    return [
        {
            "name": measure.name,
            "metrics": list(measure.metrics),
            "of": measure.of,
            "final": measure.final,
            "definition": measure.definition,
            "cost": measure.cost,
            "source": measure.source,
        }
        for measure in plugins.measures.parts()
    ]


def page(measures: Sequence[Mapping[str, Any]], width: int) -> Iterator[str]:
    """A name per line, and under it the definition, the metrics, the cost and the source."""
    for measure in measures:
        metrics = measure["metrics"] if measure["metrics"] != [measure["name"]] else []
        texts = {
            "": measure["definition"],
            "gives: ": ", ".join(metrics),
            "cost: ": measure["cost"],
            "source: ": measure["source"],
        }
        yield from entry(measure["name"], texts, width)


def entry(name: str, texts: Mapping[str, str], width: int) -> Iterator[str]:
    """The name, and under it each text that there is after its label."""
    yield name
    for label, text in texts.items():
        if text:
            yield from textwrap.wrap(
                label + text,
                max(width, 40),
                initial_indent=" " * INDENT,
                subsequent_indent=" " * (INDENT + len(label)),
                break_on_hyphens=False,
            )
