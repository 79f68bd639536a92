"""The sparsity paper's Figure 4, on a made folder and random weights of a small model."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import VGG, shufflenet_v2_x0_5

from hpogen.errors import UserError
from hpogen.measures import ablation_curves

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "papers"))

import sparsity_imagenet

NETWORKS, CLASSES, SIDE = 4, 3, 32


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other take minutes for such images where CPUs are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`images/train`, `images/val`, and weights 0.pt … 3.pt."""
    root = tmp_path_factory.mktemp("imagenet")
    generator = np.random.default_rng(0)
    for part, count in (("train", 5), ("val", 3)):
        for label in range(CLASSES):
            folder = root / "images" / part / f"n{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(256, size=(SIDE + 4, SIDE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        model = varied(shufflenet_v2_x0_5(num_classes=CLASSES))
        torch.save(model.state_dict(), root / f"{seed}.pt")
    return root


def varied(model: nn.Module) -> nn.Module:
    """Statistics and a last layer that tell noise apart: all were of one class otherwise."""
    x = torch.randn(32, 3, SIDE, SIDE)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    nn.init.normal_(model.fc.weight)
    with torch.no_grad():
        model.train()(x)
        model.fc.bias -= model.eval()(x).mean(0)
    return model


def arguments(root: Path, out: Path, weights: int = NETWORKS) -> list[str]:
    return [
        *("--images", str(root / "images"), "--model", "shufflenet_v2_x0_5", "--layer", "conv5"),
        *("--size", str(SIDE), "--scale", "tiny", "--device", "cpu", "--out", str(out)),
        *("--weights", *(str(root / f"{seed}.pt") for seed in range(weights))),
    ]


def test_tiny(files: Path, tmp_path: Path) -> None:
    sparsity_imagenet.main(arguments(files, tmp_path))
    name = "sparsity_imagenet"
    assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    told = json.loads((tmp_path / f"{name}.json").read_text())
    assert told["sizes"]["training images"] == 15 and told["sizes"]["test images"] == 9
    rows = read(tmp_path / f"{name}.csv")
    classes = read(tmp_path / f"{name}_classes.csv")
    assert [row["network"] for row in rows] == ["0", "1", "2", "3"]
    assert len(classes) == NETWORKS * CLASSES
    for row in rows:
        train, test = (plain_accuracy(files, row["network"], part) for part in ("train", "val"))
        assert (float(row["train_accuracy"]), float(row["test_accuracy"])) == (
            pytest.approx(train),
            pytest.approx(test),
        )
        own = [one for one in classes if one["network"] == row["network"]]
        assert float(row["zeta"]) == pytest.approx(np.mean([float(one["zeta"]) for one in own]))
    ours = {figure["what"]: figure["ours"] for figure in told["figures"]}
    gaps = [float(row["gap"]) for row in rows]
    columns = np.array([[float(row["zeta"]), float(row["kappa"]), 1.0] for row in rows])
    _, ssr, rank, _ = np.linalg.lstsq(columns, np.array(gaps), rcond=None)
    assert rank == 3
    assert ours["SSR of the networks fitted to"] == pytest.approx(ssr[0], abs=1e-9)
    zeta = np.corrcoef(columns[:, 0], gaps)[0, 1]
    assert ours["Pearson of ζ and the gap"] == pytest.approx(zeta)
    kappa = np.corrcoef(columns[:, 1], gaps)[0, 1]
    assert ours["Pearson of κ and the gap"] == pytest.approx(kappa)
    theirs = [figure["theirs"] for figure in told["figures"]]
    assert theirs == [0.998, 0.967, 0.004, 0.075, 0.604]


def test_a_wrong_sign_of_kappa_shows() -> None:
    gaps = [0.1, 0.2, 0.4]
    table = [{"gap": gap, "zeta": gap, "kappa": gap, "estimated_gap": gap} for gap in gaps]
    figures = {one.what: one.ours for one in sparsity_imagenet.compared(table, fitted=True)}
    assert figures["Pearson of κ and the gap"] == pytest.approx(1)
    falling = [{**row, "kappa": 1 - row["gap"]} for row in table]
    figures = {one.what: one.ours for one in sparsity_imagenet.compared(falling, fitted=True)}
    assert figures["Pearson of κ and the gap"] == pytest.approx(-1)


def test_two_networks_are_too_few_for_the_gap_model(files: Path, tmp_path: Path) -> None:
    sparsity_imagenet.main(arguments(files, tmp_path, weights=2))
    figures = json.loads((tmp_path / "sparsity_imagenet.json").read_text())["figures"]
    (ssr,) = (one for one in figures if one["what"].startswith("SSR"))
    assert ssr["ours"] is None and ssr["note"] == "2 networks do not determine a, b and c"


def plain_accuracy(files: Path, name: str, part: str) -> float:
    """By PIL and torch alone: the centre, normalised, one image at a time."""
    model = shufflenet_v2_x0_5(num_classes=CLASSES)
    model.load_state_dict(torch.load(files / f"{name}.pt", weights_only=True))
    model.eval()
    mean, sd = (
        torch.tensor(sparsity_imagenet.IMAGENET[key])[:, None, None] for key in ("mean", "sd")
    )
    right = []
    for label in range(CLASSES):
        for path in (files / "images" / part / f"n{label}").iterdir():
            pixels = torch.from_numpy(np.array(Image.open(path))[2:-2]).permute(2, 0, 1) / 255
            with torch.no_grad():
                right.append(int(model(((pixels - mean) / sd)[None]).argmax()) == label)
    return float(np.mean(right))


def test_a_vgg_as_a_chain_is_the_same_network_with_the_same_curves() -> None:
    with torch.device("meta"):
        model = VGG(nn.Sequential())  # 100 million numbers in its own classifier
    torch.manual_seed(0)
    model.features = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
    )
    model.classifier = nn.Sequential(nn.Linear(6 * 49, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))
    for weight in model.classifier.parameters():
        nn.init.normal_(weight)  # or all images would be of one class
    x, y = torch.randn(60, 3, 20, 20), torch.arange(60) % 3
    chain, layer = sparsity_imagenet.as_chain(model)
    assert torch.equal(chain.eval()(x), model.eval()(x))
    assert layer == "4"
    there = ablation_curves(chain, [(x, y)], layer=layer)
    here = ablation_curves(model, [(x, y)], layer="features.4")
    assert torch.equal(there.falling, here.falling) and torch.equal(there.rising, here.rising)
    assert there.units == 6 and len({*there.falling.flatten().tolist()}) > 2


def test_what_is_missing_is_named(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        sparsity_imagenet.main(["--scale", "tiny", "--out", str(tmp_path)])
    assert "required: --images, --weights" in capsys.readouterr().err
    given = arguments(files, tmp_path, weights=1)
    at = given.index("--layer")
    with pytest.raises(UserError, match="say which module of shufflenet_v2_x0_5"):
        sparsity_imagenet.main([*given[:at], *given[at + 2 :]])
    broken = tmp_path / "broken.pt"
    torch.save({"fc.bias": torch.zeros(7)}, broken)
    with pytest.raises(UserError, match=r"broken.pt: got no state dict of torchvision's shuf"):
        sparsity_imagenet.main([*given[:-1], str(broken)])


def read(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))
