"""The images of a trial. A user's data set is a loader that returns ImageData."""

from hpogen.training.data.image_data import ImageData
from hpogen.training.data.loaded import give, load

__all__ = ["ImageData", "give", "load"]
