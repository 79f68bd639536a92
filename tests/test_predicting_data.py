"""Networks of tables, text and arrays, as they are kept, loaded and asked for predictions."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from kept import finished, kept, records
from test_before import call, called
from test_predicting import ONNX, PACKAGES, best
from torch import Tensor
from training import test_supervised, test_tables, test_text

import hpogen
from hpogen import plugins
from hpogen.answer.files import write_onnx, write_weights
from hpogen.answer.predict import predict
from hpogen.errors import UserError
from hpogen.measures.passes import Predictions
from hpogen.measures.sequences import predictions
from hpogen.training.data.loaded import load as load_data
from hpogen.training.data.splits import splits
from hpogen.training.losses import Loss
from hpogen.training.predictor import Predictor
from hpogen.training.task import Supervised

PLUGIN = """
import torch
from torch import nn
from hpogen.plugins import dataset, model
from hpogen.training.data import Data, Samples

class Net(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.embed = nn.Embedding(4, 3)
        self.last = nn.Linear(3 + data.in_shape["x.numbers"][0], data.outputs)

    def forward(self, x):
        return self.last(torch.cat([x["x.numbers"], self.embed(x["kind"][:, 0])], 1))

@model("by-name")
def by_name(data):
    return Net(data)

@dataset("by-name")
def named_inputs(root):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(90, 5, generator=draw).numpy()
    kinds = torch.randint(4, (90, 1), generator=draw).numpy()
    samples = Samples({"x.numbers": x, "kind": kinds}, x[:, :1] + kinds)
    return Data(samples, samples, "real")
"""
TEXTS = ["so good", "so bad", "fine", "oh no"]
MLP = {"name": "mlp", "width": 6, "depth": 1}
BAG = {"name": "bag-of-embeddings", "width": 6}
EVERY = (
    *("table", "numbers", "categories", "real table", "classes", "binary", "labels", "real"),
    *("names", "images", "text", "tokenizer", "positions", "transformer"),
)


def task_of(what: str, home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A small task of the kind that the name says, and what else the study has."""
    arrays = {"name": "numpy", "path": str(home / "x.npz"), "subset": 0.5, "validation": 20}
    dataset, model, keys = arrays, MLP, {}
    if what in test_supervised.TARGETS:
        test_supervised.written(home / "x.npz", y_train=test_supervised.TARGETS[what])
        dataset = {**arrays, "kind": what}
    elif what == "images":
        x = np.random.default_rng(0).integers(0, 256, (60, 6, 6), dtype=np.uint8)
        np.savez(home / "x.npz", x_train=x, y_train=x[:, 0, :2] / 3)
    elif what in ("table", "numbers", "categories", "real table"):
        path = test_tables.written(home / "a.csv")
        out = {"numbers": ["city", "smokes"], "categories": ["age", "height"]}.get(what, [])
        dataset = {"name": "csv", "path": str(path), "target": "ill", "subset": 0.4}
        dataset |= {"drop": ["site", "day", *out], "validation": 30}
        if what == "real table":
            dataset |= {"target": "height", "drop": ["site", "day", "age"]}
    elif what == "names":
        (home / "named.py").write_text(PLUGIN)
        dataset, model = {"name": "by-name", "subset": 0.5, "validation": 20}, {"name": "by-name"}
        keys = {"plugins": ["named.py"]}
    elif what in ("positions", "transformer"):
        kind = "positions" if what == "positions" else "classes"
        test_text.written(home / "x.npz", y_train=test_text.TARGETS[kind])
        dataset = {**arrays, "name": "text", "padding": 0, "kind": kind}
        model = BAG if what == "positions" else {"name": what, **test_text.SMALL[what]}
    else:
        lines = [f"{'ab'[i % 2]}\t{TEXTS[i * 7 % 4]} {TEXTS[i % 4]}" for i in range(60)]
        (home / "x.tsv").write_text("\n".join(lines))
        dataset, model = {**arrays, "name": "text", "path": str(home / "x.tsv")}, BAG
        if what == "tokenizer":
            dataset["tokenizer"] = str(test_text.tokenizer(home / "t.json"))
    return {"name": "supervised", "dataset": dataset, "model": model, "epochs": 1}, keys


def ran(what: str, home: Path, trials: int = 1, **keys: Any) -> Path:
    home.mkdir(exist_ok=True)
    task, more = task_of(what, home)
    stop = {"trials": trials}
    return finished(home, task={**task, **keys.pop("task", {})}, stop=stop, **more, **keys)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished studies, by what they are of."""
    home = tmp_path_factory.mktemp("studies")
    return {what: ran(what, home / what.replace(" ", "-")) for what in EVERY}


def judged_by(directory: Path) -> tuple[Any, Any, Supervised]:
    """The validation samples as the data set gives them, their targets, and the task."""
    from hpogen.spec import load_study

    spec = load_study(directory.parent / "study.yaml")
    with plugins.scope(spec.scope):
        assert isinstance(spec.task, Supervised)
        data = load_data(spec.task.dataset)
        rows = splits(spec.task.dataset, data.strata, data.division).validation
        inputs: Any = data.train.inputs
        named = isinstance(inputs, Mapping)
        x = {n: part[rows] for n, part in inputs.items()} if named else inputs[rows]
        return x, torch.from_numpy(data.train.targets[rows]), spec.task


def tensors(x: Any) -> Any:
    if isinstance(x, Mapping):
        return {name: torch.from_numpy(part) for name, part in x.items()}
    return torch.from_numpy(x)


def validation_loss(net: Predictor, x: Any, y: Tensor) -> float:
    """As the trial's own evaluation computes it, from the network's outputs."""
    kind, outputs = net.header.inputs.kind, net.outputs(x)
    if kind == "positions":
        return float(predictions(outputs, y).mean_loss)
    if kind == "real":
        unit = {n.removeprefix("targets/"): t for n, t in net.fits.items() if n[0] == "t"}
        y = torch.sub(y, unit["mean"]).mul_(unit["scale"])
    own = {"real": "mse", "labels": "bce"}.get(kind)
    loss = Loss(own, plugins.losses.get(own)) if own else None
    return Predictions(outputs, y, loss).loss


@pytest.mark.parametrize("what", EVERY)
def test_the_kept_network_gives_the_recorded_loss_bit_for_bit(
    what: str, done: dict[str, Path], tmp_path: Path
) -> None:
    directory = done[what]
    net = hpogen.load(directory)
    assert net.header.format == 2 and not net.training
    x, y, _ = judged_by(directory)
    outcome = records(directory)[0].outcome
    assert outcome is not None
    assert validation_loss(net, tensors(x), y) == outcome.metrics["val_loss"]
    write_weights(net, tmp_path / "w.safetensors")
    (there,) = directory.glob("trials/*.safetensors")
    assert there.read_bytes() == (tmp_path / "w.safetensors").read_bytes()
    if what != "names":  # a plug-in stands beside the study's folder
        again = hpogen.load(tmp_path / "w.safetensors")
        assert torch.equal(again(tensors(x)), net(tensors(x)))


def test_classes_of_images_are_kept_as_an_image_task_keeps_them(tmp_path: Path) -> None:
    task, _ = task_of("images", tmp_path)
    x = np.random.default_rng(0).integers(0, 256, (60, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=np.arange(60) % 3)
    directory = finished(tmp_path, task=task, stop={"trials": 1})
    net = hpogen.load(directory)
    given, y, _ = judged_by(directory)
    np.savez(tmp_path / "only.npz", given)
    outcome = records(directory)[0].outcome
    assert outcome is not None and net.header.format == 1
    assert validation_loss(net, tensors(given), y) == outcome.metrics["val_loss"]
    assert [*predicted(net, tmp_path / "only.npz", tmp_path)[0]][2:] == [
        "class",
        "p_0",
        "p_1",
        "p_2",
    ]


@pytest.mark.parametrize("what", ["real", "real table", "names", "images"])
def test_real_numbers_are_in_the_unit_of_the_target(what: str, done: dict[str, Path]) -> None:
    net = hpogen.load(done[what])
    x, y, _ = judged_by(done[what])
    outcome = records(done[what])[0].outcome
    assert outcome is not None
    errors = (net(tensors(x)).double() - y.double()).square().mean(0).sqrt().mean()
    assert float(errors) == pytest.approx(outcome.metrics["val_rmse"], rel=1e-6)


@pytest.mark.parametrize("what", EVERY)
def test_no_rows_give_no_outputs(what: str, done: dict[str, Path]) -> None:
    net = hpogen.load(done[what])
    x = net.example(0)
    assert net(x).shape == (0, *net(net.example(2 if what == "names" else 0)).shape[1:])


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def predicted(net: Predictor, path: Path, out: Path) -> list[dict[str, str]]:
    assert predict(net, [path], out / "p.csv") == len(rows_of(out / "p.csv"))
    return rows_of(out / "p.csv")


def test_a_table_s_columns_are_found_by_name(
    done: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = hpogen.load(done["table"])
    first = net.encoded(done["table"].parent / "a.csv")
    data: Any = load_data(judged_by(done["table"])[2].dataset).train.inputs
    assert torch.equal(first["categories"], torch.from_numpy(data["categories"]))
    assert np.array_equal(first["numbers"].numpy(), data["numbers"], equal_nan=True)
    caplog.clear()
    cities = np.array(["Rome", "Atlantis", "", "Bonn"])
    columns = {
        "smokes": [True, False, None, True], "id": [1, 2, 3, 4], "city": cities,
        "height": [170, 180, 165, 190], "age": [None, 30.5, 41.0, None],
    }  # fmt: skip
    shuffled = pa.table(columns)
    test_tables.csv.write_csv(shuffled, tmp_path / "new.csv")
    test_tables.parquet.write_table(shuffled, tmp_path / "new.parquet")
    of_csv = predicted(net, tmp_path / "new.csv", tmp_path)
    file = tmp_path / "new.csv"
    assert caplog.messages == [
        f"{file}: the network does not take 'id': left out",
        f"{file}: column 'city': 1 row has a category that the network does not know: taken as "
        "unknown",
        f"{file}: column 'smokes': 1 row has a category that the network does not know: taken as "
        "unknown",
    ]
    of_parquet = predicted(net, tmp_path / "new.parquet", tmp_path)
    of_columns = torch.sigmoid(net(net.encoded(columns))[:, 0].double()).tolist()
    assert [*of_csv[0]] == ["file", "row", "class", "p_no", "p_yes"]
    for i, (row, other) in enumerate(zip(of_csv, of_parquet, strict=True)):
        assert row["row"] == str(i + 1) and row["p_yes"] == other["p_yes"]
        assert float(row["p_yes"]) == pytest.approx(of_columns[i], rel=1e-5)
        assert row["class"] == ("yes" if of_columns[i] > 0.5 else "no")
    unknown = {**columns, "city": ["Lima"] * 4}
    of_unknown = net.encoded(unknown)["categories"][:, 0]
    assert (of_unknown == net.encoded(columns)["categories"][1, 0]).all()


def refused(net: Predictor, path: Path) -> str:
    out = path.parent / "never.csv"
    with pytest.raises(UserError) as caught:
        predict(net, [path], out)
    assert "\n" not in str(caught.value) and not out.exists()
    return str(caught.value)


def test_tables_that_do_not_fit_are_one_line(done: dict[str, Path], tmp_path: Path) -> None:
    net = hpogen.load(done["table"])
    path = tmp_path / "new.csv"
    path.write_text("height,city\n170,Rome\n")
    text = refused(net, path)
    assert "new.csv: has no column 'age': it has 'height, city'" in text
    path.write_text("age,height,city,smokes,age\n1,2,Rome,true,3\n")
    assert "new.csv: has 2 columns 'age', expected one" in refused(net, path)
    path.write_text("age,height,city,smokes\nold,2,Rome,true\n")
    assert "new.csv: column 'age': holds string, and numbers in the training" in refused(net, path)
    path.write_text("age,height,city,smokes\n,2e99,Rome,true\n")
    assert "new.csv: column 'height': row 1 is 2e+99, expected" in refused(net, path)
    path.write_text("age,height\n1,2,3\n")
    assert "new.csv: cannot be read as a table" in refused(net, path)
    path.write_bytes(b"age,height,city,smokes\n1,2,K\xf6ln,true\n")
    assert "new.csv: column 'city': holds binary, expected text" in refused(net, path)
    path.write_bytes(b"\x89PNG\n\x00")
    assert "new.csv: cannot be read as a table: UnicodeDecodeError" in refused(net, path)
    path.write_text("")
    assert "new.csv: is empty, expected a table" in refused(net, path)
    assert "there is no such file" in refused(net, tmp_path / "nothing.csv")
    assert "is a folder, expected a file" in refused(net, tmp_path)
    with pytest.raises(UserError, match="the table is none: "):
        net.encoded(7)


def test_a_gap_where_the_training_had_none(done: dict[str, Path], tmp_path: Path) -> None:
    task, keys = task_of("table", tmp_path)
    heights = {"drop": ["site", "day", "age", "city", "smokes"]}
    task["dataset"] |= heights
    net = hpogen.load(finished(tmp_path, task=task, stop={"trials": 1}, **keys))
    (tmp_path / "new.csv").write_text("height\n170\nNA\n")
    text = refused(net, tmp_path / "new.csv")
    assert "new.csv: row 1, column 'height' is missing, and in the training no number was" in text
    x = torch.zeros(2, 5)
    x[1, 3] = torch.inf
    with pytest.raises(UserError, match=r"row 1, place \(3,\) is inf, expected a number"):
        hpogen.load(done["real"])(x)


@pytest.mark.parametrize("what", ["text", "tokenizer"])
def test_lines_are_read_as_in_the_training(
    what: str, done: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = hpogen.load(done[what])
    data = load_data(judged_by(done[what])[2].dataset)
    file = done[what].parent / "x.tsv"
    labelled = predicted(net, file, tmp_path)
    assert "60 of 60 lines have a tab: what stands before it is taken for a label" in caplog.text
    texts = [line.partition("\t")[2] for line in file.read_text().split("\n")]
    assert torch.equal(net.encoded(texts), torch.from_numpy(data.train.inputs))
    (tmp_path / "plain.txt").write_text("\n".join(texts) + "\n")
    plain = predicted(net, tmp_path / "plain.txt", tmp_path)
    assert [row["p_a"] for row in plain] == [row["p_a"] for row in labelled]
    assert [row["row"] for row in plain] == [str(i + 1) for i in range(60)]
    (tmp_path / "plain.txt").write_text("so good\n\nfine\n")
    assert "plain.txt:2: is empty, expected a text" in refused(net, tmp_path / "plain.txt")
    np.savez(tmp_path / "x.npz", data.train.inputs[:4])
    ids = predicted(net, tmp_path / "x.npz", tmp_path)
    assert [row["p_a"] for row in ids] == [row["p_a"] for row in plain[:4]]
    with pytest.raises(UserError, match="got a int, expected a file, or a list of texts"):
        net.encoded(7)
    with pytest.raises(UserError, match="so good: cannot be read: No such file"):
        net.encoded("so good")


def test_the_tokenizer_s_file_need_not_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = ran("tokenizer", tmp_path)
    (tmp_path / "t.json").unlink()
    (tmp_path / "x.tsv").unlink()
    net = hpogen.load(directory)
    assert net(net.encoded(["so good", "oh"])).shape == (2, 2)
    (tmp_path / "new.txt").write_text("so good\n\u00a0.\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "needs tokenizers: pip install" in refused(net, tmp_path / "new.txt")


def test_what_each_kind_of_target_tells(done: dict[str, Path], tmp_path: Path) -> None:
    found: dict[str, list[dict[str, str]]] = {}
    for what in ("classes", "labels", "real", "positions", "images", "names"):
        x, _, _ = judged_by(done[what])
        arrays = x if isinstance(x, Mapping) else {"x": x}
        np.savez(tmp_path / "x.npz", **arrays)
        found[what] = predicted(hpogen.load(done[what]), tmp_path / "x.npz", tmp_path)
    assert {what: [*rows[0]][2:] for what, rows in found.items()} == {
        "classes": ["class", "p_0", "p_1", "p_2"],
        "labels": ["p_0", "p_1", "p_2"],
        "real": ["value_0", "value_1"],
        "positions": ["classes"],
        "images": ["value_0", "value_1"],
        "names": ["value"],
    }
    x, _, _ = judged_by(done["real"])
    told = [[float(row[f"value_{i}"]) for i in (0, 1)] for row in found["real"]]
    assert np.array_equal(np.float32(told), hpogen.load(done["real"])(tensors(x)).numpy())
    ids, _, _ = judged_by(done["positions"])
    for row, given in zip(found["positions"], ids, strict=True):
        marks = row["classes"].split(" ")
        assert [mark == "-" for mark in marks] == (given == 0).tolist()
        assert set(marks) <= {"0", "1", "-"}


def test_arrays_that_do_not_fit_are_one_line(done: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    reals, ids, names = (hpogen.load(done[what]) for what in ("real", "positions", "names"))
    np.savez(path, np.zeros((3, 4), np.float32))
    text = refused(reals, path)
    assert "x.npz: got inputs float32 (3, 4), expected float32 (N, 5)" in text
    np.savez(path, np.zeros((3, 5), int))
    assert "x.npz: got int64, expected 'float32': convert it" in refused(reals, path)
    np.savez(path, np.full((3, 7), 99))
    assert "row 0, position 0 is 99, expected token ids in [0, 10)" in refused(ids, path)
    np.savez(path, np.zeros((3, 7), int))
    assert "row 0 has no token, only padding" in refused(ids, path)
    assert "x.npz: has no array 'x.numbers': expected x.numbers, kind" in refused(names, path)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    text = refused(reals, tmp_path / "x.csv")
    assert "x.csv: the network was trained on arrays: expected an .npz file of them" in text
    x = names.example(3)
    with pytest.raises(UserError, match=r"expected a mapping of tensors, 'x\.numbers' and 'kind'"):
        names(torch.zeros(3, 5))
    with pytest.raises(UserError, match=r"got rows 3 of 'x\.numbers', 2 of 'kind'"):
        names({**x, "kind": x["kind"][:2]})
    with pytest.raises(UserError, match="'kind' int32 \\(3, 1\\), expected int64 \\(N, 1\\)"):
        names({**x, "kind": x["kind"].int()})


SLOW = [
    pytest.param(what, marks=pytest.mark.slow)
    for what in ("real", "positions", "transformer", "images")
]


@pytest.mark.skipif(not ONNX, reason=f"needs {', '.join(PACKAGES)}: pip install 'hpogen[onnx]'")
@pytest.mark.parametrize("what", ["table", *SLOW])
def test_other_programs_give_the_same(what: str, done: dict[str, Path], tmp_path: Path) -> None:
    import onnxruntime

    net = hpogen.load(done[what])
    write_onnx(net, tmp_path / "w.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "w.onnx", providers=["CPUExecutionProvider"])
    x, _, _ = judged_by(done[what])
    if what == "table":
        x["categories"][:2] = [[77, -1], [-1, 99]]  # no category's numbers
    given = x if isinstance(x, Mapping) else {"images" if what == "images" else "inputs": x}
    assert [one.name for one in session.get_inputs()] == [*given]
    name = "values" if what in ("real", "images") else "logits"
    (found,) = session.run([name], dict(given))
    assert np.allclose(found, net(tensors(x)).numpy(), rtol=1e-4, atol=1e-5)
    about = session.get_modelmeta().custom_metadata_map["hpogen"]
    assert json.loads(about)["kind"] == net.header.inputs.kind


def test_kept_checkpoints_are_weights_too(tmp_path: Path) -> None:
    directory = ran("table", tmp_path, checkpoints={"keep": "final"})
    assert kept(directory) == set()
    x, y, _ = judged_by(directory)
    outcome = records(directory)[0].outcome
    assert outcome is not None
    found = validation_loss(hpogen.load(directory), tensors(x), y)
    assert found == outcome.metrics["val_loss"]


def test_a_table_is_retrained_and_loaded(tmp_path: Path) -> None:
    test = test_tables.written(tmp_path / "test.csv")
    task, _ = task_of("table", tmp_path)
    task["dataset"]["test_path"] = str(test)
    directory = finished(tmp_path, task=task, stop={"trials": 2})
    called("retrain", str(directory), "--seeds", "1")
    net = hpogen.load(directory, retrained=True)
    assert net(net.encoded(test)).shape == (test_tables.N, 1)


def test_the_command_line_predicts_of_a_table(
    done: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory, out = done["table"], tmp_path / "p.csv"
    file = directory.parent / "a.csv"
    code, said, err = call("predict", str(directory), str(file), "--out", str(out))
    assert code == 0 and caplog.text.count("does not take 'site', 'day', 'ill'") == 1 and not err
    assert said == f"the predictions of {test_tables.N} rows written to {out}\n"
    assert len(rows_of(out)) == test_tables.N and best(directory) == 0
    (tmp_path / "new.csv").write_text("height,city\n170,Rome\n")
    code, _, err = call("predict", str(directory), str(tmp_path / "new.csv"))
    assert code == 2 and err.count("\n") == 1 and "has no column 'age'" in err


def rewritten(path: Path, old: str, new: str) -> Path:
    """The file with another text in its header, of the same length."""
    data = path.read_bytes()
    assert len(old) == len(new) and data.count(old.encode()) == 1, data.count(old.encode())
    target = path.with_name("other.safetensors")
    target.write_bytes(data.replace(old.encode(), new.encode()))
    return target


def test_damaged_files_are_one_line(done: dict[str, Path], tmp_path: Path) -> None:
    net = hpogen.load(done["table"])
    path = tmp_path / "w.safetensors"
    write_weights(net, path)
    for old, new, said in (
        ('\\"cardinalities\\":[5', '\\"cardinalities\\":[4', "the weights are not those of the mo"),
        ('\\"kind\\":', '\\"kinb\\":', "is no file of weights that hpogen has kept: kind: Field"),
        ('\\"numbers\\":[3]', '\\"numbers\\":[2]', "the weights are not those of the model 'mlp'"),
        ('\\"numbers\\":[\\"age\\",', '\\"numbers\\":[        ', "the weights are not those of"),
        ('\\"format\\":2', '\\"format\\":1', "is no file of weights that hpogen has kept"),
        ('\\"format\\":2', '\\"format\\":3', "has the format 3 of hpogen"),
        ("inputs/numbers/median", "inputs/numbers/medina", "is damaged: its numbers are not those"),
    ):
        with pytest.raises(UserError) as caught:
            hpogen.load(rewritten(path, old, new))
        assert said in str(caught.value) and "\n" not in str(caught.value)
