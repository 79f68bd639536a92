"""`hpogen ensemble`: picked by validation, judged by audit, loaded, and trained again."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kept import DIGITS, TASK, audit_images, finished, records
from scipy import stats
from test_before import call, called
from toys import study_file

import hpogen
from hpogen.analysis import ensemble as analysed
from hpogen.analysis.ensemble import AUDIT, VALIDATION, Compared, select
from hpogen.analysis.figure import AUDIT_HITS, Figure, wilson
from hpogen.analysis.greedy import Pool, greedy, mean
from hpogen.analysis.statistics import Interval
from hpogen.answer.ensemble import EnsemblePredictor
from hpogen.answer.load import load
from hpogen.errors import UserError
from hpogen.record import folder, history
from hpogen.report.ensemble import compared_text, ensemble_page, file_of
from hpogen.running.runner import run
from hpogen.selection.evidence import kept_array
from hpogen.spec import load_study
from hpogen.study import ensemble as ensembles
from hpogen.study.read import read
from hpogen.study.study import Study
from hpogen.training.data import load as load_data
from hpogen.training.data.splits import splits
from hpogen.trial import WEIGHTS

KEEP: dict[str, Any] = {**TASK, "epochs": 2, "keep": "probabilities"}
SPACE = {  # in which no trial is so much better that it stays alone
    "lr": {"float": [0.2, 0.4], "default": 0.3},
    "batch_size": {"int": [16, 32], "default": 16},
}
TRIALS = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose weights are all kept; no ensemble has been picked."""
    checkpoints = {"keep": "best", "top": TRIALS}
    home = tmp_path_factory.mktemp("made")
    return finished(
        home, task=KEEP, search_space=SPACE, checkpoints=checkpoints, stop={"trials": TRIALS}
    )


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    shutil.copy(made.parent / "study.yaml", tmp_path / "study.yaml")
    return Path(shutil.copytree(made, tmp_path / "run"))


def refused(*arguments: str) -> str:
    code, out, err = call(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    return err.strip()


def tables(study: Path, name: str) -> list[Any]:
    return [kept_array(study, trial, name) for trial in range(TRIALS)]


def test_it_is_picked_by_validation_and_judged_by_audit(study: Path) -> None:
    found = select(read(study), 4)
    labels = kept_array(study, 0, VALIDATION[1])
    pool = Pool(tables(study, VALIDATION[0]), labels, "loss")
    assert list(found.path) == greedy(pool, 4)
    assert sum(found.weights.values()) == pytest.approx(1)
    alone = [pool.loss((i,)) for i in range(TRIALS)]
    assert found.single == (alone.index(min(alone)), pytest.approx(min(alone)))
    assert found.worth.validation_loss == pytest.approx(found.path[-1][1])

    picks = [trial for trial, _ in found.path]
    average = mean([tables(study, AUDIT[0])[trial] for trial in picks])
    right = average.argmax(1) == kept_array(study, 0, AUDIT[1])
    figure = found.worth.figure
    assert isinstance(figure, Figure) and isinstance(found.answers.figure, Figure)
    assert figure.value == pytest.approx(1 - right.mean())
    assert (figure.interval, figure.samples) == (wilson(figure.value, 300), 300)
    theirs = kept_array(study, found.answer, AUDIT_HITS)
    gained, lost = int((right & ~theirs).sum()), int((~right & theirs).sum())
    assert found.compared.alone == (gained, lost)
    assert found.compared.difference == pytest.approx(figure.value - found.answers.figure.value)
    expected = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1
    assert found.compared.p == pytest.approx(expected)


def test_audit_has_no_say_in_what_is_picked(study: Path) -> None:
    before = select(read(study)).path
    for trial in range(TRIALS):
        noise = np.random.default_rng(trial).dirichlet(np.ones(10), 300).astype(np.float16)
        keep(study, trial, AUDIT[0], noise)
    found = select(read(study))
    assert found.path == before and found.compared.better is False


def keep(study: Path, trial: int, name: str, values: Any) -> None:
    """As the study itself keeps a file."""
    path = study / "new.npy"
    np.save(path, values)
    folder.keep_files(study, trial, {name: path.read_bytes()}, read(study).history.id)
    path.unlink()


def test_mcnemars_exact_test_by_hand() -> None:
    p = 2 * (1 + 9) / 2**9  # of nine that differ at most one against
    told = Compared(-0.07, (8, 1), float(stats.binomtest(8, 9).pvalue))
    assert told.p == pytest.approx(p) and told.better is True
    assert Compared(0.07, (1, 8), p).better is False
    assert Compared(-0.01, (5, 4), 1.0).better is None
    assert Compared(-0.01, interval=Interval(-0.02, 0.001)).better is None
    assert Compared(-0.01, interval=Interval(-0.02, -0.001)).better is True
    assert compared_text(told) == (
        "By audit the ensemble is better than the answer: its error is 7.0 points lower; it alone "
        "is right on 8 samples, the answer alone on 1 (McNemar's exact test: p = 0.0391)"
    )
    assert "not separable from the answer: its error is the same;" in compared_text(
        Compared(0.0, (3, 3), 1.0)
    )


def test_the_command_writes_the_file_and_counts_as_a_look(study: Path) -> None:
    out = called("ensemble", str(study), "--size", "4")
    assert "picked by validation loss" in out and "By audit the ensemble is" in out
    assert f"predict {study} FILES --ensemble" in out
    assert history.read(study).looks == 1
    written = ensembles.read(read(study))
    assert written.trials == [*select(read(study), 4).picks]
    data = json.loads(called("ensemble", str(study), "--size", "4", "--json"))
    assert data["members"] == [member.model_dump() for member in written.members]
    assert {"ensemble", "answer", "compared", "path", "single"} < data.keys()
    assert data["compared"]["said"] in out
    data = json.loads(called("ensemble", str(study), "--metric", "error", "--json"))
    assert ensembles.read(read(study)).metric == data["metric"] == "error"


def test_predictions_are_the_mean_of_what_was_kept(study: Path, tmp_path: Path) -> None:
    called("ensemble", str(study))
    net = hpogen.load(study, ensemble=True)
    assert isinstance(net, EnsemblePredictor) and len(net.members) > 1
    images, _ = audit_images(load_study(study.parent / "study.yaml"))
    shares = net(images).softmax(1)
    kept = [kept_array(study, m.trial, AUDIT[0]) for m in ensembles.read(read(study)).members]
    expected = sum(w * x.astype(np.float64) for w, x in zip(net.weights, kept, strict=True))
    np.testing.assert_allclose(shares.numpy(), expected, rtol=2**-10, atol=2**-24)
    assert torch.equal(shares, hpogen.load(study, ensemble=True)(images).softmax(1))
    assert len(net(images[:0])) == 0

    np.savez(tmp_path / "x.npz", images.numpy())
    out = tmp_path / "p.csv"
    called("predict", str(study), str(tmp_path / "x.npz"), "--out", str(out), "--ensemble")
    with open(out, newline="") as file:
        rows = [[float(row[f"p_{i}"]) for i in range(10)] for row in csv.DictReader(file)]
    np.testing.assert_allclose(rows, shares.numpy(), rtol=1e-5, atol=1e-9)
    with pytest.raises(UserError, match="expected uint8"):
        net(images.float())


def test_members_without_weights_are_named_and_trained_again(tmp_path: Path) -> None:
    study = finished(tmp_path, task=KEEP, search_space=SPACE, stop={"trials": TRIALS})
    out = called("ensemble", str(study))
    assert f"retrain {study} --ensemble --subset" in out
    gone = [t for t in ensembles.read(read(study)).trials if not folder.has_kept(study, t, WEIGHTS)]
    assert gone
    text = refused("predict", str(study), "x.npz", "--ensemble")
    assert f"the weights of {ensembles.named(gone)} of the ensemble are not kept" in text
    assert "--kept: the weights of 1 of its trials are there" in refused(
        "ensemble", str(study), "--kept"
    )
    out = called("retrain", str(study), "--ensemble", "--subset")
    assert all(f" trial {t} was trained once more, with the same numbers" in out for t in gone)
    images, _ = audit_images(load_study(tmp_path / "study.yaml"))
    shares = hpogen.load(study, ensemble=True)(images).softmax(1)
    picks = [trial for trial, _ in select(read(study)).path]
    expected = mean([kept_array(study, trial, AUDIT[0]) for trial in picks])
    np.testing.assert_allclose(shares.numpy(), expected, rtol=2**-10, atol=2**-24)
    assert "the weights of all members are kept" in refused(
        "retrain", str(study), "--ensemble", "--subset"
    )
    called("ensemble", str(study), "--kept")


def test_only_trials_whose_weights_are_kept(study: Path) -> None:
    first = select(read(study)).path[0][0]
    folder.drop_kept(study, first, WEIGHTS)
    found = select(read(study), only_kept=True)
    assert found.candidates == TRIALS - 1 and first not in found.picks


def test_it_is_trained_on_all_of_the_data_and_tested(study: Path) -> None:
    called("ensemble", str(study), "--size", "2")
    text = f"hpogen retrain {study} --ensemble"
    with pytest.raises(UserError, match="have not been trained on the full") as caught:
        hpogen.load(study, ensemble=True, retrained=True)
    assert text in str(caught.value)
    out = called("retrain", str(study), "--ensemble", "--seeds", "1")
    found = ensembles.read(read(study))
    assert f"On the test set the ensemble of {ensembles.named(found.trials)} has" in out
    net = hpogen.load(study, ensemble=True, retrained=True)
    inner = next(iter(read(study).retrainings.values()))
    (accuracy,) = analysed.tested(read(study), found)
    spec = load_study(study.parent / "study.yaml", ["task.dataset.audit=test"])
    images, labels = audit_images(spec)
    hits = (net(images).argmax(1) == labels).double().mean()
    assert accuracy == pytest.approx(float(hits), abs=2 / len(labels))  # float16 makes ties
    assert inner.spec.record()["task"]["keep"] == "probabilities"


def test_a_trial_without_probabilities_is_left_out(study: Path) -> None:
    first = select(read(study)).path[0][0]
    folder.trial_stem(study, first).with_suffix(f".{VALIDATION[0]}").write_bytes(b"torn")
    found = select(read(study))
    assert found.left_out == (first,) and first not in found.picks
    page = "\n".join(ensemble_page(found, read(study), 200, "hpogen"))
    assert f"Left out, as their probabilities are missing: trial {first}." in page
    for trial in range(1, TRIALS):
        folder.drop_kept(study, trial, VALIDATION[0])
    with pytest.raises(UserError, match=r"validation samples, of which . of 6 trials have any"):
        select(read(study))


def test_one_trial_alone_is_said_to_be_that(study: Path) -> None:
    labels = kept_array(study, 0, VALIDATION[1])
    keep(study, 3, VALIDATION[0], np.eye(10, dtype=np.float16)[labels])
    found = select(read(study))
    assert found.picks == {3: 1}
    page = "\n".join(ensemble_page(found, read(study), 200, "hpogen"))
    assert "More than 1 pick of 5 would not lower it." in page
    assert "It is one trial alone" in page


def test_without_audit_all_of_it_is_repeated_out_of_bag(tmp_path: Path) -> None:
    task = {**KEEP, "dataset": {**DIGITS, "audit": 0}}
    study = finished(tmp_path, task=task, stop={"trials": 4})
    found = select(read(study))
    figure = found.worth.figure
    assert isinstance(figure, Figure) and (figure.by, figure.samples) == ("validation", 100)
    assert figure.interval is not None and found.compared.interval is not None
    assert "Out of bag the ensemble is" in called("ensemble", str(study))
    assert history.read(study).looks == 0


def test_out_of_bag_is_not_fooled_by_noise() -> None:
    """Tables of chance: picked by error they look better than chance, and are not."""
    generator = np.random.default_rng(0)
    labels = generator.integers(10, size=60)
    noise = generator.dirichlet(np.ones(10), (15, 60)).astype(np.float16)
    pool = Pool([*noise], labels, "error")
    picks = tuple(sorted(pick for pick, _ in greedy(pool, 2)))
    naive = float(pool.wrong(picks).mean())
    figure, compared = analysed._out_of_bag(pool, 2, naive)
    assert naive < 0.85 < figure.value and compared.better is None


def test_finalists_runs_may_be_picked(tmp_path: Path) -> None:
    finalists = {"count": 2, "data": 0.3, "seeds": 1}
    study = finished(tmp_path, task=KEEP, finalists=finalists, stop={"trials": 5})
    found = select(read(study))
    repeats = {record.trial.id for record in records(study) if record.repeat}
    assert repeats and found.candidates == 5
    assert found.answer in repeats and repeats & found.picks.keys()
    assert found.compared.alone is not None


def test_a_new_study_in_the_folder_moves_it_aside(study: Path) -> None:
    called("ensemble", str(study))
    (study / "ledger.jsonl").unlink()
    with Study(load_study(study.parent / "study.yaml"), study):
        pass
    assert not (study / folder.ENSEMBLE).exists()
    assert (study / "earlier-1" / folder.ENSEMBLE).exists()


def test_the_file_is_checked(study: Path) -> None:
    assert refused("predict", str(study), "x.npz", "--ensemble") == (
        f"{study}: there is no ensemble yet: write it with: hpogen ensemble {study}"
    )
    assert "there is no ensemble yet" in refused("retrain", str(study), "--ensemble")
    path = ensembles.write(study, file_of(select(read(study)), read(study)))
    good = json.loads(path.read_text())
    own = good["members"][0]
    for change, reason in [
        ({"study": "another"}, "is of another study"),
        ({"format": 2}, "format: Input should be 1"),
        ({"members": []}, "members: Tuple should have at least 1 item"),
        ({"members": [own, own]}, "a trial is a member twice"),
        ({"members": [{**own, "weight": 0.5}]}, "the weights do not add up to 1"),
        ({"members": [{**own, "weight": "1"}]}, "members.0.weight: Input should be a valid number"),
        ({"members": [{"trial": 99, "weight": 1.0}]}, "trial 99 has not finished"),
        ({"members": [{"trial": -1, "weight": 1.0}]}, "members.0.trial: Input should be greater"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ]:
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(UserError) as caught:
            hpogen.load(study, ensemble=True)
        assert reason in str(caught.value) and f"hpogen ensemble {study}" in str(caught.value)
    for data in (b"", b"\xff\xfe", b"[" * 100_000, path.read_bytes()[:50]):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"ensemble\.json: is no ensemble of this hpogen"):
            hpogen.load(study, ensemble=True)


def test_what_cannot_be(study: Path, tmp_path: Path) -> None:
    assert refused("ensemble", str(study), "--size", "0") == "--size: got 0, expected 1 or more"
    assert "--metric: 'los' is unknown; did you mean 'loss'?" in refused(
        "ensemble", str(study), "--metric", "los"
    )
    for option in (["--trial", "1"], ["--fallback"]):
        assert "--ensemble: says itself what is trained" in refused(
            "retrain", str(study), "--ensemble", *option
        )
    called("ensemble", str(study))
    with pytest.raises(UserError, match="got trial 1 and ensemble, expected one of them"):
        load(study, ensemble=True, trial=1)
    weights = tmp_path / "w.safetensors"
    called("best", str(study), "--weights", str(weights))
    with pytest.raises(UserError, match="is one network's file"):
        load(weights, ensemble=True)
    assert "no study here" in refused("ensemble", str(tmp_path / "nothing"))


def test_studies_that_have_none(tmp_path: Path) -> None:
    plain = finished(tmp_path / "plain", stop={"trials": 2})
    assert "--set task.keep=probabilities --dir DIR" in refused("ensemble", str(plain))
    one = finished(tmp_path / "one", task=KEEP, stop={"trials": 1})
    assert "1 of its trials have finished: an ensemble takes 2" in refused("ensemble", str(one))
    spec = load_study(study_file(tmp_path / "bowl", stop={"trials": 2}))
    with Study(spec, tmp_path / "bowl" / "run") as bowl:
        run(bowl)
    assert "the task 'bowl' keeps no probabilities that hpogen knows of" in refused(
        "ensemble", str(tmp_path / "bowl" / "run")
    )
    none = finished(
        tmp_path / "v", task={**KEEP, "dataset": {**DIGITS, "validation": 0}},
        objective={"preset": "train"}, stop={"trials": 2},
    )  # fmt: skip
    assert "expected task.dataset.validation above 0" in refused("ensemble", str(none))


@pytest.mark.parametrize("kind", ["classes", "binary"])
def test_rows_of_a_table_have_an_ensemble_too(kind: str, tmp_path: Path) -> None:
    dataset = {"name": "wine" if kind == "classes" else "breast_cancer", "subset": 0.3}
    task = {**KEEP, "name": "supervised", "dataset": {**dataset, "validation": 40}}
    keep = {"keep": "best", "top": TRIALS}
    directory = finished(tmp_path, task=task, checkpoints=keep, stop={"trials": 3})
    called("ensemble", str(directory), "--size", "3")
    net = hpogen.load(directory, ensemble=True)
    assert isinstance(net, EnsemblePredictor)
    spec = load_study(directory.parent / "study.yaml")
    data: Any = load_data(spec.task.dataset)  # type: ignore[attr-defined]
    rows = splits(spec.task.dataset, data.strata).audit  # type: ignore[attr-defined]
    logits = net(torch.from_numpy(data.train.inputs[rows]))
    found = logits.softmax(1) if kind == "classes" else torch.cat([-logits, logits], 1).sigmoid()
    tables = [
        member.weight * kept_array(directory, member.trial, AUDIT[0]).astype(np.float64)
        for member in ensembles.read(read(directory)).members
    ]
    assert np.allclose(found.numpy(), sum(tables), atol=1e-3)
