"""torchvision's transforms by name: each image by itself, the same when a trial is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.transforms import v2
from training.features import resumed, steps_of
from training.runs import CONFIG, epochs, task, trial

from hpogen.errors import UserError
from hpogen.training.forms.transforms import TRANSFORMS, Transform
from hpogen.training.graphs import Tape
from hpogen.training.recipe import begin
from hpogen.training.step import Steps
from hpogen.training.transforms import Transforms

NEEDED = {  # options without a default, or that keep the size
    "RandomRotation": {"degrees": 20},
    "RandomAffine": {"degrees": 20},
    "RandomCrop": {"size": [16, 16], "padding": 2},
    "RandomResizedCrop": {"size": [16, 16]},
    "ElasticTransform": {"sigma": 1.0},
    "ColorJitter": {"brightness": 0.4},
    "RandomPosterize": {"bits": 3},
    "RandomSolarize": {"threshold": 100},
    "RandomAdjustSharpness": {"sharpness_factor": 2},
    "GaussianBlur": {"kernel_size": 3},
}
ERASED = {"transforms": [{"name": "RandomErasing", "p": 0.5}, "RandomHorizontalFlip"]}


def one(name: str) -> Transform:
    return Transform.model_validate({"name": name, **NEEDED.get(name, {})})


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_takes_its_images_one_by_one(name: str) -> None:
    images = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8).expand(12, -1, -1, -1)
    apply, before = Transforms([one(name)], (3, 16, 16)), torch.get_rng_state()
    found = apply(images, 5)
    assert torch.equal(found, apply(images, 5))
    assert torch.equal(before, torch.get_rng_state())
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    assert len(found.flatten(1).unique(dim=0)) > 1  # not all alike
    assert not torch.equal(found, apply(images, 6))


def test_a_batch_is_what_a_loop_gives() -> None:
    images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    given = [one("RandomErasing"), one("RandomAffine")]
    found = Transforms(given, (1, 8, 8))(images, 3)
    erase, turn = v2.RandomErasing(), v2.RandomAffine(20)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        assert torch.equal(found, torch.stack([turn(erase(image)) for image in images]))


def test_training_alone_sees_them(tmp_path: Path) -> None:
    plain = steps_of(task(), trial(tmp_path, budget=1))
    erased = steps_of(task(ERASED), trial(tmp_path, budget=1))
    assert plain.curve != erased.curve
    settings = task({"transforms": ["RandomInvert"]}, schedule={"warmup": {"steps": 10**9}})
    told = epochs(settings, trial(tmp_path, {**CONFIG, "lr": 1e-9}), "train_loss")[-1].metrics
    assert told["train_loss"] != pytest.approx(told["train_loss_online"], rel=1e-3)


def test_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    settings = task({**ERASED, "augment": "standard", "rotate": 10.0})
    whole, parts = resumed(settings, tmp_path, {**CONFIG, "mixup": 0.4}, "agn_online", "val_loss")
    assert whole == parts


def test_the_same_from_a_tape(tmp_path: Path) -> None:
    """The steps of a GPU, run on a CPU: eager ones."""
    nets = []
    for tape in (None, Tape(torch.device("cpu"))):
        recipe, state = begin(task(ERASED), trial(tmp_path), frozenset())
        for _ in Steps(recipe, state, tape).epoch():
            pass
        nets.append(state.model)
    torch.testing.assert_close(*(dict(n.state_dict()) for n in nets), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "RandomErasing", "q": 1}, "RandomErasing: .*unexpected keyword argument 'q'"),
        ({"name": "RandomErasing", "p": 2}, "RandomErasing: .*should be a floating point"),
        ("RandomAffine", "RandomAffine: .*missing 1 required positional argument: 'degrees'"),
        ({"name": "RandomCrop", "size": 4}, r"RandomCrop gives images \(1, 4, 4\) of \(1, 8, 8\)"),
        ("ElasticTransform", "ElasticTransform: .*Padding size should be less"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_trial(given: Any, said: str) -> None:
    settings = task({"transforms": [given]})
    with pytest.raises(UserError, match=f"^task.dataset.transforms: {said}") as caught:
        settings.prepare()
    assert "\n" not in str(caught.value)


def test_an_unknown_name_has_its_neighbour() -> None:
    with pytest.raises(ValueError, match="'RandomErase' is unknown; did you mean 'RandomErasing'"):
        task({"transforms": ["RandomErase"]})


def test_the_record_reads_back(tmp_path: Path) -> None:
    settings = task(ERASED)
    assert type(settings).model_validate_json(settings.model_dump_json(by_alias=True)) == settings
