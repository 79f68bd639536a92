"""A task that goes on from the file that it kept after each epoch."""

from hpogen.plugins import task


@task("tally", metrics=("val_loss",), resumable=True)
def train(trial):
    done = trial.start_epoch
    total = float((trial.directory / f"{done}.txt").read_text()) if done else 0.0
    for epoch in range(done + 1, trial.budget + 1):
        total += trial.config["x"] + trial.seed % 7
        (trial.directory / f"{epoch}.txt").write_text(repr(total))
        yield {"val_loss": total}
