"""torchvision's transforms that a data set's images may go through in training, by their names.

Part of `dataset.py`; `training/transforms.py` makes them, and finds out there whether options fit.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel

from hpogen.errors import unknown
from hpogen.training.forms.options import OPEN

TRANSFORMS = (  # those of torchvision.transforms.v2 that give an image of the same size and type
    *("RandomHorizontalFlip", "RandomVerticalFlip", "RandomRotation", "RandomAffine"),
    *("RandomPerspective", "ElasticTransform", "RandomCrop", "RandomResizedCrop", "RandomErasing"),
    *("ColorJitter", "RandomPhotometricDistort", "RandomGrayscale", "RandomInvert"),
    *("RandomPosterize", "RandomSolarize", "RandomAutocontrast", "RandomEqualize"),
    *("RandomAdjustSharpness", "GaussianBlur"),
    *("AutoAugment", "RandAugment", "TrivialAugmentWide", "AugMix"),
)


def _known(name: str) -> str:
    if name not in TRANSFORMS:
        raise ValueError(unknown("", name, TRANSFORMS))
    return name


class Transform(BaseModel):
    """One of torchvision's transforms; further keys are its arguments."""

    model_config = OPEN

    name: Annotated[str, AfterValidator(_known)]
    """Its name in torchvision.transforms.v2, such as RandomErasing; a bare string is the name."""

    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})
