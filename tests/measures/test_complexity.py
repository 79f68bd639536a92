"""Norms, spectra, paths, class sizes and sharpness against plain computations in float64."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from nets import Untouched, make, samples
from torch import Tensor, nn
from torch.nn import functional

from hpogen.errors import Refusal
from hpogen.measures.complexity import (
    distance_init,
    param_norm,
    parameters,
    path_norm,
    require_relu_kind,
    vc_dim,
)
from hpogen.measures.sharpness import sharpness, sharpness_pacbayes
from hpogen.measures.spectral import spectral
from hpogen.measures.weighted import require_layers

N = 12
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")
DTYPES = pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])


def batches(name: str, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    x, y = samples(name, N, dtype)
    return [(x[:7], y[:7]), (x[7:], y[7:])]


def trainable(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().double().flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("name", ["residual", "frozen"])
def test_the_norm_and_the_way_from_the_start(name: str) -> None:
    model, start = make(name), make(name)
    with torch.no_grad():
        for p in model.parameters():
            p += torch.rand(p.shape)
    assert param_norm(model, []) == pytest.approx(float(trainable(model).norm()))
    way = float((trainable(model) - trainable(start)).norm())
    assert distance_init(model, [], start) == pytest.approx(way)


def test_the_number_of_trainable_parameters() -> None:
    assert parameters(make("residual"), []) == len(trainable(make("residual")))
    assert parameters(make("frozen"), []) == len(trainable(make("frozen")))
    whole = sum(p.numel() for p in make("frozen").parameters())
    assert parameters(make("frozen"), []) < whole


def test_the_size_of_the_class() -> None:
    count = 2 * 4 * 9 + 2 * 4 + 4 * 2 * 9 + 4 + 4 * 4 + 4
    expected = count * 4 * math.log2(count)  # the shared convolution is applied twice
    assert vc_dim(make("residual"), batches("residual")) == pytest.approx(expected)


class Attending(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block = nn.TransformerEncoderLayer(8, 2, 12, 0.1, batch_first=batch_first)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.last(self.block(x).mean(1))
        return last


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_projections_of_attention_are_layers(batch_first: bool) -> None:
    model, x = Attending(batch_first).double(), torch.randn(4, 5, 8).double()
    attention = model.block.self_attn
    layers = [attention.in_proj_weight, attention.out_proj.weight]
    layers += [model.block.linear1.weight, model.block.linear2.weight, model.last.weight]
    norms = [float(torch.linalg.svdvals(weight.detach())[0]) for weight in layers]
    data = [(x, torch.zeros(4, dtype=torch.int64))]
    assert spectral(model, data) == pytest.approx(2 * sum(map(math.log, norms)), rel=1e-9)
    count = sum(p.numel() for p in model.parameters())
    assert vc_dim(model, data) == pytest.approx(count * 5 * math.log2(count))
    require_layers(Attending(batch_first).to("meta"), x.float().to("meta"))


class Recurring(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.body = kind(8, 6, batch_first=True)  # type: ignore[arg-type]
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.last(self.body(x)[0][:, -1])
        return last


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("measure", [spectral, vc_dim])
def test_weights_that_are_applied_otherwise_are_refused(
    kind: type[nn.RNNBase], measure: Callable[..., float]
) -> None:
    data = [(torch.randn(4, 5, 8), torch.zeros(4, dtype=torch.int64))]
    with pytest.raises(Refusal, match=r"Recurring applies weights by (lstm|gru|rnn_tanh), which"):
        measure(Recurring(kind), data)


def operator(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The layer without bias as a matrix, (inputs, outputs), one unit vector after the other."""
    rows = torch.eye(math.prod(shape), dtype=torch.float64)
    twin = copy.deepcopy(layer).double()
    zero = twin(torch.zeros(1, *shape, dtype=torch.float64))
    return torch.stack([(twin(row.view(1, *shape)) - zero).flatten() for row in rows]).detach()


@DTYPES
@pytest.mark.parametrize("dense", [0, 10_000])
def test_spectral_norms_are_those_of_the_operators(
    dtype: torch.dtype, error: float, dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpogen.measures.spectral.DENSE", dense)
    torch.manual_seed(0)
    layers = [
        (nn.Conv2d(2, 4, 3, stride=2, padding=1), (2, 9, 8)),
        (nn.Conv2d(4, 6, 2, groups=2, dilation=2, padding="same"), (4, 5, 4)),
        (nn.ConvTranspose2d(6, 3, 3, stride=2), (6, 5, 4)),
        (nn.Linear(297, 5, bias=False), (297,)),
    ]
    model = nn.Sequential(*(layer for layer, _ in layers[:3]), nn.Flatten(), layers[3][0])
    x = torch.randn(3, 2, 9, 8, dtype=dtype)
    given = spectral(model.to(dtype), [(x, torch.zeros(3))])
    norms = [float(torch.linalg.matrix_norm(operator(*layer), 2)) for layer in layers]
    assert given == pytest.approx(sum(2 * math.log(norm) for norm in norms), rel=error)


def test_a_layer_of_zeros_has_no_logarithm() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 4))
    nn.init.zeros_(model[1].weight)
    with pytest.raises(FloatingPointError, match="a layer's weights are all zero"):
        spectral(model, batches("x", torch.float32))


def test_the_path_norm_sums_over_every_path() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False), nn.ReLU()
    ).double()
    first, second = model[0].weight.detach(), model[2].weight.detach()
    paths = itertools.product(range(3), range(4), range(2))
    expected = sum(float(first[j, i] * second[k, j]) ** 2 for i, j, k in paths) ** 0.5
    x = torch.randn(5, 3, dtype=torch.float64)
    assert path_norm(model, [(x, torch.zeros(5))]) == pytest.approx(expected)


@pytest.mark.parametrize("affine", [True, False])
def test_in_the_path_norm_batch_norm_is_part_of_the_convolution_before_it(affine: bool) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4, affine=affine)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), norm, nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    ).double()
    nn.init.uniform_(norm.running_mean, -1, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    folded = copy.deepcopy(model)
    scale = (norm.running_var + norm.eps).rsqrt()
    shift = -norm.running_mean * scale
    if affine:
        nn.init.uniform_(norm.weight, -2, 2)
        nn.init.uniform_(norm.bias, -1, 1)
        scale, shift = scale * norm.weight.detach(), shift * norm.weight + norm.bias
    folded[0] = nn.Conv2d(2, 4, 3).double()
    with torch.no_grad():
        folded[0].weight.copy_(model[0].weight * scale[:, None, None, None])
        folded[0].bias.copy_(shift)
        folded[1] = nn.Identity()
        for p in folded.parameters():
            p.square_()
        expected = float(folded(torch.ones(1, 2, 6, 6).double()).sum()) ** 0.5
    assert path_norm(model, batches("x")) == pytest.approx(expected, rel=1e-9)


def test_a_net_that_is_not_of_relu_kind_has_no_path_norm() -> None:
    with pytest.raises(Refusal, match="Residual is not a network of ReLU kind"):
        path_norm(make("residual"), batches("residual"))  # functional tanh: seen in the numbers
    with pytest.raises(Refusal, match="its module '3' is a GroupNorm"):
        require_relu_kind(make("sequences"), torch.empty(0))


def spread(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> float:
    """The SAM step by hand."""
    twin = copy.deepcopy(model).double().eval()
    loss = functional.cross_entropy(twin(x.double()), y)
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in twin.parameters() if p.grad is not None]).norm()
    with torch.no_grad():
        for p in twin.parameters():
            if p.grad is not None:
                p += radius * p.grad / norm
        return float(functional.cross_entropy(twin(x.double()), y) - loss)


@DTYPES
@pytest.mark.parametrize("name", ["residual", "frozen", "recurrent"])
def test_sharpness_is_what_a_step_of_sam_adds(name: str, dtype: torch.dtype, error: float) -> None:
    model, (x, y) = make(name, dtype), samples(name, N, dtype)
    given = sharpness(model, batches(name, dtype), radius=0.5)
    assert given == pytest.approx(spread(model, x, y, 0.5), rel=error)


def test_a_flat_loss_is_not_sharp() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 4)).double().requires_grad_(False)
    assert sharpness(model, batches("x")) == 0


def accuracy_around(model: nn.Module, x: Tensor, y: Tensor, sigma: float) -> float:
    generator = torch.Generator().manual_seed(0)
    accuracies = []
    for _ in range(10):
        twin = copy.deepcopy(model).eval()
        with torch.no_grad():
            for p in twin.parameters():
                p += sigma * torch.randn(p.shape, generator=generator).to(p)
            accuracies.append(float((twin(x).argmax(1) == y).double().mean()))
    return sum(accuracies) / 10


def test_pac_bayes_sharpness_is_where_the_accuracy_falls() -> None:
    model, (x, _) = make("recurrent"), samples("recurrent", N)
    y = model.eval()(x).argmax(1)  # the accuracy is 1
    sigma = sharpness_pacbayes(model, [(x[:7], y[:7]), (x[7:], y[7:])])
    assert accuracy_around(model, x, y, sigma) >= 0.9 > accuracy_around(model, x, y, sigma * 1.001)
    assert sharpness_pacbayes(model, [(x, y)]) == sigma


MEASURES: list[Callable[..., float]] = [spectral, vc_dim, sharpness, sharpness_pacbayes, path_norm]


@pytest.mark.parametrize("measure", MEASURES)
def test_everything_is_left_as_it_was(measure: Callable[..., float]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)
    ).double()
    untouched = Untouched(model)
    measure(model, batches("x"))
    assert untouched()


@pytest.mark.parametrize("measure", MEASURES)
def test_no_samples_are_an_error(measure: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match="no samples"):
        measure(make("residual"), [])


@pytest.mark.parametrize("measure", [spectral, vc_dim])
def test_a_net_without_weighted_layers_is_refused(measure: Callable[..., float]) -> None:
    with pytest.raises(Refusal, match="PReLU applies no linear layer"):
        measure(nn.PReLU(2), [samples("x", 3, torch.float32)])
