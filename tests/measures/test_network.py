"""Per-sample gradient norms of whole networks against one backward per sample, in float64."""

from __future__ import annotations

import functools
import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import CLASSES, NETS, Untouched, make, per_sample_gradients, samples
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from hpogen.errors import Refusal
from hpogen.measures import gradient_norms
from hpogen.measures.network import gn, require_per_sample
from hpogen.measures.network import per_sample_gradients as per_sample
from hpogen.measures.uses import Convolution, Gradients

N = 9
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")  # about torch's own speed


def brute_norms(model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> Tensor:
    return per_sample_gradients(model, x, y, **options).square().sum(1)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_norms_are_those_of_per_sample_gradients(
    name: str, dtype: torch.dtype, error: float
) -> None:
    model, (x, y) = make(name, dtype), samples(name, N, dtype)
    norms = gradient_norms(model, x, y)
    assert norms.shape == (N,) and norms.dtype == torch.float64
    torch.testing.assert_close(norms, brute_norms(model, x, y), rtol=error, atol=0)


@pytest.mark.parametrize("name", NETS)
def test_everything_is_left_as_it_was(name: str) -> None:
    model, (x, y) = make(name), samples(name, N)
    untouched = Untouched(model)
    gradient_norms(model, x, y)
    gn(model, [(x, y)])
    assert untouched()


@pytest.mark.parametrize("name", ["convolutions", "residual", "unknown"])
def test_label_smoothing_and_soft_targets(name: str) -> None:
    model, (x, y) = make(name), samples(name, N)
    smooth = functools.partial(functional.cross_entropy, label_smoothing=0.1)
    expected = brute_norms(model, x, y, loss=smooth)
    torch.testing.assert_close(gradient_norms(model, x, y, smooth), expected, rtol=1e-9, atol=0)
    soft = functional.one_hot(y, CLASSES).double() * 0.9 + 0.1 / CLASSES
    torch.testing.assert_close(gradient_norms(model, x, soft), expected, rtol=1e-9, atol=0)


def test_another_loss() -> None:
    model, (x, _) = make("convolutions"), samples("convolutions", N)
    y = torch.randn(N, CLASSES, dtype=torch.float64)
    norms = gradient_norms(model, x, y, functional.mse_loss)
    expected = brute_norms(model, x, y, loss=functional.mse_loss)
    torch.testing.assert_close(norms, expected, rtol=1e-9, atol=0)


def test_gn_is_the_mean_over_all_samples_whatever_the_batches() -> None:
    model, (x, y) = make("residual"), samples("residual", N)
    batches = [(x[:4], y[:4]), (x[4:8], y[4:8]), (x[8:], y[8:]), (x[:0], y[:0])]
    assert gn(model, batches) == pytest.approx(float(brute_norms(model, x, y).mean()), rel=1e-9)


def test_a_well_fitted_sample_does_not_cancel() -> None:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[10.0, 0, 0], [-10.0, 0, 0]]))  # 1 − p_y = 2e-9
    x, y = torch.tensor([[1.0, 0, 0]]), torch.tensor([0])
    expected = brute_norms(model, x, y)
    torch.testing.assert_close(gradient_norms(model, x, y), expected, rtol=1e-5, atol=0)


def test_one_forward_and_no_gradient_of_a_weight() -> None:
    model, (x, y) = make("residual"), samples("residual", N)
    calls: list[Any] = []
    model.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    for p in model.parameters():
        p.register_hook(lambda _: calls.append("weight"))
    gradient_norms(model, x, y)
    assert calls == [N, 3]  # the check, by other samples
    gradient_norms(model, x + 1, y)
    assert calls == [N, 3, N]  # which is made once for a model and a shape
    functional.cross_entropy(model(x), y).backward()
    assert "weight" in calls  # the hooks are where they were


def test_nothing_of_the_pass_stays_in_memory() -> None:
    model, (x, y) = make("residual"), samples("residual", N)
    counts = []
    for _ in range(3):
        gradient_norms(model, x, y)
        gc.collect()
        counts.append(len(gc.get_objects()))
    assert counts[2] - counts[1] <= 3  # the numbers in the list themselves


def test_channels_last_is_the_same() -> None:
    model, (x, y) = make("residual"), samples("residual", N)
    expected = gradient_norms(model, x, y)
    model.to(memory_format=torch.channels_last)
    x = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(gradient_norms(model, x, y), expected, rtol=1e-9, atol=0)


def test_under_autocast() -> None:
    model, (x, y) = make("residual", torch.float32), samples("residual", N, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        norms = gradient_norms(model, x, y)
        outputs = model.eval()(x)
    assert outputs.dtype == torch.bfloat16
    torch.testing.assert_close(norms, brute_norms(model, x, y), rtol=0.1, atol=0)


def test_norms_are_not_computed_in_low_precision() -> None:
    model, (x, y) = make("sequences", torch.float32), samples("sequences", N, torch.float32)
    types = set()

    def add(_: str, __: slice, gradients: Gradients) -> None:
        types.update(chunk.dtype for chunk in gradients.chunks())

    with torch.autocast("cpu", torch.bfloat16):
        per_sample(model, x, y, functional.cross_entropy, add)
    assert types == {torch.float32}


def test_under_no_grad_and_with_inputs_that_need_gradients() -> None:
    model, (x, y) = make("sequences"), samples("sequences", N)
    with torch.no_grad():
        norms = gradient_norms(model, x.clone().requires_grad_(), y)
    torch.testing.assert_close(norms, brute_norms(model, x, y), rtol=1e-9, atol=0)


def test_inside_distributed_data_parallel(tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        model, (x, y) = make("residual"), samples("residual", N)
        expected = brute_norms(model, x, y)
        wrapped = nn.parallel.DistributedDataParallel(model)
        waits = []
        wrapped.register_forward_hook(lambda *_: waits.append("for the other processes"))
        norms = gradient_norms(wrapped, x, y)
        assert not waits
        functional.cross_entropy(wrapped(x), y).backward()  # its next step is not disturbed
        functional.cross_entropy(wrapped(x), y).backward()
    finally:
        torch.distributed.destroy_process_group()
    torch.testing.assert_close(norms, expected, rtol=1e-9, atol=0)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), groups=st.integers(1, 3), n=st.integers(1, 4))
def test_convolutions_of_any_shape(data: st.DataObject, groups: int, n: int) -> None:
    def draw(least: int, most: int) -> int:
        return data.draw(st.integers(least, most))

    rank = draw(1, 2)
    kernel, gaps = [draw(1, 3) for _ in range(rank)], [draw(1, 2) for _ in range(rank)]
    size = [gap * (k - 1) + draw(1, 4) for k, gap in zip(kernel, gaps, strict=True)]
    padding: Any = data.draw(st.sampled_from(["valid", "same", [draw(0, 2) for _ in range(rank)]]))
    stride = 1 if padding == "same" else [draw(1, 3) for _ in range(rank)]
    c, p = groups * draw(1, 3), groups * draw(1, 6)
    kind = (nn.Conv1d, nn.Conv2d)[rank - 1]
    torch.manual_seed(0)
    layer = kind(c, p, kernel, stride, padding, gaps, groups)  # type: ignore[arg-type]
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)[rank - 1]
    net = nn.Sequential(layer, nn.Tanh(), pool(2), nn.Flatten()).double()
    x = torch.randn(n, c, *size, dtype=torch.float64)
    y = torch.randint(0, p, (n,))
    torch.testing.assert_close(
        gradient_norms(net, x, y), brute_norms(net, x, y), rtol=1e-6, atol=1e-14
    )


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 4), places=st.integers(1, 9), d=st.integers(1, 9), p=st.integers(1, 9))
def test_linear_layers_on_sequences_of_any_shape(n: int, places: int, d: int, p: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(d, p), nn.Tanh(), nn.Flatten(), nn.Linear(places * p, 3)).double()
    x, y = torch.randn(n, places, d, dtype=torch.float64), torch.randint(0, 3, (n,))
    torch.testing.assert_close(
        gradient_norms(net, x, y), brute_norms(net, x, y), rtol=1e-6, atol=1e-14
    )


def test_both_ways_to_a_convolutions_gradients_agree() -> None:
    torch.manual_seed(0)
    inputs, outputs = torch.randn(3, 4, 7, 6), torch.randn(3, 6, 4, 3)
    layer = Convolution(inputs, outputs, (6, 2, 2, 3), (1, 2, 0, 1), (2, 2), (1, 2), 2)
    left, right = layer.factors(slice(0, 3))
    unfolded = (left.mT @ right).reshape(3, 6, 2, 2, 3)
    torch.testing.assert_close(layer.gradients(slice(0, 3)), unfolded)


class Odd(nn.Module):
    """Models that have no per-sample gradients, or hide them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.part = nn.Bilinear(72, 72, CLASSES) if kind == "branching" else nn.Linear(72, CLASSES)
        self.norm = nn.BatchNorm1d(72, track_running_stats=kind != "norm")

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.kind == "norm":
            x = self.norm(x)
        if self.kind == "functional norm":
            x = functional.batch_norm(x, None, None, self.norm.weight, training=True)
        if self.kind == "checkpoint":
            return checkpoint(self.part, x.requires_grad_(), use_reentrant=True)
        if self.kind == "branching":
            return self.part(x, x) if float(x.sum()) > 0 else self.part(x, -x)
        return self.part(x)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("norm", r"Odd mixes .* 'norm', a BatchNorm1d"),
        ("functional norm", "batch_norm"),
        ("checkpoint", "use_reentrant=False"),
        ("branching", r"Odd has no known .* 'part.weight', of its module 'part', a Bilinear"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(kind: str, message: str) -> None:
    x, y = samples("residual", N, torch.float32)
    with pytest.raises(Refusal, match=message):
        gradient_norms(Odd(kind), x, y)


def test_an_embedding_that_changes_itself_is_refused() -> None:
    model = nn.Sequential(nn.Embedding(5, 2, max_norm=1.0), nn.Flatten(), nn.Linear(6, 2))
    with pytest.raises(Refusal, match="'0', an Embedding with max_norm"):
        gradient_norms(model, torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 1]))


@pytest.mark.parametrize("name", [name for name in NETS if "words" not in name])
def test_a_study_can_ask_without_numbers(name: str) -> None:
    with torch.device("meta"):
        try:
            require_per_sample(NETS[name]().eval(), torch.empty(2, 2, 6, 6))
        except (NotImplementedError, RuntimeError):
            assert name == "unknown"
        with pytest.raises(Refusal, match="Odd mixes"):
            require_per_sample(Odd("norm").eval(), torch.empty(2, 2, 6, 6))


def test_no_samples_are_an_error() -> None:
    model, (x, y) = make("residual"), samples("residual", N)
    with pytest.raises(ValueError, match="no samples"):
        gradient_norms(model, x[:0], y[:0])
    with pytest.raises(ValueError, match="no samples"):
        gn(model, [])
