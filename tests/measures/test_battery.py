"""Networks put together from parts, through every measure of per-sample gradients.

Each is compared with autograd of one sample at a time, in float64: the number is right, or refused
by name. What is right must not be refused, either, where a part does not say that it may be.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from network_parts import CLASSES, PARTS, WIDTH, Block, N
from torch import Tensor, nn
from torch.nn import functional

from hpogen.errors import Refusal
from hpogen.measures import OnlineAgn, gradient_norms, head_statistics
from hpogen.measures.moments import Moments
from hpogen.measures.network_moments import gsnr, osgr

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")
EXACT = 1e-6
Loss = Callable[..., Tensor]


class Net(nn.Module):
    """One block in its surroundings, and a last layer; over sequences if there are any."""

    def __init__(self, name: str, around: str) -> None:
        super().__init__()
        self.around = around
        self.shared = nn.Linear(WIDTH, WIDTH)
        self.block = Block(name)
        self.last = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if self.around == "nothing":
            h = self.block(x)
        elif self.around == "a layer":
            h = self.block(self.shared(x).tanh())
        else:  # one layer before and behind, and a way around the block
            h = self.shared(x).tanh()
            h = self.shared(h + self.block(h)).tanh()
        return self.last(h)


def build(name: str, around: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(len(name))
    net = Net(name, around)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm1d) and part.running_mean is not None:
            nn.init.uniform_(part.running_mean, -1, 1)
            nn.init.uniform_(part.running_var, 0.5, 2)
    for p in net.parameters():  # complex ones stay complex
        p.data = p.data.to(torch.promote_types(p.dtype, dtype) if p.is_complex() else dtype)
    for b in net.buffers():
        b.data = b.data.to(dtype) if b.is_floating_point() else b.data
    return net.eval()


def vectors(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N, WIDTH, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randint(0, CLASSES, (N,), generator=generator)


def alone(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """(N, P) float64: the gradient of each sample's loss, in a batch of its own."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for i in range(len(x)):
        total = loss(model(x[i : i + 1]), y[i : i + 1], reduction="sum")
        gradients = torch.autograd.grad(total, parameters, materialize_grads=True)
        real = [torch.view_as_real(g) if g.is_complex() else g for g in gradients]
        rows.append(torch.cat([g.flatten() for g in real]).double())
    return torch.stack(rows)


def of_the_last_layer(model: nn.Module, last: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(N, P) float64: the gradient of each sample's loss by the last layer, among the others."""
    parameters = [p for p in last.parameters() if p.requires_grad]
    losses = functional.cross_entropy(model(x), y, reduction="none")
    rows = [torch.autograd.grad(one, parameters, retain_graph=True) for one in losses]
    return torch.stack([torch.cat([g.flatten() for g in row]).double() for row in rows])


def moments_of(g: Tensor) -> Moments:
    sign = g.sign()
    return Moments(g.sum(0), g.square().sum(0), sign.sum(0), sign.abs().sum(0), len(g))


def given(model: nn.Module, measure: Callable[[], Any]) -> Any:
    """What a measure gives; None where it refuses, in a line that names the model or the loss."""
    try:
        return measure()
    except Refusal as refusal:
        names = {type(module).__name__ for module in model.modules()} | {"the loss"}
        assert any(name in str(refusal) for name in names) and "\n" not in str(refusal)
        return None


def same(value: object, expected: object, error: float = EXACT) -> bool:
    torch.testing.assert_close(
        torch.as_tensor(value, dtype=torch.float64).detach(),
        torch.as_tensor(expected, dtype=torch.float64).detach(),
        rtol=error,
        atol=error * float(torch.as_tensor(expected).abs().max()) * 1e-3,
    )
    return True


def check_network(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: Loss = functional.cross_entropy,
    twin: nn.Module | None = None,
) -> bool:
    """Whether the measures of the whole network gave numbers, which are right then.

    The twin, the same model in plain words, says what is right.
    """
    norms = given(model, lambda: gradient_norms(model, x, y, loss))
    again = given(model, lambda: gradient_norms(model, x, y, loss))  # without the check
    numbers = given(model, lambda: gsnr(model, [(x, y)]))
    ratio = given(model, lambda: osgr(model, [(x, y)]))
    if loss is functional.cross_entropy:
        assert (numbers is None) == (ratio is None) == (norms is None)
    if norms is None:
        assert again is None
        return False
    g = alone(twin or model, x, y, loss)
    assert same(norms, g.square().sum(1)) and same(again, norms)
    if loss is functional.cross_entropy:
        expected = moments_of(g[:, (g != 0).any(0)])
        assert same(numbers["gsnr_ratio"], expected.gsnr_ratio)
        assert same(numbers["gsnr"], expected.gsnr)
        assert same(numbers["gsnr_median"], expected.gsnr_median)
        assert same(ratio, expected.osgr)
    return True


def check_head(model: nn.Module, last: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether those of the last layer gave numbers, which are right then."""
    g = of_the_last_layer(model, last, x, y)
    head = given(model, lambda: head_statistics(model, [(x, y)]))
    online = given(model, lambda: _online(model, x, y))
    if head is not None:
        expected = moments_of(g)
        assert same(head.agn, g.square().sum(1).mean())
        assert same(head.gsnr, expected.gsnr) and same(head.osgr, expected.osgr)
    if online is not None:
        assert same(online, g.square().sum(1).mean())
    return head is not None and online is not None


def _online(model: nn.Module, x: Tensor, y: Tensor) -> float:
    online = OnlineAgn(model)
    try:
        online.update(model(x), y)
        return online.epoch_end()
    finally:
        online.close()


AROUND = ("nothing", "a layer", "one layer twice")


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", PARTS)
def test_a_part_in_its_surroundings(name: str, around: str) -> None:
    model, (x, y) = build(name, around), vectors()
    part = PARTS[name]
    right = check_network(model, x, y)
    assert not (part.mixes and right)
    assert right or part.mixes or part.odd, "refused, though there is such a gradient"
    if name != "noisy":
        assert check_head(model, model.last, x, y)


IN_COMPILING = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
WRAPPED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "a list of one": nn.Sequential,
    "DataParallel": nn.DataParallel,
    "compiled": partial(torch.compile, backend="eager"),
    "a list of one, compiled": lambda net: torch.compile(nn.Sequential(net), backend="eager"),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("name", ["sorted", "centred", "scalar"])
@IN_COMPILING
def test_a_wrapped_network(name: str, wrapped: str) -> None:
    net, (x, y) = build(name, "one layer twice"), vectors()
    model = WRAPPED[wrapped](net)
    assert check_network(model, x, y, twin=net) == (name != "centred")
    check_head(model, net.last, x, y)  # right, or refused


@IN_COMPILING
def test_a_part_that_is_compiled() -> None:
    net, (x, y) = build("sorted", "one layer twice"), vectors()
    twin = copy.deepcopy(net)
    net.block.compile(backend="eager")
    assert check_network(net, x, y, twin=twin)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["plain", "twice", "batch norm", "sorted", "bags", "scale"])
def test_low_precision_adds_no_error_of_its_own(name: str, dtype: torch.dtype) -> None:
    """Beside float64, that of one sample at a time in the same precision is the measure."""
    model, (x, y) = build(name, "one layer twice", dtype), vectors(dtype)
    exact = alone(copy.deepcopy(model).double(), x.double(), y, functional.cross_entropy)
    plain = alone(model, x, y, functional.cross_entropy)
    truth, norms = exact.square().sum(1), gradient_norms(model, x, y)
    error = ((norms - truth) / truth).abs().max()
    assert error <= 1e-6 + 4 * ((plain.square().sum(1) - truth) / truth).abs().max()


class Sequences(nn.Module):
    """Tokens, N of them in each of N sequences, and a class for each: (N, CLASSES, N)."""

    def __init__(self, name: str, time_first: bool) -> None:
        super().__init__()
        self.time_first = time_first
        self.embedding = nn.Embedding(9, WIDTH, padding_idx=0)
        self.place = nn.Embedding(N, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.block = Block(name)
        self.last = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding(x) + self.place(torch.arange(x.shape[1], device=x.device))
        if self.time_first:
            h = h.transpose(0, 1)
        h = self.norm(self.block(h))
        return self.last(h).movedim(-1, 1) if not self.time_first else self.last(h).permute(1, 2, 0)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize(
    "name", ["plain", "twice", "scale", "scalar", "low rank", "checkpoint", "frozen layer"]
)
def test_sequences_with_labels_to_ignore(name: str, time_first: bool, ignored: bool) -> None:
    torch.manual_seed(3)
    model = Sequences(name, time_first).double().eval()
    x, y = torch.randint(0, 9, (N, N)), torch.randint(0, CLASSES, (N, N))
    if ignored:
        y[torch.rand(N, N) < 0.3] = -100
    assert check_network(model, x, y) or name == "checkpoint"  # which torch.func does not take
    assert given(model, lambda: head_statistics(model, [(x, y)])) is None


class Fixed(Net):
    """It takes batches of N only, or one sample, too."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__("plain", "one layer twice")
        self.sizes = sizes

    def forward(self, x: Tensor) -> Tensor:
        if len(x) not in self.sizes:
            raise ValueError(f"got {len(x)} samples")
        return super().forward(x)


@pytest.mark.parametrize("sizes", [(N,), (N, 1)])
def test_a_model_that_takes_some_sizes_only(sizes: tuple[int, ...]) -> None:
    model, (x, y) = Fixed(sizes).double(), vectors()
    assert check_network(model, x, y) == (1 in sizes)


@pytest.mark.parametrize("name", ["plain", "sorted twice", "bags", "places first", "prototypes"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_batches_of_any_size(name: str, count: int) -> None:
    x, y = vectors()
    assert check_network(build(name, "one layer twice"), x[:count], y[:count])


@pytest.mark.parametrize("name", ["centred", "over its maximum", "attention", "neighbours"])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_small_batches_are_mixed_as_well(name: str, count: int) -> None:
    x, y = vectors()
    assert not check_network(build(name, "one layer twice"), x[:count], y[:count])


@pytest.mark.parametrize("name", ["flipped", "sorted", "rolled", "centred", "nearly sorted"])
def test_samples_that_are_all_the_same_settle_nothing(name: str) -> None:
    model, (x, y) = build(name, "one layer twice"), vectors()
    check_network(model, x[:1].expand(N, -1), y[:1].expand(N))
    assert check_network(model, x, y) != PARTS[name].mixes


def test_one_sample_that_differs() -> None:
    model, (x, y) = build("nearly sorted", "one layer twice"), vectors()
    x[1:] = x[1]
    assert check_network(model, x, y)


def test_a_gradient_of_nothing_settles_nothing() -> None:
    model, (x, y) = build("flipped", "a layer"), vectors()
    weight = model.last.weight.detach().clone()
    with torch.no_grad():
        model.last.weight.zero_()  # no gradient reaches what is before it
    assert check_network(model, x, y)
    with torch.no_grad():
        model.last.weight.copy_(weight)
    assert check_network(model, x, y)


def focal(outputs: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
    losses = functional.cross_entropy(outputs, y, reduction="none")
    losses = (1 - (-losses).exp()) ** 2 * losses
    return losses.sum() if reduction == "sum" else losses.mean()


def contrastive(outputs: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
    unit = functional.normalize(outputs)
    return functional.cross_entropy(5 * unit @ unit.T, torch.arange(len(y)), reduction=reduction)


def deaf(outputs: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
    return functional.cross_entropy(outputs, y)


def flooded(outputs: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
    return (functional.cross_entropy(outputs, y, reduction="sum") - 3).abs()


@pytest.mark.parametrize("name", ["plain", "sorted", "scale"])
@pytest.mark.parametrize(
    ("loss", "separate"),
    [
        (focal, True),
        (partial(functional.cross_entropy, label_smoothing=0.2), True),
        (contrastive, False),
        (deaf, False),
        (flooded, False),
    ],
)
def test_losses_of_ones_own(name: str, loss: Loss, separate: bool) -> None:
    model, (x, y) = build(name, "a layer"), vectors()
    assert check_network(model, x, y, loss) == separate


def test_another_loss_with_the_same_functions_is_checked_anew() -> None:
    model, (x, y) = build("plain", "a layer"), vectors()
    assert check_network(
        model, x, y, lambda o, y, reduction: functional.cross_entropy(o, y, reduction=reduction)
    )
    assert not check_network(model, x, y, lambda o, y, **how: functional.cross_entropy(o, y))


def test_a_loss_that_runs_a_layer() -> None:
    class Trunk(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.block(self.shared(x))

    torch.manual_seed(0)
    model, (x, y) = Trunk("plain", "a layer").double(), vectors()

    def loss(outputs: Tensor, y: Tensor, reduction: str) -> Tensor:
        return functional.cross_entropy(model.last(outputs), y, reduction=reduction)

    assert check_network(model, x, y, loss)


def test_another_path_through_the_model_is_checked_anew() -> None:
    class Switched(Net):
        mixing = False

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x - x.mean(0) if self.mixing else x)

    torch.manual_seed(0)
    model, (x, y) = Switched("plain", "a layer").double(), vectors()
    assert check_network(model, x, y)
    model.mixing = True
    assert not check_network(model, x, y)
