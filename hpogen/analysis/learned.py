"""An objective that is learned: the held-out error, or the gap, from measures of finished trials.

Ridge, a boosted model that is monotone in each measure, and the sparsity paper's linear model
(eq. 7) are fitted to ranks within each study. Which of them is taken, and what it is worth, is
told by leaving whole tasks out. `hpogen learn` asks; `spec/learned.py` is what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from scipy import stats

from hpogen.analysis.correlation import FEWEST
from hpogen.analysis.learned_trials import Collected, Ranked, collect
from hpogen.analysis.statistics import Array
from hpogen.errors import UserError, unknown
from hpogen.spec.learned import (
    FORMAT,
    TARGETS,
    TRANSFORMATION,
    VERSION,
    Association,
    Boosted,
    Figure,
    LearnedObjective,
    LeftOut,
    Linear,
    Model,
    Source,
    Target,
    Tree,
)
from hpogen.study.read import Folder

EQUATION_7 = ("zeta", "kappa")
PENALTIES = (1.0, 0.1, 10.0, 100.0)
SPARSITY = "sparsity (eq. 7)"
CHANCE = 1.96  # standard errors of a rank correlation, 1 / √(n − 1) each

Fit = Callable[[Sequence[Ranked], Sequence[str]], Model]


@dataclass(frozen=True)
class Candidate:
    """A model that may be taken; those of one family differ in a setting."""

    family: str
    fit: Fit


def learn(
    studies: Sequence[Folder], target: str = "error", measures: Sequence[str] = ()
) -> LearnedObjective:
    """Fit `target` to the measures, and judge it on tasks left out.

    `error` is the error on the audit, `retrained` that on the test set after retraining on all
    data, both as ranks within the study; `gap` is audit error − training error, which is added to
    the training error. Raises UserError, see `collect`.
    """
    if target not in TARGETS:
        raise UserError(f"--target: {unknown('target', target, TARGETS)}")
    aim: Target = cast(Target, target)
    trials = collect(studies, aim, measures)
    fitted = Fitted(trials)
    title = fitted.chosen([*fitted.candidates], ())
    return LearnedObjective(
        format=FORMAT,
        version=VERSION,
        target=aim,
        judged_by=trials.judged_by,
        transformation=TRANSFORMATION,
        measures=[*trials.measures],
        model=fitted.model(title, ()),
        signs=_signs(trials),
        left_out=[_left_out(fitted, task) for task in trials.tasks],
        dropped=dict(trials.dropped),
        studies=[_source(one) for group in trials.tasks.values() for one in group],
    )


@dataclass
class Fitted:
    """Every candidate fitted to every set of tasks that is asked for, once."""

    trials: Collected
    candidates: dict[str, Candidate] = field(init=False)
    _known: dict[tuple[str, frozenset[str]], Model] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.candidates = candidates(self.trials.measures)

    def model(self, title: str, without: Sequence[str]) -> Model:
        key = title, frozenset(without)
        if key not in self._known:
            kept = [group for task, group in self.trials.tasks.items() if task not in without]
            studies = [one for group in kept for one in group]
            self._known[key] = self.candidates[title].fit(studies, self.trials.measures)
        return self._known[key]

    def chosen(self, titles: Sequence[str], without: Sequence[str]) -> str:
        """The candidate that tells the target best on tasks left out of those that there are.

        It tells them best whose mean rank correlation is the largest; the first of equals, and
        where there is but one task.
        """
        tasks = [task for task in self.trials.tasks if task not in without]
        if len(tasks) < 2:
            return titles[0]

        def told(title: str) -> float:
            found = [self.told(title, task, (*without, task)) for task in tasks]
            return float(np.mean([x or 0.0 for x in found]))

        return max(titles, key=told)

    def told(self, title: str, task: str, without: Sequence[str]) -> float | None:
        """The rank correlation of prediction and target on a task, over its studies."""
        predictions = self.predictions(title, task, without)
        pairs = zip(predictions, self.trials.tasks[task], strict=True)
        return mean_of(spearman(predicted, one.target) for predicted, one in pairs)

    def predictions(self, title: str, task: str, without: Sequence[str]) -> list[Array]:
        model = self.model(title, without)
        studies = self.trials.tasks[task]
        return [model.predict(one.ranks, self.trials.measures) for one in studies]

    def figure(self, title: str, task: str) -> Figure:
        """A candidate on a task that it was not fitted to."""
        predictions = self.predictions(title, task, (task,))
        pairs = zip(predictions, self.trials.tasks[task], strict=True)
        return over([figure(one.unfit + predicted, one.truth) for predicted, one in pairs])


def candidates(measures: Sequence[str]) -> dict[str, Candidate]:
    """By title; eq. 7 is one where there are ζ and κ."""
    found = {f"ridge, penalty {p:g}": Candidate("ridge", _ridge(p)) for p in PENALTIES}
    found["boosted"] = Candidate("boosted", boosted)
    if {*EQUATION_7} <= {*measures}:
        found[SPARSITY] = Candidate(SPARSITY, equation_7)
    return found


def _ridge(penalty: float) -> Fit:
    def fit(studies: Sequence[Ranked], measures: Sequence[str]) -> Linear:
        from sklearn.linear_model import Ridge

        model = Ridge(alpha=penalty).fit(*_rows(studies))
        coefficients = dict(zip(measures, model.coef_.tolist(), strict=True))
        return Linear(
            kind="ridge",
            penalty=penalty,
            intercept=float(model.intercept_),
            coefficients=coefficients,
        )

    return fit


def equation_7(studies: Sequence[Ranked], measures: Sequence[str]) -> Linear:
    """ĝ = aζ + bκ + c, of ranks (Generalization via sparsity, eq. 7), by least squares."""
    from sklearn.linear_model import LinearRegression

    x, y, weights = _rows(studies)
    columns = [measures.index(name) for name in EQUATION_7]
    model = LinearRegression().fit(x[:, columns], y, weights)
    coefficients = dict(zip(EQUATION_7, model.coef_.tolist(), strict=True))
    return Linear(
        kind="sparsity", penalty=0.0, intercept=float(model.intercept_), coefficients=coefficients
    )


def boosted(studies: Sequence[Ranked], measures: Sequence[str]) -> Boosted:
    """Small trees, monotone in each measure: in the sign of its mean correlation over studies."""
    found = [_mean_correlation(studies, j) for j in range(len(measures))]
    signs = [int(np.sign(x)) for x in found]
    model = regressor(signs).fit(*_rows(studies))
    return Boosted(
        kind="boosted",
        signs=dict(zip(measures, signs, strict=True)),
        start=float(model._baseline_prediction[0, 0]),
        trees=[_tree(nodes) for (predictor,) in model._predictors for nodes in [predictor.nodes]],
    )


def regressor(signs: Sequence[int]) -> Any:
    """scikit-learn's, with what is set here: trees of at most four leaves."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        learning_rate=0.1,
        max_iter=60,
        max_leaf_nodes=4,
        min_samples_leaf=5,
        l2_regularization=1.0,
        monotonic_cst=[*signs],
        early_stopping=False,
        random_state=0,
    )


def _tree(nodes: Any) -> Tree:
    """Of scikit-learn's nodes; a leaf has no threshold there."""
    leaf = nodes["is_leaf"].astype(bool)
    return Tree(
        measure=np.where(leaf, 0, nodes["feature_idx"]).tolist(),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]).tolist(),
        left=np.where(leaf, 0, nodes["left"]).astype(int).tolist(),
        right=np.where(leaf, 0, nodes["right"]).astype(int).tolist(),
        value=nodes["value"].tolist(),
    )


def _rows(studies: Sequence[Ranked]) -> tuple[Array, Array, Array]:
    """Ranks (n, m), targets (n,) without their study's mean, weights (n,).

    Each task weighs the same, and the weights' mean is 1.
    """
    sizes: dict[str, int] = {}
    for one in studies:
        sizes[one.task] = sizes.get(one.task, 0) + len(one)
    each = sum(sizes.values()) / len(sizes)
    return (
        np.concatenate([one.ranks for one in studies]),
        np.concatenate([one.target - one.target.mean() for one in studies]),
        np.concatenate([np.full(len(one), each / sizes[one.task]) for one in studies]),
    )


def _mean_correlation(studies: Sequence[Ranked], measure: int) -> float:
    return mean_of(spearman(one.ranks[:, measure], one.target) for one in studies) or 0.0


def _signs(trials: Collected) -> dict[str, dict[str, Association]]:
    """Of each measure on each task, averaged over its studies."""
    return {
        name: {task: _association(group, j) for task, group in trials.tasks.items()}
        for j, name in enumerate(trials.measures)
    }


def _association(studies: Sequence[Ranked], measure: int) -> Association:
    n = sum(len(one) for one in studies)
    found = mean_of(spearman(one.ranks[:, measure], one.target) for one in studies)
    clear = found is not None and abs(found) * np.sqrt(n - 1) > CHANCE
    return Association(correlation=found, clear=bool(clear))


def _left_out(fitted: Fitted, task: str) -> LeftOut:
    """What the models fitted to the other tasks, and validation loss, came to on this one."""
    studies = fitted.trials.tasks[task]
    families: dict[str, list[str]] = {}
    for title, candidate in fitted.candidates.items():
        families.setdefault(candidate.family, []).append(title)
    chosen = {name: fitted.chosen(titles, (task,)) for name, titles in families.items()}
    title = fitted.chosen([*fitted.candidates], (task,))
    sizes = set.intersection(*({*one.validation} for one in studies))
    return LeftOut(
        task=task,
        studies=len(studies),
        trials=sum(len(one) for one in studies),
        best=float(np.mean([one.truth.min() for one in studies])),
        learned=fitted.figure(title, task),
        told=fitted.told(title, task, (task,)),
        others={name: fitted.figure(of, task) for name, of in chosen.items()},
        validation={size: _by_validation(studies, size) for size in sorted(sizes)},
    )


def _by_validation(studies: Sequence[Ranked], labels: int) -> Figure:
    return over([over([figure(x, s.truth) for x in s.validation[labels]]) for s in studies])


def figure(scores: Array, truth: Array) -> Figure:
    """A rule on n trials: its correlation with the truth, and what its first choice is worth."""
    error = float(truth[int(np.argmin(scores))])
    return Figure(
        correlation=spearman(scores, truth), error=error, regret=error - float(truth.min())
    )


def over(figures: Sequence[Figure]) -> Figure:
    """Their means; of the correlations over those that are defined."""
    return Figure(
        correlation=mean_of(one.correlation for one in figures),
        error=float(np.mean([one.error for one in figures])),
        regret=float(np.mean([one.regret for one in figures])),
    )


def spearman(x: Array, y: Array) -> float | None:
    """Spearman's ρ; None for fewer than three, or a constant."""
    if len(x) < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])


def mean_of(values: Any) -> float | None:
    known = [x for x in values if x is not None]
    return float(np.mean(known)) if known else None


def _source(one: Ranked) -> Source:
    study = one.study
    return Source(
        id=study.history.id, name=study.name, seed=study.seed, task=one.task, trials=len(one)
    )
