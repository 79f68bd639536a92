"""A task that goes on where it was interrupted: its state is saved before each yield."""

import numpy as np

from hpogen.plugins import task


@task("descent", metrics=("val_loss",), resumable=True)
def train(trial, *, samples: int = 1000):
    data = np.random.default_rng(0)
    x = data.normal(size=(samples, 10))  # (N, D)
    y = x @ np.arange(10) + data.normal(size=samples)  # (N,)
    half = samples // 2
    done = trial.start_epoch  # epochs whose yield was received; saved under their number
    weights = np.load(trial.directory / f"{done}.npy") if done else np.zeros(10)
    for epoch in range(done + 1, trial.budget + 1):
        gradient = x[:half].T @ (x[:half] @ weights - y[:half]) / half
        weights = weights - trial.config["lr"] * gradient
        np.save(trial.directory / f"{epoch}.npy", weights)
        yield {"val_loss": np.mean((x[half:] @ weights - y[half:]) ** 2)}
