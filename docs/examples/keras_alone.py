"""A training with Keras, before there is a study."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
import numpy as np


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

history = make_model(0.01).fit(*TRAIN, epochs=3, **OPTIONS)
