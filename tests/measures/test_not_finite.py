"""What is not finite never becomes a number that looks right: of no measure, and of no trial."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hpogen.measures import OnlineAgn, ablation_curves, gradient_norms, head_statistics
from hpogen.measures.catalog import MEASURES

N, CLASSES = 40, 3
Batches = list[tuple[Tensor, Tensor]]


class Net(nn.Module):
    """Two hidden layers; `between` and `outer` may spoil what passes."""

    def __init__(self, kind: str = "", dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.dtype, self.ablation_layer = kind, dtype, "inner"
        self.body, self.inner = nn.Linear(6, 8), nn.Linear(8, 8)
        self.last = nn.Linear(8, CLASSES)
        self.to(dtype)
        spoil = SPOILT.get(kind)
        if spoil is not None:
            with torch.no_grad():
                spoil(self)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x if self.dtype is torch.float32 else x.to(self.dtype)).relu()
        if self.kind == "overflow":
            h = h * 1e30
            h = h * 1e30
        if self.kind == "root":
            h = h + (h - h.detach()).abs().sqrt()  # 0, with a gradient of NaN
        if self.kind == "one sample":
            h = h / (x[:, :1] < 1)
        return self.last(self.inner(h).relu())


def fill(layer: str, value: float, part: str = "weight") -> Callable[[Net], Any]:
    return lambda net: getattr(net.get_submodule(layer), part)[:1].fill_(value)


SPOILT: Mapping[str, Callable[[Net], Any]] = {
    **{
        f"{v} in {layer}": fill(layer, v)
        for v in (math.nan, math.inf)
        for layer in ("body", "inner", "last")
    },
    "nan in a bias": fill("last", math.nan, "bias"),
    "-inf in a bias": fill("last", -math.inf, "bias"),
    "half": lambda net: net.inner.weight.fill_(6e4),
    "brain": lambda net: (net.inner.weight.fill_(1e30), net.last.weight.fill_(1e30)),
}
DTYPES = {"half": torch.float16, "brain": torch.bfloat16}
KINDS = [*SPOILT, "overflow", "one sample"]


def samples() -> Batches:
    torch.manual_seed(1)
    return [
        (torch.randn(N, 6), torch.arange(N) % CLASSES),
        (torch.randn(N, 6), torch.arange(N) % 2),
    ]


def numbers(given: Any) -> list[float]:
    if isinstance(given, Mapping):
        return [float(value) for value in given.values()]
    return numbers(given.metrics) if hasattr(given, "metrics") else [float(given)]


SIZES = {"vc_dim", "parameters", "macs", "latency"}  # of the architecture alone
NETWORK = {
    row.name: row for row in MEASURES.values() if row.of == "network" and row.name not in SIZES
}
HEAD = {row.name: row for row in MEASURES.values() if row.of == "head"}
WEIGHTS_ONLY = {"param_norm", "distance_init", "spectral", "path_norm"}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpogen.measures.sharpness.DRAWS", 1)
    monkeypatch.setattr("hpogen.measures.sharpness.STEPS", 2)


def says_so(call: Callable[[], Any]) -> bool:
    try:
        found = numbers(call())
    except FloatingPointError as error:
        assert "finite" in str(error)
        return True
    return not all(map(math.isfinite, found))


def concerned() -> Iterator[tuple[str, str]]:
    """Each measure and what it sees: some look at the weights alone, one at no bias."""
    for name, kind in itertools.product(NETWORK, KINDS):
        if name not in WEIGHTS_ONLY or (
            " in " in kind and (name, "bias") != ("spectral", kind[-4:])
        ):
            yield name, kind


@pytest.mark.parametrize(("name", "kind"), [*concerned()])
def test_a_measure_of_the_network_says_so(name: str, kind: str) -> None:
    net, row = Net(kind, DTYPES.get(kind, torch.float32)), NETWORK[name]
    given = (net, samples(), Net()) if row.initial else (net, samples())
    assert says_so(lambda: row.resolve()(*given))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", HEAD)
def test_a_measure_of_the_last_layer_says_so(name: str, kind: str) -> None:
    head = head_statistics(Net(kind, DTYPES.get(kind, torch.float32)), samples())
    if kind == "-inf in a bias":
        assert not math.isfinite(head.loss)
    assert says_so(lambda: HEAD[name].resolve()(head))


@pytest.mark.parametrize("name", ["margin_input", "sharpness", "gsnr", "osgr", "same_sign", "gn"])
def test_finite_logits_may_hide_it(name: str) -> None:
    net = Net("root")
    assert net(samples()[0][0]).isfinite().all()
    assert says_so(lambda: NETWORK[name].resolve()(net, samples()))


def test_units_that_are_infinite_cannot_be_ranked() -> None:
    class Bounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.wide = nn.Linear(6, 8), nn.Identity()
            self.last = nn.Linear(8, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.wide(self.body(x) * 1e30 * 1e30).tanh())

    with pytest.raises(FloatingPointError, match="an activation is not finite"):
        ablation_curves(Bounded(), samples(), layer="wide")


def test_accuracy_counts_a_sample_without_a_largest_logit_as_a_mistake() -> None:
    head = head_statistics(Net("nan in last"), samples())
    assert head.accuracy == 0
    assert math.isnan(head.loss) and math.isnan(head.agn) and math.isnan(head.brier)


@pytest.mark.parametrize("frozen", [(), ("last",), ("last", "inner")])
def test_norms_of_other_samples_are_not_touched(frozen: tuple[str, ...]) -> None:
    (x, y), _ = samples()
    x[3] = math.nan
    net = Net()
    for name in frozen:
        net.get_submodule(name).requires_grad_(False)
    norms = gradient_norms(net, x, y)
    keep = torch.arange(N) != 3
    assert not norms[3].isfinite()
    torch.testing.assert_close(
        norms[keep], gradient_norms(net, x[keep], y[keep]), rtol=1e-5, atol=0
    )


def test_agn_while_training_is_nan_from_then_on() -> None:
    (x, y), _ = samples()
    net = Net("nan in body")
    online = OnlineAgn(net)
    online.update(net(x), y)
    assert math.isnan(online.epoch_end())


def test_a_loss_that_is_not_finite_has_no_moments() -> None:
    (x, y), _ = samples()

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return (
            functional.cross_entropy(logits, labels, reduction="none")
            + (logits - logits).sum(1).sqrt()
        )

    head = head_statistics(Net(), [(x, y)], loss)
    for name in ("gsnr", "osgr", "same_sign", "opposite_sign"):
        with pytest.raises(FloatingPointError, match="a gradient is not finite"):
            getattr(head, name)
