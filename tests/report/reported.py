"""Searches whose report has every picture: all metrics, curves, losses, several rungs."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from analysis.searches import Made, search

from hpogen.record import folder
from hpogen.trial import Config, Failure, Progress

LOG = {"preset": "agn+val", "alpha": 0.05, "scale": "log"}
IMAGES = 60  # of validation


def made(config: Config, generator: np.random.Generator, budget: int = 4) -> Made:
    """A trial whose errors grow with the distance of lr from 0.01, and a little with noise."""
    q = 1 + abs(np.log10(float(config["lr"])) + 2) / 3 + 0.05 * generator.normal() + 1 / budget
    error = float(np.clip(0.1 * q + 0.01 * generator.normal(), 0, 1))
    metrics = {
        "train_loss": float(q - 0.1),
        "train_accuracy": float(1 - 0.09 * q),
        "val_accuracy": 1 - error,
        "agn": float(np.exp(q + 0.1 * generator.normal())),
    }
    seconds = {"train": 2.0, "validation": 1.0, "measures": 0.5, "total": 3.6}
    audit = float(np.round(1 - error + 0.005 * generator.normal(), 4))
    return Made(float(q), audit, metrics, seconds, budget=budget, config=config)


def configs(generator: np.random.Generator, n: int) -> list[Config]:
    """The default first."""
    drawn = zip(generator.uniform(-7, -0.4, n - 1), generator.uniform(0, 0.99, n - 1), strict=True)
    default = {"lr": 0.01, "momentum": 0.6}
    return [default, *({"lr": float(10**x), "momentum": float(y)} for x, y in drawn)]


def whole(directory: Path, seed: int = 0, n: int = 16, **keys: Any) -> Path:
    """A search with a failed trial, curves of four epochs, and per-sample losses."""
    generator = np.random.default_rng(seed)
    trials = [made(config, generator) for config in configs(generator, n)]
    trials[2] = Made(failure=Failure("diverged", "loss is nan"), config=trials[2].config)
    keys.setdefault("objective", LOG)
    search(directory, trials, seed=seed, **keys)
    (directory / "trials").mkdir()
    for number, trial in enumerate(trials):
        if trial.failure is not None:
            continue
        losses = generator.exponential(trial.val_loss, IMAGES).astype(np.float32)
        np.save(folder.trial_stem(directory, number).with_suffix(".val_losses.npy"), losses)
        for epoch in range(1, 5):
            metrics = {"train_loss": 2.0 / epoch, "val_loss": 2.1 / epoch}
            folder.append_curve(directory, Progress(number, epoch, metrics, {}, "cpu"))
    return directory


def rungs(directory: Path, seed: int = 0) -> Path:
    """Eight configurations after two epochs, the four best of them after four."""
    generator = np.random.default_rng(seed)
    low = [made(config, generator, 2) for config in configs(generator, 8)]
    best = sorted(low, key=lambda trial: trial.val_loss)[:4]
    high = [made(trial.config or {}, generator, 4) for trial in best]
    keys: dict[str, Any] = {"searcher": {"name": "asha"}, "objective": LOG}
    return search(
        directory, [*low, *high], budgets={"min": 2, "max": 4, "eta": 2}, seed=seed, **keys
    )


class Page(HTMLParser):
    """A page taken apart: its tags with their attributes, and the text outside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(str(text))  # Markup would escape what is added to it

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = [tag] if tag in ("script", "style") else []
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._inside = [tag]

    def handle_endtag(self, tag: str) -> None:
        self._inside = []

    def handle_data(self, data: str) -> None:
        if self._inside in (["td"], ["th"]):
            self.rows[-1][-1] += data
        if self._inside not in (["script"], ["style"]):
            self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    def attributes(self, *names: str) -> Iterator[str]:
        for _, attributes in self.tags:
            yield from (value or "" for name, value in attributes.items() if name in names)
