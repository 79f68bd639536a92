"""The gradient-norm paper's Tables 1, 2 and 4: what searches by AGN find, trained and tested.

    python scripts/papers/gradient_norm_tables.py --table 1|2|4 [--seed N] [--workers N]
        [--scale small|paper] [--out FOLDER]

Runs the matrix `studies/papers/tableN.yaml` (CMA-ES, PSO or BOHB, by validation loss and by AGN
with a loss), trains each choice and the default on the full training set and prints the test
accuracies as the paper has them. It goes on where it was stopped, also with what `hpogen run` has
trained in the same folder; another seed, of searches and splits, needs another folder. Small: MNIST
(Table 1) or Fashion-MNIST (Tables 2 and 4) at 14×14, 2,000 images, a network in network for the
ResNets, 64 epochs for 160, a quarter of the batch sizes.

Table 2 trains one net at a time if nothing else is asked for: what BOHB tries next depends on the
order in which trials end.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common import STUDIES, Beside, Run, begin, call, options
from gradient_norm_paper import DEFAULT, Accuracy, Table, in_print, paper
from gradient_norm_searches import (
    NET,
    SMALL,
    TINY,
    Found,
    searched,
    small_dataset,
    with_matrix,
)
from matplotlib import pyplot
from matplotlib.axes import Axes

from hpogen.errors import UserError

EPOCHS = 64  # of the small scale; decays and rungs where the paper has them
TRIALS = 32  # four rounds, as the paper has them
SMALL_DATA = {1: "mnist", 2: "fashion-mnist", 4: "fashion-mnist"}
SEARCHED = ("batch_size", "lr", "momentum", "weight_decay")
SHOWN_POINTS = 25  # of accuracy below the best: the picture's width


def overrides(run: Run, table: int) -> list[str]:
    """What `--set` would be given to bring the paper's matrix to the scale."""
    if run.scale == "paper":
        return []
    tiny = run.scale == "tiny"
    split: dict[str, Any] = {"subset": 0.2, "validation": 200, "audit": 400}
    dataset = {"name": "digits"} if tiny else small_dataset(run, SMALL_DATA[table])
    changes: dict[str, Any] = {
        "task.dataset": [{**dataset, **split}],
        "task.model": [TINY if tiny else NET],
    }
    epochs, trials = (4, 4) if tiny else (EPOCHS, TRIALS)
    if table == 2:
        brackets = 1 if tiny else 12  # as many epochs as the trials have
        changes["searcher"] = [{"name": "bohb", "brackets": brackets}]
    else:
        population = max(2, trials // 4)
        changes["searcher"] = [{"name": x, "population": population} for x in ("cmaes", "pso")]
    if tiny:
        changes["objective"] = _few(table)
    matrix = with_matrix(STUDIES / f"table{table}.yaml", changes)
    return [matrix, *_times(epochs, trials, table), *([] if tiny else SMALL)]


def _times(epochs: int, trials: int, table: int) -> list[str]:
    """The paper's 160 epochs, decays at half and three quarters, rungs of a quarter and a half."""
    budgets = f"{{min: {epochs // 4}, max: {epochs}, eta: 2}}"
    return [
        f"task.epochs={epochs}",
        f"task.schedule.milestones=[{epochs // 2}, {epochs * 3 // 4}]",
        f"stop.epochs={epochs * trials}",
        *([f"budgets={budgets}"] if table == 2 else []),
    ]


def _few(table: int) -> list[Any]:
    alpha, scale = (0.9, "log") if table == 2 else (0.05, "raw")
    agn = {"preset": "agn+val", "alpha": alpha, "scale": scale, "label": f"agn+val-{alpha}"}
    return ["val", agn]


def table_of(found: Sequence[Found]) -> tuple[Table, dict[tuple[str, str], Mapping[str, Any]]]:
    """Test accuracies by column and row, and the configuration of each cell."""
    cells: dict[str, dict[str, Accuracy]] = {}
    configs: dict[tuple[str, str], Mapping[str, Any]] = {}
    for one in found:
        data, net, searcher, objective = one.label.split("__")
        column = f"{data} {net}"
        for method, net_found in (
            (DEFAULT, one.default),
            (f"{searcher} {objective}", one.answer),
        ):
            values = [100 * training.accuracy for training in net_found.runs]
            if not values:
                raise UserError(f"{net_found.directory}: every training failed")
            sd = statistics.stdev(values) if len(values) > 1 else None
            accuracy = Accuracy(statistics.fmean(values), sd, len(values))
            cells.setdefault(column, {})[method] = accuracy
            configs[column, method] = net_found.choice.config
    return Table(cells), configs


def in_order(table: Table, like: Table) -> Table:
    """Its rows in the order of the paper's, as far as it has them."""
    columns = [f"{d} {n}" for d, n in sorted(column.split(" ") for column in table.columns)]
    return Table(
        {
            column: {m: table.cells[column][m] for m in like.methods if m in table.cells[column]}
            for column in columns
        }
    )


def differences(table: Table, loss: str) -> Iterator[float]:
    """Points of accuracy by which each search by AGN and that loss beats its searcher's by Val."""
    for cells in table.cells.values():
        for method, accuracy in cells.items():
            searcher, _, objective = method.partition(" ")
            if objective.startswith(f"agn+{loss}"):
                yield accuracy.mean - cells[f"{searcher} val"].mean


def spreads(table: Table) -> Iterator[float]:
    """Points between the best and the worst α of each searcher, loss and column."""
    for cells in table.cells.values():
        groups: dict[str, list[float]] = {}
        for method, accuracy in cells.items():
            group = method.rpartition("-")[0]
            if " agn+" in group:
                groups.setdefault(group, []).append(accuracy.mean)
        yield from (max(group) - min(group) for group in groups.values())


def tallies(table: Table) -> dict[str, float | None]:
    """The figures that say whether AGN helps, whatever the data and nets are."""
    train, val = [*differences(table, "train")], [*differences(table, "val")]
    all_of = [*train, *val]
    by_val = [
        accuracy.mean - cells[DEFAULT].mean
        for cells in table.cells.values()
        for method, accuracy in cells.items()
        if method.endswith(" val")
    ]
    return {
        "searches by AGN": len(all_of),
        "… that beat Val by the same searcher": sum(x > 0 for x in all_of),
        "… median difference to Val (points)": statistics.median(all_of),
        "AGN+Train, median difference to Val (points)": statistics.median(train) if train else None,
        "AGN+Val, median difference to Val (points)": statistics.median(val) if val else None,
        "best minus worst α, median (points)": statistics.median(spreads(table)),
        "searches by Val": len(by_val),
        "… that beat the default": sum(x > 0 for x in by_val),
    }


def lines(table: Table) -> Iterator[str]:
    """The table as the paper prints it, in Markdown."""
    yield " | ".join(["| Method", *table.columns]) + " |"
    yield "|" + "---|" * (1 + len(table.columns))
    for method in table.methods:
        cells = [table.cells[column][method] for column in table.columns]
        texts = [f"{x.mean:.2f}" + ("" if x.sd is None else f"±{x.sd:.2f}") for x in cells]
        yield " | ".join([f"| {in_print(method)}", *texts]) + " |"


def rows(
    ours: Table, theirs: Table, configs: Mapping[tuple[str, str], Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """A row per cell of ours, then of the paper's, which has no configurations."""
    for whose, table in (("ours", ours), ("paper", theirs)):
        for column in table.columns:
            for method, x in table.cells[column].items():
                config = configs[column, method] if whose == "ours" else {}
                cell: dict[str, Any] = {"whose": whose, "column": column, "method": method}
                cell |= {"accuracy": x.mean, "sd": x.sd, "n": x.n}
                yield cell | {name: config.get(name) for name in SEARCHED}


def draw(run: Run, number: int, ours: Table, theirs: Table, title: str) -> None:
    """A panel for each column: ours, then the paper's."""
    panels = [("ours", ours, x) for x in ours.columns]
    panels += [("paper", theirs, x) for x in theirs.columns]
    size = (2.4 + 1.8 * len(panels), 4.8)
    figure, axes = pyplot.subplots(1, len(panels), figsize=size)
    labelled = ""  # whose rows have names; all columns of a table have the same
    for axis, (whose, table, column) in zip(axes, panels, strict=True):
        new = not labelled or (whose != labelled and ours.methods != theirs.methods)
        _panel(axis, table, column, whose, labelled=new)
        labelled = whose
    figure.suptitle(f"Gradient-norm paper, Table {number}, {title}", size=11)
    run.picture(figure)


def _panel(axis: Axes, table: Table, column: str, whose: str, *, labelled: bool) -> None:
    colours = {"val": "black", "agn+train": "tab:orange", "agn+val": "tab:blue", "": "tab:gray"}
    cells = table.cells[column]
    data, net = column.split(" ")
    furthest = max(x.mean + (x.sd or 0) for x in cells.values())
    left = max(furthest - SHOWN_POINTS, min(x.mean - (x.sd or 0) for x in cells.values()) - 0.3)
    upwards = [*cells][::-1]
    for y, method in enumerate(upwards):
        x = cells[method]
        loss = method.partition(" ")[2].partition("-")[0]
        if x.mean < left:
            axis.annotate(f"◂ {x.mean:.0f}", (left, y), va="center", color=colours[loss], size=8)
            continue
        axis.errorbar(x.mean, y, xerr=x.sd, fmt="o", color=colours[loss], capsize=2, markersize=4)
    axis.axvline(cells[DEFAULT].mean, color="tab:gray", linewidth=0.7, linestyle=":")
    axis.set_xlim(left, furthest + 0.05 * (furthest - left) + 0.1)
    axis.set_yticks(range(len(cells)), [in_print(x) if labelled else "" for x in upwards])
    axis.tick_params(labelsize=8)
    axis.set_title(f"{whose}: {data}\n{net}", size=9)
    axis.set_xlabel("test accuracy (%)", size=8)
    axis.grid(axis="x", alpha=0.3)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options(__doc__, workers=True)
    parser.add_argument("--table", type=int, choices=[1, 2, 4], default=4, help="of the paper")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of searches and splits")
    given = parser.parse_args(arguments)
    number: int = given.table
    run = begin(f"gradient_norm_table{number}", given)
    if number == 2 and not run.workers:
        run.workers = 1
    seeds = run.pick(tiny=1, small=3, paper=3)
    file = STUDIES / f"table{number}.yaml"
    found = searched(run, file, [*overrides(run, number), f"seed={given.seed}"], seeds)
    theirs = paper(number)
    unordered, configs = table_of(found)
    ours = in_order(unordered, theirs)
    run.sizes = {"columns": ours.columns, "searches": len(found), "retrained": seeds}
    run.sizes["seed"] = given.seed
    run.table([*rows(ours, theirs, configs)])
    size = run.pick(tiny="tiny", small="ours on 2,000 images of 14×14", paper="all images")
    title = f"{size}: retrained on all of them; bars: ± one SD, n = {seeds}"
    draw(run, number, ours, theirs, title)
    print(f"\nTest accuracy (%), n = {seeds} trainings of a choice\n")
    print("\n".join(lines(ours)), end="\n\n")
    expected = tallies(theirs)
    run.figures = [Beside(what, value, expected[what]) for what, value in tallies(ours).items()]
    run.finish()


if __name__ == "__main__":
    call(main)
