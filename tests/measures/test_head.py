"""AGN and its pass against per-sample autograd in float64, and what the pass leaves behind."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hpogen.errors import Refusal
from hpogen.measures import head_statistics
from hpogen.measures.last_linear import smoothed, squared_gradient_norms

N, CLASSES = 37, 5


def net(bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 6 * 6, 16),
        nn.Dropout(0.5),
        nn.Tanh(),
        nn.Linear(16, CLASSES, bias=bias),
    )


def samples(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N, 2, 6, 6, generator=generator)
    return x.to(dtype), torch.randint(0, CLASSES, (N,), generator=generator)


def per_sample_norms(model: nn.Module, x: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
    """The brute-force twin: one backward per sample through the last layer, in float64."""
    twin = copy.deepcopy(model).double().eval()
    last = [module for module in twin.modules() if isinstance(module, nn.Linear)][-1]
    norms = []
    for i in range(len(x)):
        twin.zero_grad()
        logits = twin(x[i : i + 1].double())
        functional.cross_entropy(logits, y[i : i + 1], label_smoothing=smoothing).backward()
        norms.append(sum(p.grad.square().sum() for p in last.parameters() if p.grad is not None))
    return torch.stack([torch.as_tensor(norm) for norm in norms])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_agn_is_the_mean_of_per_sample_squared_gradient_norms(
    bias: bool, dtype: torch.dtype, error: float
) -> None:
    model = net(bias).to(dtype)
    x, y = samples(dtype)
    expected = float(per_sample_norms(model, x, y).mean())
    assert head_statistics(model, [(x, y)]).agn == pytest.approx(expected, rel=error)


def test_a_well_fitted_sample_does_not_cancel() -> None:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[10.0, 0, 0], [-10.0, 0, 0]]))  # 1 − p_y = 2e-9
    x, y = torch.tensor([[1.0, 0, 0]]), torch.tensor([0])
    expected = float(per_sample_norms(model, x, y))
    assert head_statistics(model, [(x, y)]).agn == pytest.approx(expected, rel=1e-5, abs=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_norms_with_label_smoothing(smoothing: float) -> None:
    model = net().double().eval()
    x, y = samples(torch.float64)
    features, logits = model[:-1](x), model(x)
    targets = smoothed(y, CLASSES, smoothing)
    norms = squared_gradient_norms(features, logits, targets, bias=True)
    torch.testing.assert_close(
        norms.detach(), per_sample_norms(model, x, y, smoothing), rtol=1e-12, atol=0
    )


def test_loss_accuracy_and_count() -> None:
    model, (x, y) = net(), samples()
    head = head_statistics(model, [(x[:20], y[:20]), (x[20:], y[20:])])
    logits = model.eval()(x).detach()
    assert head.count == N
    assert head.loss == pytest.approx(float(functional.cross_entropy(logits, y)), rel=1e-6)
    assert head.accuracy == float((logits.argmax(1) == y).double().mean())
    assert head.features.shape == (N, 16)
    assert head.logits.shape == (N, CLASSES)
    assert head.agn == pytest.approx(head_statistics(model, [(x, y)]).agn, rel=1e-6)


def test_low_precision_is_raised_to_float32() -> None:
    model, (x, y) = net().bfloat16(), samples(torch.bfloat16)
    head = head_statistics(model, [(x, y)])
    assert head.features.dtype == head.logits.dtype == head.weight.dtype == torch.float32


def test_everything_is_left_as_it_was() -> None:
    model, (x, y) = net(), samples()
    model[1].eval()  # a frozen BatchNorm in a model that is being trained
    functional.cross_entropy(model(x), y).backward()
    before = copy.deepcopy(model.state_dict())
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    data = torch.utils.data.TensorDataset(x, y)
    head_statistics(model, torch.utils.data.DataLoader(data, batch_size=8, shuffle=True))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, p in model.named_parameters():
        assert torch.equal(p.grad, gradients[name]), name
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks for module in model.modules())


class Odd(nn.Module):
    """A model whose output is not simply that of its last Linear."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.last = nn.Linear(72, CLASSES), nn.Linear(CLASSES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x.flatten(1))
        z = self.last(h)
        if self.kind == "activated":
            return z.log_softmax(1)
        if self.kind == "scaled in place":
            return z.mul_(2)
        if self.kind == "used twice":
            return self.last(z)
        return functional.conv1d(x.flatten(1)[:, None], torch.ones(1, 1, 68))[:, 0]


@pytest.mark.parametrize("kind", ["activated", "scaled in place", "used twice", "convolution"])
def test_a_model_whose_output_is_not_its_last_linear_is_refused(kind: str) -> None:
    with pytest.raises(Refusal, match="Odd"):
        head_statistics(Odd(kind), [samples()])


def test_a_model_without_linear_is_refused() -> None:
    with pytest.raises(Refusal, match=r"Sequential has no nn\.Linear"):
        head_statistics(nn.Sequential(nn.Flatten()), [samples()])


@pytest.mark.parametrize("batches", [[], [(torch.zeros(0, 2, 6, 6), torch.zeros(0).long())]])
def test_empty_batches_are_an_error(batches: list[tuple[Tensor, Tensor]]) -> None:
    with pytest.raises(ValueError, match="no samples"):
        head_statistics(net(), batches)


def test_a_confident_mistake_is_finite() -> None:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[500.0, 0, 0], [-500.0, 0, 0]]))
    head = head_statistics(model, [(torch.tensor([[1.0, 0, 0]]), torch.tensor([1]))])
    assert head.loss == pytest.approx(1000, rel=1e-3)
    assert head.agn == pytest.approx(2 * 2)  # ‖p − q‖² = 2, ‖h‖² + 1 = 2
    assert math.isfinite(head.agn)
