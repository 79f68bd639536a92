"""What docs/measures.md says of the definitions, against brute force in float64."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nets import per_sample_gradients
from torch import Tensor, nn
from torch.nn import functional

from hpogen.measures import gradient_norms, head_statistics
from hpogen.measures.network import gn
from hpogen.measures.network_moments import gsnr, osgr, same_sign

C = 10


def digits(count: int = 300) -> tuple[Tensor, Tensor]:
    """Noisy samples of 64 pixels in ten classes, as many of each."""
    generator = torch.Generator().manual_seed(2)
    y = torch.arange(count) % C
    images = torch.rand(C, 64, generator=generator).round()
    return (images[y] + 0.4 * torch.randn(count, 64, generator=generator)).clamp(0, 1), y


def mlp(activation: nn.Module, steps: int, labels: Tensor | None = None) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 32), activation, nn.Linear(32, C))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    x, y = digits()
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(net(x), y if labels is None else labels).backward()
        optimizer.step()
    return net


def ratios(g: Tensor) -> Tensor:
    """r_j of eqs. 2 and 25, of the parameters whose variance is more than rounding."""
    mean = g.mean(0)
    variance = (g - mean).square().mean(0)
    kept = variance > 1e-12 * g.square().mean(0)
    return mean[kept].square() / variance[kept]


@pytest.mark.parametrize("steps", [0, 20, 300])
def test_gsnr_is_the_papers_ratio(steps: int) -> None:
    """No ε: 1e-6 of the mean ρ² moves it by far more than 1e-6 where ρ² differ by powers of ten."""
    (x, y), net = digits(), mlp(nn.ReLU(), steps)
    net, x = net.double(), x.double()
    g = per_sample_gradients(net, x, y)
    r, head = ratios(g), ratios(g[:, -32 * C - C :])
    found, at_head = gsnr(net, [(x, y)]), head_statistics(net, [(x, y)])
    assert found["gsnr"] == pytest.approx(float(r.mean()), rel=1e-6)
    assert found["gsnr_median"] == pytest.approx(float(r.quantile(0.5)), rel=1e-6)
    assert found["gsnr_debiased"] == pytest.approx(float(r.mean()) - 1 / len(x), rel=1e-6)
    assert at_head.gsnr == pytest.approx(float(head.mean()), rel=1e-6)
    assert at_head.moments.gsnr_median == pytest.approx(float(head.quantile(0.5)), rel=1e-6)


def test_gsnr_does_not_change_with_the_size_of_the_gradients() -> None:
    torch.manual_seed(0)
    h, y = torch.randn(50, 6, dtype=torch.float64) + 1, torch.arange(50) % C
    head = nn.Linear(6, C).double()
    with torch.no_grad():
        head.weight.zero_()
    expected = head_statistics(head, [(h, y)]).gsnr
    for scale in (1e-9, 1e9):
        given = head_statistics(head, [(h * scale, y)]).moments
        assert float(given._ratios[: 6 * C].mean()) != 0
        assert given.gsnr == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("steps", [0, 30, 200])
@pytest.mark.parametrize("shuffled", [False, True])
def test_same_sign_of_the_last_layer_after_a_relu_tells_of_the_classes_alone(
    steps: int, shuffled: bool
) -> None:
    x, y = digits()
    labels = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(1))]
    net = mlp(nn.ReLU(), steps, labels if shuffled else None)
    found = head_statistics(net, [(x, labels if shuffled else y)]).same_sign
    active = net[1](net[0](x)) > 0  # (N, D): d_c < 0 where c is the class
    y = labels if shuffled else y
    shares, counts = torch.stack([y[on].bincount(minlength=C) for on in active.T]), active.sum(0)
    shares = (shares / counts[:, None])[counts >= 30]  # (D, C)
    bias = torch.full((1, C), 1 / C)
    expected = torch.cat([torch.maximum(shares, 1 - shares), 1 - bias]).double().mean()
    assert found == pytest.approx(float(expected), rel=1e-6)
    assert found == pytest.approx(1 - 1 / C, abs=0.02)


def test_chance_of_same_sign_where_both_signs_are_as_likely() -> None:
    torch.manual_seed(0)
    n = 400
    h, y = torch.randn(n, 200), torch.randint(0, C, (n,))
    found = head_statistics(nn.Linear(200, C, bias=False), [(h, y)]).same_sign
    assert found == pytest.approx(0.5 + 0.4 / n**0.5, abs=0.002)


def test_osgr_is_equation_19_and_22() -> None:
    (x, y), net = digits(), mlp(nn.Tanh(), 5).double()
    g = per_sample_gradients(net, x.double(), y)
    n, m, rho = len(g), g.mean(0), g.var(0, correction=0)
    nineteen = 1 - rho.sum() / (n * m.square().sum())
    kept = rho > 0
    w = m.square() / m.square().sum()
    r = m[kept].square() / rho[kept] - 1 / n  # the line after eq. 21, with E g² = m²
    twenty_two = 1 - (w[kept] / (r + 1 / n)).sum() / n
    found = osgr(net, [(x.double(), y)])
    assert found == pytest.approx(float(nineteen), rel=1e-9)
    assert found == pytest.approx(float(twenty_two), rel=1e-9)


PROCESS = """
import os
import sys
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from measures.test_definitions import everything, small

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group("gloo", f"file://{folder}/meet", world_size=2, rank=rank)
print(*everything(DistributedDataParallel(small()), slice(0, 7) if rank == 0 else slice(7, None)))
print(*everything(DistributedDataParallel(small()), slice(0, 0) if rank == 0 else slice(0, None)))
distributed.destroy_process_group()
sys.stdout.flush()
os._exit(0)
"""


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, C))


def everything(net: nn.Module, part: slice) -> list[float]:
    x, y = digits(100)
    batches = [(x[part], y[part])]
    return [
        gn(net, batches),
        *gsnr(net, batches).values(),
        osgr(net, batches),
        same_sign(net, batches),
    ]


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    path = os.pathsep.join(map(str, (tests.parent, tests)))
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), str(tmp_path)],
            env=environment | {"PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    printed = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    alone = everything(small(), slice(None))
    lines = "".join(printed).splitlines()
    assert len(lines) == 4
    for line in lines:
        assert [float(number) for number in line.split()] == pytest.approx(alone, rel=1e-5)


def test_gradient_norms_of_a_wrapped_model_are_those_of_the_process() -> None:
    (x, y), net = digits(20), small()
    assert gn(net, [(x, y)]) == pytest.approx(float(gradient_norms(net, x, y).mean()))
