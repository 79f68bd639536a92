"""A task of one's own, here with scikit-learn: each yield is an epoch."""

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from hpogen.plugins import task


@task("linear-digits", metrics=("val_loss", "val_accuracy"))
def train(trial, *, validation: float = 0.5):
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images / 16, labels, test_size=validation, random_state=0)
    x_train, x_val, y_train, y_val = split
    model = SGDClassifier(
        loss="log_loss",
        learning_rate="constant",
        eta0=trial.config["lr"],
        alpha=trial.config["weight_decay"],
        random_state=trial.seed % 2**32,
    )
    for _ in range(trial.budget):
        model.partial_fit(x_train, y_train, classes=range(10))
        loss = log_loss(y_val, model.predict_proba(x_val))
        yield {"val_loss": loss, "val_accuracy": model.score(x_val, y_val)}
