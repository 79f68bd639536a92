"""A model of one's own; whatever ends in a Linear layer has the measures of that layer."""

from torch import nn

from hpogen.plugins import model


@model("tiny-convnet")
def build(in_shape, classes, *, width: int = 16):
    channels, _, _ = in_shape
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )
