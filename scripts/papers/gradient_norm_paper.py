"""The gradient-norm paper's Tables 1, 2 and 4: test accuracies in %, mean ± sd of 3.

`gradient_norm_tables.py` sets ours beside them. A row is called by its searcher and its objective,
AGN's by the loss beside it and α; a column by its data set and its network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT = "default"


@dataclass(frozen=True)
class Accuracy:
    """In %; the standard deviation is None for a single training."""

    mean: float
    sd: float | None
    n: int = 3


@dataclass(frozen=True)
class Table:
    """Accuracies by column, then by row, both in the paper's order."""

    cells: Mapping[str, Mapping[str, Accuracy]]

    @property
    def columns(self) -> list[str]:
        return [*self.cells]

    @property
    def methods(self) -> list[str]:
        return [*next(iter(self.cells.values()))]


_RESNETS = ("resnet20", "resnet56")
_COLUMNS = {
    1: [f"{data} {net}" for data in ("cifar10", "cifar100") for net in _RESNETS],
    2: [f"{data} resnet20" for data in ("fashion-mnist", "cifar10", "cifar100")],
    4: [f"{data} {net}" for data in ("fashion-mnist", "svhn") for net in _RESNETS],
}
_ROWS = {
    1: """
default               91.70±0.16 92.97±0.18 66.73±0.56 70.37±0.46
cmaes val             91.86±0.13 92.74±0.20 68.28±0.46 67.08±0.68
pso val               92.26±0.09 93.15±0.09 67.85±0.25 72.11±0.39
cmaes agn+train-0.05  92.22±0.09 93.97±0.28 64.90±0.20 71.30±0.17
cmaes agn+train-0.01  90.46±0.09 91.59±0.19 64.62±0.04 72.37±0.12
cmaes agn+train-0.005 90.36±0.04 93.75±0.18 66.37±0.38 72.18±0.21
cmaes agn+val-0.1     91.94±0.07 93.09±0.04 64.64±0.50 69.14±0.17
cmaes agn+val-0.05    91.56±0.14 92.92±0.15 66.65±0.46 70.04±0.11
cmaes agn+val-0.005   92.08±0.08 93.77±0.06 66.31±0.11 72.49±0.46
pso agn+train-0.05    90.56±0.11 91.66±0.06 62.09±0.26 69.28±0.16
pso agn+train-0.01    91.51±0.04 91.32±0.10 67.46±0.18 67.55±0.52
pso agn+train-0.005   91.92±0.14 91.99±0.31 64.91±0.17 67.05±0.43
pso agn+val-0.1       90.38±0.03 92.55±0.06 66.57±0.16 67.92±0.39
pso agn+val-0.05      91.67±0.18 91.76±0.05 65.53±0.35 71.42±0.13
pso agn+val-0.005     90.66±0.08 93.76±0.17 67.02±0.12 71.51±0.19
""",
    2: """
default               93.34±0.07 91.70±0.16 66.73±0.56
bohb val              92.58±0.64 90.46±0.65 66.02±0.32
bohb agn+train-0.9    91.87±0.51 89.73±0.17 66.53±0.37
bohb agn+train-0.5    89.25±2.00 85.02±0.19 62.19±0.44
bohb agn+train-0.1    93.41±0.17 91.18±0.09 59.67±0.10
bohb agn+val-0.9      93.01±0.20 85.88±0.87 63.30±0.41
bohb agn+val-0.5      82.53±9.58 89.07±0.47 66.73±0.33
bohb agn+val-0.1      93.27±0.06 90.61±0.16 64.05±0.09
""",
    4: """
default               93.34±0.07 93.21±0.24 95.67±0.02 96.11±0.14
cmaes val             93.35±0.08 93.03±0.76 96.26±0.08 95.90±0.44
pso val               91.13±0.32 92.04±0.49 96.05±0.10 94.78±0.24
cmaes agn+train-0.05  93.10±0.08 93.62±0.08 95.52±0.09 95.84±0.13
cmaes agn+train-0.01  93.38±0.18 93.39±0.06 95.67±0.02 94.39±1.42
cmaes agn+train-0.005 92.61±0.39 93.39±0.20 95.48±0.03 94.51±1.45
cmaes agn+val-0.1     93.27±0.04 93.43±0.08 96.24±0.04 95.59±0.05
cmaes agn+val-0.05    93.42±0.16 93.45±0.17 95.63±0.02 95.96±0.04
cmaes agn+val-0.005   93.19±0.19 93.60±0.05 95.97±0.13 96.13±0.07
pso agn+train-0.05    93.29±0.28 92.96±0.10 91.87±0.24 95.70±0.17
pso agn+train-0.01    93.21±0.06 92.90±0.03 95.79±0.13 96.04±0.02
pso agn+train-0.005   93.36±0.11 92.95±0.03 95.55±0.24 96.14±0.02
pso agn+val-0.1       93.91±0.04 93.82±0.08 95.33±0.13 93.90±0.30
pso agn+val-0.05      92.35±0.11 93.46±0.07 96.10±0.12 95.78±0.11
pso agn+val-0.005     93.09±0.10 93.82±0.01 95.52±0.07 96.39±0.13
""",
}


def paper(table: int) -> Table:
    """The paper's Table 1, 2 or 4."""
    columns = _COLUMNS[table]
    cells: dict[str, dict[str, Accuracy]] = {column: {} for column in columns}
    for line in _ROWS[table].strip().splitlines():
        words = line.split()
        method = " ".join(words[: -len(columns)])
        for column, cell in zip(columns, words[-len(columns) :], strict=True):
            mean, sd = cell.split("±")
            cells[column][method] = Accuracy(float(mean), float(sd))
    return Table(cells)


def in_print(method: str) -> str:
    """As the paper writes it: `CMA-ES (AGN+Train, α=0.05)`."""
    searcher, _, objective = method.partition(" ")
    loss, _, alpha = objective.partition("-")
    name = {"cmaes": "CMA-ES", "random": "RS"}.get(searcher, searcher.upper())
    parts = [loss.title().replace("Agn", "AGN"), *([f"α={alpha}"] if alpha else [])]
    return f"{name} ({', '.join(parts)})" if objective else method.title()
