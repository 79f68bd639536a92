"""Tables from files: what is read, what is fitted to the subset alone, how rows are divided."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import csv, parquet
from pydantic import ValidationError
from test_before import called
from torch import Tensor
from torch.nn import functional
from training.supervising import trained

from hpogen.errors import Refusal, UserError
from hpogen.training.data import Data
from hpogen.training.data.loaded import load
from hpogen.training.data.prepared import Prepared, prepare
from hpogen.training.task import Supervised

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
N = 120
RANDOM = np.random.default_rng(5)
AGE = np.where(RANDOM.random(N) < 0.2, np.nan, RANDOM.normal(40, 10, N).round(1))
CITY = RANDOM.choice(["Rome", "Oslo", "Bonn", ""], N)
COLUMNS: dict[str, Any] = {
    "age": AGE,
    "height": RANDOM.normal(170, 9, N).round(1),
    "city": CITY,
    "smokes": RANDOM.random(N) < 0.5,
    "site": RANDOM.integers(0, 12, N),
    "day": np.datetime64("2026-01-01") + RANDOM.permutation(N).astype("timedelta64[D]"),
    "ill": np.where(RANDOM.random(N) < 0.4, "yes", "no"),
}
OTHERS = ["site", "day"]  # columns that are no inputs


def table(**changed: Any) -> pa.Table:
    columns = {**COLUMNS, **changed}
    arrays = {n: pa.array(values, from_pandas=True) for n, values in columns.items()}
    return pa.table(arrays)


def written(path: Path, **changed: Any) -> Path:
    """By the end of its name."""
    if path.suffix == ".parquet":
        parquet.write_table(table(**changed), path)
        return path
    csv.write_csv(table(**changed), str(path).removesuffix(".gz"))
    if path.suffix == ".gz":
        plain = path.with_suffix("")
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def task(path: Path, dataset: dict[str, Any] | None = None, **keys: Any) -> Supervised:
    given = {"name": "csv", "path": str(path), "target": "ill", "drop": OTHERS}
    split = {"subset": 0.4, "validation": 30, "audit": 20}
    model = {"name": "mlp", "width": 6, "depth": 1}
    rest = {"name": "supervised", "model": model, "epochs": 2, **keys}
    return Supervised.model_validate({"dataset": {**given, **split, **(dataset or {})}, **rest})


def loaded(path: Path, **keys: Any) -> Data:
    return load(task(path, keys).dataset)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "bom.csv"])
def test_a_table_is_read_from_any_file(name: str, tmp_path: Path) -> None:
    path = written(tmp_path / name)
    if name == "bom.csv":
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    data = loaded(path)
    inputs: Any = data.train.inputs
    numbers = np.stack([AGE, COLUMNS["height"]], 1).astype(np.float32)
    assert np.array_equal(inputs["numbers"], numbers, equal_nan=True)
    assert data.table is not None and data.table.missing
    assert data.table.numbers == ("age", "height")
    assert data.table.categories == {
        "city": ("", "Bonn", "Oslo", "Rome"),
        "smokes": ("false", "true"),
    }
    texts = np.array(data.table.categories["city"])[inputs["categories"][:, 0]]
    assert texts.tolist() == CITY.tolist()
    assert inputs["categories"][:, 1].tolist() == COLUMNS["smokes"].tolist()
    assert (data.kind, data.class_names, data.classes) == ("binary", ("no", "yes"), 2)
    assert np.array_equal(data.train.targets, COLUMNS["ill"] == "yes") and not len(data.test)


def test_numbers_alone_are_one_array(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv")
    data = loaded(path, drop=[*OTHERS, "city", "smokes", "age"])
    assert data.in_shape == (1,) and data.dtype == "float32"
    only = loaded(path, drop=[*OTHERS, "age", "height"])
    assert only.in_shape == {"categories": (2,)}
    said = loaded(path, drop=["day", "age", "height"], categories=["site"])
    assert said.table is not None and [*said.table.categories] == ["city", "smokes", "site"]


@pytest.mark.parametrize(
    ("values", "keys", "kind", "names"),
    [
        (RANDOM.integers(0, 2, N), {}, "binary", ("0", "1")),
        (RANDOM.integers(0, 2, N), {"kind": "classes"}, "classes", ("0", "1")),
        (9 + RANDOM.integers(0, 3, N), {}, "classes", ("9", "10", "11")),
        (RANDOM.integers(0, 90, N), {"kind": "real"}, "real", ()),
        (RANDOM.normal(size=N), {}, "real", ()),
        (RANDOM.choice(["c", "a", "b"], N), {}, "classes", ("a", "b", "c")),
        (RANDOM.random(N) < 0.5, {}, "binary", ("false", "true")),
    ],
)
def test_the_kind_of_target_is_by_its_type_or_as_said(
    values: Any, keys: dict[str, Any], kind: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    data = loaded(written(tmp_path / "a.csv", ill=values), **keys)
    assert (data.kind, data.class_names) == (kind, names)
    if kind == "real":
        assert np.allclose(data.train.targets[:, 0], values)
    else:
        assert [names[i] for i in data.train.targets] == [str(one).lower() for one in values]


def test_a_test_file_has_the_same_columns_and_classes(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv")
    cities = np.where(np.arange(N) == 3, "Atlantis", CITY)
    test = written(tmp_path / "test.parquet", city=cities)
    data = loaded(path, test_path=str(test), audit="test")
    inputs: Any = data.test.inputs
    assert data.table is not None and len(data.test) == N
    texts = np.array(data.table.categories["city"])[inputs["categories"][:, 0]]
    assert texts.tolist() == cities.tolist()
    prepared = prepare(task(path, {"test_path": str(test), "audit": "test"}).dataset, CPU)
    everything = next(iter(batches(prepared, "audit")))[0]
    assert everything["categories"][3, 0] == 0 and (everything["categories"][:3, 0] > 0).all()


def batches(prepared: Prepared, split: str) -> Any:
    from hpogen.training.data.reading import Batches

    chosen = getattr(prepared, split)
    return Batches(chosen, prepared.normalization, torch.contiguous_format, 1000)


def test_medians_indicators_and_vocabularies_are_those_of_the_subset(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv")
    prepared = prepare(task(path).dataset, CPU)
    rows = prepared.rows
    assert (prepared.in_shape, prepared.cardinalities) == (
        {"numbers": (3,), "categories": (2,)},
        (1 + len({*CITY[rows]}), 3),
    )
    ((found, _),) = batches(prepared, "subset")
    numbers = np.stack([AGE, COLUMNS["height"]], 1)[rows]
    filled = np.where(np.isnan(numbers), np.nanmedian(numbers, 0), numbers)
    expected = np.c_[(filled - filled.mean(0)) / filled.std(0), np.isnan(numbers[:, 0])]
    assert np.allclose(found["numbers"], expected, atol=1e-4)
    known = ["?", *sorted({*CITY[rows]})]
    assert [known[i] for i in found["categories"][:, 0]] == CITY[rows].tolist()


def fits(path: Path, data: float | None) -> list[Tensor]:
    """All that is fitted, what a model is built for, and which rows are the subset."""
    dataset = task(path, {"target": "y", "drop": [*OTHERS, "ill"]}).dataset
    prepared = prepare(dataset, CPU, data)
    numbers = prepared.normalization.parts["numbers"]  # type: ignore[attr-defined]
    ((x, y),) = batches(prepared, "subset")
    assert prepared.unit is not None
    return [
        *(numbers.median, numbers.gaps, numbers.normalization.mean, numbers.normalization.scale),
        *(x["numbers"], x["categories"], y, prepared.unit.mean, prepared.unit.scale),
        torch.tensor(prepared.cardinalities),
        torch.from_numpy(prepared.rows),
    ]


@pytest.mark.parametrize("data", [None, 0.2])
def test_nothing_is_fitted_to_rows_outside_the_subset(data: float | None, tmp_path: Path) -> None:
    y = RANDOM.normal(size=N)
    before = fits(written(tmp_path / "a.csv", y=y), data)
    rows = before[-1].numpy()
    outside = np.ones(N, bool)
    outside[rows] = False
    changed: dict[str, Any] = {
        "age": np.where(outside, 1e4, AGE),
        "height": np.where(outside, np.nan, COLUMNS["height"]),  # gaps of which there were none
        "city": np.where(outside, "Atlantis", CITY),
        "y": np.where(outside, -77.5, y),
    }
    after = fits(written(tmp_path / "b.csv", **changed), data)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    for name, value in (("age", 90.0), ("city", "Paris"), ("y", 50.0)):  # what is in it counts
        values = np.where(np.arange(N) == rows[0], value, changed[name])
        own = fits(written(tmp_path / f"{name}.csv", **{**changed, name: values}), data)
        assert not all(torch.equal(one, other) for one, other in zip(before, own, strict=True))


def test_a_table_is_trained_on_and_measured(tmp_path: Path) -> None:
    settings = task(written(tmp_path / "a.csv"), measures=["agn", "agn_online", "gsnr_head"])
    assert settings.prepare() == 48
    last = trained(settings, tmp_path / "t")[-1]
    assert {"agn", "gsnr_head", "val_loss"} <= last.metrics.keys() and "accuracy" in last.audit


def test_categories_are_learnt_from(tmp_path: Path) -> None:
    """Of which one alone tells the class."""
    city = RANDOM.choice(["Rome", "Oslo", "Bonn", "Kyiv"], N)
    ill = np.where(np.isin(city, ["Rome", "Kyiv"]), "yes", "no")
    path = written(tmp_path / "a.csv", city=city, ill=ill)
    config = {"lr": 0.3, "batch_size": 16}
    last = trained(task(path, epochs=20), tmp_path / "t", budget=20, config=config)[-1]
    assert last.metrics["val_accuracy"] == last.audit["accuracy"] == 1


def rows_of(*lines: str) -> bytes:
    return "\n".join(lines).encode()


GOOD = [f"{i},{'ab'[i % 2]},{'xy'[i % 2]}" for i in range(20)]
BAD: list[tuple[bytes, dict[str, Any], str]] = [
    (b"", {}, "is empty"),
    (b"n,c,y\n", {}, "has no rows"),
    (rows_of("y", "a", "b"), {}, "has one column, 'y', expected the target and others"),
    (rows_of("n;y", "1;a", "2;b"), {}, "separated by ';'? say separator: ';'"),
    (rows_of("n,n,y", *GOOD), {}, "has two columns 'n'"),
    (rows_of("1,2,3", *GOOD), {}, "first line is '1, 2, 3', expected the names"),
    (rows_of("n,c,Y", *GOOD), {}, "target: column 'y' is unknown; did you mean 'Y'?"),
    (rows_of("n,c,y", *GOOD), {"drop": ["m"]}, "drop: column 'm' is unknown"),
    (rows_of("n,c,y", *GOOD), {"drop": ["n", "c"]}, "no column left beside the target"),
    (rows_of("n,c,y", *GOOD), {"categories": ["y"]}, "categories: the column 'y' is no input"),
    (rows_of("n,c,y", *GOOD), {"group": "n", "time": "c"}, "by group or by time, got both"),
    (rows_of("n,c,y", *GOOD, "3,4"), {}, "Row #22: Expected 3 columns, got 2"),
    (rows_of("n,c,y", *GOOD, "1,a,"), {}, "column 'y': row 21 is missing"),
    (rows_of("n,c,y", *GOOD, "x,a,x"), {}, "column 'n': row 21 is 'x', and most others are"),
    (rows_of("n,c,y", *GOOD, "inf,a,x"), {}, "column 'n': row 21 is inf"),
    (rows_of("n,c,y", *GOOD, "1e300,a,x"), {}, "column 'n': row 21 is 1e+300, expected a number"),
    (rows_of("n,c,y", *GOOD, "1,a,z"), {}, "the class 'z' has one row, row 21"),
    (rows_of("n,c,y", *[f"{i},a,x" for i in range(9)]), {}, "all rows are 'x', expected two"),
    (rows_of("n,c,y", *[f"{i},,{i % 2}" for i in range(9)]), {}, "column 'c': has no values"),
    (rows_of("n,c,y", *[f"2026-01-0{i},a,{i % 2}" for i in range(1, 9)]), {}, "has dates or times"),
    (rows_of("n,y", *[f"{i},{i * i}" for i in range(9)]), {}, "is a quantity, say kind: real"),
    (rows_of("n,y", *[f"{i},{i / 2}" for i in range(9)]), {"kind": "classes"}, "with decimals"),
    (rows_of("n,c,y", *GOOD), {"kind": "real"}, "has text, and kind: real is of numbers"),
    (rows_of("n,y", *[f"{i},{i}.5" for i in range(9)], "2,inf"), {}, "'y': row 10 is inf"),
    (rows_of("n,y", *[f"{i},{i}.5" for i in range(9)], "2,nan"), {}, "'y': row 10 is missing"),
    (rows_of("n,c,y", *GOOD), {"kind": "labels"}, "kind: labels is of several columns"),
    (rows_of("n,y", *[f"{i},{i % 3}" for i in range(9)]), {"kind": "binary"}, "has 3 classes"),
    (rows_of("n,c,y", *[f"{i},i{i},{i % 2}" for i in range(10**5)]), {}, "has 100,000 categories"),
    (b"n,c,y\n1,caf\xe9,x\n2,b,x\n3,b,y\n4,b,y\n", {}, "text that is not UTF-8"),
    (b"\x1f\x8b broken", {}, "cannot be read as a table"),
    (b"PAR1 broken", {}, "cannot be read as a table"),
    (rows_of("n,c,y", *GOOD), {"group": "c"}, "no whole group of the column 'c'"),
    (rows_of("n,g,y", *[f"{i},a,{i % 2}" for i in range(9)]), {"group": "g"}, "have one group"),
    (rows_of("n,g,y", *[f"{i},,{i % 2}" for i in range(9)]), {"group": "g"}, "row 1 is missing"),
    (rows_of("n,g,y", *[f"{i},5,{i % 2}" for i in range(9)]), {"time": "g"}, "have one time"),
    (rows_of("n,c,y", *GOOD), {"time": "c"}, "holds string, expected times: write them as 2026"),
]


@pytest.mark.parametrize(("content", "keys", "text"), BAD, ids=[text for _, _, text in BAD])
def test_what_is_wrong_in_a_file_is_one_line(
    content: bytes, keys: dict[str, Any], text: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        loaded(path, **{"target": "y", "drop": [], **keys, "validation": 4, "audit": 4})
    assert text in str(caught.value) and "\n" not in str(caught.value)
    assert "a.csv" in str(caught.value) or "column 'c'" in str(caught.value)


def test_what_is_wrong_in_a_test_file_names_it(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv")
    for changed, text in (
        ({"ill": np.where(np.arange(N) == 4, "perhaps", COLUMNS["ill"])}, "row 5 is 'perhaps'"),
        ({"height": np.array(["tall"] * N)}, "column 'height': holds string, and numbers in the"),
    ):
        test = written(tmp_path / "test.csv", **changed)
        with pytest.raises(UserError, match=rf"test\.csv: .*{text}"):
            loaded(path, test_path=str(test), seed=len(text))
    csv.write_csv(table().drop_columns(["age"]), tmp_path / "other.csv")
    with pytest.raises(UserError, match=r"other\.csv: has no column 'age': it has"):
        loaded(path, test_path=str(tmp_path / "other.csv"))


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        ({"name": "csv", "path": "a.csv"}, "target"),
        ({"name": "csv", "target": "y"}, "needs path"),
        ({"name": "csv", "path": "a", "target": "y", "separator": ";;"}, "at most 1"),
        ({"name": "csv", "path": "a", "target": "y", "kind": "reel"}, "kind"),
        ({"name": "csv", "path": "a", "target": "y", "grop": "x"}, "did you mean 'group'?"),
    ],
)
def test_what_is_wrong_in_the_study_is_refused_at_load(dataset: Any, text: str) -> None:
    given = {"name": "supervised", "dataset": dataset, "model": "mlp", "epochs": 1}
    with pytest.raises(ValidationError, match=text):
        Supervised.model_validate(given)


def sides(path: Path, **keys: Any) -> tuple[Any, Data]:
    from hpogen.training.data.splits import splits

    dataset = task(path, {"drop": [], **keys}).dataset
    data = load(dataset)
    return splits(dataset, data.strata, data.division), data


@pytest.mark.parametrize("seed", range(4))
def test_no_group_stands_on_two_sides(seed: int, tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv")
    split, data = sides(path, group="site", drop=["day"], seed=seed)
    parts = [split.subset, split.validation, split.audit]
    groups = [{*COLUMNS["site"][rows]} for rows in parts]
    assert all(groups) and not (groups[0] & groups[1] | groups[1] & groups[2])
    assert not groups[0] & groups[2]
    assert len(parts[0]) == 48 and 0 < len(parts[1]) <= 30 and len(parts[2]) > 0
    assert len(parts[1]) + len(parts[2]) <= 50
    assert data.table is not None and "site" not in data.table.numbers  # it is no input
    larger, _ = sides(path, group="site", drop=["day"], seed=seed, subset=0.5, audit=10)
    assert {*split.subset} <= {*larger.subset} and [*larger.validation] == [*split.validation]


def test_later_rows_validate_and_the_latest_audit(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv")  # whose days are in no order
    split, _ = sides(path, time="day", drop=["site"])
    days = [np.sort(COLUMNS["day"][r]) for r in (split.subset, split.validation, split.audit)]
    assert days[0][-1] < days[1][0] and days[1][-1] < days[2][0]
    assert [len(part) for part in days] == [48, 30, 20]
    assert days[2][-1] == COLUMNS["day"].max()
    larger, _ = sides(path, time="day", drop=["site"], subset=0.5)
    assert {*split.subset} <= {*larger.subset} and [*larger.audit] == [*split.audit]
    for name in ("validation", "audit"):
        assert np.array_equal(getattr(split, name), getattr(larger, name))


def test_a_larger_part_contains_the_subset_and_leaves_the_judges_alone(tmp_path: Path) -> None:
    from hpogen.training.data.splits import part

    path = written(tmp_path / "a.csv")
    for keys in ({"group": "site", "drop": ["day"]}, {"time": "day", "drop": ["site"]}):
        split, data = sides(path, **keys)
        dataset = task(path, {"drop": [], **keys}).dataset
        most = part(dataset, data.strata, 1, data.division)
        assert {*split.subset} <= {*most} and len(most) == 70
        places = data.division.places if data.division else most
        assert not {*places[most]} & {*places[split.validation], *places[split.audit]}


def test_redrawn_validation_is_refused_where_rows_are_divided(tmp_path: Path) -> None:
    redraw = {"validation": {"size": 10, "redraw": True}}
    with pytest.raises(UserError, match="they are divided by group: drop one"):
        loaded(written(tmp_path / "a.csv"), group="site", drop=["day"], **redraw)


def test_every_measure_of_a_network_is_given_for_categories_or_refused(tmp_path: Path) -> None:
    from hpogen import plugins
    from hpogen.training.task import OF_INPUTS

    path = written(tmp_path / "a.csv")
    builtin = [m for m in plugins.measures.parts() if plugins.measures.is_builtin(m.name)]
    wanted = [m for m in builtin if m.of == "network" and m.name not in OF_INPUTS]
    names = [measure.name for measure in wanted]
    settings = task(path, {"kind": "classes"}, epochs=1, measures=names)
    settings.prepare()
    found = trained(settings, tmp_path / "t", budget=1)[-1].metrics
    assert {metric for measure in wanted for metric in measure.metrics} <= found.keys()
    for name in OF_INPUTS:
        with pytest.raises(Refusal, match=f"'{name}' is of inputs that are numbers"):
            task(path, {"kind": "classes"}, measures=[name]).prepare()


def test_gradients_of_embeddings_are_those_of_brute_force_autograd(tmp_path: Path) -> None:
    from hpogen.measures import head_statistics
    from hpogen.measures.network import gn
    from hpogen.measures.packed import Packed, Unpacking
    from hpogen.training.models.build import build

    prepared = prepare(task(written(tmp_path / "a.csv"), {"kind": "classes"}).dataset, CPU)
    shapes, dtypes = prepared.in_shape, prepared.dtype
    net = build("mlp", {"width": 6, "depth": 1}, prepared.model_inputs).double()
    ((x, y),) = batches(prepared, "subset")
    x = {name: part.double() if part.is_floating_point() else part for name, part in x.items()}
    squares = []
    for i in range(len(y)):
        loss = functional.cross_entropy(net({n: p[i : i + 1] for n, p in x.items()}), y[i : i + 1])
        parts = torch.autograd.grad(loss, list(net.parameters()))
        squares.append([float(part.square().sum()) for part in parts])
    exact = np.array(squares)
    packed = [(part.double(), targets) for part, targets in Packed([(x, y)])]
    found = gn(Unpacking(net, shapes, dtypes), packed)
    assert found == pytest.approx(exact.sum(1).mean(), rel=1e-6)
    head = head_statistics(Unpacking(net, shapes, dtypes), packed)
    assert head.agn == pytest.approx(exact[:, -2:].sum(1).mean(), rel=1e-6)


def test_what_the_data_are_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = task(written(tmp_path / "a.csv"))
    subset = prepare(settings.dataset, CPU).rows
    others = np.setdiff1d(np.arange(N), subset)
    city = np.where(np.isin(np.arange(N), others[:3]), "Atlantis", CITY)
    settings = task(written(tmp_path / "b.csv", city=city))
    rows, classes, lacking = settings.facts()
    assert rows == "120 rows, 0 of a test set: subset 48, validation 30, audit 20"
    share = 100 * (COLUMNS["ill"][subset] == "no").mean()
    assert classes == f"classes of the subset: no {share:.1f} %, yes {100 - share:.1f} %"
    split = prepare(settings.dataset, CPU)
    read = {name: next(iter(batches(split, name)))[0] for name in ("validation", "audit")}
    for name, x in read.items():
        count = int((x["categories"][:, 0] == 0).sum())
        assert (f"{count} of {name}" in lacking) == (count > 0)
    assert lacking.startswith("column 'city': of the rows, ")
    assert lacking.endswith(" have categories that the subset lacks: unknown")
    with caplog.at_level("INFO", "hpogen"):
        settings.prepare()
    levels = {record.getMessage(): record.levelname for record in caplog.records}
    assert levels == {
        f"data set 'csv': {rows}": "INFO",
        f"data set 'csv': {classes}": "INFO",
        f"data set 'csv': {lacking}": "WARNING",
    }
    assert task(tmp_path / "nowhere.csv").facts() == []


@pytest.mark.parametrize(
    ("model", "options"),
    [("tabular-resnet", {"width": 8, "depth": 1}), ("ft-transformer", {"depth": 1})],
)
def test_the_networks_for_tables_of_another_package(
    model: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.csv")
    given: dict[str, Any] = {"model": {"name": model, **options}, "epochs": 1}
    for keys in ({}, {"drop": [*OTHERS, "city", "smokes"]}, {"drop": [*OTHERS, "age", "height"]}):
        settings = task(path, keys, measures=["agn", "gn"], **given)
        settings.prepare()
        home = tmp_path / str(len(keys.get("drop", "")))
        found = trained(settings, home / keys.get("drop", [""])[-1], budget=1)[-1].metrics
        assert {"val_loss", "agn", "gn"} <= found.keys()
    with pytest.raises(ValidationError, match=r"at most 6, got 7|at least 1, got 0"):
        options = {"depth": 7 if model == "ft-transformer" else 0}
        dataset = {"name": "breast_cancer"}
        given = {"name": "supervised", "dataset": dataset, "epochs": 1}
        Supervised.model_validate({**given, "model": {"name": model, **options}})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValidationError, match=f"'{model}' needs .*: pip install 'hpogen.tables.'"):
        task(path, model=model)


def test_weights_of_a_smaller_vocabulary_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv")
    small = prepare(task(path).dataset, CPU, 0.2).rows
    city = np.where(np.isin(np.arange(N), small), "Rome", CITY)
    settings = task(written(tmp_path / "b.csv", city=city), epochs=1)
    place = f"file://{tmp_path}/kept"
    trained(settings, tmp_path / "s", data=0.2, budget=1, keep="final", checkpoints=place)
    again = {"id": 1, "parent": 0, "warm": True, "inherited": place, "budget": 1}
    with pytest.raises(UserError, match=r"rung below do not fit: .* drop budgets\.warm"):
        trained(settings, tmp_path / "t", **again)
    assert trained(settings, tmp_path / "u", **again, data=0.2)


def finished(file: Path, home: Path) -> None:
    from hpogen.running.runner import run
    from hpogen.spec import load_study
    from hpogen.study.study import Study

    spec = load_study(file, ["stop.trials=2", "task.epochs=2"])
    with Study(spec, home) as study:
        assert run(study).end == "finished"


def test_the_study_of_a_table_finds_an_answer(tmp_path: Path) -> None:
    """`studies/table.yaml`, in a small version."""
    finished(ROOT / "studies" / "table.yaml", tmp_path / "run")


def test_the_page_s_table_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The csv file and the study of `docs/tabular.md`, in a small version."""
    page = (ROOT / "docs" / "tabular.md").read_text().split("## A table of your own")[1]
    predict = page.split("## Predict")[1]
    code, study = (page.split(f"```{kind}\n")[1].split("```")[0] for kind in ("python", "yaml"))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "tabular.md", "exec"), {})
    (tmp_path / "patients.yaml").write_text(study)
    finished(tmp_path / "patients.yaml", tmp_path / "runs" / "patients")
    lines = Path("patients.csv").read_text().splitlines()
    Path("new.csv").write_text("\n".join(lines[:5]))
    shell, code = (predict.split(f"```{kind}\n")[1].split("```")[0] for kind in ("sh", "python"))
    called(*shell.splitlines()[1].split()[1:])
    assert len(Path("predictions.csv").read_text().splitlines()) == 5
    found: dict[str, Any] = {}
    exec(compile(code, "tabular.md", "exec"), found)
    assert found["risk"].shape == (2, 1) and found["net"].class_names == ("high", "low")


def test_checking_tells_what_does_not_go_with_the_targets_of_a_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv")
    assert task(path).facts()
    with pytest.raises(Refusal, match="the loss 'mse' is not for targets of the kind 'binary'"):
        task(path, loss="mse").facts()
