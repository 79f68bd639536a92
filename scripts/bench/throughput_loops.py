"""The three loops that `throughput.py` sets beside each other; each is driven epoch by epoch.

All train the net that hpogen builds, by the same recipe, on the same images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpogen.training.augment import PAD
from hpogen.training.data import load
from hpogen.training.data.prepared import Prepared, prepare
from hpogen.training.data.reading import Batches
from hpogen.training.data.splits import splits
from hpogen.training.forms.inputs import Inputs
from hpogen.training.models.build import build
from hpogen.training.task import ImageClassification
from hpogen.trial import RunningTrial

MOMENTUM, DECAY = 0.9, 5e-4
TEST_BATCH = 1000  # of the PyTorch examples; `tensors` takes hpogen's


@dataclass(frozen=True)
class Case:
    """What is trained, and on what."""

    model: str
    batch: int
    lr: float
    root: Path
    subset: float
    device: str = "cpu"
    threads: int = 1
    precision: str = "fp32"
    cuda_graphs: bool = True
    clock: str = "wall"
    seed: int = 0
    epochs: int = 10**6
    schedule: str = "constant"  # or cosine, to 0 at the end of the epochs

    @property
    def settings(self) -> ImageClassification:
        dataset = {"name": "fashion-mnist", "root": str(self.root), "subset": self.subset}
        return ImageClassification.model_validate(
            {
                "dataset": dataset | {"audit": 0, "augment": "standard", "download": True},
                "model": self.model,
                "epochs": self.epochs,
                "schedule": self.schedule,
                "threads": self.threads,
                "precision": self.precision,
                "cuda_graphs": self.cuda_graphs,
            }
        )


class Loop(Protocol):
    def epoch(self) -> float:
        """Train and evaluate; the validation accuracy."""
        ...

    def close(self) -> None: ...


class Hpogen:
    """The whole of what a study runs for a trial, with nothing measured but validation."""

    def __init__(self, case: Case, home: Path) -> None:
        config = {
            "lr": case.lr,
            "batch_size": case.batch,
            "momentum": MOMENTUM,
            "weight_decay": DECAY,
        }
        trial = RunningTrial(
            config,
            case.epochs,
            id=0,
            seed=case.seed,
            start_epoch=0,
            home=home,
            device=case.device,
        )
        self._epochs = case.settings.train(trial, frozenset({"val_loss"}))

    def epoch(self) -> float:
        found = next(epoch for epoch in self._epochs if epoch is not None)
        return found.metrics["val_accuracy"]

    def close(self) -> None:
        self._epochs.close()  # type: ignore[attr-defined]


class Tensors:
    """Images on the device in float32, normalised; augmentation of the epoch as a whole.

    In each epoch all images are cropped by one of nine row shifts, then of nine column shifts, and
    mirrored: the fastest that plain PyTorch has here, measured beside gathers and unfolded windows.
    """

    def __init__(self, case: Case) -> None:
        self._device = torch.device(case.device)
        torch.manual_seed(case.seed)
        data = prepare(case.settings.dataset, self._device)
        self._model = build(case.model, {}, Inputs(data.in_shape, data.outputs))
        self._model.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer, self._rate = optimizer(self._model, case, fused=True)
        self._data, self._batch = data, case.batch
        self._images = _floats(data)
        self._padded = functional.pad(data.subset.inputs[:], (PAD,) * 4)
        self._precision = case.precision

    def epoch(self) -> float:
        self._model.train()
        images = self._augmented()
        order = torch.randperm(len(images), device=self._device)
        for chosen in order.split(self._batch):
            x = images[chosen].contiguous(memory_format=torch.channels_last)
            with self._autocast():
                loss = functional.cross_entropy(self._model(x), self._data.subset.targets[chosen])
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            self._rate.step()
        return self._accuracy()

    def close(self) -> None:
        """There is nothing to close."""

    def _augmented(self) -> Tensor:
        """The subset (N, C, H, W) float32 cropped, mirrored and normalised."""
        count, (_, height, width) = len(self._data.subset), self._data.in_shape
        shifts = torch.randint(0, 2 * PAD + 1, (2, count), device=self._device)
        rows = self._padded.new_empty((count, self._padded.shape[1], height, width + 2 * PAD))
        images = self._padded.new_empty((count, self._padded.shape[1], height, width))
        for shift in range(2 * PAD + 1):
            chosen = (shifts[0] == shift).nonzero()[:, 0]
            rows[chosen] = self._padded[chosen, :, shift : shift + height]
        for shift in range(2 * PAD + 1):
            chosen = (shifts[1] == shift).nonzero()[:, 0]
            images[chosen] = rows[chosen, :, :, shift : shift + width]
        flips = torch.rand(count, 1, 1, 1, device=self._device) < 0.5
        images = torch.where(flips, images.flip(3), images)
        return self._data.normalization(images, torch.contiguous_format)

    @torch.no_grad()
    def _accuracy(self) -> float:
        self._model.eval()
        labels, hits = self._data.validation.targets, torch.zeros((), device=self._device)
        size = 250 if self._device.type == "cpu" else 2000
        for x, y in zip(self._images.split(size), labels.split(size), strict=True):
            with self._autocast():
                hits += (self._model(x).argmax(1) == y).sum()
        return float(hits) / len(labels)

    def _autocast(self) -> torch.autocast:
        on = self._precision == "bf16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=on)


class Loader:
    """The loop of the PyTorch examples: PIL images, torchvision's transforms, a DataLoader."""

    def __init__(self, case: Case, workers: int) -> None:
        from torch.utils.data import DataLoader, Subset
        from torchvision import datasets, transforms

        self._device = torch.device(case.device)
        torch.manual_seed(case.seed)
        dataset = case.settings.dataset
        data = load(dataset)
        parts = splits(dataset, data.train.targets)
        self._model = build(case.model, {}, Inputs(data.in_shape, data.outputs)).to(self._device)
        self._optimizer, self._rate = optimizer(self._model, case)
        normalization = prepare(dataset, torch.device("cpu")).normalization
        mean = (normalization.mean / 255).flatten().tolist()
        sd = (1 / (255 * normalization.scale)).flatten().tolist()
        plain = [transforms.ToTensor(), transforms.Normalize(mean, sd)]
        height, width = data.in_shape[1:]
        augment = [transforms.RandomCrop((height, width), padding=PAD)]
        augment.append(transforms.RandomHorizontalFlip())

        def pictures(chosen: Any, transform: list[Any]) -> Subset[Any]:
            whole = datasets.FashionMNIST(str(case.root), transform=transforms.Compose(transform))
            return Subset(whole, chosen)

        keys: dict[str, Any] = {"num_workers": workers, "pin_memory": self._device.type == "cuda"}
        keys["persistent_workers"] = workers > 0
        self._train: DataLoader[Any] = DataLoader(
            pictures(parts.subset.tolist(), [*augment, *plain]), case.batch, shuffle=True, **keys
        )
        self._validation: DataLoader[Any] = DataLoader(
            pictures(parts.validation.tolist(), plain), TEST_BATCH, **keys
        )

    def epoch(self) -> float:
        self._model.train()
        for x, y in self._batches(self._train):
            self._optimizer.zero_grad()
            loss = functional.cross_entropy(self._model(x), y)
            loss.backward()
            self._optimizer.step()
            self._rate.step()
        return self._accuracy()

    def close(self) -> None:
        del self._train, self._validation  # and their processes

    @torch.no_grad()
    def _accuracy(self) -> float:
        self._model.eval()
        total, hits, seen = 0.0, 0, 0
        for x, y in self._batches(self._validation):
            logits = self._model(x)
            total += functional.cross_entropy(logits, y, reduction="sum").item()
            hits += int((logits.argmax(1) == y).sum().item())
            seen += len(y)
        if not math.isfinite(total):
            raise ValueError("the loop has diverged")
        return hits / seen

    def _batches(self, batches: Any) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in batches:
            yield x.to(self._device, non_blocking=True), y.to(self._device, non_blocking=True)


def optimizer(
    model: nn.Module, case: Case, **keys: bool
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """SGD, and its learning rate by the step."""
    sgd = torch.optim.SGD(model.parameters(), case.lr, MOMENTUM, weight_decay=DECAY, **keys)
    subset, _, _ = case.settings.dataset.counts(60_000)
    total = case.epochs * math.ceil(subset / case.batch)

    def factor(step: int) -> float:
        cosine = case.schedule == "cosine"
        return 0.5 * (1 + math.cos(math.pi * step / total)) if cosine else 1.0

    return sgd, torch.optim.lr_scheduler.LambdaLR(sgd, factor)


def _floats(data: Prepared) -> Tensor:
    """The validation images, normalised."""
    batches = Batches(data.validation, data.normalization, torch.channels_last, 1000)
    return torch.cat([images for images, _ in batches]).contiguous(
        memory_format=torch.channels_last
    )
