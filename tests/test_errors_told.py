"""What answers are judged by, in words and with its unit, from the record to every page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from hpogen.analysis.figure import Figure, figure
from hpogen.analysis.truth import truth_in
from hpogen.cli import launching, looking, results
from hpogen.cli.app import app
from hpogen.selection.evidence import kept_array
from hpogen.study.read import Folder, read
from hpogen.study.standing import chosen
from hpogen.tasks.errors import ERRORS, judging

assert launching and looking and results  # they register the commands
LABELS = np.random.default_rng(1).integers(0, 2, (90, 3))


def hpogen(*words: str) -> str:
    done = CliRunner().invoke(app, [*words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def study(path: Path, dataset: Mapping[str, Any], **task: Any) -> Path:
    written = {
        "name": path.name,
        "task": {
            "name": "supervised",
            "dataset": {"subset": 0.5, "validation": 30, **dataset},
            "model": {"name": "mlp", "width": 4, "depth": 1},
            "epochs": 2,
            **task,
        },
        "search_space": {
            "lr": {"float": [0.001, 0.1], "log": True},
            "batch_size": {"choice": [16, 32]},
        },
        "objective": "val",
        "searcher": "random",
        "stop": {"trials": 3},
        "baselines": {"slow": {"lr": 0.001, "batch_size": 32}},
    }
    file = path.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(written))
    hpogen("run", str(file), "--dir", str(path), "--device", "cpu")
    return path


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of real targets, retrained twice."""
    path = study(tmp_path_factory.mktemp("told") / "regression", {"name": "diabetes"})
    hpogen("retrain", str(path), "--seeds", "2", "--device", "cpu")
    return path


def worth(folder: Folder) -> Figure:
    answer = chosen(folder)
    assert answer is not None
    found = figure(folder, answer)
    assert isinstance(found, Figure)
    return found


@pytest.mark.parametrize(
    ("declared", "audits", "expected"),
    [
        ([None], [{"accuracy": 0.9, "loss": 1.0}], "accuracy"),
        ([None], [{"rmse": 3.0, "loss": 1.0}], "rmse"),
        (["auroc"], [{"auroc": 0.8, "accuracy": 0.9}], "auroc"),
        (["auroc", None], [{"auroc": 0.8, "accuracy": 0.9}], "accuracy"),
        ([None], [{"accuracy": 0.9, "loss": 1.0}, {"loss": 1.0}], "loss"),
        ([None], [{"error": 0.1, "loss": 1.0}], "error"),
        ([None], [], None),
    ],
)
def test_the_error_that_all_have(
    declared: list[str | None], audits: list[dict[str, float]], expected: str | None
) -> None:
    found = judging(declared, audits)
    assert (found and found.metric) == expected


def test_what_is_better_the_higher_is_taken_from_one() -> None:
    assert ERRORS["auroc"].of({"val_auroc": 0.75}, "val_") == 0.25
    assert ERRORS["rmse"].of({"rmse": 0.75}) == 0.75 and ERRORS["rmse"].of({}) is None


def test_the_interval_of_a_rmse_is_the_bootstrap_of_its_samples(regression: Path) -> None:
    folder = read(regression)
    answer = chosen(folder)
    assert answer is not None and answer.outcome is not None
    errors = kept_array(regression, answer.trial.id, "audit_errors.npy")
    found = worth(folder)
    assert found.value == pytest.approx(float(np.sqrt(np.mean(errors.astype(float) ** 2))))
    generator = np.random.default_rng(0)
    drawn = errors[generator.integers(len(errors), size=(4000, len(errors))), 0].astype(float)
    low, high = np.quantile(np.sqrt((drawn**2).mean(1)), [0.025, 0.975])
    assert found.interval is not None and found.samples == len(errors)
    assert found.interval.low == pytest.approx(low, rel=0.02)
    assert found.interval.high == pytest.approx(high, rel=0.02)
    assert found.validation == answer.outcome.metrics["val_rmse"]


def pages(path: Path) -> Iterator[tuple[str, str]]:
    for command, *options in (
        ("best",),
        ("compare",),
        ("retrain", "--seeds", "2", "--device", "cpu"),
        ("rescore",),
        ("status",),
    ):
        yield command, hpogen(command, str(path), *options)
    out = path.with_suffix(".html")
    hpogen("report", str(path), "--out", str(out))
    yield "report", out.read_text()


def test_every_page_tells_a_regression_in_its_unit(regression: Path) -> None:
    told = dict(pages(regression))
    for command in ("compare", "rescore", "report"):
        assert "audit RMSE" in told[command], command
    assert "RMSE" in told["best"] and "test RMSE" in told["retrain"]
    assert "audit RMSE &#8722; training RMSE" in told["report"] or (
        "audit RMSE − training RMSE" in told["report"]
    )
    for command, page in told.items():
        assert "audit error" not in page and "accuracy" not in page, command


def test_a_declared_error_judges(tmp_path: Path) -> None:
    path = study(tmp_path / "auroc", {"name": "breast_cancer"}, error="auroc")
    folder = read(path)
    answer = chosen(folder)
    assert answer is not None and answer.outcome is not None
    truth = truth_in(folder.spec, answer)
    assert truth is not None and truth.text == "1 − AUROC"
    found = worth(folder)
    assert found.value == 1 - answer.outcome.audit["auroc"]
    assert found.interval is None and "no interval" in found.lacking
    assert "audit 1 − AUROC" in hpogen("compare", str(path))


def test_several_labels_of_a_sample_are_not_taken_for_independent(tmp_path: Path) -> None:
    file = tmp_path / "labels.npz"
    x = np.random.default_rng(2).normal(size=(90, 4)).astype(np.float32)
    np.savez(file, x_train=x, y_train=LABELS)
    path = study(tmp_path / "labels", {"name": "numpy", "path": str(file)})
    found = worth(read(path))
    assert found.what == "error" and found.samples == 15 and found.interval is not None
    assert 0 <= found.interval.low < found.value < found.interval.high <= 1


def test_places_of_a_sequence_are_not_taken_for_independent(tmp_path: Path) -> None:
    file, generator = tmp_path / "places.npz", np.random.default_rng(4)
    ids = generator.integers(1, 6, (90, 7))
    places = np.where(generator.random(ids.shape) < 0.3, -100, ids % 3)
    places[:, 0] = 0
    np.savez(file, x_train=ids, y_train=places)
    dataset = {"name": "text", "path": str(file), "vocabulary": 6, "kind": "positions"}
    path = study(tmp_path / "places", dataset, model="bag-of-embeddings")
    folder = read(path)
    answer, found = chosen(folder), worth(folder)
    assert answer is not None and found.interval is not None and found.samples == 15
    right, labelled = kept_array(path, answer.trial.id, "audit_counts.npy").T
    assert found.value == pytest.approx(1 - right.sum() / labelled.sum())
    assert found.interval.low < found.value < found.interval.high
