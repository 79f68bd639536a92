"""Toys in plain arithmetic, so that every machine has the same numbers; one goes on from files."""

import math

from hpogen.plugins import task

METRICS = ("val_loss", "agn")


def bowl(trial, epoch):
    loss = (trial.config.get("x", 0.5) - 0.3) ** 2 + abs(trial.config.get("y", 10) - 10) / 1000
    return {"val_loss": loss + 1 / epoch, "agn": epoch * (1 + loss)}


@task("toy", metrics=METRICS, sums=("agn",))
def toy(trial, *, moody: bool = False):
    for epoch in range(1, trial.budget + 1):
        if moody and trial.id % 4 == 2:
            raise RuntimeError(f"trial {trial.id} is not in the mood")
        if moody and trial.id % 4 == 3:
            yield {"val_loss": math.nan, "agn": 1.0}
        yield bowl(trial, epoch)


@task("keeper", metrics=METRICS, sums=("agn",), resumable=True)
def keeper(trial):
    """Each epoch adds to what was kept after the one before."""
    done = trial.start_epoch
    total = float((trial.directory / f"{done}.txt").read_text()) if done else 0.0
    for epoch in range(done + 1, trial.budget + 1):
        total += bowl(trial, epoch)["val_loss"]
        (trial.directory / f"{epoch}.txt").write_text(repr(total))
        yield {"val_loss": total / epoch, "agn": total}
