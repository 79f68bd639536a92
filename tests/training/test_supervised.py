"""The task `supervised`: any inputs and targets, trained, measured and refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from training.supervising import steps, trained

from hpogen import plugins
from hpogen.errors import Refusal, UserError
from hpogen.measures.moments import Moments
from hpogen.training.data import Data, Samples
from hpogen.training.data.loaded import load
from hpogen.training.data.prepared import prepare
from hpogen.training.forms.kinds import KINDS
from hpogen.training.losses import Loss
from hpogen.training.task import Supervised

CPU = torch.device("cpu")
N = 90
RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(N, 5)).astype(np.float32)
TARGETS: dict[str, Any] = {
    "classes": (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0.5),
    "binary": (X[:, 0] + X[:, 1] > 0).astype(np.int64),
    "labels": (X[:, :3] > 0.2).astype(np.int64),
    "real": np.stack((40 * X[:, 0] + 7, X[:, 1]), 1),
}
LOSSES = [("binary", "bce"), ("labels", "bce"), *(("real", x) for x in ("mse", "mae", "huber"))]
SPLIT = {"subset": 0.5, "validation": 20}


def written(path: Path, **arrays: Any) -> Path:
    np.savez(path, **{"x_train": X, "y_train": TARGETS["real"], **arrays})
    return path


def task(path: Path, **keys: Any) -> Supervised:
    dataset = {"name": "numpy", "path": str(path), **SPLIT, **keys.pop("dataset", {})}
    model = {"name": "mlp", "width": 6, "depth": 1}
    given = {"name": "supervised", "dataset": dataset, "model": model, "epochs": 2, **keys}
    return Supervised.model_validate(given)


def of_kind(path: Path, kind: str, **keys: Any) -> Supervised:
    """The task of a file with targets of that kind."""
    file = written(path / f"{kind}.npz", y_train=TARGETS[kind])
    return task(file, dataset={"kind": kind}, **keys)


@pytest.mark.parametrize("kind", TARGETS)
def test_each_kind_is_trained_and_judged(kind: str, tmp_path: Path) -> None:
    measures = ["agn", "agn_online", "gsnr_head", "gn", "sharpness", "param_norm"]
    settings = of_kind(tmp_path, kind, measures=measures)
    assert settings.prepare() == 45
    last = trained(settings, tmp_path / "t")[-1]
    figure = "rmse" if kind == "real" else "accuracy"
    assert {f"train_{figure}", f"val_{figure}", "val_loss", "gn", "agn"} <= last.metrics.keys()
    assert last.audit.keys() == {"loss", figure}
    each = {"val_hits.npy", "audit_hits.npy", "audit_errors.npy"} & last.files.keys()
    both = {"val_hits.npy", "audit_hits.npy"}
    other = {"labels": {"audit_hits.npy"}, "real": {"audit_errors.npy"}}
    assert each == other.get(kind, both)


@pytest.mark.parametrize("kind", TARGETS)
def test_every_measure_is_given_or_refused_by_name(kind: str, tmp_path: Path) -> None:
    builtin = [m for m in plugins.measures.parts() if plugins.measures.is_builtin(m.name)]
    served = [m for m in builtin if not m.kinds or kind in m.kinds]
    settings = of_kind(tmp_path, kind, measures=[m.name for m in served], epochs=1)
    found = trained(settings, tmp_path / "t", budget=1)[-1].metrics
    assert {metric for m in served for metric in m.metrics} <= found.keys()
    for measure in (m for m in builtin if m not in served):
        with pytest.raises(Refusal, match=f"'{measure.name}' is not defined"):
            settings.check_kind(KINDS[kind], frozenset(measure.metrics))


def gradients(net: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """Each sample's gradient by all parameters (N, P), one backward each, float64."""
    rows = []
    for i in range(len(x)):
        value = loss(net(x[i : i + 1]), y[i : i + 1]).sum()
        parts = torch.autograd.grad(value, list(net.parameters()))
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


@pytest.mark.parametrize(("kind", "name"), LOSSES)
def test_measures_are_those_of_brute_force_autograd(kind: str, name: str) -> None:
    from hpogen.measures import head_statistics
    from hpogen.measures.network import gn
    from hpogen.measures.network_moments import gsnr, osgr
    from hpogen.measures.sharpness import sharpness

    torch.manual_seed(0)
    y = torch.from_numpy(TARGETS[kind])
    y = y if kind == "binary" else y.double()
    outputs = 1 if kind == "binary" else y.shape[1]
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, outputs)).double()
    x, loss = torch.from_numpy(X).double(), Loss(name, plugins.losses.get(name))
    batches = [(x[:40], y[:40]), (x[40:], y[40:])]
    each = gradients(net, x, y, loss)
    exact = Moments(
        each.sum(0), each.square().sum(0), each.sign().sum(0), each.sign().abs().sum(0), N
    )
    own = each[:, -(4 * outputs + outputs) :]
    head = head_statistics(net, batches, loss)
    rel = {"rel": 1e-6}
    assert gn(net, batches, loss) == pytest.approx(float(each.square().sum(1).mean()), **rel)
    assert gsnr(net, batches, loss) == pytest.approx(exact.gsnr_family("gsnr"), **rel)
    assert osgr(net, batches, loss) == pytest.approx(exact.osgr, **rel)
    assert head.agn == pytest.approx(float(own.square().sum(1).mean()), **rel)
    assert head.loss == pytest.approx(float(loss(net(x), y).mean().detach()), **rel)
    mean = each.mean(0)
    moved, start = {}, 0
    for key, p in net.named_parameters():
        step = mean[start : start + p.numel()].view_as(p) * 0.05 / mean.norm()
        moved[key], start = p.detach() + step, start + p.numel()
    there = loss(functional_call(net, moved, (x,)), y).mean()
    expected = float((there - loss(net(x), y).mean()).detach())
    assert sharpness(net, batches, loss=loss) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_one_logit_has_the_gradients_of_the_binary_cross_entropy() -> None:
    """Whether by closed forms or by the loss itself."""
    from hpogen.measures import head_statistics

    torch.manual_seed(1)
    net, x = nn.Linear(5, 1).double(), torch.from_numpy(X).double()
    y = torch.from_numpy(TARGETS["binary"])
    closed = head_statistics(net, [(x, y)])
    own = head_statistics(net, [(x, y)], Loss("bce", plugins.losses.get("bce")))
    assert closed.agn == pytest.approx(own.agn, rel=1e-9)
    assert closed.loss == pytest.approx(own.loss, rel=1e-9)
    values = functional.binary_cross_entropy_with_logits(net(x)[:, 0], y.double())
    assert own.loss == pytest.approx(float(values.detach()), rel=1e-9)


@pytest.mark.parametrize("data", [None, 0.3])
def test_nothing_is_fitted_to_rows_outside_the_subset(data: float | None, tmp_path: Path) -> None:
    def fitted(path: Path) -> list[Tensor]:
        dataset = task(path).dataset
        prepared = prepare(dataset, CPU, data)
        unit, inputs = prepared.unit, prepared.normalization
        assert unit is not None
        return [inputs.mean, inputs.scale, unit.mean, unit.scale, torch.from_numpy(prepared.rows)]  # type: ignore[attr-defined]

    extra = {"x_test": X[:9], "y_test": TARGETS["real"][:9]}
    before = fitted(written(tmp_path / "a.npz", **extra))
    rows = before[-1].numpy()
    others = np.setdiff1d(np.arange(N), rows)
    x, y = X.copy(), TARGETS["real"].copy()
    x[others], y[others] = 1e4 * x[others] - 77, -5 * y[others] + 1e3
    after = fitted(written(tmp_path / "b.npz", x_train=x, y_train=y, x_test=-X[:9], y_test=-y[:9]))
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert torch.allclose(before[0][0], torch.from_numpy(X[rows]).mean(0), atol=1e-6)
    x[rows[0]] += 1  # and what is in it does count
    assert not torch.equal(fitted(written(tmp_path / "c.npz", x_train=x))[0], before[0])


def test_rmse_is_in_the_target_s_unit(tmp_path: Path) -> None:
    settings = of_kind(tmp_path, "real")
    settings.prepare()
    last = trained(settings, tmp_path / "t")[-1]
    scale = TARGETS["real"].std(0).mean()  # about 20
    assert 0.2 * scale < last.metrics["val_rmse"] < 2 * scale and last.metrics["val_loss"] < 3


@pytest.mark.parametrize("kind", ["labels", "real"])
def test_an_interrupted_trial_goes_on_bit_for_bit(kind: str, tmp_path: Path) -> None:
    settings = of_kind(tmp_path, kind, measures=["agn", "gn"])
    whole = trained(settings, tmp_path / "whole")[-1]
    begun = steps(settings, tmp_path / "cut")
    next(step for step in begun if step is not None)
    begun.close()  # type: ignore[attr-defined]
    assert trained(settings, tmp_path / "cut", start_epoch=1)[-1].metrics == whole.metrics


@pytest.mark.parametrize(
    ("arrays", "keys", "text"),
    [
        ({"y_train": np.where(np.arange(N) == 7, np.nan, X[:, 0])}, {}, "row 7 is nan"),
        ({"y_train": np.where(np.arange(N) == 7, np.inf, X[:, 0])}, {}, "row 7 is inf"),
        ({"x_train": np.where(X[4, 2] == X, np.nan, X)}, {}, "row 4, column 2 is nan"),
        ({"y_train": np.zeros(N, int)}, {}, "are all of class 0"),
        ({"y_train": np.arange(N) // 89}, {}, "class 1 has one row, row 89"),
        ({"y_train": 2 * TARGETS["binary"]}, {}, "no row of class 1 of 0 to 2"),
        ({"y_train": TARGETS["binary"] - 1}, {}, "has -1"),
        (
            {"y_train": TARGETS["binary"]},
            {"kind": "real"},
            "int64 (90,), and targets of the kind",
        ),
        ({}, {"kind": "classes"}, "float32 (90, 2), and targets of the kind 'classes'"),
        ({"y_train": TARGETS["classes"]}, {"kind": "binary"}, "expected whole numbers in [0, 2)"),
        ({"y_train": X[:80, 0]}, {}, "90 inputs and 80 targets"),
        ({"x_train": np.array([None] * N)}, {}, "plain arrays"),
    ],
)
def test_what_is_wrong_in_arrays_is_one_line(
    arrays: dict[str, Any], keys: dict[str, Any], text: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError) as caught:
        load(task(path, dataset=keys).dataset)
    assert text in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "keys", "text"),
    [
        ("classes", {"loss": "mse"}, "'mse' is not for targets of the kind 'classes'"),
        ("real", {"loss": "cross_entropy"}, "expected mse or mae or huber"),
        ("real", {"label_smoothing": 0.1}, "label_smoothing is for targets of one class"),
        ("binary", {"label_smoothing": 0.1}, "label_smoothing is for targets of one class"),
        ("real", {"keep": "probabilities"}, "keep: probabilities is for targets of one class each"),
        ("real", {"metrics": ["auroc"]}, "'auroc' is not defined for targets of the kind 'real'"),
        ("real", {"measures": ["margin"]}, "'margin' is not defined for targets of the kind"),
        ("labels", {"measures": ["brier"]}, "'brier' is not defined for targets of the kind"),
    ],
)
def test_what_does_not_go_with_the_targets_is_refused_at_load(
    kind: str, keys: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(Refusal, match=text):
        of_kind(tmp_path, kind, **keys)


def test_a_kind_that_loading_tells_is_refused_before_training(tmp_path: Path) -> None:
    settings = task(written(tmp_path / "a.npz"))
    settings.check(frozenset({"val_accuracy"}))
    with pytest.raises(Refusal, match="kind 'real' have no 'val_accuracy'"):
        settings.prepare()


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda z, y: (z - y) ** 2, r"gave \(16, 2\) .* expected one loss for each sample"),
        (lambda z, y: ((z - y) ** 2).mean(), r"gave \(\) "),
        (lambda z, y: y[:, 0], "does not depend on the model"),
        (lambda z, y: 3.0, "gave float"),
    ],
)
def test_a_loss_of_one_s_own_that_is_none(function: Any, text: str, tmp_path: Path) -> None:
    plugins.loss("odd")(function)
    settings = of_kind(tmp_path, "real", loss="odd")
    with pytest.raises(UserError, match=text):
        trained(settings, tmp_path / "t")


def test_a_loss_of_one_s_own_is_trained_and_measured(tmp_path: Path) -> None:
    plugins.loss("twice")(lambda z, y: 2 * ((z - y) ** 2).mean(1))
    last = {}
    for name in ("twice", "mse"):
        settings = of_kind(tmp_path, "real", loss=name, measures=["agn", "gn"])
        running = trained(settings, tmp_path / name, budget=1, config={"lr": 1e-9})
        last[name] = running[-1].metrics
    assert last["twice"]["val_loss"] == pytest.approx(2 * last["mse"]["val_loss"], rel=1e-5)
    assert last["twice"]["gn"] == pytest.approx(4 * last["mse"]["gn"], rel=1e-5)


def test_a_model_and_a_data_set_of_one_s_own_with_named_inputs(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Net(nn.Module):
        def __init__(self, data: Any) -> None:
            super().__init__()
            self.embed = nn.Embedding(4, 3)
            self.last = nn.Linear(3 + data.in_shape["numbers"][0], data.outputs)

        def forward(self, x: Any) -> Tensor:
            parts = (x["numbers"], self.embed(x["category"][:, 0]))
            return self.last(torch.cat(parts, 1))

    def build(data: Any) -> nn.Module:
        seen.append(data)
        return Net(data)

    categories = RANDOM.integers(0, 4, (N, 1))
    inputs = {"numbers": X, "category": categories}
    everything = Samples(inputs, X[:, 0])
    plugins.model("named-inputs")(build)
    plugins.dataset("named-inputs")(lambda root: Data(everything, everything, "real"))
    given = {
        "name": "supervised",
        "dataset": {"name": "named-inputs", **SPLIT},
        "model": "named-inputs",
    }
    settings = Supervised.model_validate({**given, "epochs": 2, "measures": ["agn", "gn"]})
    settings.prepare()
    assert {"train_rmse", "agn", "gn"} <= trained(settings, tmp_path / "t")[-1].metrics.keys()
    assert seen[0].in_shape == {"numbers": (5,), "category": (1,)}
    assert seen[0].dtype == {"numbers": "float32", "category": "int64"}
    settings = Supervised.model_validate({**given, "epochs": 2, "measures": ["path_norm"]})
    with pytest.raises(Refusal, match="'path_norm' is of inputs that are numbers"):
        settings.prepare()


def test_images_have_no_place_for_tables_and_the_reverse() -> None:
    from hpogen.training.task import ImageClassification

    with pytest.raises(ValidationError, match="'diabetes' has no images"):
        ImageClassification.model_validate({"dataset": "diabetes", "model": "mlp", "epochs": 1})
    with pytest.raises(ValidationError, match="'lenet5' takes images"):
        Supervised.model_validate(
            {"name": "supervised", "dataset": "diabetes", "model": "lenet5", "epochs": 1}
        )


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "diabetes"])
def test_the_tables_are_as_large_as_is_said(name: str) -> None:
    settings = Supervised.model_validate(
        {"name": "supervised", "dataset": name, "model": "mlp", "epochs": 1}
    )
    data, known = load(settings.dataset), settings.dataset.known
    assert known == (len(data.train), data.in_shape, data.outputs, data.kind)


def test_the_study_of_a_regression_finds_an_answer(tmp_path: Path) -> None:
    """`studies/regression.yaml`, in a small version."""
    from hpogen.running.runner import run
    from hpogen.spec import load_study
    from hpogen.study.study import Study

    file = Path(__file__).parents[2] / "studies" / "regression.yaml"
    small = ["stop.trials=2", "task.epochs=2"]
    spec = load_study(file, small)
    with Study(spec, tmp_path / "run") as study:
        assert run(study).end == "finished"
