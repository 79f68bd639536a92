"""docs/measures.md: it has every measure and metric there is, and its code runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hpogen.measures.catalog import MEASURES

TEXT = (Path(__file__).parents[2] / "docs" / "measures.md").read_text()


def spelled_out(text: str) -> list[str]:
    """`a_{b,c}` is a_b and a_c."""
    head, brace, rest = text.partition("{")
    if not brace:
        return [text]
    choices, _, tail = rest.partition("}")
    return [head + part + more for part in choices.split(",") for more in spelled_out(tail)]


def test_every_measure_is_documented() -> None:
    named = {name for text in re.findall(r"`([a-z_0-9{},]+)`", TEXT) for name in spelled_out(text)}
    metrics = {metric for row in MEASURES.values() for metric in row.metrics}
    assert metrics | set(MEASURES) <= named


def test_the_code_runs_as_it_stands() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    loader = [(torch.randn(40, 4), torch.arange(40) % 3) for _ in range(2)]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    names: dict[str, Any] = {"model": model, "loader": loader, "optimizer": optimizer}
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL):
        exec(block, names)
    assert names["agn_online"] == names["online"].total > 0
    assert names["norms"].shape == (40,)
