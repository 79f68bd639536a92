"""Features that are worked off some at a time: the same numbers as of all that are kept."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from measures.test_head_family import net
from torch import Tensor, nn
from torch.nn import functional

from hpogen import plugins
from hpogen.measures.head import HeadStatistics
from hpogen.measures.head_pass import HeadCollector
from hpogen.measures.head_reduced import CHUNK, Reduced
from hpogen.measures.passes import PredictionCollector, forward_pass
from hpogen.measures.targets import ROWS, LossFunction

Reads = Literal["features", "moments", "forms"]


def collected(
    model: nn.Module, x: Tensor, y: Tensor, reads: Reads, size: int, loss: LossFunction | None
) -> HeadStatistics:
    parts = list(zip(x.split(size), y.split(size), strict=True))
    with HeadCollector(model, loss, y, reads) as collector:
        for _ in forward_pass(model, parts, collector):
            pass
        return collector.result()


def figures(head: HeadStatistics, reads: Reads, loss: LossFunction | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in plugins.measures.names():
        measure = plugins.measures.get(name)
        own = loss is None or not measure.loss
        if measure.reads == reads and plugins.measures.is_builtin(name) and own:
            value = measure.resolve()(head)
            found |= value if isinstance(value, dict) else {name: float(value)}
    return found


def squared(z: Tensor, y: Tensor) -> Tensor:
    return (z - functional.one_hot(y, z.shape[1])).square().mean(1)


@pytest.mark.parametrize("loss", [None, squared])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [100, 1000, CHUNK, 3 * CHUNK])
def test_bit_for_bit(size: int, bias: bool, loss: LossFunction | None) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2 * CHUNK + 77, 5), torch.randint(0, 3, (2 * CHUNK + 77,))
    model = net(bias, 3).eval()
    whole = collected(model, x, y, "features", size, loss)
    for reads in ("moments", "forms"):
        worked = collected(model, x, y, reads, size, loss)
        assert isinstance(worked.seen, Reduced)
        for asked in ("moments", "forms") if reads == "moments" else ("forms",):
            assert figures(worked, asked, loss) == figures(whole, asked, loss)
        with pytest.raises(ValueError, match="worked off"):
            _ = worked.features
    assert figures(whole, "forms", loss) and figures(whole, "moments", loss)


@pytest.mark.parametrize("classes", [1, 3])
def test_losses_of_many_rows_are_those_of_each_row(classes: int) -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(2 * ROWS + 5, classes)
    labels = torch.randint(0, max(classes, 2), (len(logits),))
    collector = PredictionCollector(labels)
    for start in range(0, len(labels), 9_999):
        part = slice(start, start + 9_999)
        collector.add(logits[part], labels[part])
    seen = collector.result()
    assert torch.equal(seen.logits, logits) and torch.equal(seen.labels, labels)
    binary = torch.cat([torch.zeros_like(logits), logits], 1) if classes == 1 else logits
    expected = functional.cross_entropy(binary.double(), labels, reduction="none")
    assert torch.equal(seen.losses, expected)
