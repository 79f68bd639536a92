"""Any program can be trained: it prints one JSON object per epoch."""

import argparse
import json

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--steps", type=int)
parser.add_argument("--epochs", type=int)
arguments = parser.parse_args()

x = 1.0
for epoch in range(arguments.epochs):
    for _ in range(arguments.steps):
        x -= arguments.lr * 2 * x
    print("epoch", epoch + 1)  # what is no JSON object goes to the trial's log
    print(json.dumps({"val_loss": x * x}), flush=True)
