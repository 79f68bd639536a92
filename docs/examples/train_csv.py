"""A program that knows nothing of hpogen: it writes a CSV file, a row per epoch."""

import argparse
import csv

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--epochs", type=int)
parser.add_argument("--out")
arguments = parser.parse_args()

with open(arguments.out, "w", newline="", buffering=1) as file:
    writer = csv.writer(file)
    writer.writerow(["epoch", "val_loss"])
    x = 1.0
    for epoch in range(arguments.epochs):
        x -= arguments.lr * 2 * x
        writer.writerow([epoch, x * x])
