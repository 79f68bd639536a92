"""The programs that `hpogen init` writes for the tasks `command` and `function`: a start to change.

Both train the same linear classifier on scikit-learn's digits.
"""

COMMAND = '''"""Trains one configuration; prints a JSON object after each epoch, which hpogen reads.

Any program in any language may stand in its place.
"""

import argparse
import json

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--weight-decay", type=float, required=True)
parser.add_argument("--epochs", type=int, required=True)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

images, labels = load_digits(return_X_y=True)
split = train_test_split(images / 16, labels, test_size=0.4, random_state=0)
x_train, x_val, y_train, y_val = split
model = SGDClassifier(
    loss="log_loss",
    learning_rate="constant",
    eta0=arguments.lr,
    alpha=arguments.weight_decay,
    random_state=arguments.seed % 2**32,
)
for epoch in range(arguments.epochs):
    model.partial_fit(x_train, y_train, classes=range(10))
    metrics = {
        "val_loss": log_loss(y_val, model.predict_proba(x_val)),
        "val_accuracy": model.score(x_val, y_val),
        "train_loss": log_loss(y_train, model.predict_proba(x_train)),
    }
    print("epoch", epoch + 1)  # what is no JSON object goes to the trial's log
    print(json.dumps(metrics), flush=True)
'''

FUNCTION = '''"""A task of one's own: each yield is an epoch, its mapping the metrics after it."""

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from hpogen.plugins import task


@task("NAME", metrics=("val_loss", "val_accuracy", "train_loss"))
def train(trial, *, validation: float = 0.4):
    """What stands behind the * are options: keys beside `name` in the YAML's task."""
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
        yield {
            "val_loss": log_loss(y_val, model.predict_proba(x_val)),
            "val_accuracy": model.score(x_val, y_val),
            "train_loss": log_loss(y_train, model.predict_proba(x_train)),
        }
'''
