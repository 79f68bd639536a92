"""The gradient-norm paper's Figure 2: what an epoch costs with validation, with AGN, with GN.

    python scripts/papers/gradient_norm_figure2.py [--scale small|paper]

LeNet-5, ResNet-20 and ResNet-56 on images of the shapes and classes of MNIST, SVHN and CIFAR-100,
all of them and 20 %. An epoch is training, and one of: the accuracy on the validation images, AGN,
GN at every iteration. The images are noise, whose values change no time, so nothing is downloaded.

Seconds are those that hpogen's trials report, by part; on a CPU in proportion to the processor time
that the epoch got, as others may use the machine. Like the paper, GN is timed for a single
iteration, over all training images, and multiplied by the iterations. `small` times fewer images,
the same for both shares, and scales each part by the numbers of images. The arms run in turn,
forwards and then backwards, for several rounds; ratios are taken within a round. The control is the
first arm once more: how far its ratio is from 1 is how far the others may be believed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import Beside, Run, begin, call, options
from matplotlib import pyplot

from hpogen import plugins
from hpogen.tasks.base import Epoch
from hpogen.training.data.image_data import ImageData, without_test
from hpogen.training.task import ImageClassification
from hpogen.trial import RunningTrial

BATCH = 128
ARMS = {"validation": "val_accuracy", "AGN": "agn", "GN": "gn", "control": "val_accuracy"}
PART = {"validation": "validation", "AGN": "measures", "GN": "measures", "control": "validation"}
DRAWN = ("validation", "AGN", "GN")
RATIOS = {  # of epochs: what the paper gives as least and most over its nets and shares
    "AGN over validation": ("AGN", "validation", 1.95, 19.45),
    "GN over AGN": ("GN", "AGN", 220.0, 20489.0),
    "control": ("control", "validation", None, None),
}


@dataclass(frozen=True)
class Case:
    """A network with the shape of its data set: training and validation images, (C, H, W)."""

    name: str
    model: str
    data: str
    images: int
    validation: int  # as many as the standard test set has
    shape: tuple[int, int, int]
    classes: int


CASES = (
    Case("LeNet-5", "lenet5", "MNIST", 60_000, 10_000, (1, 28, 28), 10),
    Case("ResNet-20", "resnet20", "SVHN", 73_257, 26_032, (3, 32, 32), 10),
    Case("ResNet-56", "resnet56", "CIFAR-100", 50_000, 10_000, (3, 32, 32), 100),
)
TIMED = {  # images that are timed, training and validation, at the smaller scales
    "small": {"lenet5": 5_000, "resnet20": 250, "resnet56": 250},
    "tiny": {"lenet5": 128, "resnet20": 4, "resnet56": 2},
}


@dataclass(frozen=True)
class Seconds:
    """One round of one case: seconds per image of training, and of each arm's own part.

    GN's is that of one iteration's pass over the training images.
    """

    train: Mapping[str, float]
    part: Mapping[str, float]

    def epoch(self, arm: str, images: int, validation: int) -> float:
        """An epoch of so many images: training, and the arm's own part."""
        count = images
        if arm == "GN":
            count = images * iterations(images)
        elif PART[arm] == "validation":
            count = validation
        return images * self.train[arm] + count * self.part[arm]


def iterations(images: int) -> int:
    """Training steps per epoch."""
    return -(-images // BATCH)


@plugins.dataset("noise-of-figure2")
def noise(
    root: Path, *, count: int = 100, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 10
) -> ImageData:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % classes
    return ImageData(images, labels, *without_test(images), classes, "noise")


def epochs(
    case: Case, arm: str, images: int, validation: int, home: Path, device: str
) -> Generator[Epoch, None, None]:
    """The epochs of a trial without end, each with the seconds that it took."""
    dataset = {
        "name": "noise-of-figure2",
        "count": images + validation,
        "shape": list(case.shape),
        "classes": case.classes,
        "subset": images / (images + validation),
        "validation": validation,
        "audit": 0,
    }
    endless = 10**6
    task = ImageClassification.model_validate(
        {"dataset": dataset, "model": case.model, "epochs": endless}
    )
    config = {"lr": 1e-3, "batch_size": BATCH}
    trial = RunningTrial(config, endless, id=0, seed=0, start_epoch=0, home=home, device=device)
    with closing(task.train(trial, frozenset({ARMS[arm]}))) as running:  # type: ignore[type-var]
        for event in running:
            if event is not None:
                yield event


def timed(case: Case, images: int, validation: int, rounds: int, device: str) -> Iterator[Seconds]:
    """The rounds of a case, after an epoch of each arm to warm up."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        arms = {}
        for arm in ARMS:
            home = Path(folder) / arm
            running = epochs(case, arm, images, validation, home, device)
            arms[arm] = stack.enter_context(closing(running))
            next(arms[arm])
        for _ in range(rounds):
            order = [*ARMS, *reversed(ARMS)]
            taken = [(arm, own_seconds(arms[arm], device)) for arm in order]
            train, part = {}, {}
            for arm in ARMS:
                own = [seconds for name, seconds in taken if name == arm]
                counted = validation if PART[arm] == "validation" else images
                train[arm] = sum(one["train"] for one in own) / len(own) / images
                part[arm] = sum(one[PART[arm]] for one in own) / len(own) / counted
            yield Seconds(train, part)


def own_seconds(running: Iterator[Epoch], device: str) -> dict[str, float]:
    """What the parts of the next epoch took; on a CPU without the time that others took."""
    wall, own = time.perf_counter(), time.process_time()
    seconds = next(running).seconds
    share = (time.process_time() - own) / (time.perf_counter() - wall)
    scale = min(share, 1.0) if device == "cpu" else 1.0
    return {what: scale * taken for what, taken in seconds.items()}


def row(case: Case, share: float, timed_images: int, rounds: Sequence[Seconds]) -> dict[str, Any]:
    """A case's epochs at the paper's sizes: medians over the rounds; ratios with their range."""
    images = round(share * case.images)
    each = [{arm: one.epoch(arm, images, case.validation) for arm in ARMS} for one in rounds]
    found: dict[str, Any] = {
        "net": case.name,
        "data": case.data,
        "share": share,
        "images": images,
        "iterations": iterations(images),
        "validation": case.validation,
        "timed_images": timed_images,
    }
    found |= {f"{arm}_seconds": median(one[arm] for one in each) for arm in ARMS}
    for name, (above, below, _, _) in RATIOS.items():
        ratios = [one[above] / one[below] for one in each]
        found |= {name: median(ratios), f"{name}, least": min(ratios), f"{name}, most": max(ratios)}
    return found


def rows(run: Run) -> list[dict[str, Any]]:
    """A row for each case and share."""
    count = run.pick(tiny=1, small=9, paper=5)
    run.sizes = {"rounds": count, "batch": BATCH}
    found = []
    for case in CASES:
        small = TIMED.get(run.scale, {}).get(case.model)
        measured: list[Seconds] = []
        for share in (1.0, 0.2):
            images = small or round(share * case.images)
            if not (small and measured):
                validation = small or case.validation
                measured = [*timed(case, images, validation, count, run.device)]
            found.append(row(case, share, images, measured))
            print({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in found[-1].items()})
    return found


def compare(run: Run, found: Sequence[Mapping[str, Any]]) -> None:
    """Put the ratios beside the paper's, of which it gives the least and the most."""
    for name, (_, _, least, most) in RATIOS.items():
        for one in found:
            what = f"{one['net']}, {one['share']:.0%} of {one['data']}: {name}"
            between = f"rounds: {one[f'{name}, least']:.4g} to {one[f'{name}, most']:.4g}"
            run.figures.append(Beside(what, one[name], None, between))
        if least is not None:
            values = [one[name] for one in found]
            run.figures.append(Beside(f"{name}, least", min(values), least, "of the six"))
            run.figures.append(Beside(f"{name}, most", max(values), most, "of the six"))


def draw(run: Run, found: Sequence[Mapping[str, Any]]) -> None:
    """Bars of seconds per epoch, in log."""
    figure, axis = pyplot.subplots(figsize=(10, 4.8))
    places = np.arange(len(found))
    for i, arm in enumerate(DRAWN):
        seconds = [one[f"{arm}_seconds"] for one in found]
        label = "training + " + {"validation": "validation accuracy"}.get(arm, arm)
        bars = axis.bar(places + 0.27 * (i - 1), seconds, 0.25, label=label)
        axis.bar_label(bars, [f"{value:.3g}" for value in seconds], fontsize=7)
    names = [f"{one['net']}\n{one['share']:.0%} of {one['data']}" for one in found]
    axis.set_xticks(places, names, fontsize=8)
    axis.set(yscale="log", ylabel="seconds per epoch")
    axis.margins(y=0.15)
    axis.legend()
    how = "timed at these sizes" if run.scale == "paper" else "timed on fewer images and scaled"
    axis.set_title(f"An epoch on {run.device}, batches of {BATCH}: noise images, {how}")
    run.picture(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    run = begin("gradient_norm_figure2", options(__doc__).parse_args(arguments))
    found = rows(run)
    run.sizes["timed_images"] = {one["net"]: one["timed_images"] for one in found}
    run.table(found)
    compare(run, found)
    draw(run, found)
    run.finish()


if __name__ == "__main__":
    call(main)
