"""The same training as the trial of a study: what is new is the callback, and `yield from`."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
import numpy as np

from hpogen.integrations.keras import Report
from hpogen.plugins import task


def make_model(lr):
    layers = keras.layers.Dense(32, activation="relu"), keras.layers.Dropout(0.2)
    model = keras.Sequential([keras.Input((10,)), *layers, keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(lr), loss, metrics=["accuracy"])
    return model


x = np.random.default_rng(0).standard_normal((600, 10), dtype="float32")
y = (x[:, 0] * x[:, 1] > 0).astype("int64")
TRAIN, VALIDATION = (x[:200], y[:200]), (x[200:400], y[200:400])
OPTIONS = {"batch_size": 20, "validation_data": VALIDATION, "verbose": 0}


def audit(model):
    return {"error": 1 - model.evaluate(x[400:], y[400:], verbose=0, return_dict=True)["accuracy"]}


@task("keras-net", metrics=("val_loss",), audit=("error",), resumable=True)
def train(trial):
    report = Report(trial, audit=audit)
    yield from report.fit(make_model(trial.config["lr"]), *TRAIN, **OPTIONS)
