"""The measures of outputs (N, T, C), against one backward pass for each sample in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from hpogen.errors import Refusal
from hpogen.measures import head_family, sequence_head
from hpogen.measures.complexity import path_norm, vc_dim
from hpogen.measures.jacobian import jacobian_norm
from hpogen.measures.last_linear import LastLinear
from hpogen.measures.moments import Moments
from hpogen.measures.network import gn, gradient_norms
from hpogen.measures.network_moments import gsnr, osgr, same_sign
from hpogen.measures.sequence_pass import SequenceHeadCollector
from hpogen.measures.sequences import mean_cross_entropy
from hpogen.measures.sharpness import sharpness
from hpogen.measures.spectral import spectral
from hpogen.training.losses import Loss
from hpogen.training.losses import cross_entropy as trained_by

N, VOCABULARY, CLASSES = 40, 7, 3
EXACT = {"rel": 1e-9, "abs": 1e-14}


class Net(nn.Module):
    def __init__(self, width: int, bias: bool = True, classes: int = CLASSES) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, 4)
        self.hidden = nn.Linear(4, width)
        self.last = nn.Linear(width, classes, bias)

    def forward(self, ids: Tensor) -> Tensor:
        values = self.table(ids)
        return self.last(torch.tanh(self.hidden(values + values.mean(1, keepdim=True))))


def squared(logits: Tensor, labels: Tensor) -> Tensor:
    """A loss of one's own that is no mean: also of positions that are not labelled."""
    wanted = functional.one_hot(labels.clamp_min(0), logits.shape[2])
    return (logits - wanted).square().sum((1, 2)) + logits.prod(2).sum(1)


def drawn(width: int = 5, length: int = 6, **keys: Any) -> tuple[Net, Tensor, Tensor]:
    torch.manual_seed(0)
    net = Net(width, **keys).double()
    x = torch.randint(VOCABULARY, (N, length))
    y = torch.randint(CLASSES, (N, length)).masked_fill(torch.rand(N, length) < 0.3, -100)
    y[:, 2] = torch.randint(CLASSES, (N,))
    return net, x, y


def gradients(
    net: nn.Module, x: Tensor, y: Tensor, loss: Callable[..., Tensor], own: bool = False
) -> Tensor:
    """(N, P), of all parameters; of the last layer's `own` (N, C, D + 1)."""
    parameters = list((net.last if own else net).parameters())  # type: ignore[union-attr]
    rows = []
    for i in range(len(x)):
        parts = torch.autograd.grad(loss(net(x[i : i + 1]), y[i : i + 1]).sum(), parameters)
        if own:
            rows.append(torch.cat([part.view(CLASSES, -1) for part in parts], 1))
        else:
            rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows).detach()


def moments(each: Tensor) -> Moments:
    sums = each.sum(0), each.square().sum(0), each.sign().sum(0), each.sign().abs().sum(0)
    return Moments(*sums, len(each))


def of_one_sample(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss as it is defined, in torch's own words."""
    return functional.cross_entropy(logits[0], labels[0], ignore_index=-100)[None]


LOSSES = {"entropy": (None, of_one_sample), "own": (squared, squared)}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("width", "length"), [(2, 9), (30, 4)], ids=["explicit", "gram"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_head_measures_are_those_of_autograd(
    name: str, width: int, length: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpogen.measures.uses.LIMIT", {"cpu": 700})  # several chunks for a batch
    net, x, y = drawn(width, length, bias=bias)
    given, plain = LOSSES[name]
    head = sequence_head(net, [(x[:25], y[:25]), (x[25:], y[25:])], given)
    each = gradients(net, x, y, plain, own=True)
    exact, norms = moments(each), each.square().sum((1, 2))
    assert head.closed_forms.norms.numpy() == pytest.approx(norms.numpy(), **EXACT)
    assert head.agn == pytest.approx(float(norms.mean()), **EXACT)
    assert head_family.gsnr(head) == pytest.approx(exact.gsnr_family("gsnr_head"), **EXACT)
    assert head_family.osgr(head) == pytest.approx(exact.osgr, **EXACT)
    assert head_family.same_sign(head) == pytest.approx(exact.same_sign, **EXACT)
    opposite = (exact.mean[:, :width].sign() * net.last.weight.sign() < 0).double().mean()
    assert head_family.opposite_sign(head)["opposite_sign_head"] == pytest.approx(float(opposite))
    losses = torch.stack([plain(net(x[i : i + 1]), y[i : i + 1])[0] for i in range(N)])
    assert head.loss == pytest.approx(float(losses.detach().mean()), **EXACT)


def test_curvature_and_brier_are_those_of_the_definition() -> None:
    net, x, y = drawn()
    forms = sequence_head(net, [(x, y)]).closed_forms
    hidden = torch.tanh(net.hidden(net.table(x) + net.table(x).mean(1, keepdim=True)))
    traces, squares, sizes = [], [], []
    for h, labels in zip(hidden.detach(), y, strict=True):
        h, labels = h[labels >= 0], labels[labels >= 0]

        def loss(weight: Tensor, bias: Tensor, h: Tensor = h, labels: Tensor = labels) -> Tensor:
            return functional.cross_entropy(h @ weight.T + bias, labels)

        both = torch.autograd.functional.hessian(loss, (net.last.weight, net.last.bias))
        traces.append(sum(both[k][k].reshape(n, n).trace() for k, n in ((0, 15), (1, 3))))
        p = (h @ net.last.weight.T + net.last.bias).softmax(1)
        squares.append((p - functional.one_hot(labels, CLASSES)).square().sum(1).mean())
        sizes.append((h.square().sum(1) + 1).mean())
    trace, brier, size = (float(torch.stack(v).detach().mean()) for v in (traces, squares, sizes))
    assert float(forms.trace_hessian) == pytest.approx(trace, **EXACT)
    assert float(forms.brier) == pytest.approx(brier, **EXACT)
    assert float(forms.tic) == pytest.approx(float(forms.agn) / trace, **EXACT)
    assert float(forms.agn_relative) == pytest.approx(float(forms.agn) / size, **EXACT)


@pytest.mark.parametrize("name", LOSSES)
def test_the_network_measures_are_those_of_autograd(name: str) -> None:
    net, x, y = drawn()
    given, plain = LOSSES[name]
    loss = Loss(name, given or trained_by)
    batches = [(x[:25], y[:25]), (x[25:], y[25:])]
    each = gradients(net, x, y, plain)
    exact = moments(each)
    rel = {"rel": 1e-6}
    assert gn(net, batches, loss) == pytest.approx(float(each.square().sum(1).mean()), **rel)
    assert gsnr(net, batches, loss) == pytest.approx(exact.gsnr_family("gsnr"), **rel)
    assert osgr(net, batches, loss) == pytest.approx(exact.osgr, **rel)
    assert same_sign(net, batches, loss) == pytest.approx(exact.same_sign, **rel)
    mean, start, moved = each.mean(0), 0, {}
    for key, p in net.named_parameters():
        step = mean[start : start + p.numel()].view_as(p) * 0.05 / mean.norm()
        moved[key], start = p.detach() + step, start + p.numel()
    there = loss(torch.func.functional_call(net, moved, (x,)), y).mean()
    expected = float((there - loss(net(x), y).mean()).detach())
    assert sharpness(net, batches, loss=loss) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_a_training_step_has_the_same_norms(name: str) -> None:
    net, x, y = drawn()
    given, plain = LOSSES[name]
    with LastLinear(net) as last:
        norms = last.squared_gradient_norms(net(x), y, loss=given)
    expected = gradients(net, x, y, plain, own=True).square().sum((1, 2))
    assert norms.numpy() == pytest.approx(expected.numpy(), **EXACT)


def test_only_parameters_that_are_trained_count() -> None:
    net, x, y = drawn()
    each = gradients(net.requires_grad_(), x, y, of_one_sample)[:, -CLASSES:]
    net.last.weight.requires_grad_(False)
    head = sequence_head(net, [(x, y)])
    assert head.agn == pytest.approx(float(each.square().sum(1).mean()), **EXACT)
    with pytest.raises(Refusal, match="opposite_sign needs"):
        _ = head.opposite_sign


def test_a_well_fitted_sample_loses_no_digits() -> None:
    net, x, y = drawn()
    with torch.no_grad():
        net.last.weight.zero_()
        net.last.bias.copy_(torch.tensor([60.0, 0.0, 0.0]))
    head = sequence_head(net, [(x, y.where(y < 0, 0))])
    rest = float(torch.tensor(-60.0, dtype=torch.float64).exp())
    assert float(head.closed_forms.brier) == pytest.approx(6 * rest**2, rel=1e-9)


def test_the_loss_is_the_mean_over_a_sample_s_own_positions() -> None:
    """However many the others have: a batch is no sum over all positions."""
    net, x, y = drawn()
    expected = torch.cat([of_one_sample(net(x[i : i + 1]), y[i : i + 1]) for i in range(N)])
    assert torch.allclose(mean_cross_entropy(net(x), y), expected, rtol=1e-12)
    assert torch.allclose(trained_by(net(x), y), expected, rtol=1e-12)


def test_samples_without_a_label_are_left_out_and_what_is_not_finite_is_told() -> None:
    net, x, y = drawn()
    without = y.clone()
    without[3:7] = -100
    kept = [i for i in range(N) if not 3 <= i < 7]
    here, there = sequence_head(net, [(x, without)]), sequence_head(net, [(x[kept], y[kept])])
    assert here.agn == pytest.approx(there.agn, **EXACT) and here.loss == there.loss
    with torch.no_grad():
        net.last.bias[0] = -torch.inf
    assert torch.isnan(sequence_head(net, [(x, y)]).closed_forms.agn)
    with pytest.raises(FloatingPointError):
        _ = sequence_head(net, [(x, y)]).moments.osgr


def test_what_is_no_label_of_a_position_is_refused() -> None:
    net, x, y = drawn()
    with pytest.raises(Refusal, match=r"expected int64 \(N, T\) for logits \(N, T, C\)"):
        sequence_head(net, [(x, y[:, 0])])
    with pytest.raises(Refusal, match=r"label 3 is not in \[0, 3\)"):
        sequence_head(net, [(x, y.where(y < 2, 3))])
    with pytest.raises(ValueError, match="got no samples"):
        sequence_head(net, [(x, torch.full_like(y, -100))])
    with pytest.raises(Refusal, match="is not that of its last"):
        sequence_head(nn.Sequential(net, nn.Softmax(2)), [(x, y)])
    with pytest.raises(Refusal, match="expected two logits or more for each position"):
        sequence_head(drawn(classes=1)[0], [(x, y.where(y < 1, 0))])


def test_many_classes_take_less_memory_than_one_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made at a time by the loss, d and its products, beside the logits of the batch."""
    monkeypatch.setattr("hpogen.measures.uses.LIMIT", {"cpu": 2**14})
    made: list[Tensor] = []

    class Made(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            made.append(func(*args, **(kwargs or {})))
            return made[-1]

    net = Net(16, classes=400)
    x, y = torch.randint(VOCABULARY, (100, 10)), torch.randint(400, (100, 10))
    with torch.no_grad(), SequenceHeadCollector(net, moments=False) as collector:
        logits = net(x)  # 1.6 MB
        with Made():
            collector.add(logits, y)
    exact = [v for v in made if isinstance(v, Tensor) and v.dtype == torch.float64]
    assert exact and max(8 * v.numel() for v in exact) < 4 * logits.numel() / 4


def test_per_sample_norms_of_a_batch() -> None:
    net, x, y = drawn()
    norms = gradient_norms(net, x, y, Loss("own", squared))
    each = gradients(net, x, y, squared)
    assert norms.numpy() == pytest.approx(each.square().sum(1).numpy(), rel=1e-6)


def test_the_measures_of_weights_and_hidden_values_take_sequences_of_floats() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, CLASSES)).double()
    x, y = torch.randn(6, 7, 4).double(), torch.randint(CLASSES, (6, 7))
    first, last = (layer.weight.detach() for layer in (net[0], net[2]))
    expected = []
    for sample in x:
        gated = torch.autograd.functional.jacobian(net[2], net[1](net[0](sample)))
        assert gated.shape == (7, CLASSES, 7, 5)
        expected.append(gated.square().sum().sqrt())
    found = jacobian_norm(net, [(x, y)])
    assert found == pytest.approx(float(torch.stack(expected).detach().mean()), rel=1e-9)
    norms = [float(torch.linalg.svdvals(weight)[0]) for weight in (first, last)]
    assert spectral(net, [(x, y)]) == pytest.approx(2 * sum(map(math.log, norms)), rel=1e-9)
    count = sum(p.numel() for p in net.parameters())
    assert vc_dim(net, [(x, y)]) == pytest.approx(count * 2 * math.log2(count))
    hidden = first.square().sum(1) + net[0].bias.detach().square()
    paths = last.square() @ hidden + net[2].bias.detach().square()
    assert path_norm(net, [(x, y)]) == pytest.approx(math.sqrt(7 * float(paths.sum())), rel=1e-9)
