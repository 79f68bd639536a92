"""Which last layers have closed forms: numbers as autograd gives them sample by sample, or refused.

Each net goes through `head_statistics` and, in training mode, through `OnlineAgn`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from hpogen.errors import Refusal
from hpogen.measures import OnlineAgn, gradient_norms, head_statistics
from hpogen.measures.last_linear import LastLinear, require_last_linear

D, C, N = 6, 4, 9


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(N, 5, generator=generator), torch.arange(N) % C


class Net(nn.Module):
    """A body and a head, which is called as `call` says."""

    def __init__(self, head: nn.Module, call: Callable[[Any, Tensor], Tensor] | None = None):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(5, D), nn.Tanh())
        self.head = head
        self.call = call or (lambda net, h: net.head(h))

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, self.body(x))


def norms_one_by_one(net: nn.Module, head: nn.Module) -> list[float]:
    """‖∇ loss_i‖² in what is trained of the head, in float64."""
    x, y = samples()
    net = copy.deepcopy(net).double()
    parameters = [p for p in net.get_submodule("head").parameters() if p.requires_grad]
    norms = []
    for i in range(N):
        loss = functional.cross_entropy(net(x[i : i + 1].double()), y[i : i + 1])
        norms.append(sum(float(g.square().sum()) for g in torch.autograd.grad(loss, parameters)))
    return norms


class Inherits(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input)


class ByHand(nn.Linear):
    def forward(self, features: Tensor) -> Tensor:
        return features @ self.weight.T + self.bias


class InFloat32(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        z = functional.linear(input.float(), self.weight.float(), self.bias.float())
        return z.to(input.dtype)


class Scaled(nn.Linear):
    """A scale that is 1, in a buffer."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__(D, C)
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight * self.scale, self.bias)


def frozen(name: str) -> nn.Linear:
    layer = nn.Linear(D, C)
    getattr(layer, name).requires_grad_(False)
    return layer


def watched() -> nn.Linear:
    layer = nn.Linear(D, C)
    layer.register_forward_hook(lambda module, given, output: None)
    layer.register_forward_pre_hook(lambda module, given: (3 * given[0],))
    return layer


def lazy() -> nn.Module:
    layer = nn.LazyLinear(C)
    layer(torch.zeros(2, D))
    return layer


RIGHT: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: Net(nn.Linear(D, C)),
    "no bias": lambda: Net(nn.Linear(D, C, bias=False)),
    "by keyword": lambda: Net(nn.Linear(D, C), lambda net, h: net.head(input=h)),
    "weight frozen": lambda: Net(frozen("weight")),
    "bias frozen": lambda: Net(frozen("bias")),
    "inherits": lambda: Net(Inherits(D, C)),
    "by hand": lambda: Net(ByHand(D, C)),
    "by hand, by keyword": lambda: Net(ByHand(D, C), lambda net, h: net.head(features=h)),
    "in float32": lambda: Net(InFloat32(D, C)),
    "scaled by 1": lambda: Net(Scaled()),
    "watched": lambda: Net(watched()),
    "lazy that has run": lambda: Net(lazy()),
    "another behind it": lambda: Net(nn.Linear(D, C), beside),
}


def beside(net: Any, h: Tensor) -> Tensor:
    """Another layer looks at a detached h first; its output is not used."""
    net.body[0](h.new_zeros(1, 5))
    return net.head(h)


@pytest.mark.parametrize("name", RIGHT)
def test_right(name: str) -> None:
    net, (x, y) = RIGHT[name](), samples()
    expected = norms_one_by_one(net, net.head)
    assert head_statistics(net, [(x, y)]).agn == pytest.approx(sum(expected) / N, rel=1e-5)
    online = OnlineAgn(net)
    online.update(net(x), y)
    assert online.epoch_end() == pytest.approx(sum(expected) / N, rel=1e-5)


class Cosine(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 8 * functional.linear(functional.normalize(input), functional.normalize(self.weight))


class Lora(nn.Linear):
    def __init__(self, start: float) -> None:
        super().__init__(D, C)
        self.weight.requires_grad_(False)
        self.a, self.b = nn.Parameter(torch.randn(2, D)), nn.Parameter(torch.full((C, 2), start))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + input @ self.a.T @ self.b.T


class Detached(nn.Linear):
    """The right values, and no gradient of the weight."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight.detach(), self.bias)


class Centred(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input, self.weight - self.weight.mean(0), self.bias)


class Clamped(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).clamp(-50, 50)


class Tempered(nn.Linear):
    """Its default temperature is 1; the caller's is not."""

    def forward(self, input: Tensor, temperature: float = 1.0) -> Tensor:
        return super().forward(input) / temperature


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, C, dtype=torch.complex64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.to(torch.complex64))


def rebound() -> nn.Linear:
    """As tools do that patch a module: the instance has a forward of its own."""
    layer = nn.Linear(D, C)
    plain = layer.forward
    layer.forward = lambda input: 2 * plain(input)  # type: ignore[method-assign]
    return layer


def hooked() -> nn.Linear:
    layer = nn.Linear(D, C)
    layer.register_forward_hook(lambda module, given, output: 2 * output)
    return layer


def tied_modules() -> nn.Module:
    net = Net(nn.Linear(D, D, bias=False), lambda net, h: net.head(torch.tanh(net.other(h))))
    net.other = nn.Linear(D, D)
    net.other.weight = net.head.weight
    return net


def reused(net: Any, h: Tensor) -> Tensor:
    return net.head(torch.tanh(functional.linear(h @ net.head.weight.T, net.head.weight.T)))


def then_changed(net: Any, h: Tensor) -> Tensor:
    z = net.head(h)
    with torch.no_grad():
        h.mul_(2)
    return z


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "cosine": (lambda: Net(Cosine(D, C, bias=False)), "a Cosine, does not compute"),
    "LoRA": (lambda: Net(Lora(0.3)), "has another parameter, 'a'"),
    "LoRA at its start": (lambda: Net(Lora(0.0)), "has another parameter, 'a'"),
    "equalised": (lambda: Net(Scaled(0.7)), "does not compute"),
    "detached": (lambda: Net(Detached(D, C)), "does not compute"),
    "centred": (lambda: Net(Centred(D, C)), "does not compute"),
    "clamped": (lambda: Net(Clamped(D, C)), "does not compute"),
    "tempered": (
        lambda: Net(Tempered(D, C), lambda net, h: net.head(h, temperature=2.0)),
        "is not that of its last",
    ),
    "rebound": (lambda: Net(rebound()), "does not compute"),
    "hooked": (lambda: Net(hooked()), "is not that of its last"),
    "weight norm": (lambda: Net(parametrizations.weight_norm(nn.Linear(D, C))), "computed"),
    "spectral": (lambda: Net(parametrizations.spectral_norm(nn.Linear(D, C))), "computed"),
    "spectral of old": (lambda: Net(nn.utils.spectral_norm(nn.Linear(D, C))), "computed"),
    "pruned": (lambda: Net(prune.l1_unstructured(nn.Linear(D, C), "weight", 3)), "computed"),
    "tied": (tied_modules, "shares a parameter with the module 'other'"),
    "reused": (lambda: Net(nn.Linear(D, C), reused), "used at another place"),
    "complex": (Complex, "of type torch.complex64"),
    "features changed": (lambda: Net(nn.Linear(D, C), then_changed), "is not that of its last"),
    "out of sight": (
        lambda: Net(nn.Linear(D, C), lambda net, h: net.head.forward(h)),
        "is not that of its last",
    ),
    "a pair": (lambda: Net(nn.Linear(D, C), lambda net, h: (net.head(h), h)), "tuple"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    build, words = REFUSED[name]
    net, (x, y) = build(), samples()
    with pytest.raises(Refusal, match=words) as refusal:
        head_statistics(net, [(x, y)])
    assert type(net).__name__ in str(refusal.value)
    if name != "features changed":  # which autograd refuses, too
        online, logits = OnlineAgn(net), net(x)
        with pytest.raises(Refusal):
            online.update(logits, y)


@pytest.mark.parametrize("name", [name for name in RIGHT if name != "scaled by 1"])
def test_a_load_on_the_meta_device_accepts(name: str) -> None:
    net = RIGHT[name]().to("meta")  # which takes less time than its start there
    with torch.device("meta"):
        require_last_linear(net, torch.empty(2, 5))


@pytest.mark.parametrize("name", [n for n in REFUSED if n not in ("equalised", "pruned", "tied")])
def test_a_load_on_the_meta_device_refuses(name: str) -> None:
    net = REFUSED[name][0]().to("meta")
    with torch.device("meta"), pytest.raises(Refusal):
        require_last_linear(net, torch.empty(2, 5))


class Dropping(nn.Linear):
    """DropConnect: plain in evaluation only."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(
            input, functional.dropout(self.weight, 0.5, self.training), self.bias
        )


def test_a_layer_that_is_plain_in_evaluation_only() -> None:
    net, (x, y) = Net(Dropping(D, C)).eval(), samples()
    expected = norms_one_by_one(net, net.head)
    assert head_statistics(net.train(), [(x, y)]).agn == pytest.approx(sum(expected) / N, rel=1e-5)
    random = torch.get_rng_state()
    require_last_linear(net.eval(), x)
    assert torch.equal(torch.get_rng_state(), random)
    online = OnlineAgn(net.train())
    with pytest.raises(Refusal, match="does not compute"):
        online.update(net(x), y)


def test_a_frozen_layer_has_no_gradients_and_still_margins() -> None:
    net, (x, y) = Net(nn.Linear(D, C)), samples()
    margins = head_statistics(net, [(x, y)]).margins
    net.head.requires_grad_(False)
    head = head_statistics(net, [(x, y)])
    assert head.margins == pytest.approx(margins, rel=1e-6)
    assert head.brier > 0
    for name in ("agn", "agn_relative", "tic", "trace_hessian", "gsnr", "osgr", "same_sign"):
        with pytest.raises(Refusal, match="no parameter of the last"):
            getattr(head, name)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_one_definition_of_what_counts(name: str) -> None:
    """With the body frozen, too, the last layer is all that `gradient_norms` counts."""
    net, (x, y) = Net(frozen(name)), samples()
    net.body.requires_grad_(False)
    head = head_statistics(net, [(x, y)])
    assert head.agn == pytest.approx(float(gradient_norms(net, x, y).mean()), rel=1e-6)
    shape = (C, D) if name == "bias" else (C, 1)
    assert head.moments.first.shape == shape
    margins = head.margins
    net.head.requires_grad_(True)
    assert margins == pytest.approx(head_statistics(net, [(x, y)]).margins, rel=1e-6)
    if name == "weight":
        with pytest.raises(Refusal, match="weight to be trained"):
            _ = head.opposite_sign


def test_wrapped_in_data_parallel() -> None:
    net, (x, y) = Net(nn.Linear(D, C)), samples()
    expected = sum(norms_one_by_one(net, net.head)) / N
    wrapped = nn.DataParallel(net)
    assert head_statistics(wrapped, [(x, y)]).agn == pytest.approx(expected, rel=1e-5)
    online = OnlineAgn(wrapped)
    online.update(wrapped(x), y)
    assert online.epoch_end() == pytest.approx(expected, rel=1e-5)


def test_torchscript_is_refused_in_words() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is on its way out
        scripted = torch.jit.script(nn.Sequential(nn.Linear(5, C)))
    with pytest.raises(Refusal, match="TorchScript"):
        head_statistics(scripted, [samples()])


def test_in_inference_mode() -> None:
    net, (x, y) = Net(nn.Linear(D, C)), samples()
    expected = head_statistics(net, [(x, y)]).agn
    other = Net(nn.Linear(D, C), lambda net, h: net.head(h).mul_(2))
    with torch.inference_mode():
        assert head_statistics(net, [(x * 1, y)]).agn == expected
        with pytest.raises(Refusal):
            head_statistics(other, [(x, y)])


def test_a_model_for_batches_of_one_size() -> None:
    net, (x, y) = Net(nn.Linear(D, C), lambda net, h: net.head(h.view(N, D))), samples()
    assert head_statistics(net, [(x, y)]).agn == head_statistics(Net(net.head), [(x, y)]).agn
    with pytest.raises(Refusal, match="used at another place"):
        head_statistics(Net(nn.Linear(D, C), lambda net, h: reused(net, h.view(N, D))), [(x, y)])


@pytest.mark.slow  # torch.compile takes seconds
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of its own look at tensors
def test_compiled() -> None:
    net, (x, y) = Net(nn.Linear(D, C)), samples()
    expected = sum(norms_one_by_one(net, net.head)) / N
    compiled = torch.compile(net, backend="aot_eager")
    online = OnlineAgn(compiled)
    for epoch in (1, 2):
        online.update(compiled(x), y)
        assert online.epoch_end() == pytest.approx(epoch * expected, rel=1e-5)
    assert head_statistics(compiled, [(x, y)]).agn == pytest.approx(expected, rel=1e-5)
    compiled = torch.compile(nn.Sequential(nn.Linear(5, C)), backend="aot_eager")
    compiled(x)
    late = OnlineAgn(compiled)
    with pytest.raises(Refusal, match="compiled before"):
        late.update(compiled(x), y)


def test_of_a_forward_only_the_last_layer_is_kept() -> None:
    layers = [layer for _ in range(12) for layer in (nn.Linear(5, 5), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Linear(5, C))
    made: list[StorageWeakRef] = []
    for layer in net:
        layer.register_forward_hook(
            lambda module, given, z: made.append(StorageWeakRef(z.untyped_storage()))
        )
    with torch.no_grad(), LastLinear(net):
        logits = net(samples()[0])
        alive = [not reference.expired() for reference in made]
    assert alive == [False] * 23 + [True] * 2  # h and the logits
    assert logits.shape == (N, C)
