"""`torchvision/NAME`: several kinds of classifier, adapted to the images or refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from training.runs import task

from hpogen import plugins
from hpogen.errors import Refusal, UserError
from hpogen.plugins.registry import Registry
from hpogen.training.forms.inputs import Inputs
from hpogen.training.models.build import build, unfit

RGB, GREY = (3, 32, 32), (1, 32, 32)


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("resnet18", 64 * 49),
        ("vgg11", 64 * 9),
        ("mobilenet_v3_small", 16 * 9),
        ("densenet121", 64 * 49),
        ("squeezenet1_0", 96 * 49),
        ("vit_b_16", 768 * 256),
        ("googlenet", 64 * 49),
        ("regnet_y_400mf", 32 * 9),
    ],
)
def test_channels_and_classes_are_adapted(name: str, stem: int) -> None:
    """`stem` is how many weights of the first convolution an input channel has."""
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        colour, grey = (build(f"torchvision/{name}", {}, Inputs(shape, 7)) for shape in (RGB, GREY))
        assert colour.eval()(torch.empty(2, *RGB)).shape == (2, 7)
        assert grey.eval()(torch.empty(2, *GREY)).shape == (2, 7)
    assert size(colour) - size(grey) == 2 * stem


def test_with_three_channels_it_is_torchvisions_own_model() -> None:
    torch.manual_seed(3)
    ours = build("torchvision/resnet18", {}, Inputs(RGB, 7))
    torch.manual_seed(3)
    own = torchvision.models.resnet18(weights=None, num_classes=7)
    for (name, p), (same, q) in zip(ours.named_parameters(), own.named_parameters(), strict=True):
        assert name == same and torch.equal(p, q)


def test_a_vision_transformer_is_given_the_size() -> None:
    with torch.device("meta"):
        model = build("torchvision/vit_b_16", {}, Inputs((3, 48, 48), 5))
        assert model(torch.empty(2, 3, 48, 48)).shape == (2, 5)
    assert model.get_parameter("encoder.pos_embedding").shape[1] == 3 * 3 + 1
    reason = unfit("torchvision/vit_b_16", {}, Inputs((3, 32, 48), 5))
    assert reason is not None and "needs square images, got 32×48" in reason


@pytest.mark.parametrize(
    ("name", "shape", "text"),
    [
        ("alexnet", RGB, "'torchvision/alexnet' cannot take images of 32×32; 64×64 would do: "),
        ("inception_v3", RGB, "cannot take images of 32×32; 96×96 would do: "),
        ("vgg11", (1, 28, 28), "cannot take images of 28×28; 32×32 would do: "),
        ("vit_b_16", (1, 28, 28), "would do: Input shape indivisible by patch size!"),
    ],
)
def test_images_that_it_cannot_take(name: str, shape: tuple[int, int, int], text: str) -> None:
    reason = unfit(f"torchvision/{name}", {}, Inputs(shape, 10))
    assert reason is not None and text in reason and "\n" not in reason
    with pytest.raises(ValueError, match="cannot take images of"):
        build(f"torchvision/{name}", {}, Inputs(shape, 10))
    size = int(text.partition("; ")[2].partition("×")[0] or 32)
    assert unfit(f"torchvision/{name}", {}, Inputs((shape[0], size, size), 10)) is None


def test_inception_gives_one_output() -> None:
    with torch.device("meta"):
        model = build("torchvision/inception_v3", {}, Inputs((3, 96, 96), 5))
        assert model.train()(torch.empty(2, 3, 96, 96)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet17", "did you mean 'torchvision/resnet18'?"),
        ("fasterrcnn_resnet50_fpn", "is unknown (a classifier of torchvision.models"),
        ("deeplabv3_resnet50", "is unknown"),
        ("r3d_18", "is unknown"),
    ],
)
def test_an_unknown_name(name: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        plugins.models.get(f"torchvision/{name}")
    assert words in str(caught.value) and f"'torchvision/{name}'" in str(caught.value)
    with pytest.raises(ValueError, match="'torchvision/"):
        task(model=f"torchvision/{name}")


def test_options_are_plain_keywords_of_the_class() -> None:
    def options(name: str) -> dict[str, Any]:
        declared = plugins.options_of(plugins.models.get(f"torchvision/{name}"))
        return {key: default for key, (_, default) in declared.items()}

    assert options("vgg11") == {"dropout": 0.5}
    assert options("vit_b_16") == {"dropout": 0.0, "attention_dropout": 0.0}
    assert "dropout" in options("inception_v3") and "aux_logits" not in options("inception_v3")
    assert "stochastic_depth_prob" not in options("swin_t")  # torchvision sets it itself
    assert "groups" not in options("resnext50_32x4d")
    model = build("torchvision/vgg11", {"dropout": 0.25}, Inputs(RGB, 10))
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.25}


def test_in_a_task() -> None:
    settings = task({"name": "svhn"}, model={"name": "torchvision/vgg11", "dropout": 0.1})
    assert settings.model.options() == {"dropout": 0.1}
    with pytest.raises(ValueError, match="'dropuot' is unknown; did you mean 'dropout'"):
        task({"name": "svhn"}, model={"name": "torchvision/vgg11", "dropuot": 0.1})
    with pytest.raises(ValueError, match="data set 'digits': model 'torchvision/vgg11' cannot"):
        task(model="torchvision/vgg11")
    task({"name": "svhn"}, model="torchvision/resnet18", measures=["agn"])
    with pytest.raises(Refusal, match=r"SqueezeNet has no nn\.Linear"):
        task({"name": "svhn"}, model="torchvision/squeezenet1_0", measures=["agn"])


def test_a_family_of_a_registry() -> None:
    here = "hpogen.training.models.torchvision_family:family"
    registry: Registry[Any] = Registry("model", **{"torchvision/": here, "mlp": "nowhere:mlp"})
    assert registry.names() == ["mlp"]
    assert registry.choices() == ["mlp", "torchvision/NAME"]
    assert "torchvision/resnet18" in registry and "torchvision/resnet17" not in registry
    assert not registry.is_builtin("torchvision/resnet18")
    with pytest.raises(UserError, match="'torchvision/mine' is built in"):
        registry.add("torchvision/mine", object())
    with pytest.raises(UserError, match=r"'mlq' is unknown; did you mean 'mlp'\? \(mlp, torchv"):
        registry.check("mlq")
    registry.check("mlp")  # imports nothing
