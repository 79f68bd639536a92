"""Augmentation and schedules, each against what it is defined to be."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from hpogen.training.augment import PAD, crop_and_flip, cut, draw, rotated
from hpogen.training.forms.schedule import Schedule, rate

CPU = torch.device("cpu")


@pytest.mark.parametrize("on_cpu", [True, False])
def test_crop_and_flip_one_image_at_a_time(on_cpu: bool) -> None:
    images = torch.randint(0, 256, (20, 3, 6, 5), dtype=torch.uint8)
    draws = draw(20, True, seed=3, device=CPU)
    assert draws.shifts is not None
    assert draws.flips is not None
    if on_cpu:
        got = crop_and_flip(images, draws.shifts, draws.flips)
    else:  # what a GPU runs
        got = cut(functional.pad(images, (PAD,) * 4), draws.shifts, draws.flips)
    for i in range(20):
        row, column = draws.shifts[i].tolist()
        padded = functional.pad(images[i], (PAD,) * 4)
        expected = padded[:, row : row + 6, column : column + 5]
        assert torch.equal(got[i], expected.flip(2) if draws.flips[i] else expected)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 12, 20)])
def test_rotation_is_torchvisions(shape: tuple[int, int, int]) -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import rotate

    images = torch.rand(5, *shape) * 255
    angles = torch.tensor([0.0, 90.0, -17.0, 180.0, 33.3])
    for got, image, angle in zip(rotated(images, angles), images, angles.tolist(), strict=True):
        expected = rotate(image, angle, interpolation=InterpolationMode.BILINEAR)
        torch.testing.assert_close(got, expected, atol=0.01, rtol=0)


def test_angles_are_drawn_in_their_range_after_all_else() -> None:
    plain, turned = draw(1000, True, 1, CPU), draw(1000, True, 1, CPU, rotate=15)
    assert turned.angles is not None
    assert plain.shifts is not None
    assert turned.shifts is not None
    assert torch.equal(plain.order, turned.order)
    assert torch.equal(plain.shifts, turned.shifts)
    assert turned.angles.abs().max() <= 15
    assert turned.angles.min() < -14
    assert turned.angles.max() > 14


def test_draws_come_from_their_seed_alone() -> None:
    first, again, other = draw(100, True, 1, CPU), draw(100, True, 1, CPU), draw(100, True, 2, CPU)
    assert torch.equal(first.order, again.order)
    assert not torch.equal(first.order, other.order)
    assert sorted(first.order.tolist()) == list(range(100))
    assert first.shifts is not None
    assert set(first.shifts.flatten().tolist()) == set(range(2 * PAD + 1))
    assert draw(100, False, 1, CPU).shifts is None
    assert torch.equal(draw(100, False, 1, CPU).order, first.order)


def rates(schedule: Schedule, total: int, epochs: int = 0, steps: int = 2) -> list[float]:
    epochs = epochs or total
    return [rate(schedule, 1.0, i / steps, 1 / steps, total, epochs) for i in range(total * steps)]


def test_constant_and_warm_up() -> None:
    assert rates(Schedule(), 2) == [1.0] * 4
    assert rates(Schedule(warmup=2), 3) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_steps_at_milestones() -> None:
    assert rates(Schedule(name="step", milestones=(2, 3), gamma=0.5), 4) == [
        *[1.0] * 4,
        *[0.5] * 2,
        *[0.25] * 2,
    ]
    assert rates(Schedule(name="step"), 8)[::2] == pytest.approx([1.0] * 4 + [0.1] * 2 + [0.01] * 2)


def test_a_schedule_anchored_to_the_budget_is_squeezed() -> None:
    squeezed = rates(Schedule(name="step", milestones=(4,), gamma=0.5), total=4, epochs=8)
    assert squeezed == [1.0] * 4 + [0.5] * 4


def test_cosine() -> None:
    schedule = Schedule(name="cosine", warmup=2)
    expected = [0.5 * (1 + math.cos(math.pi * i / 12)) for i in range(12)]
    assert rates(schedule, 8) == pytest.approx([0.25, 0.5, 0.75, 1.0, *expected])


def test_warm_up_by_steps_is_that_by_epochs_where_they_are_as_long() -> None:
    for name in ("constant", "step", "cosine"):
        by_epochs = Schedule.model_validate({"name": name, "warmup": 2})
        by_steps = Schedule.model_validate({"name": name, "warmup": {"steps": 10}})
        assert rates(by_steps, 8, steps=5) == pytest.approx(rates(by_epochs, 8, steps=5))
    within = rates(Schedule.model_validate({"warmup": {"steps": 3}}), 2, steps=4)
    assert within == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1])
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Schedule.model_validate({"warmup": {"steps": 0}})
