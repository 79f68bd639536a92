"""The measures, models and searchers that there are, as `hpogen list` shows them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpogen import plugins
from hpogen.spec.described import first_line

INDENT = 4


def measure_rows() -> list[dict[str, Any]]:
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


def measures_page(measures: Sequence[Mapping[str, Any]], width: int) -> Iterator[str]:
    """A name per line, and under it the definition, the metrics, the cost and the source."""
    for measure in measures:
        metrics = measure["metrics"] if measure["metrics"] != [measure["name"]] else []
        texts = {
            "": measure["definition"],
            "gives: ": ", ".join(metrics),
            "cost: ": measure["cost"],
            "source: ": measure["source"],
        }
        yield from _entry(measure["name"], texts, width)


def models_page(models: Sequence[Mapping[str, Any]], width: int) -> Iterator[str]:
    """A name per line, and under it what it is, its size, options with defaults, and source."""
    for model in models:
        counts = [f"{count:,} ({images})" for images, count in model["parameters"].items()]
        least = model["smallest"]
        texts = {
            "": model["definition"],
            "parameters: ": ", ".join(counts),
            "images: ": f"from {least}×{least}" if least else "",
            "options: ": options(model["options"]),
            "source: ": model["source"],
        }
        yield from _entry(model["name"], texts, width)


def searchers_page(width: int) -> Iterator[str]:
    """A name per line, and under it what it is."""
    for name in plugins.searchers.names():
        yield from _entry(name, {"": first_line(plugins.searchers.get(name))}, width)


def options(defaults: Mapping[str, Any]) -> str:
    """`width: 64, batch_norm: false`, as the YAML has them; a name alone has no default."""
    texts = (name if v is None else f"{name}: {json.dumps(v)}" for name, v in defaults.items())
    return ", ".join(texts)


def _entry(name: str, texts: Mapping[str, str], width: int) -> Iterator[str]:
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
