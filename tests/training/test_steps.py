"""What a step and an epoch cost the host, and what precision, compiling and full memory change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from training.runs import CONFIG, epochs, task, trial

from hpogen import plugins
from hpogen.training import checkpoint, graphs, recipe
from hpogen.training.augment import Draws, draw
from hpogen.training.clock import Clock
from hpogen.training.forms.inputs import Inputs
from hpogen.training.graphs import Tape
from hpogen.training.memory import NoSpace, activations, batch_that_fits, evaluation_batch
from hpogen.training.models.build import build
from hpogen.training.step import Steps

CPU = torch.device("cpu")
CLOSED = ("agn", "agn_tic", "agn_rel", "brier", "trace_hessian", "train_loss", "val_loss")
ONLINE = ("agn_online", "agn_lr", "tse")


class HostReads(TorchDispatchMode):
    """Counts what the host reads from the device `meta`, which then has nothing but ones.

    A tensor there holds no numbers: whatever must see one stops the host, as it would on a GPU.
    """

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], Tensor) and args[0].is_meta:
            if func.name() == "aten::_local_scalar_dense":
                self.count += 1
                return 1.0
            if func.name() == "aten::_to_copy" and kwargs.get("device") == CPU:
                self.count += 1
                return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        return func(*args, **kwargs)


class Descent(torch.optim.Optimizer):
    """Takes the learning rate where it lies, as torch's fused optimizers do on a GPU."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.addcmul_(parameter.grad, group["lr"], value=-1)


@pytest.mark.parametrize(
    ("model", "wanted", "more"),
    [
        ("mlp", ("val_loss",), {}),
        ("mlp", CLOSED, {}),
        ("mlp", (*CLOSED, *ONLINE), {}),
        ("resnet20", (*CLOSED, *ONLINE), {}),
        ("mlp", ONLINE, {"optimizer": "sam", "clip": 1.0, "average": "ema"}),
        ("mlp", ONLINE, {"mixup": 0.2, "cutmix": 1.0, "average": "swa", "swa_start": 0.0}),
    ],
)
def test_the_host_waits_for_the_device_once_per_epoch(
    model: str,
    wanted: tuple[str, ...],
    more: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = lambda net, values, device: Descent(net.parameters(), {"lr": values.lr})  # noqa: E731
    monkeypatch.setattr(recipe, "make_optimizer", made)
    monkeypatch.setattr(checkpoint, "INTERVAL", 3600.0)  # an epoch may take long on a busy machine
    options = {"augment": "standard", "audit": "test-each-epoch"}
    settings = task(options, model=model, label_smoothing=0.1)
    counts = []
    with HostReads() as host:
        running = trial(tmp_path, {**CONFIG, **more}, device="meta")
        for epoch in settings.train(running, frozenset(wanted)):
            if epoch is not None:
                counts.append(host.count)
                host.count = 0
    assert counts[:2] == [1, 1]
    assert counts[2] > 1  # the last one writes a checkpoint and each validation loss
    # what a measure needs that is no mean over samples, it reads itself
    with HostReads() as host:
        next(
            e
            for e in settings.train(trial(tmp_path / "2", device="meta"), frozenset(["margin_q50"]))
            if e
        )
    assert host.count > 1


def test_a_tape_reads_what_slices_give() -> None:
    draws = [draw(50, True, seed, CPU, rotate=10) for seed in (1, 2)]
    rates = [torch.rand(4) for _ in draws]
    tape = Tape(CPU)
    for epoch, (drawn, rate) in enumerate(zip(draws, rates, strict=True)):
        first = 2 * epoch  # the second epoch is gone on with after two steps
        tape.lay(drawn, rate, first * 15, first)
        for step in range(first, 4):
            size = min(15, 50 - 15 * step)
            tape.prepare(size)
            got, lr = tape.read(size)
            expected = drawn.of(slice(15 * step, 15 * step + size))
            assert lr == rate[step]
            for a, b in zip(got.tensors(), expected.tensors(), strict=True):
                assert torch.equal(a, b)


def test_a_tape_stays_where_it_is() -> None:
    """A captured step reads the addresses of the first epoch."""
    tape, first = Tape(CPU), draw(9, True, 1, CPU)
    tape.lay(first, torch.ones(3), 0, 0)
    tape.lay(draw(9, True, 2, CPU), torch.zeros(3), 0, 0)
    assert torch.equal(first.order, draw(9, True, 2, CPU).order)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_same_numbers_from_a_tape(optimizer: str, tmp_path: Path) -> None:
    """The steps of a GPU, run on a CPU, from the middle of an epoch on."""
    settings = task({"augment": "standard"}, schedule="cosine")
    weights = []
    for tape in (None, Tape(CPU)):
        running = trial(tmp_path, {**CONFIG, "optimizer": optimizer})
        of_trial, state = recipe.begin(settings, running, frozenset({"agn_lr"}))
        steps = Steps(of_trial, state, None)
        for _ in range(2):
            next(steps.epoch())
        steps = Steps(of_trial, state, tape)
        for _ in range(2):
            assert sum(1 for _ in steps.epoch()) == of_trial.steps - (2 if state.epoch == 0 else 0)
            state.finish_epoch({})
        weights.append(state.model.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-6)


def test_bfloat16_computes_with_fewer_bits_and_tells_nobody_else(tmp_path: Path) -> None:
    found = {}
    for precision in ("fp32", "tf32", "bf16"):
        settings = task(precision=precision)
        steps = settings.train(trial(tmp_path / precision), frozenset({"val_loss", "agn"}))
        told = []
        for step in steps:
            assert not torch.is_autocast_enabled("cpu")
            told.append(step)
        found[precision] = told[-1].metrics
    assert found["tf32"] == found["fp32"]  # a CPU has none
    assert found["bf16"] != found["fp32"]
    assert found["bf16"] == pytest.approx(found["fp32"], rel=0.1)


@pytest.mark.slow
def test_a_compiled_net_learns_the_same(tmp_path: Path) -> None:
    plain = epochs(task(), trial(tmp_path / "a"))[-1].metrics
    compiled = epochs(task(compile=True), trial(tmp_path / "b"))[-1].metrics
    assert compiled == pytest.approx(plain, rel=1e-3)


@plugins.model("endless")
def endless(in_shape: tuple[int, int, int], classes: int, *, bytes_: int = 2**50) -> nn.Module:
    return Endless(bytes_)


class Endless(nn.Module):
    """Its activations have no room anywhere."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            torch.empty(self.size)
        logits: Tensor = self.layer(x.flatten(1))
        return logits


def test_no_space_names_a_batch_that_would_fit(tmp_path: Path) -> None:
    said = "out of memory on cpu, which had .* MiB free, at batch_size 32: about 16 would fit"
    with pytest.raises(NoSpace, match=said):
        epochs(task(model="endless"), trial(tmp_path))


def test_activations_are_the_outputs_of_the_layers() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
    found = activations(net, (3, 8, 8))
    assert found.all == 4 * (512 + 512 + 512 + 10)
    assert found.largest == 4 * (512 + 512)
    kept = 2 * found.all
    parameters = 3 * 4 * sum(p.numel() for p in net.parameters())
    assert batch_that_fits(net, (3, 8, 8), parameters + 40 * kept, tried=1000) == 40
    assert batch_that_fits(net, (3, 8, 8), parameters + 40 * kept, tried=50) == 25
    assert batch_that_fits(net, (3, 8, 8), 0, tried=50) == 1


def test_evaluation_batches_of_a_cpu_are_small() -> None:
    net = build("mlp", {"width": 2}, Inputs((1, 28, 28), 10))
    assert evaluation_batch(net, (1, 28, 28), CPU) == 250
    assert evaluation_batch(net, (3, 224, 224), CPU) == 20
    assert evaluation_batch(net, (3, 2000, 2000), CPU) == 1


def test_the_clock_takes_from_what_it_is_part_of() -> None:
    seconds = {"train": 0.0, "measures": 0.0}
    clock = Clock(seconds, CPU)
    with clock("train"), clock("measures", out_of="train"):
        sum(range(100_000))
    assert seconds["measures"] > 0
    assert 0 <= seconds["train"] < seconds["measures"]


class Cuda:
    """Stands where torch.cuda is: notes what is run, captured and replayed, on a CPU."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.capturing = False

    def Stream(self, device: torch.device) -> Cuda:
        return self

    def CUDAGraph(self) -> Cuda:
        return self

    def current_stream(self) -> Cuda:
        return self

    def wait_stream(self, other: Cuda) -> None:
        pass

    def pool(self) -> str:
        return "pool"

    def replay(self) -> None:
        self.done.append("replay")

    @contextmanager
    def stream(self, stream: Cuda) -> Iterator[None]:
        yield

    @contextmanager
    def graph(self, graph: Cuda, pool: Any, stream: Cuda, **keys: Any) -> Iterator[None]:
        self.capturing = True
        try:
            yield
        finally:
            self.capturing = False


@pytest.mark.parametrize("fails", [False, True])
def test_a_step_is_captured_once_per_size_or_never(
    fails: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cuda = Cuda()
    monkeypatch.setattr(graphs.torch, "cuda", cuda)

    def body(draws: Draws, lr: Tensor) -> None:
        if cuda.capturing and fails:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")
        cuda.done.append(f"{'capture' if cuda.capturing else 'run'} {len(draws.order)}")

    tape = Tape(CPU)
    tape.lay(draw(100, False, 1, CPU), torch.ones(100), 0, 0)
    steps = graphs.Graphs(body, tape)
    for size in (8, 8, 8, 3, 8, 8, 3):
        steps.step(size)
    eager = ["run 8", "run 8", "run 8", "run 3"]
    if not fails:
        assert cuda.done == [*eager, "capture 8", "replay", "replay", "run 3"]
        assert caplog.text == ""
    else:
        assert cuda.done == [*eager, "run 8", "run 8", "run 3"]
        said = [record.message for record in caplog.records]
        assert said == [
            "cuda_graph=refused batch_size=8 eager=true: "
            "operation not permitted when stream is capturing"
        ]
