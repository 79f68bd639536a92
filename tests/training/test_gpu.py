"""What only a GPU shows: graphs against eager steps, repeats, precision, evaluation batches."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training.runs import CONFIG, epochs, task, trial

from hpogen import plugins
from hpogen.training.graphs import WARM_UP, Graphs
from hpogen.training.memory import LARGEST_BATCH, evaluation_batch
from hpogen.training.models.lenet import lenet5

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@plugins.model("nosy")
def nosy(in_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Looks at its numbers on the host, which no graph can hold."""
    return Nosy()


class Nosy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x.flatten(1))
        return logits if float(logits.detach().sum()) > 1e9 else logits * 1


def metrics(tmp_path: Path, name: str, config: Any = CONFIG, **keys: Any) -> dict[str, float]:
    settings = task({"augment": "standard"}, **{"deterministic": True, **keys})
    running = trial(tmp_path / name, config, device="cuda")
    return dict(epochs(settings, running, "agn", "agn_online", "val_loss")[-1].metrics)


@pytest.mark.parametrize("model", ["mlp", "resnet20"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_graphs_compute_what_eager_steps_do(model: str, optimizer: str, tmp_path: Path) -> None:
    config = {**CONFIG, "optimizer": optimizer, "lr": 0.01}
    captured = metrics(tmp_path, "a", config, model=model)
    eager = metrics(tmp_path, "b", config, model=model, cuda_graphs=False)
    assert captured == pytest.approx(eager, rel=1e-5)
    assert metrics(tmp_path, "c", config, model=model) == captured  # bit for bit


@pytest.mark.parametrize(
    "more",
    [
        {"optimizer": "sam", "clip": 0.5},
        {"mixup": 0.2, "cutmix": 1.0},
        {"average": "ema", "ema_decay": 0.9},
        {"average": "swa", "swa_start": 0.0},
    ],
)
def test_graphs_compute_what_eager_steps_do_whatever_a_step_does(
    more: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {**CONFIG, **more}
    keys: dict[str, Any] = {"model": "resnet20", "class_weights": "balanced"}
    captured = metrics(tmp_path, "a", config, **keys)
    eager = metrics(tmp_path, "b", config, cuda_graphs=False, **keys)
    assert captured == pytest.approx(eager, rel=1e-5)
    assert "cuda_graph=refused" not in caplog.text


def test_each_size_of_batch_is_captured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replays: list[int] = []
    step = Graphs.step

    def noted(graphs: Graphs, size: int) -> None:
        step(graphs, size)
        replays.append(len(graphs._graphs))

    monkeypatch.setattr(Graphs, "step", noted)
    settings = task(epochs=6)
    epochs(settings, trial(tmp_path, budget=6, device="cuda"))
    assert replays[:WARM_UP] == [0] * WARM_UP
    assert replays[WARM_UP] == 1
    assert replays[-1] == 2  # 259 images in batches of 32: the last has three


def test_a_net_that_cannot_be_captured_is_trained_eagerly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        captured = metrics(tmp_path, "a", model="nosy")
    lines = [record.message for record in caplog.records if "cuda_graph" in record.message]
    assert len(lines) == 1
    assert "cuda_graph=refused batch_size=32 eager=true" in lines[0]
    assert captured == pytest.approx(metrics(tmp_path, "b", model="nosy", cuda_graphs=False))


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_less_precision_learns_nearly_the_same(precision: str, tmp_path: Path) -> None:
    full = metrics(tmp_path, "a", model="resnet20")
    less = metrics(tmp_path, "b", model="resnet20", precision=precision)
    assert less != full
    assert less["val_loss"] == pytest.approx(full["val_loss"], rel=0.3)


def test_the_host_waits_once_per_epoch(tmp_path: Path) -> None:
    settings = task({"augment": "standard"}, epochs=8)
    steps = settings.train(trial(tmp_path, budget=8, device="cuda"), frozenset({"agn", "val_loss"}))
    done = 0
    while done < WARM_UP + 2:
        done += next(steps) is not None
    with pytest.warns(UserWarning, match="synchronizing CUDA operation") as seen:
        torch.cuda.set_sync_debug_mode("warn")
        try:
            next(step for step in steps if step is not None)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len([w for w in seen if "synchronizing" in str(w.message)]) == 1


def test_evaluation_batches_are_large() -> None:
    size = evaluation_batch(lenet5((1, 28, 28), 10), (1, 28, 28), torch.device("cuda"))
    assert 250 < size <= LARGEST_BATCH


def test_the_times_of_a_gpu_add_up(tmp_path: Path) -> None:
    told = epochs(task(), trial(tmp_path, device="cuda"), "agn", "val_loss")[-1]
    assert told.seconds["train"] > 0
    parts = sum(told.seconds[what] for what in ("train", "validation", "measures"))
    assert parts <= told.seconds["total"] * 1.05
