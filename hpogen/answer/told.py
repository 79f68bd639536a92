"""What a network says of samples, as the columns of a table: classes, probabilities, values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hpogen.answer.sources import Net
from hpogen.training.data.fitted import X

NO_TOKEN = "-"  # of a position that holds none


def columns(net: Net) -> list[str]:
    """Their names, by the kind of target."""
    kind, names = net.header.inputs.kind, net.class_names
    if kind == "real":
        return ["value"] if net.classes == 1 else [f"value_{name}" for name in names]
    if kind == "positions":
        return ["classes"]
    shares = [f"p_{name}" for name in names]
    return shares if kind == "labels" else ["class", *shares]


def told(net: Net, x: X) -> Iterator[list[str]]:
    """Their values, of each row of the inputs."""
    kind, names = net.header.inputs.kind, net.class_names
    outputs = net(x).detach().cpu()  # (n, classes)
    if kind == "real":
        yield from ([str(value) for value in row] for row in outputs.numpy())
    elif kind == "positions":
        yield from ([" ".join(row)] for row in _of_positions(net, x, outputs))
    else:
        for row in _shares(outputs, kind).numpy():
            first = [] if kind == "labels" else [names[int(np.argmax(row))]]
            yield [*first, *(f"{share:.6g}" for share in row)]


def _shares(outputs: Tensor, kind: str) -> Tensor:
    """Probabilities (n, classes) or (n, labels), float64."""
    logits = outputs.double()
    if kind == "classes":
        return logits.softmax(1)
    return (logits if kind == "labels" else torch.cat([-logits, logits], 1)).sigmoid()


def _of_positions(net: Net, x: X, outputs: Tensor) -> Iterator[list[str]]:
    """The likeliest class of each place that holds a token."""
    tokens, chosen = net.header.inputs.tokens, outputs.argmax(2).tolist()  # (n, T)
    if tokens is None or tokens.padding is None or not isinstance(x, Tensor):
        yield from ([net.class_names[place] for place in row] for row in chosen)
        return
    for row, filled in zip(chosen, (x != tokens.padding).tolist(), strict=True):
        pairs = zip(row, filled, strict=True)
        yield [net.class_names[place] if there else NO_TOKEN for place, there in pairs]
