"""Targets of every kind, through all that reads them, against autograd sample by sample."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hpogen.errors import Refusal
from hpogen.measures import OnlineAgn, ablation_curves, gradient_norms, head_statistics
from hpogen.measures import sharpness as sharpness_module
from hpogen.measures.network import gn
from hpogen.measures.network_margins import margin_input
from hpogen.measures.network_moments import network_moments
from hpogen.measures.passes import PredictionCollector, Predictions
from hpogen.measures.sharpness import sharpness, sharpness_pacbayes
from hpogen.measures.targets import IGNORED, cross_entropy, rows, smoothed

N, C = 40, 4
Loss = Callable[[Tensor, Tensor], Tensor]


def net(outputs: int = C) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, outputs)).double()


def images(n: int = N) -> Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def labels(classes: int = C) -> Tensor:
    return torch.randint(0, classes, (N,), generator=torch.Generator().manual_seed(2))


def multi_hot() -> Tensor:
    drawn = torch.rand(N, C, generator=torch.Generator().manual_seed(4)) < 0.4
    return drawn.float()  # rows of zeros among them


def binary(z: Tensor, y: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(z[:, 0], y.double().reshape(-1))


def soft(z: Tensor, y: Tensor) -> Tensor:
    return -(y.double() * z.log_softmax(1)).sum()


def twin(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in all parameters (N, P), in the last layer's (N, Q), and losses (N,)."""
    model, last = copy.deepcopy(model), 0
    last = sum(p.numel() for p in model[-1].parameters())
    gradients, losses = [], []
    for i in range(len(x)):
        value = loss(model(x[i : i + 1]), y[i : i + 1])
        own = torch.autograd.grad(value, list(model.parameters()))
        gradients.append(torch.cat([g.flatten() for g in own]))
        losses.append(value.detach())
    whole = torch.stack(gradients)
    return whole, whole[:, -last:], torch.stack(losses)


def check_all(model: nn.Module, x: Tensor, y: Tensor, kept: Tensor, loss: Loss) -> None:
    """All that rests on the gradient of the loss; `kept` are the samples that count."""
    whole, last, losses = twin(model, x[kept], y[kept], loss)
    norms = torch.zeros(len(x), dtype=torch.float64)
    norms[kept] = whole.square().sum(1)
    torch.testing.assert_close(gradient_norms(model, x, y), norms, rtol=1e-9, atol=1e-14)
    batches = [(x[:17], y[:17]), (x[17:], y[17:])]
    assert gn(model, batches) == pytest.approx(float(norms[kept].mean()), rel=1e-9)
    moments = network_moments(model, batches)
    assert moments.count == int(kept.sum())
    check_moments(moments, whole)

    head = head_statistics(model, batches)
    assert head.count == int(kept.sum())
    assert head.loss == pytest.approx(float(losses.mean()), rel=1e-9)
    assert head.agn == pytest.approx(float(last.square().sum(1).mean()), rel=1e-9)
    check_moments(head.moments, last)
    assert head.trace_hessian == pytest.approx(trace(model, x[kept], y[kept], loss), rel=1e-6)
    online = OnlineAgn(model)
    for part in batches:
        online.update(model(part[0]), part[1])
    means = [last[kept[:17].sum() :], last[: kept[:17].sum()]]
    expected = sum(float(part.square().sum(1).mean()) for part in means) / 2
    assert online.epoch_end() == pytest.approx(expected, rel=1e-9)
    step = sharpness(model, batches)
    assert step == pytest.approx(sam(model, x[kept], y[kept], loss), rel=1e-5)


def check_moments(moments: object, g: Tensor) -> None:
    m, n = g.mean(0), len(g)
    a, b = float(g.square().sum(1).mean()), float(m.square().sum())
    assert moments.osgr == pytest.approx(max(-1.0, 1 - (a - b) / (n * b)), rel=1e-9)
    ratio = float(m.square().sum() / g.var(0, correction=0).sum())
    assert moments.gsnr_ratio == pytest.approx(ratio, rel=1e-6)
    up, down = (g > 0).sum(0), (g < 0).sum(0)
    chosen = up + down >= 30
    if chosen.any():
        share = (torch.maximum(up, down) / (up + down))[chosen].mean()
        assert moments.same_sign == pytest.approx(float(share))


def trace(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> float:
    features, total = model[:-1](x).detach(), 0.0
    for h, target in zip(features, y, strict=True):
        z = model[-1](h)[None].detach().requires_grad_()
        (first,) = torch.autograd.grad(loss(z, target[None]), z, create_graph=True)
        for k in range(z.shape[1]):
            (second,) = torch.autograd.grad(first[0, k], z, retain_graph=True)
            total += float(second[0, k] * (h.square().sum() + 1))
    return total / len(x)


def sam(model: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> float:
    def mean(net: nn.Module) -> Tensor:
        losses = [loss(net(x[i : i + 1]), y[i : i + 1]) for i in range(len(x))]
        return torch.stack(losses).mean()

    moved = copy.deepcopy(model)
    here = mean(model)
    gradients = torch.autograd.grad(here, list(model.parameters()))
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    with torch.no_grad():
        for p, g in zip(moved.parameters(), gradients, strict=True):
            p += 0.05 * g / norm
        return float(mean(moved) - here)


ALL = torch.ones(N, dtype=torch.bool)


def with_ignored() -> tuple[Tensor, Tensor]:
    y = labels()
    y[::5] = IGNORED
    return y, y != IGNORED


CASES: dict[str, tuple[int, Tensor, Tensor, Loss]] = {
    "int64": (C, labels(), ALL, functional.cross_entropy),
    "int32": (C, labels().int(), ALL, lambda z, y: functional.cross_entropy(z, y.long())),
    "uint8": (C, labels().byte(), ALL, lambda z, y: functional.cross_entropy(z, y.long())),
    "bool": (2, labels(2).bool(), ALL, lambda z, y: functional.cross_entropy(z, y.long())),
    "a column": (C, labels()[:, None], ALL, lambda z, y: functional.cross_entropy(z, y[:, 0])),
    "ignored": (C, *with_ignored(), functional.cross_entropy),
    "one-hot": (C, functional.one_hot(labels(), C).float(), ALL, soft),
    "multi-hot": (C, multi_hot(), ALL, soft),
    "smoothed twice": (C, smoothed(smoothed(labels(), C, 0.1), C, 0.2) + 0.03, ALL, soft),
    "one logit": (1, labels(2), ALL, binary),
    "one logit, bool": (1, labels(2).bool(), ALL, binary),
    "one logit, a column": (1, labels(2)[:, None], ALL, binary),
    "one logit, float": (1, labels(2).float(), ALL, binary),
    "one logit, a column of floats": (1, labels(2).float()[:, None], ALL, binary),
    "one logit, probabilities": (1, torch.linspace(0, 1, N), ALL, binary),
    "one logit, ignored": (
        1,
        labels(2).masked_fill(torch.arange(N) % 5 == 0, IGNORED),
        torch.arange(N) % 5 > 0,
        binary,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_reader_gives_what_autograd_gives(name: str) -> None:
    outputs, y, kept, loss = CASES[name]
    check_all(net(outputs), images(), y, kept, loss)


@pytest.mark.parametrize(
    ("outputs", "y", "words"),
    [
        (C, labels() + 1, r"label 4 is not in \[0, 4\): the model gives 4 logits"),
        (C, labels() - 1, r"label -1 is not in \[0, 4\)"),
        (1, labels(3), r"label 2 is not in \[0, 2\): the model gives 1 logit "),
        (1, 2 * labels(2) - 1, "label -1 is not in"),
        (1, 3 * labels(2).float(), "is no 0/1"),
        (C, labels().float(), r"targets are float32 \(40,\) for logits \(40, 4\)"),
        (C, multi_hot().long(), "for several 0/1 labels of a sample, give a loss of your own"),
        (C, multi_hot().bool(), "several 0/1 labels"),
        (C, multi_hot()[:, :3], r"targets are float32 \(40, 3\)"),
        (C, labels()[:, None].expand(N, 2), r"targets are int64 \(40, 2\)"),
        (C, labels().to(torch.complex64), "complex64"),
    ],
)
def test_what_is_no_target_is_refused(outputs: int, y: Tensor, words: str) -> None:
    model, x = net(outputs), images()
    online = OnlineAgn(model)
    for reader in (
        lambda: head_statistics(model, [(x, y)]),
        lambda: gradient_norms(model, x, y),
        lambda: gn(model, [(x, y)]),
        lambda: network_moments(model, [(x, y)]),
        lambda: sharpness(model, [(x, y)]),
        lambda: sharpness_pacbayes(model, [(x, y)]),
        lambda: online.update(model(x), y),
    ):
        with pytest.raises(Refusal, match=words):
            reader()


def test_labels_of_another_number_of_samples_are_refused() -> None:
    with pytest.raises(Refusal, match=r"targets are int64 \(1,\)"):
        head_statistics(net(), [(images(), labels()[:1])])


def test_logits_without_a_dimension_of_classes_are_refused() -> None:
    model = nn.Sequential(net(1), nn.Flatten(0))
    for reader in (
        lambda: gradient_norms(model, images(), labels(2).double()),
        lambda: sharpness(model, [(images(), labels(2))]),
    ):
        with pytest.raises(Refusal, match=r"logits are float64 \(40,\), expected \(N, C\)"):
            reader()


def test_a_perfect_binary_classifier() -> None:
    model, x = nn.Linear(1, 1), torch.linspace(-3, 3, 32)[:, None]
    with torch.no_grad():
        model.weight.fill_(50.0)
        model.bias.zero_()
    for y in ((x > 0).long(), (x[:, 0] > 0), (x > 0).float()):
        head = head_statistics(model, [(x, y)])
        assert head.accuracy == 1.0
        assert head.loss < 0.01
        assert head_statistics(model, [(x, ~y if y.dtype == torch.bool else 1 - y)]).accuracy == 0.0


def test_accuracy_of_targets_with_several_likeliest_classes() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    targets = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    assert Predictions(logits, targets).accuracy == pytest.approx(1 / 3)


def test_margins_need_one_class_per_sample() -> None:
    x, y = images(), labels()
    model, soft_labels = net(), functional.one_hot(y, C).float()
    batches, soft_batches = [(x, y)], [(x, soft_labels)]
    assert head_statistics(model, soft_batches).margins == head_statistics(model, batches).margins
    assert margin_input(model, soft_batches) == margin_input(model, batches)
    for measure in (lambda b: head_statistics(model, b).margins, lambda b: margin_input(model, b)):
        with pytest.raises(Refusal, match="several likeliest"):
            measure([(x, soft_labels + 1 - soft_labels)])
    with pytest.raises(Refusal, match="two logits or more"):
        margin_input(net(1), [(x, labels(2))])


def test_samples_that_are_ignored_are_as_if_they_were_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (y, kept), x = with_ignored(), images()
    model, given, left = net().float(), [(x.float(), y)], [(x.float()[kept], y[kept])]
    model.ablation_layer = "1"
    here, there = head_statistics(model, given), head_statistics(model, left)
    for name in ("loss", "accuracy", "agn", "gsnr", "osgr", "same_sign", "tic", "margins", "brier"):
        assert getattr(here, name) == pytest.approx(getattr(there, name), rel=1e-6), name
    monkeypatch.setattr(sharpness_module, "STEPS", 3)
    for measure in (sharpness, sharpness_pacbayes, gn):
        assert measure(model, given) == pytest.approx(measure(model, left), rel=1e-4)
    assert margin_input(model, given) == pytest.approx(margin_input(model, left), rel=1e-5)
    for layer in ("0", "1"):  # by forwards, and by partial sums
        one, other = (ablation_curves(model, b, layer=layer) for b in (given, left))
        assert one.closed_form is (layer == "1")
        assert one.record() == other.record()


def test_nothing_but_ignored_samples() -> None:
    model, x, y = net(), images(), torch.full((N,), IGNORED)
    for measure in (head_statistics, gn, network_moments, sharpness, margin_input):
        with pytest.raises(ValueError, match="got no samples"):
            measure(model, [(x, y)])
    online = OnlineAgn(model)
    online.update(model(x), y)
    with pytest.raises(ValueError, match="no sample since"):
        online.epoch_end()
    online.update(model(x), labels())
    online.update(model(x), y)  # torch's mean is NaN here: such a mini-batch is none
    assert online.epoch_end() == pytest.approx(head_statistics(model, [(x, labels())]).agn)


def test_sequences() -> None:
    """Logits (N, C, T) and labels (N, T): each place is a sample of the loss, −100 is none."""
    torch.manual_seed(0)
    logits, y = torch.randn(6, C, 3), torch.randint(0, C, (6, 3))
    y[0], y[2, 1] = IGNORED, IGNORED
    collector = PredictionCollector()
    collector.add(logits[:4], y[:4])
    collector.add(logits[4:], y[4:].int())
    seen = collector.result()
    assert seen.count == 14
    expected = functional.cross_entropy(logits.double(), y)
    assert seen.loss == pytest.approx(float(expected), rel=1e-9)
    assert seen.accuracy == float((logits.argmax(1) == y)[y != IGNORED].double().mean())

    model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.Tanh(), nn.Conv1d(3, C, 1)).double()
    x = torch.randn(6, 2, 3).double()
    norms = []
    for i in range(1, 6):
        value = functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1], reduction="sum")
        gradients = torch.autograd.grad(value, list(model.parameters()))
        norms.append(sum(float(g.square().sum()) for g in gradients))
    assert gradient_norms(model, x, y).tolist() == pytest.approx([0.0, *norms], rel=1e-9)
    assert gn(model, [(x, y)]) == pytest.approx(sum(norms) / 5, rel=1e-9)
    assert network_moments(model, [(x, y)]).count == 5


@pytest.mark.parametrize("outputs", [1, C])
def test_label_smoothing_as_torch_smooths(outputs: int) -> None:
    """Labels or probabilities, label −100 among them; of one logit, towards 1/2."""
    model, x = net(outputs), images()
    y = labels(max(outputs, 2)).masked_fill(torch.arange(N) % 5 == 0, IGNORED)
    kept = y != IGNORED
    for given in (y, functional.one_hot(y.clamp_min(0), C).double()) if outputs > 1 else (y,):
        chosen = kept if given is y else ALL

        def smooth(z: Tensor, y: Tensor) -> Tensor:
            if outputs > 1:
                return functional.cross_entropy(z, y, label_smoothing=0.1)
            return binary(z, 0.9 * y.double() + 0.05)

        _, last, _ = twin(model, x[chosen], given[chosen], smooth)
        online = OnlineAgn(model, label_smoothing=0.1)
        online.update(model(x), given)
        assert online.epoch_end() == pytest.approx(float(last.square().sum(1).mean()), rel=1e-9)


def test_a_loss_with_class_weights_and_smoothing() -> None:
    model, (y, kept), x = net().float(), with_ignored(), images().float()
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])
    weighted = functools.partial(
        functional.cross_entropy, weight=weights.double(), label_smoothing=0.1, reduction="none"
    )
    head = head_statistics(model, [(x, y)], weighted)
    _, last, losses = twin(
        copy.deepcopy(model).double(), x[kept].double(), y[kept], lambda z, y: weighted(z, y).sum()
    )
    assert head.count == int(kept.sum())
    assert head.loss == pytest.approx(float(losses.mean()), rel=1e-5)
    assert head.agn == pytest.approx(float(last.square().sum(1).mean()), rel=1e-5)
    single = functools.partial(functional.cross_entropy, weight=weights, reduction="none")
    with pytest.raises(Refusal, match="class weights say, must be float64"):
        _ = head_statistics(model, [(x, y)], single).agn
    norms = gradient_norms(model, x, y, functools.partial(functional.cross_entropy, weight=weights))
    assert float(norms[~kept].sum()) == 0


def test_a_loss_of_ones_own_takes_targets_as_they_are() -> None:
    def each(z: Tensor, y: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(z, y.double(), reduction="none").sum(1)

    model, x, y = net(), images(), multi_hot().bool()
    head = head_statistics(model, [(x, y)], each)
    _, last, losses = twin(model, x, y, lambda z, y: each(z, y).sum())
    assert head.agn == pytest.approx(float(last.square().sum(1).mean()), rel=1e-9)
    assert head.loss == pytest.approx(float(losses.mean()), rel=1e-9)
    with pytest.raises(Refusal, match="several 0/1 labels"):
        _ = head.accuracy
    signs = 2 * labels(2) - 1
    hinge = head_statistics(net(1), [(x, signs)], lambda z, y: (1 - y * z[:, 0]).clamp_min(0))
    assert hinge.agn > 0
    with pytest.raises(Refusal, match="label -1"):
        _ = hinge.accuracy


def test_labels_that_torch_takes_are_left_as_they_are() -> None:
    logits, y = torch.randn(3, C), torch.tensor([0, 1, 2])
    same_logits, same = rows(logits, y)
    assert same_logits is logits
    assert same is y
    assert torch.equal(
        cross_entropy(logits, y), functional.cross_entropy(logits.double(), y, reduction="none")
    )
