"""The border where a study's YAML becomes a StudySpec, and every mistake in it one placed line."""

from hpogen.spec.differences import changes, differences
from hpogen.spec.form import Checkpoints, Limits, Stop
from hpogen.spec.loading import StudySpec, load_study
from hpogen.spec.parts import SearcherSpec
from hpogen.spec.studies import Studies, load_studies

__all__ = [
    "Checkpoints",
    "Limits",
    "SearcherSpec",
    "Stop",
    "Studies",
    "StudySpec",
    "changes",
    "differences",
    "load_studies",
    "load_study",
]
