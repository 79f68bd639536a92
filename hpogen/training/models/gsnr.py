"""The convolutional nets of the GSNR paper (Liu et al. 2020): its Tables 2 and 3."""

from __future__ import annotations

from torch import nn

from hpogen.training.models.parts import (
    Ablated,
    HalvingMaximum,
    check_least,
    check_size,
    convolution,
)


class GsnrNet(Ablated):
    """Units are removed from the last hidden activation."""


def gsnr_mnist(
    in_shape: tuple[int, int, int], classes: int, *, channels: int = 6, initial_sd: float = 0.0
) -> nn.Module:
    """40,081 parameters for 28×28×1 images and 10 classes.

    Table 2: two unpadded 5×5 convolutions with p = `channels` (6, 8, …, 20) and q = int(2.5 p)
    outputs, so that 16 q values are left of 28×28 pixels, and 10 q hidden units. The table has a
    ReLU after the last layer, too; it is left out: a logit could not be negative, all gradients of
    a sample vanish once its logits are, Table 3 has none, and head measures would be undefined.
    The paper names no initialisation: torch's own, or weights N(0, `initial_sd`²) and biases 0
    where that is not 0. Raises ValueError for images of less than 16×16 pixels.
    """
    check_size("gsnr-mnist", in_shape)
    check_least("gsnr-mnist", channels=channels)
    check_least("gsnr-mnist", 0, initial_sd=initial_sd)
    depth, height, width = in_shape
    p, q = channels, int(2.5 * channels)
    rows, columns = (((side - 4) // 2 - 4) // 2 for side in (height, width))
    net = GsnrNet(
        nn.Conv2d(depth, p, 5),
        HalvingMaximum(),  # before the ReLU: the same function at a quarter of its cost
        nn.ReLU(inplace=True),
        nn.Conv2d(p, q, 5),
        HalvingMaximum(),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(q * rows * columns, 10 * q),
        nn.ReLU(inplace=True),
        nn.Linear(10 * q, classes),
    )
    if initial_sd:
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=initial_sd if parameter.ndim > 1 else 0.0)
    return net


def gsnr_cifar(in_shape: tuple[int, int, int], classes: int, *, channels: int = 6) -> nn.Module:
    """53,776 parameters for 32×32×3 images and 10 classes.

    Table 3: four blocks of two 3×3 convolutions with BatchNorm, of p, 2p, 4p and 8p outputs for p =
    `channels` (6, 8, …, 18), and two hidden layers of 8q units. The table does not define its q; it
    is p, which 32 q = 8p·2·2 values after four poolings ask for. torch's own initialisation: the
    paper names none. Raises ValueError for images of less than 16×16 pixels.
    """
    check_size("gsnr-cifar", in_shape)
    check_least("gsnr-cifar", channels=channels)
    inputs, height, width = in_shape
    layers: list[nn.Module] = []
    for block in range(4):
        outputs = channels << block
        layers += convolution(inputs, outputs, batch_norm=True)
        layers += convolution(outputs, outputs, batch_norm=True)
        layers.append(HalvingMaximum())
        inputs = outputs
    units = 8 * channels
    return GsnrNet(
        *layers,
        nn.Flatten(),
        nn.Linear(inputs * (height // 16) * (width // 16), units),
        nn.ReLU(inplace=True),
        nn.Linear(units, units),
        nn.ReLU(inplace=True),
        nn.Linear(units, classes),
    )
