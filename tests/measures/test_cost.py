"""What a network costs: products counted by hand and layer by layer; a clock that is stubbed."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from nets import Untouched
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from hpogen import plugins
from hpogen.errors import Refusal
from hpogen.measures import Meter, cost
from hpogen.measures.catalog import MEASURES
from hpogen.measures.cost import LONGEST, REPEATS, WARM_UP, latency, macs, require_countable
from hpogen.training.forms.inputs import Inputs
from hpogen.training.models.build import build, refusal

N = 4
IMAGES = Inputs((3, 32, 32), 10)


def batches(*shape: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(N, *shape), torch.zeros(N, dtype=torch.int64))]


T, D, F = 5, 8, 16  # positions, features, hidden units
ATTENTION = T * D * 3 * D + 2 * T * T * D + T * D * D  # what goes in, the products, what comes out
BY_HAND = {
    "mlp": (nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)), (12,), 12 * 8 + 8 * 3),
    "lenet5": (
        build("lenet5", {}, Inputs((1, 28, 28), 10)),
        (1, 28, 28),
        28**2 * 6 * 25 + 10**2 * 16 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10,
    ),
    "transformer": (
        nn.TransformerEncoderLayer(D, 2, F, batch_first=True),
        (T, D),
        ATTENTION + 2 * T * D * F,
    ),
    "grouped": (nn.Conv2d(4, 8, 3, groups=4), (4, 9, 9), 7**2 * 8 * 9),
    "lstm": (nn.LSTM(D, 6, batch_first=True), (T, D), T * 4 * 6 * (D + 6)),
    "nothing": (nn.Sequential(nn.BatchNorm1d(D), nn.ReLU()), (D,), 0),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_the_products_as_they_are_counted_by_hand(name: str) -> None:
    model, shape, count = BY_HAND[name]
    assert macs(model, batches(*shape)) == count
    assert macs(model.eval(), [(torch.randn(1, *shape), torch.zeros(1))]) == count, "of one sample"


@pytest.mark.parametrize("name", ["mlp", "resnet20", "nin", "mobilenet"])
def test_the_products_of_each_layer_of_a_forward(name: str) -> None:
    model, counts = build(name, {}, IMAGES).eval(), []

    def note(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        counts.append(output.numel() * math.prod(layer.weight.shape[1:]))

    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.register_forward_hook(note)
    with torch.no_grad():
        model(torch.randn(1, *IMAGES.in_shape))
    found = sum(counts)
    assert macs(build(name, {}, IMAGES), batches(*IMAGES.in_shape)) == found > 0


class Holding(nn.Module):
    """Tensors that are no parameters, and some that are made in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = weight_norm(nn.Linear(12, 8))
        self.last = spectral_norm(nn.Linear(8, 8))
        self.scale = torch.ones(8)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x) * self.scale + torch.arange(8)
        random.random(), np.random.rand()
        return functional.linear(h, self.last.weight)


def test_the_model_is_as_before_wherever_it_holds_tensors() -> None:
    model = nn.Sequential(Holding(), nn.Dropout())
    state = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr,index]
    given, untouched = batches(12), Untouched(model)
    assert macs(model, given) == 12 * 8 + 8 * 8
    assert untouched()
    now = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr,index]
    assert now == state


def test_hooks_of_other_measures_see_nothing_of_it() -> None:
    model, (x, y), found = BY_HAND["mlp"][0], batches(12)[0], []
    for names in (["agn_online"], ["agn_online", "macs"]):
        meter = Meter(names, model)
        for _ in range(2):
            functional.cross_entropy(model(x), y).backward()
            if "macs" in names:
                assert macs(model, [(x, y)]) == 120  # between a forward and its update
            meter.update((x, y))
        found.append(meter.compute())
        meter.close()
    assert found[1] == {**found[0], "macs": 120.0}


class Reading(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * x.abs().max().item()


def test_a_network_that_needs_numbers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said = r"^Reading has no multiply-accumulates that can be counted: .* meta device, .*item\(\)"
    with pytest.raises(Refusal, match=said) as caught:
        macs(Reading(12, 3), batches(12))
    assert "\n" not in str(caught.value)
    with pytest.raises(Refusal, match=said):
        require_countable(Reading(12, 3), torch.zeros(2, 12))
    reading = {"reading": lambda shape, outputs: Reading(shape[0], outputs)}
    monkeypatch.setattr(plugins.models, "_added", reading)
    reason = refusal("reading", {}, require_countable, Inputs((12,), 3)) or ""
    assert reason.startswith("Reading has no"), "when the study is loaded"
    assert refusal("mlp", {}, require_countable, IMAGES) is None


class Looking(nn.Linear):
    """Notes how it is called."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((len(x), self.training, torch.is_grad_enabled()))
        return super().forward(x)

    seen: list[tuple[int, bool, bool]]


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What the clock says, one after the other."""
    given: list[float] = []
    monkeypatch.setattr(cost, "perf_counter", lambda: given.pop(0))
    yield given
    assert not given


def looking() -> Looking:
    model = Looking(12, 3)
    Looking.seen = []
    return model


def test_latency_is_the_median_after_a_warm_up(ticks: list[float]) -> None:
    took = [0.001 * ((7 * i) % REPEATS) for i in range(REPEATS)]
    begins = [0.05 * i for i in range(REPEATS)]
    ticks += [0.0, *itertools.chain(*((b, b + t) for b, t in zip(begins, took, strict=True)))]
    assert latency(looking(), batches(12)) == pytest.approx(np.median(took))
    assert Looking.seen == [(1, False, False)] * (WARM_UP + REPEATS)


def test_a_slow_forward_is_not_repeated_for_long(ticks: list[float]) -> None:
    ticks += [0.0, 0.0, 0.9, 0.9, LONGEST + 0.1]
    assert latency(looking(), batches(12)) == pytest.approx((0.9 + LONGEST - 0.8) / 2)
    assert len(Looking.seen) == WARM_UP + 2


def test_latency_is_seconds_and_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
    given, untouched = batches(12), Untouched(model)
    assert 0 < latency(model, given) < 1
    assert untouched()


def test_what_is_observed() -> None:
    observed = {measure.name: measure.final for measure in MEASURES.values() if measure.observed}
    assert observed == {"latency": True, "seconds_per_epoch": False}
