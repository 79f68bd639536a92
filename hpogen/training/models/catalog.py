"""The table of the built-in models; `plugins.models` reads it, and naming one imports no torch.

`hpogen list models` and docs/models.md show it; a study's sizes and options are checked by it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpogen import plugins


@dataclass(frozen=True)
class ModelRow:
    """What is known of a model without building it; tests hold it against the builder."""

    builder: str  # module:attribute in hpogen.training.models
    definition: str
    source: str
    parameters: Mapping[str, int]  # by the images, H×W×C, for 10 classes and the defaults
    options: Mapping[str, int | float | bool | None] = field(default_factory=dict)  # and defaults
    smallest: int = 1  # image side in pixels, with the defaults; 0: not known


CIFAR, MNIST, DIGITS = "32×32×3", "28×28×1", "8×8×1"
HE = "He et al. 2016, §4.2"
HUANG = "Huang et al. 2017, Table 2"
PGDL = "Jiang et al. 2020, NeurIPS competition PGDL"
OPTION_A = "residual net for CIFAR, shortcuts of option A; width: channels of the first stage"
DENSE = (
    "dense net for CIFAR, depth 100, of layers that add growth channels each; dropout after each "
    "convolution (0.2 in the paper, without augmentation)"
)

FLAT = ("mlp", "tabular-resnet", "ft-transformer")  # models of any inputs, which they flatten
MODELS: Mapping[str, ModelRow] = {
    "mlp": ModelRow(
        "mlp:mlp",
        "multi-layer perceptron with ReLU: depth hidden layers of width units",
        "Rumelhart et al. 1986",
        {MNIST: 669_706, CIFAR: 1_841_162, DIGITS: 301_066},
        {"width": 512, "depth": 2},
    ),
    "lenet5": ModelRow(
        "lenet:lenet5",
        "two convolutions, three dense layers; ReLU and maximum pooling",
        "LeCun et al. 1998",
        {MNIST: 61_706},
        smallest=12,
    ),
    "resnet20": ModelRow(
        "resnet:resnet20", OPTION_A, HE, {CIFAR: 269_722, MNIST: 269_434}, {"width": 16}
    ),
    "resnet32": ModelRow("resnet:resnet32", OPTION_A, HE, {CIFAR: 464_154}, {"width": 16}),
    "resnet44": ModelRow("resnet:resnet44", OPTION_A, HE, {CIFAR: 658_586}, {"width": 16}),
    "resnet56": ModelRow("resnet:resnet56", OPTION_A, HE, {CIFAR: 853_018}, {"width": 16}),
    "resnet110": ModelRow("resnet:resnet110", OPTION_A, HE, {CIFAR: 1_727_962}, {"width": 16}),
    "resnet18": ModelRow(
        "resnet:resnet18",
        "ResNet-18 in CIFAR form: 3×3 stem, no pooling after it, shortcuts of option B",
        "He et al. 2016, Table 1",
        {CIFAR: 11_173_962},
        {"width": 64},
    ),
    "resnet34": ModelRow(
        "resnet:resnet34",
        "ResNet-34 in CIFAR form, as resnet18",
        "He et al. 2016, Table 1",
        {CIFAR: 21_282_122},
        {"width": 64},
    ),
    "densenet100": ModelRow(
        "densenet:densenet100",
        DENSE,
        HUANG,
        {CIFAR: 27_249_082},
        {"growth": 24, "dropout": 0.0},
        smallest=4,
    ),
    "densenet100-bc": ModelRow(
        "densenet:densenet100_bc",
        f"{DENSE}; with bottlenecks, and transitions that halve the channels",
        HUANG,
        {CIFAR: 3_020_506},
        {"growth": 24, "dropout": 0.0},
        smallest=4,
    ),
    "vgg16": ModelRow(
        "vgg:vgg16",
        "VGG-16 in CIFAR form: 13 convolutions of width to 8·width channels, two hidden layers of "
        "8·width units with dropout before each",
        "Simonyan and Zisserman 2015, column D",
        {CIFAR: 15_245_130, MNIST: 15_243_978},
        {"width": 64, "batch_norm": False, "dropout": 0.5},
        smallest=17,
    ),
    "vgg-like": ModelRow(
        "vgg:vgg_like",
        "blocks of two 3×3 convolutions and a pooling, width channels in the last and half as many "
        "in each before it; dense hidden layers of 128 units, each with dropout",
        f"{PGDL}, tasks 1 and 8",
        {CIFAR: 5_626_378, MNIST: 5_165_322},
        {"width": 512, "blocks": 3, "dense": 1, "batch_norm": False, "dropout": 0.0},
        smallest=8,
    ),
    "nin": ModelRow(
        "nin:nin",
        "network in network: blocks of a 3×3 convolution with stride 2 and two of 1×1, each with "
        "dropout; average over space",
        f"{PGDL}, tasks 2, 6 and 9",
        {CIFAR: 1_584_650},
        {"width": 256, "blocks": 3, "batch_norm": False, "dropout": 0.0},
    ),
    "gsnr-mnist": ModelRow(
        "gsnr:gsnr_mnist",
        "two 5×5 convolutions of p = channels and int(2.5 p) outputs, a hidden layer; weights "
        "N(0, initial_sd²) where that is not 0",
        "Liu et al. 2020 (GSNR), Table 2",
        {MNIST: 40_081},
        {"channels": 6, "initial_sd": 0.0},
        smallest=16,
    ),
    "gsnr-cifar": ModelRow(
        "gsnr:gsnr_cifar",
        "eight 3×3 convolutions with BatchNorm, p = channels to 8p, two hidden layers of 8p units",
        "Liu et al. 2020 (GSNR), Table 3 with q = p",
        {CIFAR: 53_776},
        {"channels": 6},
        smallest=16,
    ),
    "mobilenet": ModelRow(
        "mobilenet:mobilenet",
        "MobileNet in CIFAR form (first stride 1); width multiplies all channels",
        "Howard et al. 2017",
        {CIFAR: 3_217_226},
        {"width": 1.0},
    ),
}

RTDL = "rtdl_revisiting_models"  # the package of these
GORISHNIY = "Gorishniy et al. 2021"
TABULAR: Mapping[str, ModelRow] = {
    "tabular-resnet": ModelRow(
        "rtdl:tabular_resnet",
        "residual net for tables: depth blocks of BatchNorm and a hidden layer, width wide",
        GORISHNIY,
        {},
        {"width": 192, "depth": 2, "dropout": 0.3},
    ),
    "ft-transformer": ModelRow(
        "rtdl:ft_transformer",
        "transformer for tables: depth layers over a token for each column",
        GORISHNIY,
        {},
        {"depth": 3},
    ),
}
TOKEN_MODELS: Mapping[str, ModelRow] = {  # of inputs that are token ids
    "bag-of-embeddings": ModelRow(
        "tokens:bag_of_embeddings",
        "the mean of the tokens' embeddings of width numbers, depth hidden layers of as many units "
        "with ReLU and dropout; for a class of each position, that mean beside the token's own",
        "Joulin et al. 2017, Iyyer et al. 2015",
        {},
        {"width": 64, "depth": 1, "dropout": 0.0},
        smallest=0,
    ),
    "transformer": ModelRow(
        "tokens:transformer",
        "torch's TransformerEncoder: depth layers of width units and heads heads, 4·width hidden "
        "units, each with dropout, norms before; sines for the places; the mean over places",
        "Vaswani et al. 2017, Xiong et al. 2020",
        {},
        {"width": 64, "depth": 2, "heads": 4, "dropout": 0.0},
        smallest=0,
    ),
}
OWN: Mapping[str, ModelRow] = {**MODELS, **TABULAR, **TOKEN_MODELS}

TORCHVISION = ModelRow(
    "",
    "any classifier of torchvision.models by its name there, such as torchvision/resnet18, for the "
    "data set's channels and classes, without weights",
    "torchvision.models",
    {},
    smallest=0,
)
BUILDERS: Mapping[str, str] = {
    name: f"hpogen.training.models.{row.builder}" for name, row in OWN.items()
}


def listing(names: Iterable[str] | None = None) -> list[dict[str, Any]]:
    """What `hpogen list models` shows: the built-in models, those of plug-ins, torchvision's.

    With `names` the models of those names, and torchvision's.
    """
    chosen = plugins.models.names() if names is None else names
    rows = {name: OWN.get(name) or _plugin(name) for name in chosen}
    return [
        {
            "name": name,
            "definition": row.definition,
            "source": row.source,
            "parameters": dict(row.parameters),
            "smallest": row.smallest or None,
            "options": dict(row.options),
        }
        for name, row in (*rows.items(), ("torchvision/NAME", TORCHVISION))
    ]


def _plugin(name: str) -> ModelRow:
    """What is known of a plug-in's model."""
    builder = plugins.models.get(name)
    options = {
        key: None if default is ... else default
        for key, (_, default) in plugins.options_of(builder).items()
    }
    definition = (inspect.getdoc(builder) or "").partition("\n")[0]
    return ModelRow("", definition, "plug-in", {}, options, smallest=0)
