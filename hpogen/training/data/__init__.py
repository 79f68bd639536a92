"""The data of a trial. A user's data set is a loader that returns ImageData, or any Data."""

from hpogen.training.data.data import Data, Samples, streamed
from hpogen.training.data.image_data import ImageData
from hpogen.training.data.loaded import give, load
from hpogen.training.data.stream import Streamed
from hpogen.training.forms.tokens import Tokens

__all__ = ["Data", "ImageData", "Samples", "Streamed", "Tokens", "give", "load", "streamed"]
