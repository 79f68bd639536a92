"""Small networks with every kind of layer, and per-sample gradients by one backward per sample."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 4


class Residual(nn.Module):
    """A convolution that is used twice, at two resolutions, around shortcuts."""

    def __init__(self, groups: int = 2) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.shared = nn.Conv2d(4, 4, 3, padding=1, groups=groups)
        self.last = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.norm(self.first(x)), inplace=True)
        h = h + functional.relu_(self.shared(h))
        h = functional.max_pool2d(h, 2)
        h = h + self.shared(h).tanh()
        return self.last(h.mean((2, 3)))


class Recurrent(nn.Module):
    """A linear layer used at every step, on sequences and on the last place."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 6), nn.Linear(6, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x.flatten(2).unflatten(2, (6, 6)).flatten(1, 2)).tanh()  # (N, 12, 6)
        return self.outer(self.inner(h[:, -1]).tanh() + h.sum(1))


class Direct(nn.Module):
    """Parameters that its own forward uses: by a known function, by others, and both."""

    def __init__(self) -> None:
        super().__init__()
        self.known = nn.Parameter(torch.randn(5, 72) / 8)
        self.scale = nn.Parameter(torch.randn(5))
        self.both = nn.Linear(5, CLASSES)
        self.idle = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.linear(x.flatten(1), self.known).tanh() * self.scale
        return self.both(h) + h @ (self.both.weight**2).T


class Words(nn.Module):
    """Embeddings, LayerNorm and linear layers over sequences of words; the output is tied."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 5, padding_idx=1)
        self.norm = nn.LayerNorm(5)
        self.inner = nn.Linear(5, 5)
        self.last = nn.Linear(5, 7)
        if tied:
            self.last.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.embedding(x) + self.embedding((x + 1) % 7))
        return self.last(self.inner(h).relu_().mean(1))


class Places(nn.Module):
    """As many places as there are samples, in the first dimension of some layers."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Embedding(9, 8)
        self.first, self.inner, self.last = nn.Linear(8, 6), nn.Linear(6, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(1).unflatten(1, (9, 8)) + self.position(torch.arange(9, device=x.device))
        h = self.first(h).tanh().transpose(0, 1)  # (9, N, 6)
        return self.last(self.inner(h).tanh().mean(0))


def convolutions(mode: str = "zeros") -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), padding_mode=mode),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 2, padding="same", dilation=(1, 2), groups=2, bias=False),
        nn.Tanh(),
        nn.Conv2d(6, 6, 2, groups=6, padding="valid"),
        nn.Flatten(),
        nn.Linear(6 * 2 * 4, CLASSES),
    )


def sequences() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(2),  # (N, 2, 36)
        nn.Conv1d(2, 4, 5, stride=3, dilation=2, padding=3, groups=2),
        nn.BatchNorm1d(4),
        nn.GroupNorm(2, 4),
        nn.LayerNorm((4, 12)),
        nn.ReLU(),
        nn.LayerNorm(12),
        nn.Linear(12, 3),
        nn.Flatten(),
        nn.BatchNorm1d(12, affine=False),
        nn.Linear(12, CLASSES),
    )


def cubes() -> nn.Module:
    layers = [nn.Unflatten(1, (1, 2)), nn.Conv3d(1, 3, (2, 3, 3), padding=1, stride=2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3 * 2 * 3 * 3, CLASSES))


def narrow() -> nn.Module:
    """Wide convolutions over few places: their Gram form is the cheaper one."""
    layers = [nn.Conv2d(2, 16, 3, stride=3), nn.ReLU(), nn.Conv2d(16, 24, 2, groups=2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, CLASSES))


def frozen() -> nn.Module:
    net = convolutions()
    for p in (net[0].weight, net[2].weight, net[6].bias):
        p.requires_grad_(False)
    return net


def unknown() -> nn.Module:
    return nn.Sequential(
        nn.InstanceNorm2d(2, affine=True),
        nn.Conv2d(2, 3, 3),
        nn.PReLU(),
        nn.ConvTranspose2d(3, 2, 2),
        nn.Flatten(),
        nn.Linear(50, CLASSES),
    )


NETS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": convolutions,
    "reflected": lambda: convolutions("reflect"),
    "residual": Residual,
    "recurrent": Recurrent,
    "places": Places,  # with 9 samples
    "direct": Direct,
    "sequences": sequences,
    "cubes": cubes,
    "narrow": narrow,
    "frozen": frozen,
    "unknown": unknown,
    "words": lambda: Words(tied=False),
    "tied words": lambda: Words(tied=True),
}


def make(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The net with random weights and running statistics, in training mode."""
    torch.manual_seed(0)
    net = NETS[name]().to(dtype)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
        if getattr(module, "affine", False):
            nn.init.uniform_(module.weight, -2, 2)
            nn.init.uniform_(module.bias, -1, 1)
    return net


def samples(name: str, count: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    if "words" in name:
        x = torch.randint(0, 7, (count, 6), generator=generator)
        return x, torch.randint(0, 7, (count,), generator=generator)
    x = torch.randn(count, 2, 6, 6, generator=generator, dtype=torch.float64).to(dtype)
    return x, torch.randint(0, CLASSES, (count,), generator=generator)


def per_sample_gradients(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: Callable[..., Tensor] = functional.cross_entropy,
) -> Tensor:
    """The brute-force twin: (N, P) float64, one backward through a copy for each sample."""
    twin = copy.deepcopy(model).double().eval()
    parameters = [p for p in twin.parameters() if p.requires_grad]
    x = x.double() if x.is_floating_point() else x
    rows = []
    for i in range(len(x)):
        total = loss(twin(x[i : i + 1]), y[i : i + 1], reduction="sum")
        gradients = torch.autograd.grad(total, parameters, materialize_grads=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(rows)


class Untouched:
    """Checks that the five things are as they were: made before a measure, called after it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        for module in list(model.children())[:1]:
            module.eval()  # a part that is frozen in a model that is being trained
        for number, p in enumerate(model.parameters()):
            p.grad = torch.full_like(p, number) if number else None
        self.state = copy.deepcopy(model.state_dict())
        self.gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        self.flags = [p.requires_grad for p in model.parameters()]
        self.modes = [module.training for module in model.modules()]
        self.random = torch.get_rng_state()

    def __call__(self) -> bool:
        """True; raises AssertionError for the first thing that is not as it was."""
        for name, value in self.model.state_dict().items():
            assert torch.equal(value, self.state[name]), name
        for p, gradient in zip(self.model.parameters(), self.gradients, strict=True):
            assert (p.grad is None) == (gradient is None)
            assert gradient is None or torch.equal(p.grad, gradient)
        assert [p.requires_grad for p in self.model.parameters()] == self.flags
        assert [module.training for module in self.model.modules()] == self.modes
        assert torch.equal(torch.get_rng_state(), self.random)
        for module in self.model.modules():
            assert not module._forward_hooks and not module._forward_pre_hooks
        return True
