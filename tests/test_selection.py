"""Which trial a selection chooses: every rule against an independent computation, by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import Ridge, RidgeCV
from toys import replay, study_file

from hpogen.errors import UserError
from hpogen.objective import Objective, Term
from hpogen.record import folder, ledger
from hpogen.record.events import asked, told
from hpogen.record.history import History
from hpogen.selection import SELECTIONS, SelectionName, choose
from hpogen.selection.choosing import one_se_margin
from hpogen.selection.evidence import LATE
from hpogen.selection.shrinking import PENALTIES, left_out_residuals, shrunk
from hpogen.spec import load_study
from hpogen.study.repeats import noise_cut
from hpogen.trial import Failure, Outcome, Progress, Rung, Trial

Array = NDArray[np.float64]
VALIDATION = Objective((Term("val_loss", 1.0),), "val")
EPOCHS = 8


def made_losses(seed: int, trials: int, samples: int) -> NDArray[np.float32]:
    """Losses of similar trials on shared samples, hard and easy ones."""
    generator = np.random.default_rng(seed)
    hardness = generator.exponential(size=samples)
    factor = generator.uniform(0.9, 1.1, size=(trials, 1))
    return (factor * hardness + generator.exponential(0.3, (trials, samples))).astype(np.float32)


def made_metrics(seed: int, losses: NDArray[np.float32]) -> list[dict[str, float]]:
    generator = np.random.default_rng(seed + 100)
    return [
        {
            "val_loss": float(loss),
            "val_accuracy": float(generator.random()),
            "gap_loss": float(generator.random()),
            "train_loss": float(loss * generator.uniform(0.9, 1.1)),
            "agn": float(generator.lognormal(3, 2)),
            "margin_q50": float(generator.normal()),
        }
        for loss in losses.mean(axis=1, dtype=np.float64)
    ]


def made_study(
    directory: Path,
    metrics: list[dict[str, float]],
    losses: NDArray[np.float32] | None = None,
    audits: list[Mapping[str, float]] | None = None,
) -> History:
    """A finished study's history, and beside it the files of its folder."""
    (directory / "trials").mkdir(parents=True, exist_ok=True)
    events: list[dict[str, Any]] = [{"kind": "study", "spec": {"stop": {}}}]
    for i, found in enumerate(metrics):
        audit = audits[i] if audits else {}
        events.append(asked(Trial({"lr": float(i)}, EPOCHS, id=i, seed=0)))
        events.append(told(Outcome(i, found, {}, epochs=EPOCHS), 0.0) | {"audit": audit})
        if losses is not None:
            np.save(folder.trial_stem(directory, i).with_suffix(".val_losses.npy"), losses[i])
        for epoch in range(EPOCHS):
            last = epoch == EPOCHS - 1
            row = {"val_loss": found["val_loss"] if last else found["agn"] / (epoch + 1)}
            folder.append_curve(directory, Progress(i, epoch + 1, row))
    return replay(events)


def chosen(history: History, selection: SelectionName, directory: Path) -> int:
    record = choose(history, VALIDATION, selection, Rung(EPOCHS), directory)
    assert record is not None
    return record.trial.id


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 6])
def test_one_standard_error_by_paired_t_statistics(seed: int) -> None:
    losses = made_losses(seed, 12, 15)
    margins = np.random.default_rng(seed).normal(size=12)
    best = losses.mean(axis=1, dtype=np.float64).argmin()
    near = [
        i
        for i in range(12)
        if i == best or stats.ttest_rel(losses[i].astype(float), losses[best]).statistic <= 1
    ]
    assert 1 < len(near) < 12  # the rule has something to decide
    expected = [-float(margins[i]) if i in near else math.inf for i in range(12)]
    assert one_se_margin([float(m) for m in margins], losses) == expected


def test_a_common_shift_separates_where_unpaired_errors_would_not() -> None:
    """Trial 1 is worse by the same 0.1 on every sample: surely worse, whatever its margin."""
    easy = made_losses(0, 1, 40)[0]
    assert one_se_margin([0.0, 9.0], np.stack([easy, easy + np.float32(0.1)])) == [0.0, math.inf]
    assert easy.std(ddof=1) / math.sqrt(40) > 0.1


def test_one_sample_separates_nothing() -> None:
    losses = np.array([[0.1], [5.0]], dtype=np.float32)
    assert one_se_margin([1.0, 2.0], losses) == [-1.0, -2.0]


def test_a_trial_without_the_margin_is_not_chosen() -> None:
    losses = np.tile(made_losses(0, 1, 40), (2, 1))
    assert one_se_margin([math.inf, 0.5], losses) == [math.inf, -0.5]


@pytest.mark.parametrize("seed", range(6))
def test_left_out_residuals_by_refitting(seed: int) -> None:
    generator = np.random.default_rng(seed)
    n = 11
    features = generator.normal(size=(n, 4))
    y = features @ generator.normal(size=4) + generator.normal(size=n) * (0.1 + seed)
    penalty = RidgeCV(PENALTIES * n).fit(features, y).alpha_
    expected = []
    for i in range(n):
        others = np.arange(n) != i
        model = Ridge(penalty).fit(features[others], y[others])
        expected.append(y[i] - model.predict(features[[i]])[0])
    assert left_out_residuals(features, y) == pytest.approx(np.array(expected), rel=1e-8)


def shrunk_by_hand(metrics: list[dict[str, float]], losses: Array) -> list[float]:
    """Loops and refits, straight from the docstring."""
    n, samples = losses.shape
    means = [sum(row) / samples for row in losses.tolist()]
    y = [math.log(mean) for mean in means]
    ranks = np.array(
        [stats.rankdata([m[name] for m in metrics]) for name in ("agn", "margin_q50", "train_loss")]
    ).T
    features = stats.zscore(ranks)
    penalty = RidgeCV(PENALTIES * n).fit(features, y).alpha_
    predicted, variances = [], []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        model = Ridge(penalty).fit(features[others], [y[j] for j in others])
        predicted.append(float(model.predict(features[[i]])[0]))
        own = [
            losses[i, k] / means[i] - sum(losses[j, k] / means[j] for j in range(n)) / n
            for k in range(samples)
        ]
        variances.append(stats.sem(own) ** 2)
    excess = [(a - b) ** 2 - s for a, b, s in zip(y, predicted, variances, strict=True)]
    tau2 = max(0.0, sum(excess) / n)
    return [
        b + tau2 / (tau2 + s) * (a - b) for a, b, s in zip(y, predicted, variances, strict=True)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_shrinking_by_refits_and_loops(seed: int) -> None:
    losses = made_losses(seed, 9, 30).astype(np.float64)
    metrics = made_metrics(seed, losses.astype(np.float32))
    assert shrunk(metrics, losses) == pytest.approx(shrunk_by_hand(metrics, losses), rel=1e-8)


def test_what_validation_has_touched_predicts_nothing() -> None:
    losses = made_losses(3, 9, 30)
    metrics = made_metrics(3, losses)
    other = [{**m, "val_accuracy": 0.5, "gap_loss": 7.0, "val_loss": 0.0} for m in metrics]
    assert (shrunk(metrics, losses) == shrunk(other, losses)).all()


def test_few_samples_shrink_many_do_not() -> None:
    """With 4 samples the figures lie nearer to the prediction than with 4,000, relatively."""
    losses = made_losses(1, 20, 4000).astype(np.float64)
    metrics = made_metrics(1, losses.astype(np.float32))

    def kept(samples: int) -> float:
        part = losses[:, :samples]
        y = np.log(part.mean(axis=1))
        return float(np.abs(shrunk(metrics, part) - y).mean() / y.std())

    assert kept(4) > 5 * kept(4000)


@pytest.mark.parametrize("trials", [1, 3])
def test_too_few_trials_are_not_shrunk(trials: int) -> None:
    losses = made_losses(0, trials, 20)
    expected = np.log(losses.mean(axis=1, dtype=np.float64))
    assert shrunk([{}] * trials, losses) == pytest.approx(expected)


def test_without_another_metric_it_is_shrunk_to_the_mean_of_the_others() -> None:
    losses = made_losses(0, 6, 20).astype(np.float64)
    y = np.log(losses.mean(axis=1))
    others = np.array([np.delete(y, i).mean() for i in range(6)])
    found = shrunk([{"val_loss": 1.0}] * 6, losses)
    assert ((found - y) * (others - found) >= -1e-12).all()  # between the two


EXPECTED: dict[str, Callable[[list[dict[str, float]]], int]] = {
    "score": lambda m: int(np.argmin([t["val_loss"] for t in m])),
    "val_loss": lambda m: int(np.argmin([t["val_loss"] for t in m])),
    "val_accuracy": lambda m: int(np.argmax([t["val_accuracy"] for t in m])),
    "noise_cut": lambda m: int(
        np.argmin([t["val_loss"] + t["agn"] * sum(1 / e for e in range(4, 8)) for t in m])
    ),
}


@pytest.mark.parametrize("selection", EXPECTED)
@pytest.mark.parametrize("seed", range(3))
def test_the_least_is_chosen(selection: SelectionName, seed: int, tmp_path: Path) -> None:
    assert LATE == 5
    metrics = made_metrics(seed, made_losses(seed, 10, 20))
    history = made_study(tmp_path, metrics)
    assert chosen(history, selection, tmp_path) == EXPECTED[selection](metrics)


@pytest.mark.parametrize("seed", range(3))
def test_losses_are_read_from_the_folder(seed: int, tmp_path: Path) -> None:
    losses = made_losses(seed, 10, 50)
    metrics = made_metrics(seed, losses)
    history = made_study(tmp_path, metrics, losses)
    margins = [m["margin_q50"] for m in metrics]
    assert chosen(history, "one_se_margin", tmp_path) == np.argmin(one_se_margin(margins, losses))
    assert chosen(history, "shrunk", tmp_path) == shrunk(metrics, losses).argmin()


class Poisoned(dict[str, float]):
    """An audit that nobody may look at."""

    def _refuse(self, *_: object) -> Any:
        raise AssertionError("a selection has looked at the audit")

    __getitem__ = __iter__ = __len__ = __contains__ = __eq__ = _refuse  # type: ignore[assignment]
    get = keys = values = items = _refuse


@pytest.mark.parametrize("selection", SELECTIONS)
def test_nothing_that_chooses_reads_the_audit(selection: SelectionName, tmp_path: Path) -> None:
    losses = made_losses(5, 8, 30)
    metrics = made_metrics(5, losses)
    history = made_study(tmp_path, metrics, losses)
    plain = chosen(history, selection, tmp_path)
    with pytest.raises(AssertionError, match="has looked"):
        Poisoned().get("accuracy")
    audits: list[Mapping[str, float]] = [Poisoned() for _ in metrics]
    poisoned = made_study(tmp_path / "poisoned", metrics, losses, audits)
    assert chosen(poisoned, selection, tmp_path / "poisoned") == plain
    again = noise_cut(poisoned, Rung(EPOCHS), tmp_path / "poisoned")
    assert len(again) == 10 and again == noise_cut(history, Rung(EPOCHS), tmp_path)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_failures_duplicates_and_other_budgets_are_not_chosen(
    selection: SelectionName, tmp_path: Path
) -> None:
    losses = made_losses(2, 3, 30)
    history = made_study(tmp_path, made_metrics(2, losses), losses)
    best = chosen(history, selection, tmp_path)
    kept = {"metrics": history.records[best].outcome.metrics}  # type: ignore[union-attr]
    lucky = {**kept["metrics"], "val_loss": 1e-3, "val_accuracy": 1.0, "margin_q50": 99.0}
    for trial, outcome in (
        (
            Trial({"lr": 50.0}, EPOCHS, id=3, seed=0),
            Outcome(3, {}, failure=Failure("oom", "")),
        ),
        (Trial({"lr": 51.0}, 2, id=4, seed=0), Outcome(4, lucky, epochs=2)),
        (Trial({"lr": float(best)}, EPOCHS, id=5, seed=0), Outcome(5, lucky, epochs=0)),
        (Trial({"lr": 52.0}, EPOCHS, id=6, seed=0), None),
    ):
        history.apply(asked(trial))
        if outcome is not None:
            history.apply(told(outcome, 0.0))
    assert history.records[5].twin == best
    assert chosen(history, selection, tmp_path) == best


def test_every_name_has_its_row() -> None:
    assert tuple(SELECTIONS) == get_args(SelectionName)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_without_a_finished_trial_nothing_is_chosen(
    selection: SelectionName, tmp_path: Path
) -> None:
    assert choose(History(), VALIDATION, selection, Rung(EPOCHS), tmp_path) is None


def spoiled(directory: Path) -> Iterator[tuple[str, str]]:
    path = folder.trial_stem(directory, 1).with_suffix(".val_losses.npy")
    path.unlink()
    yield "is missing", "trial 1"
    path.write_bytes(b"no numbers")
    yield "cannot be read", "trial 1"
    np.save(path, np.zeros(7, np.float32))
    yield r"shape \(7,\), expected \(30,\)", "00001"
    np.save(path, np.array([{}]), allow_pickle=True)
    yield "cannot be read", "trial 1"


@pytest.mark.parametrize("selection", ["one_se_margin", "shrunk"])
def test_losses_that_are_not_there_are_named(selection: SelectionName, tmp_path: Path) -> None:
    losses = made_losses(2, 3, 30)
    history = made_study(tmp_path, made_metrics(2, losses), losses)
    for said, where in spoiled(tmp_path):
        with pytest.raises(UserError, match=said) as caught:
            choose(history, VALIDATION, selection, Rung(EPOCHS), tmp_path)
        assert where in str(caught.value) and "\n" not in str(caught.value)


IMAGES: dict[str, Any] = {
    "task": {
        "dataset": {"name": "digits", "subset": 0.2, "validation": 100},
        "model": {"name": "mlp", "width": 8, "depth": 1},
        "epochs": 2,
    },
    "search_space": {"lr": {"float": [0.001, 1.0], "log": True, "default": 0.1}},
    "plugins": [],
}
BLIND = {**IMAGES["task"], "dataset": {"name": "digits", "subset": 0.2, "validation": 0}}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"selection": "shrunk"},
            "selection: 'shrunk' reads the loss .* task 'bowl' does not keep",
        ),
        (
            {"selection": "one_se_margin"},
            "'one_se_margin' reads the loss of each validation sample",
        ),
        ({"selection": "noise"}, "'noise' is unknown; did you mean 'noise_cut'"),
        ({"selection": "audit_loss"}, "audit is for analysis only"),
        (
            {"selection": "noise_cut", "stop": {"trials": 10}},
            r"stop\.trials: got 10, expected at least 11, and selection 'noise_cut' keeps 10",
        ),
        (
            {"selection": "noise_cut", "stop": {"epochs": 21}},
            r"stop\.epochs: got 21, but one trial takes 2 epochs, and .*'noise_cut' keeps 10",
        ),
        (
            {**IMAGES, "task": BLIND, "objective": "train", "selection": "shrunk"},
            "'shrunk' needs val_loss, .*: it has no validation images",
        ),
        (
            {**IMAGES, "task": BLIND, "objective": "train", "selection": "noise_cut"},
            "'noise_cut' needs val_loss, .*: it has no validation images",
        ),
    ],
)
def test_a_selection_that_cannot_work_is_refused_at_load(
    keys: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load_study(study_file(tmp_path, **keys))
    assert "\n" not in str(caught.value)


def test_what_a_selection_needs_is_measured(tmp_path: Path) -> None:
    from hpogen.running.runner import run
    from hpogen.study.read import read
    from hpogen.study.status import best
    from hpogen.study.study import Study

    path = study_file(tmp_path, **IMAGES, selection="one_se_margin", stop={"trials": 4})
    spec = load_study(path)
    with Study(spec, tmp_path / "q") as study:
        assert study.wanted >= {"margin_q50", "val_loss"}
        run(study)
        found = best(read(tmp_path / "q"))
    losses = [
        np.load(folder.trial_stem(tmp_path / "q", i).with_suffix(".val_losses.npy"))
        for i in range(4)
    ]
    told = [e for e in ledger.read(tmp_path / "q") if e["kind"] == "told"]
    margins = [event["metrics"]["margin_q50"] for event in told]
    assert found["trial"] == np.argmin(one_se_margin(margins, np.stack(losses)))
    for event, own in zip(told, losses, strict=True):
        assert event["metrics"]["val_loss"] == pytest.approx(own.mean(), rel=1e-5)
    assert json.loads(json.dumps(spec.record()))["selection"] == "one_se_margin"
