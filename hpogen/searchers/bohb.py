"""BOHB: Hyperband's brackets with configurations from HpBandSter's kernel density model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Le, doc
from scipy.special import ndtr, ndtri

from hpogen.errors import Refusal
from hpogen.searchers.brackets import Count, plan, reduction
from hpogen.searchers.hyperband import Brackets
from hpogen.searchers.isolation import PrivateRandom
from hpogen.space import Space
from hpogen.space.parameters import Constant, number_of, value_of
from hpogen.trial import Config

Array = npt.NDArray[np.float64]

MISSING = (
    "bohb: needs the package hpbandster: pip install 'hpogen[bohb]' where there is a C compiler; "
    "docs/install.md has the command for where there is none"
)
REDRAWS = 100  # of a forbidden configuration
TINY = 1e-32  # densities are not allowed below, as in HpBandSter

Share = Annotated[float, Ge(0), Le(1), doc("share of the proposals that are drawn at random")]
Percent = Annotated[int, Ge(1), Le(99), doc("percent of the observations that count as good")]
Candidates = Annotated[int, Ge(1), Le(10_000), doc("candidates of which the best is proposed")]
Factor = Annotated[float, Ge(1e-6), Le(1e6), doc("how much wider kernels for candidates are")]
Points = Annotated[
    int, Ge(2), doc("observations of a budget before it has a model; left out: parameters + 1")
]


class BohbSearcher:
    """BOHB: Hyperband, with new configurations from a model of the good ones.

    The options are HpBandSter's, with its defaults; `min_points_in_model` is the number of
    parameters + 1 when left out, and cannot be less.
    """

    enqueues_default, ranks_only, multi_fidelity = True, False, True
    honours = frozenset({"forbid"})
    plan = staticmethod(plan)

    def __init__(
        self,
        space: Space,
        budgets: Sequence[int],
        seed: int,
        *,
        enqueue: Sequence[Config] = (),
        brackets: Annotated[Count, doc("how many brackets are run")],
        random_fraction: Share = 1 / 3,
        top_n_percent: Percent = 15,
        num_samples: Candidates = 64,
        bandwidth_factor: Factor = 3.0,
        min_points_in_model: Points | None = None,
    ) -> None:
        eta = reduction("bohb", budgets)
        least = 1 + sum(not isinstance(p, Constant) for p in space.parameters.values())
        if min_points_in_model is not None and min_points_in_model < least:
            raise Refusal(
                f"bohb: min_points_in_model: got {min_points_in_model}, expected at least {least}, "
                "the number of parameters + 1"
            )
        model = Model(
            space,
            seed,
            random_fraction=random_fraction,
            top_n_percent=top_n_percent,
            num_samples=num_samples,
            bandwidth_factor=bandwidth_factor,
            min_points_in_model=min_points_in_model,
        )
        run = Brackets(budgets, eta, brackets, enqueue, model.draw, model.learn)
        self.ask, self.tell = run.ask, run.tell


class Model:
    """HpBandSter's config generator with a generator of its own.

    The models are fitted by HpBandSter itself. The best candidate is found for all candidates at
    once, from the same draws in the same order, in a tenth of the time. Unlike HpBandSter's, this
    never falls back to a random configuration without a word, and a category that no good (or no
    bad) configuration has gets its kernel's density h/(c − 1), c categories, not a division by 0.
    """

    def __init__(self, space: Space, seed: int, **options: Any) -> None:
        self._space = space
        self._random = PrivateRandom(seed)
        self._uniform = np.random.default_rng(seed)  # where the model's draws are forbidden
        engine, self._job = _hpbandster()
        try:
            searched = space.configspace()
        except ValueError as error:
            raise Refusal(f"bohb: {error} (ConfigSpace keeps 13 decimals)") from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it calls ConfigSpace by old names
            self._engine = engine(searched, **options)
        self._engine.configspace.seed(seed % 2**32)

    def draw(self) -> Config:
        """A new configuration, for whatever budget; a forbidden one is drawn again.

        After a hundred forbidden ones it is drawn from the space.
        """
        for _ in range(REDRAWS):
            config = self._draw()
            if not self._space.forbids(config):
                return config
        return self._space.sample(self._uniform)

    def _draw(self) -> Config:
        """As in HpBandSter."""
        engine = self._engine
        with self._random:
            if not engine.kde_models or np.random.rand() < engine.random_fraction:
                return self._plain(engine.configspace.sample_configuration())
            models = engine.kde_models[max(engine.kde_models)]
            candidates = self._candidates(models["good"])  # (num_samples, parameters)
        good = np.maximum(self._density(models["good"], candidates), TINY)
        bad = np.maximum(self._density(models["bad"], candidates), TINY)
        best = candidates[np.argmin(bad / good)]
        hyperparameters = zip(engine.configspace.values(), best, strict=True)
        return self._plain({hp.name: hp.to_value(x) for hp, x in hyperparameters})

    def learn(self, config: Config, budget: int, score: float) -> None:
        """Learn from an evaluation."""
        known = self._job(None, config=self._searched(config), budget=budget)
        known.result = {"loss": score}
        with self._random, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # statsmodels', of a generator that is unused here
            self._engine.new_result(known)

    def _searched(self, config: Config) -> dict[str, Any]:
        """What ConfigSpace knows of a configuration: no constants, choices by index."""
        of = self._space.parameters
        return {
            name: number_of(parameter, value)
            for name, value in config.items()
            if not isinstance(parameter := of[name], Constant)
        }

    def _plain(self, searched: Mapping[str, Any]) -> Config:
        """The configuration for what ConfigSpace gives: nothing inactive, and plain values."""
        of = self._space.parameters
        plain = {
            name: value_of(parameter, value)  # rounded decimals may lie just outside
            for name, value in searched.items()
            if not isinstance(parameter := of[name], Constant)
        }
        return self._space.complete(plain)

    def _candidates(self, good: Any) -> Array:
        """Points around random good ones: a truncated normal, or the category kept or redrawn."""
        engine = self._engine
        width = np.maximum(good.bw, engine.min_bandwidth)  # (parameters,)
        centres = np.empty((engine.num_samples, len(width)))
        draws = np.empty_like(centres)  # in [0, 1) of a number; of a category the result
        for i in range(engine.num_samples):
            centres[i] = good.data[np.random.randint(0, len(good.data))]
            for k, categories in enumerate(engine.vartypes):
                draws[i, k] = np.random.random_sample()
                if categories:
                    keep = draws[i, k] < 1 - width[k]
                    draws[i, k] = centres[i, k] if keep else np.random.randint(categories)
        scale = engine.bw_factor * width
        low, high = ndtr(-centres / scale), ndtr((1 - centres) / scale)
        normal = centres + scale * ndtri(low + draws * (high - low))
        return np.where(engine.vartypes, draws, np.clip(normal, 0, 1))

    def _density(self, model: Any, points: Array) -> Array:
        """statsmodels' product kernel at points (N, parameters), shape (N,)."""
        kernels = np.ones((len(points), len(model.data)))
        for k, categories in enumerate(self._engine.vartypes):
            difference = points[:, k, None] - model.data[None, :, k]  # (N, observations)
            h = model.bw[k]
            if categories:  # Aitchison and Aitken
                kernels *= np.where(difference == 0, 1 - h, h / max(categories - 1, 1))
            else:
                kernels *= np.exp(-0.5 * (difference / h) ** 2) / (np.sqrt(2 * np.pi) * h)
        return np.asarray(kernels.mean(axis=1))


def _hpbandster() -> tuple[Any, Any]:
    """Its classes BOHB and Job. Raises Refusal where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its docstrings have invalid escape sequences
        try:
            from hpbandster.core.dispatcher import Job
            from hpbandster.optimizers.config_generators.bohb import BOHB
        except ModuleNotFoundError as error:
            raise Refusal(MISSING) from error
    return BOHB, Job
