"""AGN from the training step in one's own loop: against brute force, under autocast, with DDP."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hpogen.errors import Refusal
from hpogen.measures import OnlineAgn, head_statistics

CLASSES = 3


def net() -> nn.Module:
    torch.manual_seed(0)
    body = (nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))
    return nn.Sequential(*body)


def samples(n: int = 50) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=generator), torch.arange(n) % CLASSES


def norms_by_autograd(model: nn.Module, x: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
    """‖∇ loss_i‖² (B,) in the last layer, of a forward in the model's mode, which is left as is."""
    h = model[:-1](x).detach()  # BatchNorm in training mode sees the whole batch
    norms = []
    for i in range(len(x)):
        loss = functional.cross_entropy(
            model[-1](h[i : i + 1]), y[i : i + 1], label_smoothing=smoothing
        )
        gradients = torch.autograd.grad(loss, list(model[-1].parameters()))
        norms.append(sum(g.double().square().sum() for g in gradients))
    return torch.stack([torch.as_tensor(norm) for norm in norms])


def descend(model: nn.Module, loss: Tensor) -> None:
    """A step of SGD by hand: the first torch.optim of a process takes seconds."""
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_the_sum_over_epochs_of_means_over_batches(smoothing: float) -> None:
    model, (x, y) = net().double(), samples()
    x = x.double()
    online, expected = OnlineAgn(model, label_smoothing=smoothing), 0.0
    for _ in range(2):
        means = []
        for part in (slice(0, 32), slice(32, 50)):
            buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
            means.append(norms_by_autograd(model, x[part], y[part], smoothing).mean())
            model.load_state_dict(buffers, strict=False)
            logits = model(x[part])
            online.update(logits, y[part])
            loss = functional.cross_entropy(logits, y[part], label_smoothing=smoothing)
            descend(model, loss)
            model.eval()(x)  # a look at something else in between
            model.train()
        expected += float(torch.stack(means).mean())
        found = online.epoch_end()
    assert found == online.total == pytest.approx(expected, rel=1e-9)


def test_training_is_not_changed_by_it() -> None:
    def trained(watched: bool) -> Tensor:
        model, (x, y) = net(), samples()
        online = OnlineAgn(model) if watched else None
        logits = model(x)
        if online is not None:
            online.update(logits, y)
        functional.cross_entropy(logits, y).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    assert torch.equal(trained(True), trained(False))


def test_soft_labels_are_targets_as_they_are() -> None:
    model, (x, y) = net(), samples()
    online = OnlineAgn(model)
    online.update(model(x), functional.one_hot(y, CLASSES).float())
    soft = online.epoch_end()
    online.update(model(x), y)
    assert online.epoch_end() == pytest.approx(2 * soft, rel=1e-6)


def test_under_autocast() -> None:
    model, (x, y) = net().eval(), samples()
    exact = float(norms_by_autograd(model, x, y).mean())
    online = OnlineAgn(model)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(x)
        online.update(logits, y)
    assert logits.dtype == torch.bfloat16
    assert online.epoch_end() == pytest.approx(exact, rel=0.02)


def test_mistakes_and_taking_it_off() -> None:
    model, (x, y) = net(), samples()
    online = OnlineAgn(model)
    with pytest.raises(ValueError, match="no mini-batch"):
        online.epoch_end()
    with pytest.raises(Refusal, match="Sequential is not that of its last"):
        online.update(model(x) * 2, y)
    old = model(x)
    model(x)
    with pytest.raises(Refusal, match="is not that of its last"):
        online.update(old, y)
    online.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


PROCESS = """
import os
import sys
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from measures.test_online import loop, start

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group("gloo", f"file://{folder}/meet", world_size=2, rank=rank)
mine = slice(0, 10) if rank == 0 else slice(10, None)  # a third of a batch, and the rest
for unused in (False, True):  # with True, the wrapper gives copies of the outputs
    model = DistributedDataParallel(start(), find_unused_parameters=unused)
    print(*loop(model, mine, slice(rank, None, 2), processes=2))
distributed.destroy_process_group()
sys.stdout.flush()
os._exit(0)  # a thread of gloo that still has a tensor to free aborts an interpreter that ends
"""


def start() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def loop(model: nn.Module, of_batch: slice, of_all: slice, processes: int = 1) -> list[float]:
    """Two epochs of a process that has a part of each batch and of all samples: what it knows."""
    x, y = samples(51)
    online = OnlineAgn(model)
    for _ in range(2):
        for batch in (slice(0, 30), slice(30, 51)):
            logits = model(x[batch][of_batch])
            online.update(logits, y[batch][of_batch])
            loss = functional.cross_entropy(logits, y[batch][of_batch], reduction="sum")
            descend(model, loss * processes / len(x[batch]))  # DDP takes the mean over processes
        total = online.epoch_end()
    head = head_statistics(model, [(x[of_all], y[of_all])])
    return [total, head.count, head.agn, head.gsnr, head.same_sign, *head.margins]


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    environment = {
        **os.environ,
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    alone = loop(start(), slice(None), slice(None))
    for line in "".join(printed).splitlines():
        assert [float(number) for number in line.split()] == pytest.approx(alone, rel=1e-5)
    assert len("".join(printed).splitlines()) == 4
