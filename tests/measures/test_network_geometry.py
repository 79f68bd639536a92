"""Jacobian norms and margins of whole networks against one derivative at a time, in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from nets import Untouched, make, samples
from torch import Tensor, nn

from hpogen.errors import Refusal
from hpogen.measures.jacobian import jacobian_norm
from hpogen.measures.network_margins import FEATURES, margin_input, margin_layers
from hpogen.measures.weighted import require_hidden

N = 11
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")


class Chain(nn.Module):
    """Five weighted layers with pooling, in-place activations and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh()),
                nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.ReLU(inplace=True)),
                nn.Sequential(nn.Conv2d(4, 3, 3), nn.AvgPool2d(2), nn.Flatten()),
                nn.Sequential(nn.Linear(12, 8), nn.Tanh()),
                nn.Linear(8, 4),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(x, 0)

    def tail(self, h: Tensor, first: int) -> Tensor:
        """The output from the input of part `first`."""
        for part in self.parts[first:]:
            h = part(h)
        return h


def chain(dtype: torch.dtype = torch.float64) -> Chain:
    torch.manual_seed(0)
    return Chain().to(dtype)


def twin(model: nn.Module, x: Tensor) -> Iterator[tuple[int, Tensor, Callable[[Tensor], Tensor]]]:
    """The input of each part and what comes after it, as a function, in float64."""
    exact = copy.deepcopy(model).double().eval()
    h = x.double()
    for number, part in enumerate(exact.parts):
        yield number, h.detach(), lambda v, number=number: exact.tail(v, number)
        h = part(h)


def jacobian(tail: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
    """(C, size of h) of one sample h (…)."""
    full = torch.autograd.functional.jacobian(lambda v: tail(v[None])[0], h)
    return full.flatten(1)


DTYPES = pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])


@DTYPES
def test_the_jacobian_norm_is_that_of_every_derivative(dtype: torch.dtype, error: float) -> None:
    model, (x, y) = chain(dtype), samples("chain", N, dtype)
    norms = [
        float(jacobian(tail, h[i]).norm())
        for number, h, tail in twin(model, x)
        for i in range(N)
        if number > 0
    ]
    given = jacobian_norm(model, [(x[:7], y[:7]), (x[7:], y[7:])])
    assert given == pytest.approx(np.mean(norms), rel=error)


def margins(h: Tensor, tail: Callable[[Tensor], Tensor], y: Tensor) -> list[float]:
    """The five features from the definition, one sample after the other."""
    values = []
    for i in range(len(h)):
        z, rows = tail(h[i][None])[0].detach(), jacobian(tail, h[i])
        others = [j for j in range(len(z)) if j != y[i]]
        j = max(others, key=lambda k: float(z[k]))
        values.append(float((z[y[i]] - z[j]) / (rows[y[i]] - rows[j]).norm()))
    variation = float(h.flatten(1).var(0, correction=0).sum())
    scaled = np.array(values) / variation**0.5
    low, middle, high = np.percentile(scaled, [25, 50, 75])
    reach = 1.5 * (high - low)
    fences = max(scaled.min(), low - reach), min(scaled.max(), high + reach)
    return [fences[0], low, middle, high, fences[1]]


@DTYPES
def test_margins_are_those_of_every_derivative(dtype: torch.dtype, error: float) -> None:
    model, (x, y) = chain(dtype), samples("chain", N, dtype)
    batches = [(x[:7], y[:7]), (x[7:], y[7:])]
    at = {number: margins(h, tail, y) for number, h, tail in twin(model, x)}
    given = margin_input(model, batches)
    assert [given[f"margin_input_{f}"] for f in FEATURES] == pytest.approx(at[0], rel=error)
    given = margin_layers(model, batches)
    for layer, number in ((1, 2), (2, 3), (3, 4)):  # ⌈4k/3⌉ of the four hidden layers
        features = [given[f"margin_layers_{layer}_{feature}"] for feature in FEATURES]
        assert features == pytest.approx(at[number], rel=error)


def test_fences_keep_outliers_out() -> None:
    model = nn.Linear(1, 2, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.5], [-0.5]]))  # the margin is x itself
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [100.0]], dtype=torch.float64)
    y = torch.zeros(6, dtype=torch.int64)
    scale = float(x.std(correction=0))
    given = margin_input(model, [(x, y)])
    assert given["margin_input_lower"] == pytest.approx(0)
    assert given["margin_input_upper"] * scale == pytest.approx(3.75 + 1.5 * 2.5)


@pytest.mark.parametrize("measure", [jacobian_norm, margin_input, margin_layers])
@pytest.mark.parametrize("name", ["residual", "frozen", "recurrent", "direct"])
def test_everything_is_left_as_it_was(measure: Callable[..., object], name: str) -> None:
    model, (x, y) = make(name), samples(name, N)
    untouched = Untouched(model)
    measure(model, [(x[:6], y[:6]), (x[6:], y[6:])])
    assert untouched()
    assert x.grad is None and not x.requires_grad


@pytest.mark.parametrize("measure", [jacobian_norm, margin_input, margin_layers])
def test_no_samples_are_an_error(measure: Callable[..., object]) -> None:
    model, (x, y) = chain(), samples("chain", N)
    for batches in ([], [(x[:0], y[:0])]):
        with pytest.raises(ValueError, match="no samples"):
            measure(model, batches)


@pytest.mark.parametrize("measure", [jacobian_norm, margin_layers])
def test_a_net_without_hidden_layers_is_refused(measure: Callable[..., object]) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 4)).double()
    with pytest.raises(Refusal, match="Sequential has no hidden layer"):
        measure(model, [samples("chain", N)])
    with torch.device("meta"), pytest.raises(Refusal, match="Sequential has no hidden layer"):
        require_hidden(nn.Sequential(nn.Flatten(), nn.Linear(72, 4)), torch.empty(2, 2, 6, 6))


def test_a_net_that_gives_the_same_for_all_has_no_margins() -> None:
    model, (x, y) = chain(), samples("chain", N)
    nn.init.zeros_(model.parts[4].weight)
    with pytest.raises(FloatingPointError, match="tells no two samples apart"):
        margin_layers(model, [(x, y)])
