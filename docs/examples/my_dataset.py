"""A data set of one's own: uint8 images (N, C, H, W), labels from 0 on, training and test."""

import numpy as np

from hpogen.plugins import dataset
from hpogen.training.data import ImageData


@dataset("stripes")
def stripes(root, *, images: int = 1000, noise: float = 80.0):
    """Eight orientations; files of your own would be read from the folder `root`."""
    generator = np.random.default_rng(0)
    angles = np.arange(8) * np.pi / 8
    row, column = np.mgrid[:16, :16]  # (H, W)

    def draw(count):
        labels = generator.integers(0, 8, count)  # (N,)
        cosine, sine = np.cos(angles[labels]), np.sin(angles[labels])
        phase = row * sine[:, None, None] + column * cosine[:, None, None]  # (N, H, W)
        pixels = 127 + 90 * np.sin(phase) + generator.normal(0, noise, phase.shape)
        return pixels.clip(0, 255).astype(np.uint8)[:, None], labels

    return ImageData(*draw(images), *draw(images), classes=8, name="stripes")
