"""Cumulative ablation against brute force in float64: every unit zeroed, one forward per n."""

from __future__ import annotations

import copy
import dataclasses
import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from hpogen.errors import Refusal
from hpogen.measures.ablation import Ablation, ablation_curves, zeta_and_kappa
from hpogen.measures.ablation_layer import require_ablation_layer
from hpogen.measures.batches import Batch
from hpogen.training.forms.inputs import Inputs
from hpogen.training.models.build import build
from hpogen.training.models.lenet import lenet5
from hpogen.training.models.resnet import resnet20

N, CLASSES = 61, 4


class Tailed(nn.Module):
    """No `nn.Sequential`: a residual tail behind the layer, and a bilinear end."""

    ablation_layer = "activation"

    def __init__(self) -> None:
        super().__init__()
        self.first, self.activation = nn.Conv2d(2, 6, 3, stride=2), nn.ReLU(inplace=True)
        self.second, self.norm = nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6)
        self.last = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.first(x))
        h = functional.relu(h + self.norm(self.second(h)), inplace=True)
        return self.last(h.mean((2, 3))) ** 3


def pooled(bias: bool = True) -> nn.Module:
    """The closed form's net; without a bias the logits of a net without units are all equal."""
    return nn.Sequential(
        nn.Conv2d(2, 12, 3, stride=2, groups=2),
        nn.BatchNorm2d(12),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(12, CLASSES, bias=bias),
    )


def direct() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(128, 9), nn.Tanh(), nn.Linear(9, CLASSES))


def flattened() -> nn.Module:
    """Channels that reach the last layer through a flattening: no closed form."""
    return nn.Sequential(
        nn.Conv2d(2, 7, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(7 * 64, CLASSES)
    )


def halved() -> nn.Module:
    """The widths fit the closed form, and so do the logits of samples with many active units."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(128, 9), nn.ReLU(), Halved(), nn.Linear(9, CLASSES)
    )


class Halved(nn.Module):
    """Leaves the activations alone unless less than a third of the units is active."""

    def forward(self, x: Tensor) -> Tensor:
        few = (x > 0).sum(1, keepdim=True) * 3 < x.shape[1]
        return torch.where(few, x / 2 - 1, x)


NETS = {
    "pooled": (pooled, "2"),
    "pooled without bias": (lambda: pooled(False), "2"),
    "direct": (direct, "2"),
    "flattened": (flattened, "1"),
    "halved": (halved, "2"),
    "no sequential": (Tailed, None),
}
CLOSED = {"pooled", "pooled without bias", "direct"}


def net(name: str, seed: int = 0) -> tuple[nn.Module, str | None]:
    build, layer = NETS[name]
    torch.manual_seed(seed)
    model = build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.weight, 0.5, 2)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval(), layer


def batches(classes: int = CLASSES, seed: int = 1, n: int = N) -> list[Batch]:
    """Short batches, the last one of a single image; labels that the images say something about."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (n,), generator=generator)
    x = torch.randn(n, 2, 8, 8, generator=generator) + y[:, None, None, None] * 0.3
    return [(x[i : i + 20], y[i : i + 20]) for i in range(0, n, 20)]


def brute_force(model: nn.Module, layer: str, data: list[Batch]) -> dict[int, tuple[list, list]]:
    """Per class E(n) and E_r(n), n = 0 … M: one forward in float64 for each n and direction."""
    twin = copy.deepcopy(model).double().eval()
    module = twin.get_submodule(layer)
    x = torch.cat([x for x, _ in data]).double()
    y = torch.cat([y for _, y in data])
    curves = {}
    for j in y.unique().tolist():
        seen: list[Tensor] = []
        handle = module.register_forward_hook(lambda _, i, o, seen=seen: seen.append(o.clone()))
        with torch.no_grad():
            twin(x[y == j])
        handle.remove()
        activation = seen[0].flatten(2).mean((0, 2)) if seen[0].ndim > 2 else seen[0].mean(0)
        order = sorted(range(len(activation)), key=lambda u: (-float(activation[u]), u))
        curves[j] = tuple(
            [accuracy(twin, module, x[y == j], j, removed[:n]) for n in range(len(order) + 1)]
            for removed in (order, order[::-1])
        )
    return curves


def accuracy(model: nn.Module, layer: nn.Module, x: Tensor, j: int, removed: list[int]) -> float:
    def zero(_: nn.Module, inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, removed] = 0
        return output

    handle = layer.register_forward_hook(zero)
    with torch.no_grad():
        right = model(x).argmax(1) == j
    handle.remove()
    return float(right.double().mean())


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_curves_are_those_of_brute_force(name: str, seed: int) -> None:
    model, layer = net(name, seed)
    data = batches()
    result = ablation_curves(model.double(), doubled(data), layer=layer, grid="all")
    expected = brute_force(model, layer or "activation", data)
    assert result.closed_form == (name in CLOSED)
    assert result.classes == tuple(expected)
    for k, (falling, rising) in enumerate(expected.values()):
        assert result.falling[k].tolist() == falling
        assert result.rising[k].tolist() == rising


def doubled(data: list[Batch]) -> list[Batch]:
    return [(x.double(), y) for x, y in data]


@pytest.mark.parametrize("name", ["pooled", "direct", "no sequential"])
def test_float32_gives_the_same_curves(name: str) -> None:
    model, layer = net(name)
    single = ablation_curves(model, batches(), layer=layer, grid="all")
    double = ablation_curves(
        copy.deepcopy(model).double(), doubled(batches()), layer=layer, grid="all"
    )
    assert torch.equal(single.falling, double.falling)
    assert single.metrics == pytest.approx(double.metrics, rel=1e-12)


@settings(max_examples=15, deadline=None)
@given(
    widths=st.tuples(st.integers(1, 6), st.integers(2, 5)),
    n=st.integers(1, 30),
    seed=st.integers(0, 99),
)
def test_closed_form_and_forwards_agree_on_any_shape(
    widths: tuple[int, int], n: int, seed: int
) -> None:
    torch.manual_seed(seed)
    units, classes = widths
    body = [nn.Flatten(), nn.Linear(128, units), nn.ReLU()]
    net = nn.Sequential(*body, nn.Linear(units, classes)).double()
    end = nn.Sequential(*body, nn.Linear(units, classes), nn.Identity()).double()
    end[-2] = Wrapped(net[-1])
    data = doubled(batches(classes, seed, n))
    closed, forwards = (ablation_curves(m, data, layer="2", grid="all") for m in (net, end))
    assert closed.closed_form and not forwards.closed_form
    assert torch.equal(closed.falling, forwards.falling)
    assert torch.equal(closed.rising, forwards.rising)
    assert closed.samples == forwards.samples
    assert sum(closed.samples) == n


class Wrapped(nn.Module):
    """A linear layer that is not seen to be one."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


def by_hand(falling: list[float], rising: list[float], chance: float = 0.25) -> Ablation:
    grid = tuple(range(len(falling)))
    return Ablation(
        "h", (0,), (4,), chance, grid, torch.tensor([falling]), torch.tensor([rising]), True
    )


def test_turning_points_and_areas_by_hand() -> None:
    result = by_hand([1.0, 0.5, 0.25, 0.0, 0.0], [1.0, 1.0, 1.0, 0.5, 0.0])
    assert result.turning_points.tolist() == [[2, 2]]  # first at chance, last of the largest; M = 4
    assert result.reaches_chance.tolist() == [True]
    assert result.metrics == {
        "zeta": (2 + 4 - 2) / 8,
        "kappa": (0.5 + 0.75 + 0.5) / 4,
        "kappa_fit": 0.4375,
    }


def test_a_class_that_never_falls_to_chance_turns_at_its_first_least_accuracy() -> None:
    result = by_hand([1.0, 0.5, 0.75, 0.5, 1.0], [0.75, 1.0, 1.0, 1.0, 1.0])
    assert result.zetas.tolist() == [(1 + 4 - 4) / 8]
    assert result.turning_points.tolist() == [[1, 4]] and not result.reaches_chance


def test_kappa_fit_is_of_the_mean_accuracy() -> None:
    result = by_hand([0.5, 0.0, 0.0], [0.5, 0.5, 0.0])
    assert result.metrics["kappa"] == 0.25
    assert result.metrics["kappa_fit"] == 0.5
    assert by_hand([0.0, 0.0], [0.0, 0.0]).metrics["kappa_fit"] == 0.0


def test_one_specialised_unit_per_class_is_as_sparse_as_can_be() -> None:
    model = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(4, 4))
    with torch.no_grad():
        model[2].weight.copy_(torch.eye(4))
        model[2].bias.copy_(torch.tensor([-0.1, 0.0, 0.1, 0.2]))
    x = torch.eye(4).repeat(3, 1)[:, None]
    result = ablation_curves(model, [(x, torch.arange(4).repeat(3))], layer="1")
    # removing its unit leaves the largest bias, that of class 3, which therefore never falls
    assert result.zetas.tolist() == [2 / 8, 2 / 8, 2 / 8, 0.0]
    assert result.kappas.tolist() == [3 / 4, 3 / 4, 3 / 4, 0.0]


def test_a_grid_gives_points_of_the_whole_curves() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 40), nn.ReLU(), nn.Tanh(), nn.Linear(40, 4))
    whole = ablation_curves(model, batches(), layer="2", grid="all")
    part = ablation_curves(model, batches(), layer="2", grid=9)
    assert part.grid == tuple(range(0, 41, 5))
    assert torch.equal(part.falling, whole.falling[:, ::5])
    assert torch.equal(part.rising, whole.rising[:, ::5])
    assert whole.interpolation_error == {"zeta": 0.0, "kappa": 0.0}
    default = ablation_curves(model, batches(), layer="2")
    assert len(default.grid) == 33 and default.grid[0] == 0 and default.grid[-1] == 40


@given(st.lists(st.floats(0, 1), min_size=13, max_size=13), st.integers(0, 12))
def test_the_error_of_a_grid_bounds_zeta_where_curves_have_one_turn(
    accuracies: list[float], peak: int
) -> None:
    falling = sorted(accuracies, reverse=True)
    rising = sorted(accuracies)[13 - peak :] + falling[: 13 - peak]
    whole = by_hand([*falling[:-1], 0.0], rising)
    part = dataclasses.replace(
        whole, grid=(0, 4, 8, 12), falling=whole.falling[:, ::4], rising=whole.rising[:, ::4]
    )
    assert part.interpolation_error["zeta"] == 3 / 12
    assert abs(part.metrics["zeta"] - whole.metrics["zeta"]) <= 3 / 12 + 1e-12


def test_between_the_points_of_a_grid_kappa_is_a_straight_line() -> None:
    part = Ablation(
        layer="h",
        classes=(0,),
        samples=(4,),
        chance=0.25,
        grid=(0, 2, 4, 8),
        falling=torch.tensor([[1.0, 0.5, 0.0, 0.0]]),
        rising=torch.tensor([[1.0, 1.0, 1.0, 0.0]]),
        closed_form=False,
    )
    # |E_r − E| by n: 0, ¼, ½, ¾, 1, ¾, ½, ¼, 0; with 0, 4 and 8 alone the same
    assert part.metrics["kappa"] == 4 / 8
    assert part.interpolation_error == {"zeta": 3 / 8, "kappa": 0.0}
    bent = dataclasses.replace(part, falling=torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    assert bent.metrics["kappa"] == 3 / 8
    assert bent.interpolation_error["kappa"] == 1 / 8


@pytest.mark.parametrize("name", ["pooled", "flattened", "no sequential"])
def test_everything_is_left_as_it_was(name: str) -> None:
    model, layer = net(name)
    model.train()
    functional.cross_entropy(model(batches()[0][0]), batches()[0][1]).backward()
    before = copy.deepcopy(model.state_dict())
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    random = torch.get_rng_state()
    ablation_curves(model, batches(), layer=layer)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    for p, gradient in zip(model.parameters(), gradients, strict=True):
        assert p.grad is gradient or torch.equal(p.grad, gradient)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("model", "units"),
    [
        (build("mlp", {"width": 10, "depth": 2}, Inputs((1, 12, 12), 3)), 10),
        (lenet5((1, 12, 12), 3), 84),
        (resnet20((1, 12, 12), 3, width=4), 16),
    ],
    ids=["mlp", "lenet5", "resnet20"],
)
def test_the_built_in_models_have_the_closed_form(model: nn.Module, units: int) -> None:
    x, y = torch.randn(6, 1, 12, 12), torch.arange(6) % 3
    result = ablation_curves(model, [(x, y)])
    assert result.closed_form
    assert result.units == units
    require_ablation_layer(model, x)


def test_the_files_hold_each_class_and_both_curves() -> None:
    model, (x, y) = build("mlp", {"width": 5}, Inputs((2, 8, 8), CLASSES)), batches()[0]
    y = torch.where(y == 1, 0, y)  # class 1 has no samples
    measured = zeta_and_kappa(model, [(x, y)])
    record = json.loads(measured.files["ablation.json"])
    result = ablation_curves(model, [(x, y)])
    assert measured.metrics == result.metrics
    assert record["classes"] == [0, 2, 3]
    assert record["samples"] == [int((y == j).sum()) for j in (0, 2, 3)]
    assert record["removed"] == list(range(6))
    assert record["closed_form"] is True
    assert record["zeta"] == pytest.approx(result.zetas.tolist(), abs=1e-6)
    assert torch.tensor(record["most_active_first"]).shape == (3, 6)
    assert torch.tensor(record["least_active_first"])[:, -1].tolist() == pytest.approx(
        result.rising[:, -1].tolist(), abs=1e-6
    )


@pytest.mark.parametrize("name", ["direct", "flattened"])
def test_a_broken_net_has_no_value(name: str) -> None:
    model, layer = net(name)
    model.ablation_layer = layer
    with torch.no_grad():
        model[-1].weight[0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="a logit is not finite"):
        zeta_and_kappa(model, batches())


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ablation_layer = nn.ReLU()
        self.first, self.last = nn.Linear(128, 9), nn.Linear(9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.ablation_layer(self.first(self.ablation_layer(x.flatten(1)))))


def test_models_without_a_usable_layer_are_refused_by_name() -> None:
    with pytest.raises(Refusal, match="Sequential does not say which layer"):
        ablation_curves(direct(), batches())
    with pytest.raises(Refusal, match="Sequential has no module 'nine'"):
        ablation_curves(direct(), batches(), layer="nine")
    with pytest.raises(Refusal, match=r"'ablation_layer' of Twice runs 2 times"):
        require_ablation_layer(Twice(), batches()[0][0])


class Method(Tailed):
    def ablation_layer(self) -> nn.Module:
        return self.activation


def test_the_layer_may_come_from_a_method() -> None:
    assert ablation_curves(Method().eval(), batches()).layer == "activation"


@pytest.mark.parametrize("data", [[], [(torch.zeros(0, 2, 8, 8), torch.zeros(0).long())]])
def test_no_samples_are_an_error(data: list[Batch]) -> None:
    with pytest.raises(ValueError, match="no samples"):
        ablation_curves(direct(), data, layer="2")


def test_a_grid_of_one_point_is_an_error() -> None:
    with pytest.raises(ValueError, match="grid=1"):
        ablation_curves(direct(), batches(), layer="2", grid=1)
