"""A `Meter` gives what the functions give, batch by batch, layer by layer, or says why not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.measures import Meter, OnlineAgn, gradient_norms, head_statistics, sequence_head
from hpogen.measures.meter import WITHOUT
from hpogen.measures.network_moments import network_moments

N, C = 60, 3
Y = torch.randint(C, (N,), generator=torch.Generator().manual_seed(1))
X = torch.randn(N, 8, generator=torch.Generator().manual_seed(0)) + Y[:, None]
BATCHES = [*zip(X.split(20), Y.split(20), strict=True)]


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, C))


def measured(names: Any, model: nn.Module, batches: Any = BATCHES, **keys: Any) -> dict[str, float]:
    meter = Meter(names, model, **keys)
    for batch in batches:
        meter.update(batch)
    return meter.compute()


def test_measures_of_the_last_layer_are_those_of_head_statistics(model: nn.Module) -> None:
    head = head_statistics(model, BATCHES)
    found = measured(["agn", "gsnr_head", "osgr_head", "margin", "brier"], model)
    assert found["agn"] == pytest.approx(head.agn, rel=1e-6)
    assert found["gsnr_head"] == pytest.approx(head.moments.gsnr, rel=1e-6)
    assert found["osgr_head"] == pytest.approx(head.moments.osgr, rel=1e-6)
    assert found["brier"] == pytest.approx(head.brier, rel=1e-6)
    margins = [found[f"margin_q{q}"] for q in (10, 50, 90)]
    assert margins == pytest.approx(list(head.margins), rel=1e-6)


def test_per_sample_measures_are_those_of_the_functions(model: nn.Module) -> None:
    found = measured(["gn", "gsnr", "osgr", "same_sign"], model)
    norms = torch.cat([gradient_norms(model, x, y) for x, y in BATCHES])
    moments = network_moments(model, BATCHES)
    assert found["gn"] == pytest.approx(float(norms.mean()), rel=1e-6)
    assert found["gsnr"] == pytest.approx(moments.gsnr, rel=1e-6)
    assert found["osgr"] == pytest.approx(moments.osgr, rel=1e-6)
    assert found["same_sign"] == pytest.approx(moments.same_sign, rel=1e-6)


def test_a_number_for_each_layer(model: nn.Module) -> None:
    found = measured(["gn", "gsnr"], model, per="layer")
    assert {name for name in found if name.startswith("gn/")} == {"gn/0", "gn/1", "gn/3"}
    assert "gsnr_debiased/3" in found
    assert sum(found[f"gn/{layer}"] for layer in (0, 1, 3)) == pytest.approx(
        measured("gn", model)["gn"], rel=1e-9
    )
    for p in (p for layer in (0, 1) for p in model[layer].parameters()):  # type: ignore[index]
        p.requires_grad = False
    alone = measured(["gn", "gsnr"], model)
    assert found["gn/3"] == pytest.approx(alone["gn"], rel=1e-6)
    assert found["gsnr/3"] == pytest.approx(alone["gsnr"], rel=1e-6)


ELSEWHERE = {"zeta", "jacobian_norm", "margin_layers"}  # need more of a model
EVERY = [
    name for name in plugins.measures.names() if name not in {*WITHOUT, *ELSEWHERE, "agn_online"}
]


@pytest.mark.parametrize("name", EVERY)
def test_every_measure_can_be_had_and_leaves_the_model_as_it_was(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, C))
    meter, before = Meter(name, model), torch.get_rng_state()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    meter.over(BATCHES)
    found = meter.compute()
    assert tuple(found) == plugins.measures.get(name).metrics == meter.metrics
    assert all(isinstance(value, float) for value in found.values())
    assert torch.equal(torch.get_rng_state(), before) and model.training
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    if not plugins.measures.get(name).observed:
        assert meter.compute() == found


def test_over_is_update_with_each(model: nn.Module) -> None:
    meter = Meter(["agn", "gn", "param_norm"], model)
    meter.over(BATCHES)
    assert meter.compute() == pytest.approx(measured(["agn", "gn", "param_norm"], model), rel=1e-6)


def test_reset_forgets(model: nn.Module) -> None:
    names = ["agn", "gsnr", "sharpness"]
    meter = Meter(names, model)
    meter.update(BATCHES[0])
    meter.reset()
    with pytest.raises(ValueError, match="got no samples"):
        meter.compute()
    meter.update(BATCHES[1])
    assert meter.compute() == measured(names, model, BATCHES[1:2])


def test_agn_online_comes_from_the_training_forwards(model: nn.Module) -> None:
    online, meter = OnlineAgn(model), Meter(["agn_online", "agn"], model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for x, y in BATCHES:
        logits = model(x)
        online.update(logits, y)
        optimizer.zero_grad()
        functional.cross_entropy(logits, y).backward()
        optimizer.step()
        meter.update((x, y))
    assert meter.compute()["agn_online"] == pytest.approx(online.epoch_end(), rel=1e-9)
    meter.close()
    assert sum(len(module._forward_hooks) for module in model.modules()) == 2  # of `online`


def test_agn_online_of_what_is_not_the_output_is_refused() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, C)

        def forward(self, x: Tensor) -> Tensor:
            return 2 * self.linear(x)

    model = Scaled()
    meter = Meter("agn_online", model)
    model(X)
    with pytest.raises(UserError, match=r"the output of Scaled is not that of its last nn.Linear"):
        meter.update((X, Y))


def test_the_distance_is_from_the_model_as_it_was(model: nn.Module) -> None:
    meter = Meter("distance_init", model)
    meter.update(BATCHES[0])
    assert meter.compute() == {"distance_init": 0.0}
    with torch.no_grad():
        next(model.parameters())[0, 0] += 3.0
    assert meter.compute()["distance_init"] == pytest.approx(3.0, rel=1e-6)


def test_sequences() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 6), nn.Tanh(), nn.Linear(6, C))
    x = torch.randint(9, (20, 5), generator=torch.Generator().manual_seed(0))
    batches = [(x[:10], x[:10] % C), (x[10:], x[10:] % C)]
    head = sequence_head(model, batches)
    found = measured(["agn", "gsnr_head"], model, batches)
    assert found["agn"] == pytest.approx(head.agn, rel=1e-6)
    assert found["gsnr_head"] == pytest.approx(head.moments.gsnr, rel=1e-6)


class Named(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *, x: Tensor) -> Any:
        return {"logits": self.inner(x)}


def test_named_inputs_and_a_forward_of_ones_own(model: nn.Module) -> None:
    names = ["agn", "gn", "param_norm", "sharpness", "distance_init"]
    expected = measured(names, model)
    named = [{"x": x, "labels": y} for x, y in BATCHES]
    assert measured(names, Named(model), named) == pytest.approx(expected, rel=1e-5)
    own = measured(names, Named(model), BATCHES, forward=lambda m, x: m.inner(x))
    assert own == pytest.approx(expected, rel=1e-5)
    layers = measured("gn", Named(model), named, per="layer")
    assert layers.keys() == {"gn/inner.0", "gn/inner.1", "gn/inner.3"}


@pytest.mark.parametrize(
    ("names", "keys", "line"),
    [
        ("agnn", {}, "Meter: measure 'agnn' is unknown; did you mean 'agn'"),
        ([], {}, "Meter: got no measure, expected a name or more: agn, gsnr_head"),
        ("agn_lr", {}, "Meter: 'agn_lr' needs the learning rate of each step"),
        (["agn", "tse_ema"], {}, "Meter: 'tse_ema' is made of the losses that you train with"),
        ("gn", {"per": "layers"}, "Meter: per: 'layers' is unknown; did you mean 'layer'"),
        (["gn", "agn"], {"per": "layer"}, "Meter: per='layer': 'agn' is no sum over layers; expec"),
    ],
)
def test_what_cannot_be_had_is_one_line(
    names: Any, keys: dict[str, Any], line: str, model: nn.Module
) -> None:
    with pytest.raises(UserError) as caught:
        Meter(names, model, **keys)
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_named_inputs_of_two_shapes_are_refused_where_all_batches_are_needed() -> None:
    class Lengths(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(1, C)

        def forward(self, *, x: Tensor) -> Tensor:
            return self.linear(x.mean(1, keepdim=True))

    model = Lengths()
    named = [{"x": X[:, :k], "labels": Y} for k in (3, 5)]
    assert measured(["gn", "agn"], model, named)["gn"] > 0
    with pytest.raises(UserError, match="'sharpness' takes batches of one shape, and got named"):
        measured("sharpness", model, named)
