"""Token ids: the data set `text`, its models, and a class for each position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from test_before import called
from torch import nn
from torch.nn import functional
from training.supervising import steps, trained

from hpogen import plugins
from hpogen.errors import Refusal, UserError
from hpogen.training.data.data import Data
from hpogen.training.data.loaded import load
from hpogen.training.forms.inputs import Inputs
from hpogen.training.forms.kinds import KINDS
from hpogen.training.forms.tokens import Tokens
from hpogen.training.losses import Loss
from hpogen.training.losses import cross_entropy as trained_by
from hpogen.training.models.build import build
from hpogen.training.models.catalog import TOKEN_MODELS
from hpogen.training.task import ImageClassification, Supervised

STUDIES = Path(__file__).parents[2] / "studies"
RANDOM = np.random.default_rng(5)
N, LENGTH, PADDING = 80, 7, 0
SMALL: dict[str, dict[str, Any]] = {
    "bag-of-embeddings": {"width": 6},
    "transformer": {"width": 6, "depth": 1, "heads": 2},
}


def sequences() -> tuple[Any, Any]:
    """Ids (N, T) of 9 tokens and padding, and whether the token to the left is larger."""
    ids = RANDOM.integers(1, 10, (N, LENGTH))
    labels = np.zeros_like(ids)
    labels[:, 1:] = ids[:, :-1] > ids[:, 1:]
    labels[:, 0] = -100
    padded = np.arange(LENGTH) >= RANDOM.integers(3, LENGTH + 1, N)[:, None]
    ids[padded], labels[padded] = PADDING, -100
    return ids, labels


X, POSITIONS = sequences()
TARGETS = {
    "classes": (X[:, 0] > X[:, 1]).astype(int) + (X[:, 0] > 7),
    "binary": (X[:, 0] > X[:, 1]).astype(int),
    "positions": POSITIONS,
    "real": X[:, :2] / 3,
}


def written(path: Path, **arrays: Any) -> Path:
    np.savez(path, **{"x_train": X, "y_train": POSITIONS, **arrays})
    return path


def task(path: Path, name: str = "bag-of-embeddings", **keys: Any) -> Supervised:
    dataset = {"name": "text", "path": str(path), "subset": 0.5, "validation": 20}
    if path.suffix == ".npz":
        dataset["padding"] = PADDING  # type: ignore[assignment]
    dataset |= keys.pop("dataset", {})
    model = {"name": name, **SMALL[name]}
    given = {"name": "supervised", "dataset": dataset, "model": model, "epochs": 2, **keys}
    return Supervised.model_validate(given)


def of_kind(path: Path, kind: str, **keys: Any) -> Supervised:
    dataset = {"kind": kind, **keys.pop("dataset", {})}
    return task(written(path / f"{kind}.npz", y_train=TARGETS[kind]), dataset=dataset, **keys)


@pytest.mark.parametrize("name", TOKEN_MODELS)
@pytest.mark.parametrize("kind", TARGETS)
def test_each_kind_is_trained_and_judged(name: str, kind: str, tmp_path: Path) -> None:
    settings = of_kind(tmp_path, kind, name=name, measures=["agn", "agn_online", "gsnr_head", "gn"])
    assert settings.prepare() == 40
    last = trained(settings, tmp_path / "t")[-1]
    figure = "rmse" if kind == "real" else "accuracy"
    assert {f"train_{figure}", "val_loss", "gn", "agn", "agn_online"} <= last.metrics.keys()
    assert last.audit.keys() == {"loss", figure}
    assert ("audit_hits.npy" in last.files) == (kind in ("classes", "binary"))


def test_the_figures_of_positions_are_over_those_that_are_labelled(tmp_path: Path) -> None:
    settings = of_kind(tmp_path, "positions", metrics=["f1"])
    settings.prepare()
    last = trained(settings, tmp_path / "t")[-1].metrics
    assert 0.4 < last["val_accuracy"] <= 1 and 0 <= last["val_f1"] <= 1
    with pytest.raises(Refusal, match="'auroc' is not defined for targets of the kind 'positions'"):
        of_kind(tmp_path, "positions", metrics=["auroc"])


@pytest.mark.parametrize("name", TOKEN_MODELS)
@pytest.mark.parametrize("kind", ["positions", "classes"])
def test_every_measure_is_given_or_refused_by_name(name: str, kind: str, tmp_path: Path) -> None:
    builtin = [m for m in plugins.measures.parts() if plugins.measures.is_builtin(m.name)]
    served, refused = [], set()
    for measure in builtin:
        try:
            of_kind(tmp_path, kind, name=name, measures=[measure.name]).prepare()
            served.append(measure)
        except Refusal as error:
            assert f"{measure.name!r} is not defined for" in str(error)
            refused.add(measure.name)
    expected = {"margin_input", "margin_layers", "path_norm", "jacobian_norm", "spectral", "vc_dim"}
    if kind == "positions":
        expected |= {"margin", "sharpness_pacbayes", "zeta"}
    elif name == "transformer":
        expected |= {"zeta"}
    assert refused == expected
    settings = of_kind(tmp_path, kind, name=name, measures=[m.name for m in served], epochs=1)
    settings.prepare()
    found = trained(settings, tmp_path / "t", budget=1)[-1].metrics
    assert {metric for m in served for metric in m.metrics} <= found.keys()


@pytest.mark.parametrize("name", TOKEN_MODELS)
def test_an_interrupted_trial_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    measures = ["agn", "agn_online", "gsnr_head", "gn"]
    settings = of_kind(tmp_path, "positions", name=name, measures=measures)
    whole = trained(settings, tmp_path / "whole")[-1]
    begun = steps(settings, tmp_path / "cut")
    next(step for step in begun if step is not None)
    begun.close()  # type: ignore[attr-defined]
    assert trained(settings, tmp_path / "cut", start_epoch=1)[-1].metrics == whole.metrics


def made(name: str, kind: str, length: int = LENGTH, **options: Any) -> nn.Module:
    torch.manual_seed(1)
    options = {**SMALL[name], **options}
    return build(name, options, Inputs((length,), 3, kind, "int64", Tokens(10, PADDING))).eval()


@pytest.mark.parametrize("name", TOKEN_MODELS)
@pytest.mark.parametrize("kind", ["classes", "positions"])
def test_padding_changes_nothing(name: str, kind: str) -> None:
    net, ids = made(name, kind), torch.from_numpy(X)
    longer = functional.pad(ids, (0, 5), value=PADDING)
    for gradients in (torch.no_grad, torch.enable_grad):  # torch's encoder has a way for each
        with gradients():
            here, there = net(ids), net(longer)
        if kind == "positions":
            there = there[:, :LENGTH]
            here, there = here[ids != PADDING], there[ids != PADDING]
        assert torch.allclose(here, there, atol=1e-6)
    other = ids.clone()
    other[:, 0] = other[:, 0] % 9 + 1  # and a token does change something
    assert not torch.allclose(net(other)[:, :1], net(ids)[:, :1], atol=1e-3)


def test_the_layers_of_a_transformer_are_no_copies() -> None:
    net: Any = made("transformer", "classes", depth=2)
    first, second = (layer.linear1.weight for layer in net.encoder.layers)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", TOKEN_MODELS)
@pytest.mark.parametrize("kind", ["classes", "positions"])
def test_gradients_of_the_models_are_those_of_autograd(name: str, kind: str) -> None:
    from hpogen.measures import gradient_norms, head_statistics, sequence_head

    net = made(name, kind).double()
    x, y = torch.from_numpy(X[:20]), torch.from_numpy(TARGETS[kind][:20])
    norms, own = [], []
    for i in range(len(x)):
        value = trained_by(net(x[i : i + 1]), y[i : i + 1]).sum()
        parts = torch.autograd.grad(value, list(net.parameters()))
        norms.append(sum(float(part.square().sum()) for part in parts))
        own.append(sum(float(part.square().sum()) for part in parts[-2:]))
    loss = Loss("cross_entropy", trained_by)
    found = gradient_norms(net, x, y, loss)
    assert found.numpy() == pytest.approx(np.array(norms), rel=1e-6)
    head: Any = sequence_head if kind == "positions" else head_statistics
    assert head(net, [(x, y)]).agn == pytest.approx(float(np.mean(own)), rel=1e-9)


def test_models_of_token_ids_take_no_others_and_the_reverse(tmp_path: Path) -> None:
    with pytest.raises(
        ValidationError, match=r"'transformer' takes token ids, got float32 \(13,\)"
    ):
        Supervised.model_validate(
            {"name": "supervised", "dataset": "wine", "model": "transformer", "epochs": 1}
        )
    file = written(tmp_path / "a.npz")
    settings = task(file).model_copy(update={"model": type(task(file).model)(name="mlp")})
    with pytest.raises(UserError, match="'mlp' takes floats, got token ids: expected bag-of-emb"):
        settings.prepare()
    given = {"dataset": {"name": "text", "path": str(file)}, "model": "mlp", "epochs": 1}
    with pytest.raises(ValidationError, match="'text' has no images"):
        ImageClassification.model_validate(given)
    with pytest.raises(ValueError, match="width to be a multiple of heads, got 6 and 4"):
        made("transformer", "classes", heads=4)
    searched = task(file, "transformer")
    searched.check_value("dropout", 0.5)
    with pytest.raises(ValueError, match="dropout may come to be"):
        searched.check_value("dropout", 1.5)


def lines(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


TSV = "good\tso good\nbad\tso bad\ngood\tfine\nbad\toh no\n" * 10


def loaded(path: Path, **keys: Any) -> Data:
    return load(task(path, dataset={"validation": 10, **keys}).dataset)


def test_lines_are_bytes_where_there_is_no_tokenizer(tmp_path: Path) -> None:
    data = loaded(lines(tmp_path / "a.tsv", TSV))
    inputs: Any = data.train.inputs
    assert inputs.shape == (40, 7) and data.tokens == Tokens(257, 256)
    assert data.class_names == ("bad", "good") and [*data.train.targets[:2]] == [1, 0]
    assert bytes(inputs[1, :6].tolist()) == b"so bad" and inputs[1, 6] == 256
    cut: Any = loaded(tmp_path / "a.tsv", length=4).train.inputs
    assert (cut == inputs[:, :4]).all()
    tested = loaded(tmp_path / "a.tsv", test_path=str(lines(tmp_path / "b.tsv", "bad\tü\n")))
    assert [*tested.test.inputs[0, :3]] == [0xC3, 0xBC, 256]  # type: ignore[index]


def test_a_byte_order_mark_and_other_ends_of_lines_change_nothing(tmp_path: Path) -> None:
    plain = loaded(lines(tmp_path / "a.tsv", TSV))
    odd = "\ufeff" + TSV.replace("\n", "\r\n")
    other = loaded(lines(tmp_path / "b.tsv", odd))
    assert other.class_names == plain.class_names
    assert np.array_equal(other.train.inputs, plain.train.inputs)  # type: ignore[arg-type]


def test_classes_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    data = loaded(lines(tmp_path / "a.tsv", "10\tten\n2\ttwo\n" * 20))
    assert data.class_names == ("2", "10")


def tokenizer(path: Path, unknown: str | None = "?", padding: bool = True) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: k for k, word in enumerate(["_", "?", "so", "good", "bad", "fine", "oh", "no"])}
    made = Tokenizer(models.WordLevel(words, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if padding:
        made.enable_padding(pad_id=0, pad_token="_")
    made.save(str(path))
    return path


def test_a_file_of_tokenizers_makes_the_ids(tmp_path: Path) -> None:
    file = lines(tmp_path / "a.tsv", TSV)
    data = loaded(file, tokenizer=str(tokenizer(tmp_path / "t.json")))
    assert data.tokens == Tokens(8, 0)
    assert data.train.inputs[:3].tolist() == [[2, 3], [2, 4], [5, 0]]  # type: ignore[index]
    bare = loaded(file, tokenizer=str(tokenizer(tmp_path / "u.json", padding=False)))
    assert bare.tokens == Tokens(9, 8) and bare.train.inputs[2, 1] == 8  # type: ignore[call-overload,index]
    cut = loaded(file, tokenizer=str(tmp_path / "t.json"), length=1)
    assert cut.train.inputs[:3].tolist() == [[2], [2], [5]]  # type: ignore[index]


def test_without_the_package_the_line_to_install_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs tokenizers: pip install 'hpogen\[text\]'"):
        loaded(lines(tmp_path / "a.tsv", TSV), tokenizer="t.json")


@pytest.mark.parametrize(
    ("text", "keys", "told"),
    [
        ("", {}, "a.tsv: is empty"),
        ("good\tso\n\nbad\tso\n", {}, "a.tsv:2: is empty, expected label<TAB>text"),
        ("good so\n", {}, "a.tsv:1: is 'good so', expected label<TAB>text"),
        ("good\t\n", {}, "a.tsv:1: is 'good', expected label<TAB>text"),
        (b"good\tso\nbad\t\xff\n", {}, "a.tsv:2: the byte 0xff is not UTF-8"),
        ("a\tb\n".encode("utf-16"), {}, "a.tsv:1: the byte 0xff is not UTF-8"),
        ("good\tso\n" * 9, {}, "are all of class 0: expected two classes"),
        ("good\tso\n" * 9 + "bad\tso\n", {}, "class 0 has one row, row 9"),
        (TSV, {"tokenizer": "none.json"}, "none.json: there is no such file"),
        (TSV, {"tokenizer": "{tmp}/a.tsv"}, "a.tsv: is no file of the package tokenizers"),
        (TSV, {"tokenizer": "{tmp}/t.json", "vocabulary": 7}, "has 8 token ids, padding among"),
        (TSV, {"vocabulary": 300}, "bytes have 257 token ids"),
        (TSV + "bad\tnever seen\n", {"tokenizer": "{tmp}/u.json"}, "a.tsv:41: the tokenizer fails"),
        (TSV, {"test_path": "none.tsv"}, "none.tsv: cannot be read: No such file"),
        (TSV, {"test_path": "{tmp}/b.tsv"}, "b.tsv:2: the label 'ugly' is not in the training set"),
        (TSV, {"padding": 999}, "padding is 999, expected an id in [0, 257)"),
    ],
)
def test_what_is_wrong_in_lines_is_one_line(
    text: str | bytes, keys: dict[str, Any], told: str, tmp_path: Path
) -> None:
    tokenizer(tmp_path / "t.json")
    tokenizer(tmp_path / "u.json", unknown=None)
    lines(tmp_path / "b.tsv", "good\tso\nugly\tso\n")
    filled = {k: v.format(tmp=tmp_path) if isinstance(v, str) else v for k, v in keys.items()}
    with pytest.raises(UserError) as caught:
        loaded(lines(tmp_path / "a.tsv", text), **filled)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def changed(array: Any, *place: int, value: int) -> Any:
    found = array.copy()
    found[place] = value
    return found


@pytest.mark.parametrize(
    ("arrays", "keys", "told"),
    [
        ({"x_train": changed(X, 3, 1, value=-2)}, {}, "train: row 3, position 1 is -2, expected"),
        ({}, {"vocabulary": 5}, "in [0, 5): the vocabulary has 5"),
        (
            {"x_test": changed(X[:9], 4, 2, value=10), "y_test": POSITIONS[:9]},
            {},
            "test: row 4, position 2 is 10, expected token ids in [0, 10)",
        ),
        ({"x_train": changed(X, 5, value=0)}, {}, "row 5 has no token, only padding (0)"),
        ({"x_train": X.astype(float)}, {}, "train inputs are float32 (80, 7), expected token ids"),
        (
            {"x_train": X[:, :, None], "y_train": TARGETS["classes"]},
            {},
            "expected token ids, integers (N, T)",
        ),
        ({"y_train": changed(POSITIONS, 6, value=-100)}, {}, "row 6 has no labelled position"),
        ({"y_train": changed(POSITIONS, 6, 1, value=-3)}, {}, "row 6 has -3, expected whole numb"),
        (
            {"x_train": changed(X, 2, 1, value=0), "y_train": changed(POSITIONS, 2, 1, value=1)},
            {},
            "row 2, position 1 is padding and has the target 1, expected -100",
        ),
        ({"y_train": POSITIONS[:, :5]}, {"kind": "positions"}, "targets are (80, 5) for token"),
        ({"y_train": np.where(POSITIONS < 0, -100, 1)}, {}, "are all of class 1"),
        ({}, {"kind": "classes"}, "and targets of the kind 'classes' are"),
        ({}, {"length": 3}, "got length, which is for lines of text"),
        ({}, {"tokenizer": "{tmp}/t.json"}, "expected token ids in [0, 8): the vocabulary has 8"),
    ],
)
def test_what_is_wrong_in_arrays_is_one_line(
    arrays: dict[str, Any], keys: dict[str, Any], told: str, tmp_path: Path
) -> None:
    tokenizer(tmp_path / "t.json")
    filled = {k: v.format(tmp=tmp_path) if isinstance(v, str) else v for k, v in keys.items()}
    with pytest.raises(UserError) as caught:
        load(task(written(tmp_path / "a.npz", **arrays), dataset=filled).dataset)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"loss": "mse"}, "'mse' is not for targets of the kind 'positions'"),
        ({"label_smoothing": 0.1}, "label_smoothing is for targets of one class"),
        ({"dataset": {"corruption": 0.1}}, "dataset.corruption is for targets of one class"),
        ({"dataset": {"balanced": True}}, "dataset.balanced is for targets of one class"),
        ({"keep": "probabilities"}, "keep: probabilities is for targets of one class each"),
    ],
)
def test_what_does_not_go_with_positions_is_refused(
    keys: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(Refusal, match=told):
        of_kind(tmp_path, "positions", **keys)


def test_a_model_without_logits_for_each_position_is_told(tmp_path: Path) -> None:
    plugins.model("pooled")(
        lambda in_shape, classes: nn.Sequential(Floats(), nn.Linear(7, classes))
    )
    keys = {"model": "pooled", "measures": []}
    settings = task(written(tmp_path / "a.npz")).model_dump(by_alias=True, mode="json") | keys
    found = Supervised.model_validate(settings)
    found.prepare()
    with pytest.raises(UserError, match=r"gives \(16, 2\) for targets \(16, 7\), expected"):
        trained(found, tmp_path / "t")


def test_a_plug_in_s_measure_of_the_last_layer_is_refused(tmp_path: Path) -> None:
    plugins.measure("of-one", of="head")(lambda head: float(head.features.sum()))
    with pytest.raises(Refusal, match="'of-one' is a plug-in's of the last layer, which is given"):
        of_kind(tmp_path, "positions", measures=["of-one"])


class Floats(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


def test_positions_need_no_token_ids(tmp_path: Path) -> None:
    """Inputs of floats (N, T, F) with a plug-in's model, and a loss of one's own."""

    def net(data: Any) -> nn.Module:
        return nn.Linear(data.in_shape[1], data.outputs)

    plugins.model("each")(net)
    plugins.loss("squares")(
        lambda z, y: (z - functional.one_hot(y.clamp_min(0), 2)).square().sum((1, 2))
    )
    file = tmp_path / "a.npz"
    np.savez(file, x_train=RANDOM.normal(size=(N, LENGTH, 4)), y_train=POSITIONS)
    dataset = {"name": "numpy", "path": str(file), "kind": "positions", "subset": 0.5}
    given = {"name": "supervised", "dataset": dataset, "model": "each", "epochs": 2}
    for loss in (None, "squares"):
        measures = ["agn", "agn_online", "gsnr_head", "gn"]
        settings = Supervised.model_validate({**given, "loss": loss, "measures": measures})
        settings.prepare()
        assert trained(settings, tmp_path / str(loss))[-1].metrics["agn"] > 0
    assert settings.dataset.kind is KINDS["positions"]


def test_the_study_of_a_text_finds_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`studies/text.yaml`, in a small version, and what `docs/text.md` predicts with it."""
    from hpogen.running.runner import run
    from hpogen.spec import load_study
    from hpogen.study.study import Study

    spec = load_study(STUDIES / "text.yaml", ["stop.trials=2", "task.epochs=2"])
    with Study(spec, tmp_path / "runs" / "languages") as study:
        assert run(study).end == "finished"
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text("twenty\nfr\tvingt\n")
    page = (STUDIES.parent / "docs" / "text.md").read_text().split("## Predict")[1]
    shell, code = (page.split(f"```{kind}\n")[1].split("```")[0] for kind in ("sh", "python"))
    called(*shell.split()[1:])
    assert len(Path("predictions.csv").read_text().splitlines()) == 3
    found: dict[str, Any] = {}
    exec(compile(code, "text.md", "exec"), found)
    assert found["probabilities"].shape == (2, 5)


def test_the_lines_of_the_study_are_as_it_says() -> None:
    data = loaded(STUDIES / "text.tsv")
    assert len(data.train) == 500 and data.class_names == ("de", "en", "es", "fr", "it")
