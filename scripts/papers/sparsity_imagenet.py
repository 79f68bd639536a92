"""The sparsity paper's Figure 4: five ImageNet networks, measured from weights that you have.

    python scripts/papers/sparsity_imagenet.py --images FOLDER --weights A.pt B.pt … [--model vgg16]
        [--layer NAME] [--size 224] [--share 1.0] [--scale paper] [--out FOLDER]

Trains nothing. FOLDER holds `train/CLASS/*` and `val/CLASS/*` (or `test/`); each file of weights is
the state dict of torchvision's model of that name, read without executing code. Accuracies on both
parts give the gap, unit ablation on the training images ζ and κ; ĝ = aζ + bκ + c is fitted to all
networks. `--share` takes that part of the training images. There is no small scale: the script does
as much as it is given. It has not been run on ImageNet.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Beside, begin, call, options, pearson
from gap_model import GapModel, fit
from matplotlib import colormaps, pyplot
from matplotlib.figure import Figure
from sparsity_parts import draw_curves
from torch import nn
from torchvision.models import VGG

from hpogen.errors import Refusal, UserError
from hpogen.measures import Ablation, ablation_curves
from hpogen.measures.passes import undisturbed
from hpogen.training.data.prepared import Prepared, prepare
from hpogen.training.data.reading import Batches
from hpogen.training.forms.dataset import Dataset
from hpogen.training.forms.inputs import Inputs
from hpogen.training.models.build import build

IMAGENET = {"mean": (0.485, 0.456, 0.406), "sd": (0.229, 0.224, 0.225)}  # torchvision's
BATCH = 256
CURVES = 5  # networks whose curves are drawn: as many as the paper has


@dataclass(frozen=True)
class Network:
    """One file of weights, measured."""

    name: str
    train_accuracy: float
    test_accuracy: float
    ablation: Ablation

    @property
    def gap(self) -> float:
        return self.train_accuracy - self.test_accuracy


def given_by(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The networks that its user has, and how to take their images."""
    parser = options(__doc__)
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--weights", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--model", default="vgg16", help="of torchvision")
    parser.add_argument("--layer", metavar="NAME", help="the module whose units are removed")
    parser.add_argument("--size", type=int, default=224, help="pixels of a side")
    parser.add_argument("--share", type=float, default=1.0, help="part of the training images")
    return parser.parse_args(arguments)


def splits(given: argparse.Namespace, device: torch.device) -> Prepared:
    """The folder's training part and its test part; images are decoded by the batch."""
    dataset = Dataset.model_validate(
        {
            "name": "folder",
            "path": str(given.images),
            "size": given.size,
            **IMAGENET,
            "subset": given.share,
            "validation": 0,
            "audit": "test",
        }
    )
    return prepare(dataset, device)


def loaded(given: argparse.Namespace, path: Path, data: Prepared) -> nn.Module:
    """torchvision's model with those weights. Raises UserError when they are not its own."""
    model = build(f"torchvision/{given.model}", {}, Inputs(data.in_shape, data.outputs))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except (OSError, RuntimeError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        line = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: got no state dict of torchvision's {given.model} with {data.outputs} "
            f"classes: {line}"
        ) from error
    return model


def as_chain(model: nn.Module) -> tuple[nn.Module, str | None]:
    """VGG as one sequence, and its last convolution's activation (`block5_conv3` of VGG-16).

    What comes before the layer then runs once for a batch, not for each number of units.
    """
    if not isinstance(model, VGG):
        return model, None
    features = [*model.features]
    last = max(i for i, layer in enumerate(features) if isinstance(layer, nn.ReLU))
    chain = nn.Sequential(*features, model.avgpool, nn.Flatten(), *model.classifier)
    return chain, str(last)


def measured(
    given: argparse.Namespace, path: Path, data: Prepared, device: torch.device
) -> Network:
    """Accuracies, and both curves of every class. Raises UserError without a layer."""
    model, layer = as_chain(loaded(given, path, data).to(device))
    if (given.layer or layer) is None:
        raise UserError(f"--layer: say which module of {given.model} has the units to remove")
    train, test = (
        Batches(split, data.normalization, torch.contiguous_format, BATCH)
        for split in (data.subset, data.audit)
    )
    found = ablation_curves(model, train, layer=given.layer or layer)
    samples = torch.tensor(found.samples).double()
    right = float((found.falling[:, 0] * samples).sum() / samples.sum())  # E(0): nothing removed
    return Network(path.stem, right, accuracy(model, test), found)


def accuracy(model: nn.Module, batches: Batches) -> float:
    right = total = 0
    with undisturbed(model), torch.no_grad():
        for x, y in batches:
            right += int((model(x).argmax(1) == y).sum())
            total += len(y)
    return right / total


def rows(networks: Sequence[Network], model: GapModel | None) -> list[dict[str, Any]]:
    """One row per network."""
    found = []
    for one in networks:
        metrics = one.ablation.metrics
        estimate = float(model.predict(metrics)[0]) if model else None
        found.append(
            {
                "network": one.name,
                "train_accuracy": one.train_accuracy,
                "test_accuracy": one.test_accuracy,
                "gap": one.gap,
                "zeta": metrics["zeta"],
                "kappa": metrics["kappa"],
                "estimated_gap": estimate,
            }
        )
    return found


def per_class(networks: Sequence[Network]) -> list[dict[str, Any]]:
    """(ζ_j, κ_j) of each class of each network: Figure 4B."""
    return [
        {"network": one.name, "class": label, "images": samples, "zeta": zeta, "kappa": kappa}
        for one in networks
        for label, samples, zeta, kappa in zip(
            one.ablation.classes,
            one.ablation.samples,
            one.ablation.zetas.tolist(),
            one.ablation.kappas.tolist(),
            strict=True,
        )
    ]


def gap_model(networks: Sequence[Network]) -> GapModel | None:
    """ĝ of eq. 7, fitted to all; None where there are too few networks for it."""
    metrics = {name: [one.ablation.metrics[name] for one in networks] for name in ("zeta", "kappa")}
    try:
        return fit(metrics, [one.gap for one in networks])
    except Refusal:
        return None


def compared(table: Sequence[dict[str, Any]], fitted: bool) -> list[Beside]:
    """Beside Figure 4C; of κ, which falls as the gap grows, the paper gives the size of r."""
    gaps = [row["gap"] for row in table]
    zeta, kappa = (pearson([row[name] for row in table], gaps) for name in ("zeta", "kappa"))
    squares = [(row["estimated_gap"] - row["gap"]) ** 2 for row in table] if fitted else None
    ssr = sum(squares) if squares is not None else None
    too_few = "" if fitted else f"{len(table)} networks do not determine a, b and c"
    return [
        Beside("Pearson of ζ and the gap", zeta, 0.998),
        Beside("Pearson of κ and the gap", kappa, 0.967, "the paper: its size"),
        Beside("SSR of the networks fitted to", ssr, 0.004, too_few),
        Beside("smallest gap", min(gaps), 0.075),
        Beside("largest gap", max(gaps), 0.604),
    ]


def draw(networks: Sequence[Network], table: Sequence[dict[str, Any]], title: str) -> Figure:
    """Figure 4: curves of the first class (A), all classes (B), ζ and κ against the gap (C)."""
    shown = networks[:CURVES]
    figure, grid = pyplot.subplots(2, CURVES, figsize=(15, 6.5))
    for axes in (*grid[0, len(shown) :], *grid[1, 4:]):
        axes.remove()
    for i, (axes, one) in enumerate(zip(grid[0], shown, strict=False)):
        draw_curves(axes, one.ablation, 0, f"{one.name}, gap {one.gap:.2f}")
        axes.set(xlabel="units removed, n", ylabel="accuracy on the first class" if not i else "")
        if not i:
            axes.legend(fontsize="x-small", loc="lower left")
    panels = grid[1]
    colors = colormaps["rainbow_r"](np.linspace(0, 1, len(networks)))
    for one, row, color in zip(networks, table, colors, strict=True):
        classes = one.ablation
        panels[0].scatter(classes.zetas, classes.kappas, color=color, s=6, label=one.name)
        panels[1].scatter(row["zeta"], row["gap"], color=color)
        panels[2].scatter(row["kappa"], row["gap"], color=color)
        if row["estimated_gap"] is not None:
            panels[3].scatter(row["gap"], row["estimated_gap"], color=color)
    gap = "training − test accuracy"
    panels[0].set(xlabel="ζ of a class", ylabel="κ of a class")
    panels[0].legend(fontsize="x-small")
    panels[1].set(xlabel="ζ", ylabel=gap)
    panels[2].set(xlabel="κ")
    panels[3].set(xlabel=gap, ylabel="estimated gap")
    panels[3].axline((0, 0), slope=1, color="0.6", linewidth=1)
    figure.suptitle(title)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    given = given_by(arguments)
    run = begin("sparsity_imagenet", given)
    device = torch.device(run.device)
    data = splits(given, device)
    networks = [measured(given, path, data, device) for path in given.weights]
    model = gap_model(networks)
    table = rows(networks, model)
    run.sizes = {
        "training images": len(data.subset),
        "test images": len(data.audit),
        "classes": data.outputs,
        "model": given.model,
        "units": networks[0].ablation.units,
        "pixels": given.size,
    }
    run.table(table)
    run.table(per_class(networks), "_classes")
    title = f"{given.model}, {len(data.subset):,} training images of {data.outputs} classes"
    run.picture(draw(networks, table, title))
    run.figures = compared(table, model is not None)
    run.finish()


if __name__ == "__main__":
    call(main)
