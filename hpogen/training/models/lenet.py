"""LeNet-5 (LeCun et al. 1998) as it is used today: ReLU, maximum pooling, full connections."""

from __future__ import annotations

from torch import nn

from hpogen.training.models.parts import Ablated, HalvingMaximum, check_size


class LeNet5(Ablated):
    """Units are removed from the last hidden activation."""


def lenet5(in_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """61,706 parameters for 28×28×1 images and 10 classes.

    Raises ValueError for images of less than 12×12 pixels.
    """
    channels, height, width = in_shape
    check_size("lenet5", in_shape)
    rows, columns = (height // 2 - 4) // 2, (width // 2 - 4) // 2
    return LeNet5(
        nn.Conv2d(channels, 6, 5, padding=2),
        HalvingMaximum(),  # before the ReLU: the same function at a quarter of its cost
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 16, 5),
        HalvingMaximum(),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(16 * rows * columns, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, 84),
        nn.ReLU(inplace=True),
        nn.Linear(84, classes),
    )
