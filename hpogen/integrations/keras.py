"""Keras in a study: `Report` is a callback that reports, resumes and stops.

Users import it in their task of their own; nothing else in hpogen does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras  # type: ignore[import-untyped]
import numpy as np

from hpogen.errors import UserError, quoted
from hpogen.integrations import reporting
from hpogen.integrations.reporting import KEPT, EpochFiles, Epochs
from hpogen.trial import RunningTrial, derive_seed

PARTIAL = "partial.weights.h5"


class Report(keras.callbacks.Callback):  # type: ignore[misc]
    """A trial of a study in `model.fit` of Keras 3.

        @task("net", metrics=("val_loss",), audit=("error",), resumable=True)
        def train(trial):
            report = Report(trial, audit=error_on_test)
            yield from report.fit(make_model(trial.config["lr"]), x, y, validation_data=(v, w))

    `metrics` are names of what `fit` logs; they are taken at each epoch's end. `audit` is a
    function of the model that gives the last epoch's audit figures. Measures read torch's layers,
    which Keras does not have.

    It seeds Python, NumPy and the backend by the trial's seed: make it before the model. Each
    epoch, and each of the model's seed generators, is seeded, too, so that a trial which is killed
    or stopped goes on as if it had not been: from the weights and the optimizer's state, which it
    keeps in the trial's folder. What other callbacks remember is not kept. Raises UserError without
    a trial.
    """

    def __init__(
        self,
        trial: RunningTrial | None = None,
        *,
        metrics: Sequence[str] = ("val_loss",),
        audit: Callable[[Any], Mapping[str, float]] | None = None,
    ) -> None:
        super().__init__()
        if audit is not None and not callable(audit):
            raise UserError(
                f"keras.Report: audit: got {quoted(audit)}, expected a function of the model that "
                "gives a mapping of figures"
            )
        self._epochs = Epochs("keras.Report", trial, metrics, (), audit, None, None)
        self._files = EpochFiles(self._epochs.trial.directory, ".weights.h5")
        self._seed(0)

    def fit(self, model: keras.Model, *args: Any, **keys: Any) -> Iterator[reporting.Report]:
        """`model.fit(…)`, for `trial.budget` epochs, giving what each epoch reports.

        Closing the iterator stops it. Raises UserError where something else does, for a metric that
        is not logged, and for a model that has no weights yet.
        """
        trial = self._epochs.trial
        start = self._files.newest(self._epochs.start)
        if start:
            _restore(model, self._files.path(start))
        keys |= {"epochs": trial.budget, "initial_epoch": start}
        keys["callbacks"] = [*(keys.get("callbacks") or ()), self]
        yield from self._epochs.run(model, lambda: model.fit(*args, **keys))
        self._files.drop(trial.budget - 1)

    def on_train_begin(self, logs: Any = None) -> None:
        self._epochs.check("report.fit(model, …)", 1)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._seed(epoch)
        weights = {id(variable) for variable in self.model.weights}
        states = [v for v in self.model.variables if id(v) not in weights]
        for i, state in enumerate(states):  # of its seed generators
            drawn = np.random.default_rng([self._epochs.trial.seed, epoch, i])
            state.assign(drawn.integers(2**31, size=state.shape).astype(state.dtype))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        done = epoch + 1
        report = self._epochs.measured(done, logs or {}, self.model, lambda: None)
        partial = self._epochs.trial.directory / PARTIAL
        self.model.save_weights(partial)
        os.replace(partial, self._files.path(done))
        self._files.drop(done - KEPT)
        if not self._epochs.take(done, report):
            self.model.stop_training = True

    def _seed(self, epoch: int) -> None:
        keras.utils.set_random_seed(derive_seed(self._epochs.trial.seed, epoch) % 2**32)


def _restore(model: keras.Model, path: Path) -> None:
    """The weights and the optimizer's state of a checkpoint."""
    if not model.built:
        raise UserError(
            "keras.Report: the model has no weights yet, into which a checkpoint could be read: "
            "begin it with keras.Input(shape)"
        )
    model.optimizer.build(model.trainable_variables)
    model.load_weights(path)
