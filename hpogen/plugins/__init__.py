"""What has a name in the YAML: the registries, the decorators that fill them, plug-in files."""

from hpogen.plugins.binding import FILES, File, Scope, in_scope, scope, scoped
from hpogen.plugins.decorators import dataset, loss, measure, model, searcher, task
from hpogen.plugins.files import bind_file, load_file, load_installed
from hpogen.plugins.functions import Given, bind_function, give
from hpogen.plugins.parts import (
    DEFAULT_TASK,
    FROM_VALIDATION,
    LAST_LINEAR,
    OWN_TASKS,
    Measure,
    Measured,
    TaskFunction,
    datasets,
    losses,
    measures,
    models,
    options_of,
    resolved,
    searchers,
    takes_data,
    tasks,
)
from hpogen.plugins.registry import Registry

__all__ = [
    "DEFAULT_TASK",
    "FILES",
    "FROM_VALIDATION",
    "LAST_LINEAR",
    "OWN_TASKS",
    "File",
    "Given",
    "Measure",
    "Measured",
    "Registry",
    "Scope",
    "TaskFunction",
    "bind_file",
    "bind_function",
    "dataset",
    "datasets",
    "give",
    "in_scope",
    "load_file",
    "load_installed",
    "loss",
    "losses",
    "measure",
    "measures",
    "model",
    "models",
    "options_of",
    "resolved",
    "scope",
    "scoped",
    "searcher",
    "searchers",
    "takes_data",
    "task",
    "tasks",
]
