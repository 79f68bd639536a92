"""Every measure of the last layer against its definition, on per-sample gradients by autograd."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from hpogen import plugins
from hpogen.errors import Refusal
from hpogen.measures import HeadStatistics, head_reduced, head_statistics
from hpogen.measures import head as head_module
from hpogen.measures.moments import Moments

Loss = Callable[[Tensor, Tensor], Tensor]
N, FEATURES, CLASSES = 83, 7, 4


class Twin:
    """The definitions, one by one, on gradients that autograd gives sample by sample in float64."""

    def __init__(self, model: nn.Module, x: Tensor, targets: Tensor, loss: Loss | None = None):
        model = copy.deepcopy(model).double().eval()
        self.last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
        inputs: list[Tensor] = []
        self.last.register_forward_hook(lambda _, given, __: inputs.append(given[0].detach()))
        parameters = list(self.last.parameters())
        rows, logits = [], []
        for i in range(len(x)):
            z = model(x[i : i + 1].double())
            value = (loss or functional.cross_entropy)(z, targets[i : i + 1])
            gradients = torch.autograd.grad(value.sum(), parameters)
            rows.append(torch.cat([g.flatten() for g in gradients]).numpy())
            logits.append(z.detach())
        self.g = np.stack(rows)  # (N, P), the weights first
        self.z = torch.cat(logits).numpy()
        self.h = torch.cat(inputs).numpy()
        self.w = self.last.weight.detach().numpy()
        self.p = torch.cat(logits).softmax(1).numpy()
        self.size = (self.h**2).sum(1) + (self.last.bias is not None)
        hard = targets.ndim == 1
        self.y = (targets if hard else targets.argmax(1)).numpy()
        self.q = (functional.one_hot(targets, self.w.shape[0]) if hard else targets).numpy()

    def metrics(self) -> dict[str, float]:
        g, n = self.g, len(self.g)
        norm, m, variance = (g**2).sum(1).mean(), g.mean(0), g.var(0)
        m, variance = m[variance > 1e-20], variance[variance > 1e-20]
        mean = (g.mean(0) ** 2).sum()
        weights, towards = self.w.flatten(), g.mean(0)[: self.w.size]
        opposite = np.sign(weights) == -np.sign(towards)
        order = np.argsort(-np.abs(weights))[: math.ceil(weights.size / 10)]
        return {
            "agn": norm,
            "agn_mean": norm,
            "agn_last": norm,
            "agn_rel": norm / self.size.mean(),
            "agn_tic": norm / self.trace(),
            "gsnr_head": (m**2 / variance).mean(),
            "gsnr_head_median": float(np.median(m**2 / variance)),
            "gsnr_head_ratio": (m**2).sum() / variance.sum(),
            "gsnr_head_debiased": ((m**2 - variance / n) / variance).mean(),
            "osgr_head": float(np.clip(1 - (norm - mean) / (n * mean), -1, 1)),
            "same_sign_head": self.same_sign(),
            "opposite_sign_head": opposite.mean(),
            "opposite_sign_head_top10": opposite[order].mean(),
            "trace_hessian": self.trace(),
            "brier": ((self.p - self.q) ** 2).sum(1).mean(),
            **self.margins(),
        }

    def trace(self) -> float:
        """By the second derivative of the loss in the logits; W enters them linearly."""

        def logsumexp(z: Tensor) -> Tensor:
            return z.logsumexp(0)

        second = torch.autograd.functional.hessian
        traces = [float(second(logsumexp, torch.from_numpy(z)).trace()) for z in self.z]
        return float(np.mean(traces * self.size))

    def same_sign(self) -> float:
        shares = []
        for column in self.g.T:
            up, down = int((column > 0).sum()), int((column < 0).sum())
            if up + down >= 30:
                shares.append(max(up, down) / (up + down))
        return float(np.mean(shares))

    def margins(self) -> dict[str, float]:
        values = []
        for z, y in zip(self.z, self.y, strict=True):
            others = (j for j in range(len(z)) if j != y)
            values.append(
                min((z[y] - z[j]) / np.linalg.norm(self.w[y] - self.w[j]) for j in others)
            )
        points = np.quantile(np.array(values) / np.sqrt(self.h.var(0).sum()), [0.1, 0.5, 0.9])
        return {f"margin_q{k}": float(x) for k, x in zip((10, 50, 90), points, strict=True)}


def net(bias: bool = True, classes: int = CLASSES) -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(5, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU())
    model = nn.Sequential(body, nn.Dropout(0.5), nn.Linear(FEATURES, classes, bias=bias))
    with torch.no_grad():
        body[0].weight[2] = 0.0
        body[1].bias[2] = -1.0  # a dead unit: its gradients are zero for every sample
    return model


def samples(classes: int = CLASSES, n: int = N) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = 3 * torch.randn(n, 5, generator=generator)
    return x, torch.randint(0, classes, (n,), generator=generator)


def measured(head: HeadStatistics) -> dict[str, float]:
    """What the catalogue's head measures give."""
    found: dict[str, float] = {}
    for name in plugins.measures.names():
        measure = plugins.measures.get(name)
        if measure.of == "head" and plugins.measures.is_builtin(name):  # not another test's
            value: Any = measure.resolve()(head)
            assert isinstance(value, Tensor) == (measure.reads == "forms")
            found |= value if isinstance(value, dict) else {name: float(value)}
    return found


def batches(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(x.split(32), y.split(32), strict=True))  # with a short last one


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("classes", [2, CLASSES])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-3), (torch.float64, 1e-6)])
def test_every_head_measure_is_its_definition(
    monkeypatch: pytest.MonkeyPatch, bias: bool, classes: int, dtype: torch.dtype, error: float
) -> None:
    monkeypatch.setattr(head_module, "CHUNK", 30)
    x, y = samples(classes)
    model = net(bias, classes)
    expected = Twin(model, x, y).metrics()
    found = measured(head_statistics(model.to(dtype), batches(x.to(dtype), y)))
    assert found == pytest.approx(expected, rel=error, abs=1e-12)


def test_soft_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = samples()
    q = functional.one_hot(y, CLASSES).double() * 0.7 + 0.3 / CLASSES
    model = net().double()
    found = measured(head_statistics(model, batches(x.double(), q)))
    assert found == pytest.approx(Twin(model, x, q).metrics(), rel=1e-6)


def test_the_public_attributes_are_the_metrics() -> None:
    head = head_statistics(net(), [samples()])
    metrics = measured(head)
    assert (head.agn, head.gsnr, head.osgr) == tuple(
        metrics[name] for name in ("agn_last", "gsnr_head", "osgr_head")
    )
    assert (head.same_sign, head.opposite_sign, head.trace_hessian, head.tic) == tuple(
        metrics[name]
        for name in ("same_sign_head", "opposite_sign_head", "trace_hessian", "agn_tic")
    )
    assert head.margins == tuple(metrics[f"margin_q{k}"] for k in (10, 50, 90))


@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 60),
    features=st.integers(1, 6),
    classes=st.integers(2, 5),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_norms_and_moments_for_any_shape(
    n: int, features: int, classes: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    model = nn.Linear(features, classes, bias=bias).double()
    x, y = torch.randn(n, features).double(), torch.randint(0, classes, (n,))
    g = Twin(model, x, y).g
    head = head_statistics(model, batches(x, y))
    shape = head.moments.first.shape
    columns = [g[:, : classes * features].reshape(n, classes, features)]
    if bias:
        columns.append(g[:, classes * features :, None])
    per_sample = np.concatenate(columns, axis=2)  # (N, C, K)
    assert per_sample.shape[1:] == shape
    np.testing.assert_allclose(head.moments.first, per_sample.sum(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(head.moments.second, (per_sample**2).sum(0), rtol=1e-9)
    np.testing.assert_array_equal(head.moments.signs, np.sign(per_sample).sum(0))
    assert head.agn == pytest.approx((g**2).sum() / n, rel=1e-9)
    assert head.osgr == pytest.approx(osgr_as_in_the_paper(g), rel=1e-6)


def osgr_as_in_the_paper(g: np.ndarray[Any, Any]) -> float:
    """Equation 19: 1 − (1/N) Σ_j W_j / (r_j + 1/N), r_j with the noise of the mean taken off."""
    n, square, variance = len(g), g.mean(0) ** 2, g.var(0)
    total = 0.0
    for m2, rho2 in zip(square, variance, strict=True):
        if m2 > 0 and rho2 > 0:
            r = m2 / rho2 - 1 / n
            total += m2 / square.sum() / (r + 1 / n)
    return float(np.clip(1 - total / n, -1, 1))


def test_agn_rel_and_tic_are_kept_when_features_and_weights_are_rescaled() -> None:
    """h → 4h, W → W/4 leaves the function as it is; AGN follows the features' size."""
    x, y = samples()
    model = net(bias=False).double()
    before = head_statistics(model, [(x.double(), y)])
    with torch.no_grad():
        model[2].weight /= 4
        model[0][1].weight *= 4
        model[0][1].bias *= 4
    after = head_statistics(model, [(x.double(), y)])
    assert after.agn == pytest.approx(16 * before.agn)
    for name in ("agn_relative", "tic", "gsnr", "margins"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-5), name


def test_a_dead_net_has_numbers() -> None:
    """Features that are all zero: no margin, no gradient of the weights, only the bias's."""
    for bias in (True, False):
        model = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, CLASSES, bias=bias))
        with torch.no_grad():
            model[0].weight.zero_()
            model[0].bias.fill_(-1.0)
        found = measured(head_statistics(model, [samples()]))
        assert all(math.isfinite(value) for value in found.values())
        assert found["margin_q10"] == found["margin_q90"] == 0
        assert (found["agn"] == 0) is not bias
        assert (found["same_sign_head"] == 0.5) is not bias


def test_constant_features_have_no_margin() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, CLASSES)).double()
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(3 * torch.rand(3, dtype=torch.float64))  # their mean is rounded
    x, y = samples()
    assert head_statistics(model, [(x.double(), y)]).margins == (0.0, 0.0, 0.0)


def test_the_largest_tenth_of_the_weights_is_rounded_up() -> None:
    weight = torch.tensor([[3.0, -2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, -1.0]])
    moments = Moments.zeros((3, 5), torch.device("cpu"))  # the last column is the bias's
    moments.first += 1.0
    moments.count = 10
    assert moments.opposite_sign(weight, 0.1) == 1 / 2  # 2 of 12 weights: 3 and −2
    assert moments.opposite_sign(weight, 1.0) == pytest.approx(2 / 12)


def test_classes_with_the_same_weights_have_no_boundary() -> None:
    model = net()
    with torch.no_grad():
        model[2].weight[1] = model[2].weight[0]
    assert all(math.isfinite(margin) for margin in head_statistics(model, [samples()]).margins)


def test_well_fitted_samples_keep_their_digits() -> None:
    """Logits 40 apart: 1 − p_y = 4e-18, which float64 cannot tell from 1 − 1."""
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[20.0, 0.0], [-20.0, 0.0]]))
    head = head_statistics(model, [(torch.tensor([[1.0, 1.0]]), torch.tensor([0]))])
    rest = math.exp(-40)
    assert head.agn == pytest.approx(2 * 2 * rest**2, rel=1e-12, abs=0)
    assert head.trace_hessian == pytest.approx(2 * 2 * rest, rel=1e-12, abs=0)
    assert head.tic == pytest.approx(rest, rel=1e-12, abs=0)


def test_a_margin_needs_two_classes() -> None:
    with pytest.raises(Refusal, match="one output"):
        _ = head_statistics(nn.Linear(5, 1), [samples(1)]).margins


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return (1 - (-losses).exp()) ** 2 * losses


def squared(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs - functional.one_hot(labels, CLASSES)).square().sum(1)


@pytest.mark.parametrize("loss", [focal, squared])
def test_a_loss_of_ones_own(loss: Loss) -> None:
    x, target = samples()
    model = net().double()
    head = head_statistics(model, batches(x.double(), target), loss)
    expected = Twin(model, x, target, loss).metrics()
    assert head.agn == pytest.approx(expected["agn"], rel=1e-9)
    assert head.gsnr == pytest.approx(expected["gsnr_head"], rel=1e-6)
    assert head.same_sign == pytest.approx(expected["same_sign_head"])
    outputs = model.eval()(x.double()).detach()
    assert head.loss == pytest.approx(float(loss(outputs, target).mean()))
    for name in ("trace_hessian", "tic", "brier"):
        with pytest.raises(Refusal, match="cross-entropy"):
            getattr(head, name)


def test_a_loss_that_is_averaged_is_refused() -> None:
    head = head_statistics(net(), [samples()], functional.cross_entropy)
    with pytest.raises(ValueError, match="one loss per sample"):
        _ = head.agn


def test_autocast_changes_the_forward_only() -> None:
    model, (x, y) = net(), samples()
    exact = measured(head_statistics(model, [(x, y)]))
    with torch.autocast("cpu", torch.bfloat16):
        head = head_statistics(model, [(x, y)])
        inside = measured(head)
    assert inside == measured(head)  # nothing is computed in bfloat16 but the forward
    for name in ("agn", "brier", "trace_hessian", "margin_q50"):
        assert inside[name] == pytest.approx(exact[name], rel=0.05), name
    assert inside["agn"] != exact["agn"]


def test_nan_parameters_give_no_number() -> None:
    model = net()
    with torch.no_grad():
        model[2].weight[0, 0] = math.nan
    head = head_statistics(model, [samples()])
    assert math.isnan(head.agn)
    assert math.isnan(head.loss)


def test_each_statistic_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()
    gradient = head_reduced.output_gradient

    def counted(*given: Any) -> Tensor:
        next(calls)
        return gradient(*given)

    monkeypatch.setattr(head_reduced, "output_gradient", counted)
    measured(head_statistics(net(), [samples()]))
    assert next(calls) == 1
