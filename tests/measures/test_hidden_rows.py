"""Measures that read hidden values, of networks whose rows there are no samples or out of order.

Each is compared with one sample at a time in float64: the number is right, or refused by name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from network_parts import CLASSES, PARTS, WIDTH, Block, N
from torch import Tensor, nn
from torch.nn import functional

from hpogen.errors import Refusal
from hpogen.measures.ablation import ablation_curves
from hpogen.measures.jacobian import jacobian_norm
from hpogen.measures.network_margins import FEATURES, margin_input, margin_layers
from hpogen.measures.spectral import spectral

LAYERS = (nn.Linear, nn.Conv1d)
ODD = {"prototypes", "table", "complex", "complex filter", "noisy"}  # may be refused
ONCE = ("plain", "rolled", "flipped", "sorted", "sorted by selection", "nearly sorted", "halves")


class Net(nn.Module):
    """A block between layers; behind it, nothing is linear before the last layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.block = Block(name)
        self.second = nn.Linear(WIDTH, WIDTH)
        self.last = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        return self.last(self.second(h + self.block(h)).tanh())


def build(name: str, kind: Callable[[str], nn.Module] = Net) -> nn.Module:
    torch.manual_seed(len(name))
    net = kind(name)
    for p in net.parameters():
        p.data = p.data.to(torch.promote_types(p.dtype, torch.float64)) * 2
    for b in net.buffers():
        b.data = b.data.double() if b.is_floating_point() else b.data
    return net.eval()


def vectors(count: int = N) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, WIDTH, generator=generator, dtype=torch.float64)
    return x, torch.arange(count) % CLASSES


@contextmanager
def hooked(modules: list[nn.Module], hook: Callable[..., object], pre: bool) -> Iterator[None]:
    handles = [
        m.register_forward_pre_hook(hook) if pre else m.register_forward_hook(hook) for m in modules
    ]
    yield
    for handle in handles:
        handle.remove()


def derivatives(model: nn.Module, x: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Of one sample: z (C,), and x and each hidden h (D,) with ∂z/∂h (C, D)."""
    inputs: list[Tensor] = []

    def keep(_: nn.Module, given: Any) -> None:
        if not any(given[0] is known for known in inputs):
            inputs.append(given[0])

    x = x.clone().requires_grad_()
    layers = [m for m in model.modules() if isinstance(m, LAYERS)]
    with hooked(layers, keep, pre=True):
        z = model(x).flatten()
    places = [x, *inputs[1:]]
    rows = [torch.autograd.grad(c, places, retain_graph=True, materialize_grads=True) for c in z]
    return z.detach(), [
        (h.detach().flatten(), torch.stack([row[k].flatten() for row in rows]))
        for k, h in enumerate(places)
    ]


def expected_norm(model: nn.Module, x: Tensor) -> float:
    alone = [derivatives(model, x[i : i + 1])[1][1:] for i in range(len(x))]
    return float(np.mean([np.mean([float(g.norm()) for _, g in places]) for places in alone]))


def features(model: nn.Module, x: Tensor, y: Tensor, place: Callable[[int], int]) -> list[float]:
    """The five features from the definition, at one of the K places behind x."""
    margins, hidden = [], []
    for i in range(len(x)):
        z, places = derivatives(model, x[i : i + 1])
        h, rows = places[place(len(places) - 1)]
        j = max((c for c in range(CLASSES) if c != y[i]), key=lambda c: float(z[c]))
        margins.append(float((z[y[i]] - z[j]) / (rows[y[i]] - rows[j]).norm()))
        hidden.append(h)
    scaled = np.array(margins) / float(torch.stack(hidden).var(0, correction=0).sum()) ** 0.5
    low, middle, high = np.percentile(scaled, [25, 50, 75])
    reach = 1.5 * (high - low)
    return [max(scaled.min(), low - reach), low, middle, high, min(scaled.max(), high + reach)]


def given(measure: Callable[[], Any]) -> Any:
    """What a measure gives; None where it refuses, in one line that names the model."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return measure()
        except Refusal as refusal:
            assert any(name in str(refusal) for name in ("Net", "Bags", "Tokens"))
            assert "\n" not in str(refusal)
            return None


def check(model: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether the measures gave numbers; all three or none, but that of x has no hidden values."""
    norm = given(lambda: jacobian_norm(model, [(x, y)]))
    layers = given(lambda: margin_layers(model, [(x, y)]))
    at_input = given(lambda: margin_input(model, [(x, y)]))
    if at_input is not None:
        exact = features(model, x, y, lambda _: 0)
        assert [at_input[f"margin_input_{f}"] for f in FEATURES] == pytest.approx(exact, rel=1e-6)
    assert (norm is None) == (layers is None)
    if norm is None or layers is None:
        return False
    assert at_input is not None
    assert norm == pytest.approx(expected_norm(model, x), rel=1e-6)
    for number in (1, 2, 3):
        exact = features(model, x, y, lambda k, number=number: -(-number * k // 3))
        found = [layers[f"margin_layers_{number}_{feature}"] for feature in FEATURES]
        assert found == pytest.approx(exact, rel=1e-6)
    return True


@pytest.mark.parametrize("name", PARTS)
def test_norms_and_margins_are_those_of_one_sample_at_a_time(name: str) -> None:
    right = check(build(name), *vectors())
    if name == "straight through":  # alone, the sample is its own mean
        assert right
    elif name not in ODD:
        assert right != PARTS[name].mixes


class Bags(Net):
    """Each sample becomes N rows: (samples, places) flattened, or places before the samples."""

    def forward(self, x: Tensor) -> Tensor:
        shifts = torch.linspace(0, 1, N, dtype=x.dtype)
        h = self.first((x[:, None] + shifts[:, None] * x[:, None].flip(2)).flatten(0, 1)).tanh()
        h = self.second(self.block(h)).tanh()
        return self.last(h.reshape(len(x), N, WIDTH).amax(1))


@pytest.mark.parametrize("count", [1, 2, 3, N, 2 * N])
def test_rows_of_places_belong_to_their_samples(count: int) -> None:
    if count > 1:  # of one sample nothing varies
        assert check(build("plain", Bags), *vectors(count))
    x, y = vectors(count)
    norm = jacobian_norm(build("plain", Bags), [(x, y)])
    assert norm == pytest.approx(expected_norm(build("plain", Bags), x), rel=1e-9)
    assert given(lambda: ablation_curves(build("plain", Bags), [(x, y)], layer="second")) is None


@pytest.mark.parametrize("name", ["plain", "sorted", "places first", "centred", "attention"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_batches_of_any_size(name: str, count: int) -> None:
    assert check(build(name), *vectors(count)) != PARTS[name].mixes


def test_samples_that_are_all_the_same_settle_nothing() -> None:
    model, (x, y) = build("flipped"), vectors()
    same = x[:1].expand(N, -1)
    mixed = margin_layers(model, [(same, y), (x, y)])
    alone = [(row[None], label[None]) for row, label in zip((*same, *x), (*y, *y), strict=True)]
    assert list(mixed.values()) == pytest.approx(list(margin_layers(model, alone).values()))


class Tokens(nn.Module):
    """Whole numbers come in."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, WIDTH)
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(self.table(x)).tanh().mean(1))


def test_there_is_no_derivative_by_whole_numbers() -> None:
    model, x, y = Tokens(), torch.randint(0, 9, (N, N)), vectors()[1]
    for measure in (jacobian_norm, margin_input, margin_layers):
        with pytest.raises(Refusal, match=r"Tokens .*no derivative by its input"):
            measure(model, [(x, y)])
    assert all(p.requires_grad for p in model.parameters())
    assert spectral(model, [(x, y)]) < 10


def test_the_norm_of_a_sequence_is_of_all_its_logits() -> None:
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Tanh(), nn.Conv1d(2, CLASSES, 1)).double()
    x = vectors()[0][:, None]
    assert jacobian_norm(net, [(x, x)]) == pytest.approx(expected_norm(net, x), rel=1e-9)


def test_the_spectral_norm_of_a_convolution_without_a_batch() -> None:
    class Looped(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([super(Looped, self).forward(row) for row in x])

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv1d(WIDTH, 3, 3), nn.Flatten(0)).double()
    x = torch.randn(1, WIDTH, WIDTH, dtype=torch.float64)  # as long as there are channels
    expected = spectral(plain, [(x, x)])
    assert spectral(Looped(*plain), [(x, x)]) == pytest.approx(expected, rel=1e-9)


def curves(model: nn.Module, layer: nn.Module, x: Tensor, y: Tensor) -> list[list[float]]:
    """E(n) and E_r(n) of each class, by one sample at a time."""

    def outputs(row: Tensor, removed: list[int]) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []

        def remove(_: nn.Module, inputs: object, output: Tensor) -> Tensor:
            seen.append(output)
            kept = torch.ones_like(output)
            kept[:, removed] = 0
            return output * kept

        with torch.no_grad(), hooked([layer], remove, pre=False):
            return model(row[None])[0], seen[0][0].reshape(seen[0].shape[1], -1).mean(1)

    def accuracy(own: Tensor, label: int, removed: list[int]) -> float:
        return float(np.mean([int(outputs(row, removed)[0].argmax()) == label for row in own]))

    found = []
    for label in range(CLASSES):
        own = x[y == label]
        activity = torch.stack([outputs(row, [])[1] for row in own]).mean(0)
        order = activity.argsort(descending=True).tolist()
        for way in (order, order[::-1]):
            found.append([accuracy(own, label, way[:n]) for n in range(len(order) + 1)])
    return found


@pytest.mark.parametrize("layer", ["block.layer", "second"])
@pytest.mark.parametrize("name", PARTS)
def test_ablation_is_that_of_one_sample_at_a_time(name: str, layer: str) -> None:
    model, (x, y) = build(name), vectors(4 * N)
    if name in ("prototypes", "table"):
        x, y = x[:N], y[:N]
    found = given(lambda: ablation_curves(model, [(x, y)], layer=layer, grid="all"))
    if found is None:
        assert PARTS[name].mixes or (layer == "block.layer" and name not in ONCE)
        return
    assert not PARTS[name].mixes or name == "straight through"
    given_curves = torch.stack([found.falling, found.rising], 1).flatten(0, 1).tolist()
    assert given_curves == curves(model, model.get_submodule(layer), x, y)


def test_a_layer_before_what_mixes_and_the_last_one() -> None:
    """Removing units is removing terms of the last layer, and yet the samples are mixed."""

    class Net(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            h = self[0](x)
            return self[1](h - h.mean(0))

    model, (x, y) = Net(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)).double(), vectors()
    with pytest.raises(Refusal, match="Net mixes the samples"):
        ablation_curves(model, [(x, y)], layer="0")


def test_functional_layers_and_a_batch_that_is_looped_over() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.ParameterList(torch.randn(3, WIDTH, WIDTH).unbind())

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([functional.linear(self.inner(row), self.w[2])[:4] for row in x])

        def inner(self, row: Tensor) -> Tensor:
            return functional.linear(functional.linear(row, self.w[0]).tanh(), self.w[1]).tanh()

    torch.manual_seed(0)
    model, (x, y) = Net().double(), vectors()
    alone = [jacobian_norm(model, [(x[i : i + 1], y[i : i + 1])]) for i in range(N)]
    assert jacobian_norm(model, [(x, y)]) == pytest.approx(np.mean(alone), rel=1e-9)
