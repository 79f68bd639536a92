"""What has a name in the YAML: the registries, the decorators that fill them, plug-in files."""

from hpogen.plugins.decorators import dataset, measure, model, searcher, task
from hpogen.plugins.files import load_file, load_installed
from hpogen.plugins.parts import (
    LAST_LINEAR,
    Measure,
    Measured,
    TaskFunction,
    datasets,
    measures,
    models,
    options_of,
    resolved,
    searchers,
    tasks,
)
from hpogen.plugins.registry import Registry

__all__ = [
    "LAST_LINEAR",
    "Measure",
    "Measured",
    "Registry",
    "TaskFunction",
    "dataset",
    "datasets",
    "load_file",
    "load_installed",
    "measure",
    "measures",
    "model",
    "models",
    "options_of",
    "resolved",
    "searcher",
    "searchers",
    "task",
    "tasks",
]
