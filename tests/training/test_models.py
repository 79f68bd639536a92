"""The built-in models: sizes against known figures and arithmetic, options, and refusals."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hpogen import plugins
from hpogen.measures import gradient_norms, head_statistics
from hpogen.measures.ablation_layer import AblationLayer
from hpogen.report.listing import options as shown_options
from hpogen.training.forms.inputs import Inputs
from hpogen.training.models.build import build, unfit
from hpogen.training.models.catalog import MODELS
from hpogen.training.models.parts import HalvingMaximum

Shape = tuple[int, int, int]
COUNTS = [(name, images) for name, row in MODELS.items() for images in row.parameters]
SMALL: Mapping[str, Mapping[str, Any]] = {  # options under which a model is quick to run
    **{name: {"width": 2} for name in MODELS if name.startswith("resnet")},
    "mlp": {"width": 5},
    "densenet100": {"growth": 2},
    "densenet100-bc": {"growth": 2},
    "vgg16": {"width": 2},
    "vgg-like": {"width": 8},
    "nin": {"width": 4},
    "gsnr-mnist": {"channels": 2},
    "gsnr-cifar": {"channels": 2},
    "mobilenet": {"width": 0.1},
}


def weightless(
    name: str, shape: Shape = (3, 32, 32), classes: int = 10, **options: Any
) -> nn.Module:
    """The model on the meta device: it has sizes and no numbers."""
    with torch.device("meta"):
        return build(name, options, Inputs(shape, classes))


def small(name: str, shape: Shape, classes: int = 4, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(name, {**SMALL.get(name, {}), **options}, Inputs(shape, classes))


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("name", "images"), COUNTS)
def test_the_catalog_counts_parameters(name: str, images: str) -> None:
    height, width, channels = map(int, images.split("×"))
    model = weightless(name, (channels, height, width))
    assert size(model) == MODELS[name].parameters[images]
    text = inspect.getdoc(plugins.models.get(name))  # none, where one function makes several
    if text and images == next(iter(MODELS[name].parameters)):
        assert f"{size(model):,} parameters for {images} images" in " ".join(text.split())


def conv(inputs: int, outputs: int, kernel: int = 3, bias: int = 1) -> int:
    return inputs * outputs * kernel**2 + bias * outputs


def linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def vgg_convolutions(*channels: int) -> int:
    return sum(conv(a, b) for a, b in zip((3, *channels), channels, strict=False))


def dense(growth: int, layers: int, bottleneck: bool) -> int:
    """Three blocks of `layers` layers, layer by layer, with BatchNorm's two numbers a channel."""
    channels = 2 * growth if bottleneck else 16
    total = conv(3, channels, bias=0)
    for block in range(3):
        for _ in range(layers):
            inner = 4 * growth if bottleneck else channels
            total += 2 * inner + conv(inner, growth, bias=0)
            total += 2 * channels + conv(channels, inner, 1, 0) if bottleneck else 0
            channels += growth
        if block < 2:
            kept = channels // 2 if bottleneck else channels
            total += 2 * channels + conv(channels, kept, 1, 0)
            channels = kept
    return total + 2 * channels + linear(channels, 10)


def separable(inputs: int, outputs: int) -> int:
    return inputs * 9 + 2 * inputs + inputs * outputs + 2 * outputs


MOBILE = (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)
VGG16 = vgg_convolutions(64, 64, 128, 128, 256, 256, 256, *[512] * 6)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("lenet5", (1, 28, 28), 61_706),
        ("resnet20", (3, 32, 32), 269_722),  # option A, as is usually stated
        ("resnet32", (3, 32, 32), 464_154),
        ("resnet44", (3, 32, 32), 658_586),
        ("resnet56", (3, 32, 32), 853_018),
        ("resnet110", (3, 32, 32), 1_727_962),
        ("resnet18", (3, 32, 32), 11_173_962),
        ("resnet34", (3, 32, 32), 21_282_122),
        ("densenet100", (3, 32, 32), dense(24, 32, False)),
        ("densenet100-bc", (3, 32, 32), dense(24, 16, True)),
        ("vgg16", (3, 32, 32), VGG16 + 2 * linear(512, 512) + linear(512, 10)),
        (
            "vgg-like",
            (3, 32, 32),
            vgg_convolutions(128, 128, 256, 256, 512, 512) + linear(8192, 128) + linear(128, 10),
        ),
        (
            "nin",
            (3, 32, 32),
            conv(3, 256) + 2 * conv(256, 256) + 6 * conv(256, 256, 1) + linear(256, 10),
        ),
        (
            "gsnr-mnist",
            (1, 28, 28),
            conv(1, 6, 5) + conv(6, 15, 5) + linear(16 * 15, 150) + linear(150, 10),
        ),
        (
            "gsnr-cifar",
            (3, 32, 32),
            sum(conv(i, o, 3, 2) for i, o in [(3, 6), (6, 6), (6, 12), (12, 12), (12, 24)])
            + sum(conv(i, o, 3, 2) for i, o in [(24, 24), (24, 48), (48, 48)])
            + sum([linear(192, 48), linear(48, 48), linear(48, 10)]),
        ),
        (
            "mobilenet",
            (3, 32, 32),
            conv(3, 32, 3, 2)
            + sum(separable(i, o) for i, o in pairwise(MOBILE))
            + linear(1024, 10),
        ),
    ],
)
def test_sizes_against_known_figures_and_arithmetic(name: str, shape: Shape, expected: int) -> None:
    assert size(weightless(name, shape)) == expected


def test_the_sizes_that_the_papers_print() -> None:
    assert round(size(weightless("densenet100")) / 1e6, 1) == 27.2  # Huang et al., Table 2
    assert round(size(weightless("densenet100-bc")) / 1e6, 2) == 3.02
    assert size(weightless("vgg16", batch_norm=True)) == 15_249_354
    for name, millions in [("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66)]:
        assert round(size(weightless(name)) / 1e6, 2) == millions  # He et al., Table 6
    for name, millions in [("resnet56", 0.85), ("resnet110", 1.7)]:
        assert round(size(weightless(name)) / 1e6, 2 if millions < 1 else 1) == millions


@pytest.mark.parametrize("name", MODELS)
def test_the_catalog_has_the_builders_options(name: str) -> None:
    declared = plugins.options_of(plugins.models.get(name))
    catalog = {key: (type(value), value) for key, value in MODELS[name].options.items()}
    assert dict(declared) == catalog


@pytest.mark.parametrize("name", MODELS)
def test_the_smallest_image(name: str) -> None:
    least = MODELS[name].smallest
    for shape in [(3, least, least), (1, least, least + 3)]:
        with torch.device("meta"):
            assert build(name, {}, Inputs(shape, 7)).eval()(torch.empty(2, *shape)).shape == (2, 7)
    if least > 1:
        text = f"model '{name}' needs images of at least {least}×{least}, got {least}×{least - 1}"
        assert unfit(name, {}, Inputs((3, least, least - 1), 10)) == text


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 19, 23)])
@pytest.mark.parametrize("name", MODELS)
def test_it_trains_on_images_of_its_shape(name: str, shape: Shape) -> None:
    model = small(name, shape)
    logits = model(torch.randn(2, *shape))
    assert logits.shape == (2, 4)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("mlp", {"width": 0}, "model 'mlp' needs width of at least 1, got 0"),
        ("mlp", {"depth": 0}, "model 'mlp' needs depth of at least 1, got 0"),
        ("resnet44", {"width": 0}, "model 'resnet44' needs width of at least 1"),
        ("resnet34", {"width": -1}, "model 'resnet34' needs width of at least 1"),
        ("densenet100", {"growth": 0}, "model 'densenet100' needs growth of at least 1"),
        ("densenet100-bc", {"dropout": 1.0}, "'densenet100-bc' needs dropout of at least 0 and"),
        ("vgg16", {"dropout": -0.1}, "needs dropout of at least 0 and below 1, got -0.1"),
        ("vgg16", {"width": 0}, "model 'vgg16' needs width of at least 1"),
        ("vgg-like", {"blocks": 0}, "model 'vgg-like' needs blocks of at least 1"),
        ("vgg-like", {"dense": -1}, "model 'vgg-like' needs dense of at least 0, got -1"),
        ("vgg-like", {"width": 3}, "model 'vgg-like' needs width of at least 4, got 3"),
        ("vgg-like", {"blocks": 6}, "needs images of at least 64×64, got 32×32"),
        ("nin", {"blocks": 0}, "model 'nin' needs blocks of at least 1"),
        ("nin", {"dropout": 1.5}, "below 1, got 1.5"),
        ("gsnr-mnist", {"channels": 0}, "model 'gsnr-mnist' needs channels of at least 1"),
        ("gsnr-mnist", {"initial_sd": -0.1}, "needs initial_sd of at least 0, got -0.1"),
        ("gsnr-cifar", {"channels": 0}, "model 'gsnr-cifar' needs channels of at least 1"),
        ("mobilenet", {"width": 0.0}, "model 'mobilenet' needs width above 0, got 0.0"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, Any], text: str) -> None:
    reason = unfit(name, options, Inputs((3, 32, 32), 10))
    assert reason is not None and text in reason and "\n" not in reason


@pytest.mark.parametrize(
    ("name", "options", "inputs"),
    [
        ("mlp", {"width": 5, "depth": 3}, 5),
        ("resnet20", {"width": 3}, 12),
        ("resnet18", {"width": 3}, 24),
        ("densenet100", {"growth": 2}, 16 + 96 * 2),
        ("densenet100-bc", {"growth": 4}, ((8 + 64) // 2 + 64) // 2 + 64),
        ("vgg16", {"width": 3}, 24),
        ("vgg-like", {"dense": 0, "width": 8}, 8 * 4 * 4),
        ("vgg-like", {"dense": 2}, 128),
        ("vgg-like", {"dense": 0, "width": 8, "blocks": 1}, 8 * 16 * 16),
        ("nin", {"width": 6, "blocks": 4}, 6),
        ("gsnr-cifar", {"channels": 10}, 80),
        ("mobilenet", {"width": 0.25}, 256),
    ],
)
def test_options_change_the_model(name: str, options: dict[str, Any], inputs: int) -> None:
    last = [m for m in weightless(name, **options).modules() if isinstance(m, nn.Linear)][-1]
    assert last.in_features == inputs


def test_initial_weights_of_a_given_size() -> None:
    torch.manual_seed(0)
    net = build("gsnr-mnist", {"channels": 6, "initial_sd": 0.01}, Inputs((1, 28, 28), 10))
    weights = torch.cat([p.detach().flatten() for p in net.parameters() if p.ndim > 1])
    assert float(weights.std()) == pytest.approx(0.01, rel=0.03)
    assert not any(p.any() for p in net.parameters() if p.ndim == 1)


def test_the_gsnr_nets_have_the_tables_layers() -> None:
    for p in (6, 20):
        q = int(2.5 * p)
        layers = [m for m in weightless("gsnr-mnist", (1, 28, 28), channels=p).modules()]
        flattened, hidden = [m for m in layers if isinstance(m, nn.Linear)]
        assert (flattened.in_features, flattened.out_features) == (16 * q, 10 * q)
        assert hidden.in_features == 10 * q
        layers = [m for m in weightless("gsnr-cifar", channels=p).modules()]
        dense = [(m.in_features, m.out_features) for m in layers if isinstance(m, nn.Linear)]
        assert dense == [(32 * p, 8 * p), (8 * p, 8 * p), (8 * p, 10)]


@pytest.mark.parametrize("name", [n for n, row in MODELS.items() if "batch_norm" in row.options])
def test_batch_norm_follows_every_convolution_where_asked(name: str) -> None:
    def norms(model: nn.Module) -> int:
        return sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())

    model = weightless(name, batch_norm=True)
    assert norms(weightless(name, batch_norm=False)) == 0
    assert norms(model) == sum(isinstance(m, nn.Conv2d) for m in model.modules())


@pytest.mark.parametrize("name", [n for n, row in MODELS.items() if "dropout" in row.options])
def test_dropout_drops_in_training_alone(name: str) -> None:
    x = torch.randn(4, 3, 32, 32)
    model = small(name, (3, 32, 32), dropout=0.5)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
    never = small(name, (3, 32, 32), dropout=0.0)
    assert torch.equal(never(x), never(x))


def test_where_dropout_stands() -> None:
    def before(name: str, kind: type[nn.Module], **options: Any) -> list[str]:
        layers = [m for m in weightless(name, **options).modules() if not list(m.children())]
        return [type(a).__name__ for a, b in pairwise(layers) if isinstance(b, kind)]

    assert before("densenet100", nn.Dropout, dropout=0.2) == ["Conv2d"] * 98  # all but the stem
    assert before("vgg-like", nn.Dropout, dense=2) == ["ReLU"] * 2  # after each hidden layer
    assert before("nin", nn.Dropout, blocks=4) == ["ReLU"] * 4
    assert before("vgg16", nn.Dropout) == ["Flatten", "ReLU"]  # before each hidden layer


def test_pooling_before_the_last_layer_is_a_map_per_class_averaged() -> None:
    model = small("nin", (3, 20, 20)).double().eval()
    x = torch.randn(5, 3, 20, 20, dtype=torch.float64)
    assert isinstance(model, nn.Sequential)
    features, last = model[:-3](x), model[-1]
    assert isinstance(last, nn.Linear)
    assert features.shape[2:] == (3, 3)
    maps = functional.conv2d(features, last.weight[:, :, None, None], last.bias)
    assert torch.allclose(model(x), maps.mean((2, 3)), rtol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_measures_are_defined(name: str) -> None:
    side = max(MODELS[name].smallest, 8)
    variants = [False, True] if "batch_norm" in MODELS[name].options else [None]
    for batch_norm in variants:
        options = {} if batch_norm is None else {"batch_norm": batch_norm}
        model = small(name, (2, side, side), **options).double().eval()
        x, y = torch.randn(3, 2, side, side, dtype=torch.float64), torch.tensor([0, 3, 1])
        assert gradient_norms(model, x, y).tolist() == pytest.approx(one_by_one(model, x, y))
        head = head_statistics(model, [(x, y)])
        assert head.loss == pytest.approx(functional.cross_entropy(model(x), y).item())
        logits, units, crossed = AblationLayer(model).run(x)
        assert torch.equal(logits, model(x)) and units.ndim == 2 and not crossed


def one_by_one(model: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """The squared norms of the gradients, a backward pass a sample."""
    norms = []
    for i in range(len(x)):
        model.zero_grad()
        functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norms.append(sum(float(gradient.square().sum()) for gradient in gradients))
    return norms


@pytest.mark.parametrize("batch_norm", [False, True])
def test_units_of_vgg16_are_removed_at_block5_conv3(batch_norm: bool) -> None:
    model = small("vgg16", (3, 32, 32), batch_norm=batch_norm)
    seen: list[Tensor] = []
    layer = AblationLayer(model)
    module = model.get_submodule(layer.name)
    module.register_forward_hook(lambda *given: seen.append(given[2].clone()))
    model(torch.randn(2, 3, 32, 32))
    assert seen[0].shape == (2, 16, 2, 2)  # before the last pooling
    assert (seen[0] >= 0).all() and (seen[0] > 0).any()


@pytest.mark.parametrize("size", [(6, 6), (7, 5)])
def test_halving_is_maximum_pooling_with_and_without_gradients(size: tuple[int, int]) -> None:
    x = torch.randn(3, 2, *size)
    expected = functional.max_pool2d(x, 2)
    assert torch.equal(HalvingMaximum()(x), expected)
    with torch.no_grad():
        assert torch.equal(HalvingMaximum()(x), expected)


def test_the_page_of_models_has_the_catalog() -> None:
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    rows = {}
    for line in text.splitlines():
        if (cells := [cell.strip() for cell in line.split("|")[1:-1]]) and "`" in cells[0]:
            rows[cells[0].strip("`")] = cells[1:]
    for name, row in MODELS.items():
        counts = "; ".join(f"{count:,} ({images})" for images, count in row.parameters.items())
        expected = [counts, shown_options(row.options), str(row.smallest), row.source]
        assert [re.sub("`", "", cell) for cell in rows.pop(name)] == expected
    assert rows == {}
