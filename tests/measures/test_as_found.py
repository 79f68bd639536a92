"""Every measure leaves the network as it found it, whatever the network's own code does."""

from __future__ import annotations

import contextlib
import copy
import functools
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from hpogen.errors import Refusal
from hpogen.measures import ablation_curves, gradient_norms, head_statistics
from hpogen.measures.complexity import (
    distance_init,
    param_norm,
    parameters,
    path_norm,
    vc_dim,
)
from hpogen.measures.cost import latency, macs
from hpogen.measures.jacobian import jacobian_norm
from hpogen.measures.network import gn
from hpogen.measures.network_margins import margin_input, margin_layers
from hpogen.measures.network_moments import gsnr, osgr, same_sign
from hpogen.measures.sharpness import sharpness, sharpness_pacbayes
from hpogen.measures.spectral import spectral
from hpogen.measures.uses import LIMIT

Batches = list[tuple[Tensor, Tensor]]
N, CLASSES = 6, 3


def norms(model: nn.Module, batches: Batches) -> None:
    for x, y in batches:
        gradient_norms(model, x, y)


MEASURES: dict[str, Callable[[nn.Module, Batches], Any]] = {
    "gradient_norms": norms,
    "head_statistics": lambda model, batches: head_statistics(model, batches).gsnr,
    "ablation_curves": functools.partial(ablation_curves, layer="body"),
    **{f.__name__: f for f in (gn, gsnr, osgr, same_sign, sharpness, sharpness_pacbayes)},
    **{f.__name__: f for f in (jacobian_norm, margin_input, margin_layers, spectral, path_norm)},
    **{f.__name__: f for f in (vc_dim, macs, latency)},
    "param_norm": param_norm,
    "parameters": parameters,
    "distance_init": lambda model, batches: distance_init(model, batches, model),
}


FORWARDS = [name for name in MEASURES if name not in ("param_norm", "distance_init", "parameters")]


class Net(nn.Module):
    """A base of nets that do something to themselves in every forward."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.relu, self.last = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.relu(self.body(x)))


class Merging(nn.Linear):
    """A low-rank layer that merges its weights in `eval()`, as loralib's do."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.a, self.b = (nn.Parameter(torch.randn(*s)) for s in ((2, inputs), (outputs, 2)))
        self.weight.requires_grad_(False)
        self.state = {"merged": False}

    def train(self, mode: bool = True) -> Merging:
        super().train(mode)
        if mode == self.state["merged"]:
            self.weight.data += (-1 if mode else 1) * self.b @ self.a
            self.state["merged"] = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        plain = functional.linear(x, self.weight, self.bias)
        return plain if self.state["merged"] else plain + x @ self.a.T @ self.b.T


class Merged(Net):
    def __init__(self) -> None:
        super().__init__()
        self.body = Merging(6, 8)


class Counting(Net):
    """Buffers that are replaced, written to, not persistent; attributes of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))  # by no known function: the slow way
        self.register_buffer("replaced", torch.zeros(()))
        self.register_buffer("written", torch.zeros(8), persistent=False)
        self.plain, self.calls, self.seen = torch.zeros(2), 0, [torch.zeros(1)]
        self.cache: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.body(x)) * self.scale
        self.replaced = self.replaced + h.sum()
        self.written = self.written.clone() + 1
        self.calls += 1
        h = h * (1 + self.calls / 8)  # what was found there matters
        self.seen.append(h)
        self.cache["h"] = h
        self.late = h
        return self.last(h)


class Writing(Net):
    """Changes its weights: in place, at their memory, by a new memory, by a new parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.more = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.count += 1
            self.body.weight.clamp_(-0.1, 0.1)
            self.more[0].weight.data.mul_(0.5)
            self.more[1].weight.data = functional.normalize(self.more[1].weight.data)
            self.more[1].bias.detach().numpy()[:] = 0
            self.more[2].weight.requires_grad_(False)
        h = self.relu(self.body(x))
        for layer in self.more:
            h = self.relu(layer(h))
        return self.last(h)


class Growing(Net):
    """Adds a module when it first runs, and takes it from another place."""

    def forward(self, x: Tensor) -> Tensor:
        self.added = nn.Identity()
        self.relu = nn.ReLU()
        return super().forward(self.added(x))


class Stubborn(Net):
    """Its BatchNorm is always in training mode; its Dropout never is."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)
        self.train()

    def train(self, mode: bool = True) -> Stubborn:
        super().train(mode)
        self.norm.train()
        self.drop.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.relu(self.drop(self.norm(self.body(x)))))


class Noisy(Net):
    def forward(self, x: Tensor) -> Tensor:
        noise = random.random() + np.random.rand() + torch.rand(())
        return super().forward(x + 1e-3 * float(noise))


class Words(Net):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(11, 6, max_norm=0.5)
        self.words = nn.Embedding(11, 6, max_norm=0.5)
        self.free = nn.Parameter(torch.randn(11, 6))

    def forward(self, x: Tensor) -> Tensor:
        words = (x.abs() * 3).long().clamp(max=10)
        h = self.bag(words) + self.words(words).mean(1)
        return super().forward(x + h + functional.embedding(words, self.free, max_norm=0.3).mean(1))


def normed() -> nn.Module:
    net = Net()
    net.body, net.last = spectral_norm(net.body), weight_norm(net.last)
    return net


def hooked() -> nn.Module:
    """Torch's own modules, and code in their hooks."""

    def clip(module: nn.Module, _: Any) -> None:
        module.body.weight_orig.data.clamp_(-0.1, 0.1)

    layers = {"body": nn.Linear(6, 8), "relu": nn.ReLU(), "last": nn.Linear(8, CLASSES)}
    net = nn.Sequential(OrderedDict(layers))
    old_spectral_norm(net.body)
    net.register_forward_pre_hook(clip)
    return net


class Plain(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.relu(self.norm(self.body(x)))))


NETS: dict[str, Callable[[], nn.Module]] = {
    **{kind.__name__: kind for kind in (Plain, Merged, Counting, Writing, Growing, Stubborn)},
    **{kind.__name__: kind for kind in (Noisy, Words)},
    "normed": normed,
    "hooked": hooked,
}
MODES: dict[str, Callable[[nn.Module], object]] = {
    "a part frozen": lambda net: net.train() and net.body.eval(),
    "a part training": lambda net: net.eval() and net.body.train(),
}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpogen.measures.sharpness.DRAWS", 1)
    monkeypatch.setattr("hpogen.measures.sharpness.STEPS", 2)


def held(net: nn.Module) -> Iterator[tuple[str, Any, Any]]:
    """Everything that the modules have: its name, itself, and a copy of what is in it."""
    for name, module in net.named_modules():
        for key, value in vars(module).items():
            parts = value.items() if isinstance(value, dict) else [("", value)]
            if isinstance(value, list):
                parts = list(enumerate(value))
            for part, one in parts:
                content = copy.deepcopy(one.detach()) if isinstance(one, Tensor) else one
                yield f"{name} {key} {part}", one, content
    for name, p in net.named_parameters():
        gradient = None if p.grad is None else p.grad.clone()
        yield f"{name} memory", (p.data_ptr(), p.requires_grad, p._version >= 0), gradient
        yield f"{name} gradient", p.grad, gradient


def assert_same(net: nn.Module, before: list[tuple[str, Any, Any]]) -> None:
    after = list(held(net))
    assert [name for name, _, _ in after] == [name for name, _, _ in before]
    for (name, one, content), (_, was, contained) in zip(after, before, strict=True):
        if isinstance(was, Tensor):
            assert one is was, name
            assert torch.equal(content, contained), name
        else:
            assert one == was, name


def states() -> tuple[Any, ...]:
    array = np.random.get_state()
    flags = (torch.is_grad_enabled(), torch.is_autocast_cache_enabled(), torch.get_default_dtype())
    flags += (torch.is_autocast_enabled("cpu"), torch.are_deterministic_algorithms_enabled())
    return (random.getstate(), array[1].tolist(), array[2:], torch.get_rng_state().tolist(), flags)


def samples() -> Batches:
    torch.manual_seed(1)
    return [(torch.randn(N, 6), torch.arange(N) % CLASSES) for _ in range(2)]


def found(name: str, mode: str) -> nn.Module:
    torch.manual_seed(0)
    net = NETS[name]()
    MODES[mode](net)
    for number, p in enumerate(net.parameters()):
        p.grad = torch.full_like(p, number) if number % 2 else None
    return net


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NETS)
def test_a_network_is_left_as_it_was(name: str, mode: str) -> None:
    batches = samples()
    for measure in MEASURES.values():
        net = found(name, mode)
        before, outside = list(held(net)), states()
        for _ in range(2):
            with contextlib.suppress(Refusal, FloatingPointError, RuntimeError, ValueError):
                measure(net, batches)  # or not: a net of these may be nothing to measure
            assert_same(net, before)
            assert states() == outside
        copy.deepcopy(net.state_dict())


def test_a_layer_that_merges_goes_on_training() -> None:
    ((x, y), _), net = samples(), found("Merged", "a part frozen").train()
    net.zero_grad()
    head_statistics(net, [(x, y)])
    functional.cross_entropy(net(x), y).backward()
    assert net.body.a.grad is not None and not net.body.state["merged"]


def test_modes_of_modules_that_two_others_hold() -> None:
    shared = nn.Linear(6, 6)
    left, right = nn.Sequential(shared), nn.Sequential(shared)
    net = nn.Sequential(left, right, nn.Linear(6, CLASSES))
    net.train()
    right.eval()
    shared.train()
    modes = [module.training for module in net.modules()]
    head_statistics(net, samples())
    assert [module.training for module in net.modules()] == modes


class Failing(Counting):
    def forward(self, x: Tensor) -> Tensor:
        super().forward(x)
        self.body.weight.data.zero_()
        random.random(), np.random.rand(), torch.rand(())
        raise OSError("the disk is gone")


@pytest.mark.parametrize("measure", FORWARDS)
def test_an_exception_in_a_forward_changes_nothing(measure: str) -> None:
    net, batches = Failing().train(), samples()
    before, outside = list(held(net)), states()
    with pytest.raises(OSError, match="disk"):
        MEASURES[measure](net, batches)
    assert_same(net, before)
    assert states() == outside


@pytest.mark.parametrize("measure", MEASURES)
def test_lazy_modules_are_refused_before_they_change(measure: str) -> None:
    net = Net()
    net.body = nn.LazyLinear(8)
    with pytest.raises(Refusal, match=r"Net has no weights yet in its module 'body', a LazyLinear"):
        MEASURES[measure](net, samples())
    assert net.body.has_uninitialized_params()


def test_every_chunk_of_the_slow_way_begins_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    ((x, y), _), net = samples(), Counting()
    expected = gradient_norms(net, x, y)
    monkeypatch.setitem(LIMIT, "cpu", 1)
    torch.testing.assert_close(gradient_norms(net, x, y), expected)


def test_a_loader_that_draws_is_left_as_it_was() -> None:
    class Drawing(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
        def __len__(self) -> int:
            return N

        def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
            draw = random.random() + np.random.rand()
            return torch.randn(6) * draw, torch.tensor(i % CLASSES)

    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    loader = torch.utils.data.DataLoader(Drawing(), batch_size=4, shuffle=True)
    for name, measure in MEASURES.items():
        if name not in ("gradient_norms", "ablation_curves"):
            before = states()
            measure(net, loader)
            assert states() == before, name
    before = states()
    ablation_curves(net, loader, layer="1")
    assert states() == before


class Output(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.body, self.last = kind, nn.Linear(6, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Any:
        z = self.last(self.body(x).relu())
        kinds = {"tuple": (z, x), "list": [z], "dict": {"out": z, "loss": x}, "none": None}
        return kinds[self.kind]


@pytest.mark.parametrize("kind", ["tuple", "list", "dict", "none"])
@pytest.mark.parametrize("measure", [m for m in FORWARDS if m not in ("macs", "latency")])
def test_outputs_that_are_no_tensor_are_refused(measure: str, kind: str) -> None:
    with pytest.raises(Refusal, match=r"Output gives a .*expected a tensor of logits .*: pass"):
        MEASURES[measure](Output(kind), samples())


BATCHES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "dict": lambda x, y: {"x": x, "y": y},
    "three": lambda x, y: (x, y, y),
    "one": lambda x, y: (x,),
    "tensor": lambda x, y: x[:2],
    "inner dict": lambda x, y: ({"x": x}, y),
    "numbers": lambda x, y: (x.numpy(), y.numpy()),
    "none": lambda x, y: None,
}


NAMED = "head_statistics"  # takes batches that are mappings, and inputs that are


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("measure", [m for m in FORWARDS if m != "gradient_norms"])
def test_batches_that_are_no_pair_are_refused(measure: str, kind: str) -> None:
    (x, y), _ = samples()
    if (measure, kind) == (NAMED, "inner dict"):
        pytest.skip("is a pair")
    said = r"expected two tensors \(x, y\): pass"
    if (measure, kind) == (NAMED, "dict"):
        said = "expected tensors, the targets under one of the names 'labels', .*: or pass"
    with pytest.raises(Refusal, match=f"a batch is a .*{said}"):
        MEASURES[measure](Net(), [BATCHES[kind](x, y)])


def test_gradient_norms_of_what_is_no_tensor_are_refused() -> None:
    (x, y), _ = samples()
    with pytest.raises(Refusal, match="expected two tensors"):
        gradient_norms(Net(), [x], y)  # type: ignore[arg-type]
    with pytest.raises(Refusal, match="expected two tensors"):
        gradient_norms(Net(), x, [y])  # type: ignore[arg-type]
