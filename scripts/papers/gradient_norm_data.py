"""What a study of the gradient-norm paper trains on; Figures 1 and 3 say it in their titles."""

from __future__ import annotations

from typing import Any

from hpogen.spec import StudySpec


def sizes(spec: StudySpec) -> dict[str, Any]:
    """The name of the data set, how many of its images are trained on, and the epochs."""
    from hpogen.training.forms.dataset import Dataset

    task = spec.task.record()
    images = Dataset.model_validate(task["dataset"]).subset_size()
    return {"data": task["dataset"]["name"], "images": images, "epochs": task["epochs"]}
