"""The GSNR paper's Figures 3, 7 and 8: both sides of its eq. 19, measured.

    python scripts/papers/gsnr_equation19.py [--scale small|paper] [--out FOLDER] [--data FOLDER]

For each setting, M training sets are trained on from the same weights by full-batch gradient
descent. The left side is the mean decrease of the test loss over that of the training loss in one
step (eq. 23), the right side is 1 − Σ ρ²/(n Σ E g²) (eqs. 19 and 24). Figure 3 is a plain net on
MNIST, Figure 7 one with BatchNorm on CIFAR-10 (small: on Fashion-MNIST), Figure 8 the toy
regression y = x₀x₁ + ε. Two parts are not in the paper: Figure 3's net at a rate of 0.1, where it
learns more, and (small) at 0.01, where it comes as far in a tenth of the steps as at the paper's
0.001 by its epochs 500 and 2,500.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from common import Beside, Run, begin, call, options, pearson
from gsnr_sides import Setting, Sides, Work, on_all_cores
from gsnr_sides import points as points_of_images
from gsnr_toy_nets import points as points_of_toy
from matplotlib import pyplot
from matplotlib.axes import Axes

from hpogen.training.data.loaded import load
from hpogen.training.forms.dataset import Dataset

CLAIMS = {  # what the text says of the pictures, whose numbers it does not give
    "3": "on the diagonal early, correlated to the end",
    "7": "not quite on the diagonal, strongly correlated",
    "8": "very close early, correlated until it converges",
    "–": "not in the paper",
}
MARKERS = "osD^v<>PX"


@dataclass(frozen=True)
class Part:
    """A figure: its grid of settings, and what is said about it."""

    name: str
    figure: str
    data: str
    n: tuple[int, ...]
    noise: tuple[float, ...]
    channels: tuple[int, ...]
    epochs: tuple[int, ...]
    sets: int  # M
    tested: int  # n'
    rate: float = 0.001

    def works(self, device: str) -> list[Work]:
        return [
            Work(Setting(self.data, *at), self.sets, self.epochs, self.tested, device, self.rate)
            for at in itertools.product(self.n, self.noise, self.channels)
        ]


Row = tuple[Part, Work, Sides]

MNIST = (1000, 2000, 4000, 6000, 8000, 10_000, 15_000)
NOISE = (0.0, 0.1, 0.2, 0.3, 0.5)
WIDTHS = (6, 8, 10, 12, 14, 16, 18, 20)
LATE = (20, 100, 500, 2500)
TOY = (50, 100, 300, 600, 1000, 2000, 6000)
CIFAR = (2000, 4000, 6000, 8000, 10_000)


def parts(run: Run) -> list[Part]:
    """What is run at a scale. The paper's grids are those of §2.4, A.2 and A.3."""
    few, half = (100, 200, 500), (0.0, 0.5)
    by_scale = {
        "paper": [
            Part("mnist", "3", "mnist", MNIST, NOISE, WIDTHS, LATE, 10, 10_000),
            Part("cifar", "7", "cifar10", CIFAR, (0.0, 0.2, 0.4), WIDTHS[:-1],
                 (20, 100, 500, 1000), 10, 10_000),
            Part("toy", "8", "toy", TOY, (0.2, 2.0, 4.0, 6.0, 8.0), WIDTHS, LATE, 100, 20_000),
            Part("fast", "–", "mnist", MNIST, (0.0, 0.5), (6,), LATE, 10, 10_000, 0.1),
        ],
        "small": [
            Part("mnist", "3", "mnist", few, half, (6, 10), (20, 100), 10, 2000),
            Part("cifar", "7", "fashion-mnist", few, (0.0, 0.4), (6,), (20,), 10, 2000),
            Part("toy", "8", "toy", (50, 100, 300, 1000), (0.2, 2.0, 8.0), (6, 20), LATE, 100,
                 20_000),
            Part("late", "–", "mnist", few, half, (6,), (50, 250), 10, 2000, 0.01),
            Part("fast", "–", "mnist", few, half, (6,), (20, 100), 10, 2000, 0.1),
        ],
        "tiny": [
            Part("mnist", "3", "digits", (10, 40), (0.0, 0.5), (2,), (1, 3), 3, 100),
            Part("toy", "8", "toy", (20, 60), (0.2,), (4, 6), (1, 5), 4, 200),
        ],
    }  # fmt: skip
    return by_scale[run.scale]


def points(work: Work) -> list[Sides]:
    return points_of_toy(work) if work.setting.data == "toy" else points_of_images(work)


def all_points(run: Run, chosen: Sequence[Part]) -> list[Row]:
    """The points of all parts, the dearest settings first."""
    todo = [(part, work) for part in chosen for work in part.works(run.device)]
    todo.sort(key=lambda job: -_cost(job[1]))
    found = on_all_cores(run, points, [work for _, work in todo])
    return [
        (part, work, point) for (part, work), its in zip(todo, found, strict=True) for point in its
    ]


def _cost(work: Work) -> float:
    """About, in sample-steps of the plain net."""
    each = {"toy": 0.01, "cifar10": 5, "fashion-mnist": 5}.get(work.setting.data, 1)
    return each * work.sets * work.setting.n * max(work.epochs) * work.setting.channels


def tell(run: Run, rows: Sequence[Row]) -> None:
    """The table, and per part and epoch the correlation and the distance from the diagonal."""
    run.table(
        [
            {"part": part.name, "rate": work.rate, **asdict(work.setting), **asdict(point)}
            for part, work, point in rows
        ]
    )
    for part in dict.fromkeys(part for part, _, _ in rows):
        named = "" if part.figure == "–" else f" (Figure {part.figure})"
        for epoch in part.epochs:
            lhs, rhs = at_epoch(rows, part, epoch)
            losses = [p.train_loss for of, _, p in rows if of == part and p.epoch == epoch]
            label = f"{part.name}{named}, epoch {epoch}"
            note = f"{len(lhs)} points, mean training loss {np.mean(losses):.3g}"
            said = f"{note}; {CLAIMS[part.figure]}"
            run.figures += [
                Beside(f"{label}: correlation", pearson(lhs, rhs), None, said),
                Beside(f"{label}: mean |LHS - RHS|", float(np.mean(np.abs(lhs - rhs))), None),
            ]


Points = np.ndarray[tuple[int], np.dtype[np.float64]]


def at_epoch(rows: Sequence[Row], part: Part, epoch: int) -> tuple[Points, Points]:
    """Left and right sides, one of each per setting."""
    chosen = [point for of, _, point in rows if of == part and point.epoch == epoch]
    return np.array([p.lhs for p in chosen]), np.array([p.rhs for p in chosen])


def draw(run: Run, part: Part, rows: Sequence[Row]) -> None:
    """A part's picture: a panel per epoch, as in Figure 3."""
    figure, row = pyplot.subplots(
        1, len(part.epochs), figsize=(3.6 * len(part.epochs) + 1.6, 3.9), squeeze=False
    )
    panels: list[Axes] = list(row[0])
    for axes, epoch in zip(panels, part.epochs, strict=True):
        _scatter(axes, [(w, p) for of, w, p in rows if of == part and p.epoch == epoch])
        r = pearson(*at_epoch(rows, part, epoch))
        axes.set_title(f"epoch {epoch}, r = {'–' if r is None else f'{r:.3f}'}")
        axes.set_xlabel("left side: one-step ratio (OSGR)")
    panels[0].set_ylabel("right side, from ρ² and g²")
    panels[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(
        f"Eq. 19 on {part.data}: M = {part.sets} sets, rate {part.rate:g}\n"
        f"n = {part.n[0]} … {part.n[-1]}, "
        f"noise {part.noise[0]:g} … {part.noise[-1]:g} (not told apart)"
    )
    run.picture(figure, f"_{part.name}")


def _scatter(axes: Axes, found: Sequence[tuple[Work, Sides]]) -> None:
    """Colour is n, the mark is the width; the diagonal and the line of least squares."""
    sizes = sorted({work.setting.n for work, _ in found})
    widths = sorted({work.setting.channels for work, _ in found})
    colours = pyplot.get_cmap("viridis")(np.linspace(0, 0.9, len(sizes)))
    for size, width in itertools.product(sizes, widths):
        its = [p for w, p in found if (w.setting.n, w.setting.channels) == (size, width)]
        mark, colour = MARKERS[widths.index(width)], colours[sizes.index(size)]
        lhs, rhs = [p.lhs for p in its], [p.rhs for p in its]
        axes.plot(lhs, rhs, mark, color=colour, ms=5, label=f"n {size}, width {width}")
    x, y = (np.array([getattr(p, side) for _, p in found]) for side in ("lhs", "rhs"))
    limits = axes.axis()  # the points say how far the axes go, not the diagonal
    axes.axline((0, 0), slope=1, ls="--", color="tab:blue", lw=1, label="left = right")
    axes.axis(limits)
    if x.std() > 0:
        across = np.array([x.min(), x.max()])
        slope, height = np.polyfit(x, y, 1)
        axes.plot(across, slope * across + height, ":", color="tab:red", label="least squares")


def main(arguments: Sequence[str] | None = None) -> None:
    run = begin("gsnr_equation19", options(__doc__).parse_args(arguments))
    chosen = parts(run)
    run.sizes = {
        part.name: {k: v for k, v in asdict(part).items() if k != "name"} for part in chosen
    }
    for name in {part.data for part in chosen} - {"toy"}:
        load(Dataset(name=name))  # what is missing is said before anything is computed
    rows = all_points(run, chosen)
    tell(run, rows)
    for part in chosen:
        draw(run, part, rows)
    run.finish()


if __name__ == "__main__":
    call(main)
