"""The models that there are, as `hpogen list models` shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hpogen.report.measures import entry


def page(models: Sequence[Mapping[str, Any]], width: int) -> Iterator[str]:
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
        yield from entry(model["name"], texts, width)


def options(defaults: Mapping[str, Any]) -> str:
    """`width: 64, batch_norm: false`, as the YAML has them; a name alone has no default."""
    texts = (name if v is None else f"{name}: {json.dumps(v)}" for name, v in defaults.items())
    return ", ".join(texts)
