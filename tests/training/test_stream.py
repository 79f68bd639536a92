"""Inputs of a torch Dataset, read ahead by processes: the same numbers however they are read."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import random
import select
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset
from training.supervising import steps, trained

from hpogen import plugins
from hpogen.errors import UserError
from hpogen.tasks.base import Epoch
from hpogen.training import random_state
from hpogen.training.data import Data, Samples, Streamed, Tokens, load, streamed
from hpogen.training.data.data import Table
from hpogen.training.data.prepared import prepare
from hpogen.training.data.reading import Batches
from hpogen.training.task import ImageClassification, Supervised

CPU = torch.device("cpu")
N = 80
RANDOM = np.random.default_rng(5)
LABELS = np.arange(N) % 3
IMAGES = RANDOM.integers(0, 256, (N, 1, 6, 6), dtype=np.uint8)
IDS = RANDOM.integers(1, 9, (N, 5))
FLOATS = RANDOM.normal(size=(N, 4)).astype(np.float32)
SPLIT = {"subset": 0.5, "validation": 18, "audit": 10}
ALTERED = {"augment": "standard", "rotate": 10, "transforms": ["RandomInvert"]}
MLP = {"name": "mlp", "width": 6, "depth": 1}
NAMES = (f"streamed-{i}" for i in itertools.count())
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # of few CPUs


class Items(Dataset[Any]):
    """Pairs of an array's rows and their targets."""

    def __init__(self, inputs: Any, targets: Any = LABELS) -> None:
        self.inputs, self.labels = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, i: int) -> Any:
        return self.inputs[i], int(self.labels[i])


class Noisy(Items):
    """With noise from each of the three generators that there are."""

    def __getitem__(self, i: int) -> Any:
        noise = torch.rand(4) + random.random() + torch.from_numpy(np.random.rand(4))
        return noise.float() + torch.from_numpy(self.inputs[i]), int(self.labels[i])


class Odd(Items):
    """Its row 7 is what `odd` makes."""

    def __init__(self, odd: Callable[[], Any]) -> None:
        super().__init__(FLOATS)
        self.odd = odd

    def __getitem__(self, i: int) -> Any:
        return self.odd() if i == 7 else super().__getitem__(i)


def dropped(in_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Draws torch's random numbers where the training runs."""
    return nn.Sequential(nn.Linear(in_shape[0], 8), nn.Dropout(0.3), nn.Linear(8, classes))


Register = Callable[[Callable[[], Data]], str]


@pytest.fixture
def register() -> Iterator[Register]:
    """Makes a data set's name of what its loader gives."""
    names: list[str] = []

    def named(make: Callable[[], Data]) -> str:
        names.append(next(NAMES))
        plugins.dataset(names[-1])(lambda root: make())
        return names[-1]

    plugins.model("dropped")(dropped)
    yield named
    del plugins.models._added["dropped"]
    for name in names:
        del plugins.datasets._added[name]


def task(name: str, **keys: Any) -> Supervised:
    dataset = {"name": name, **SPLIT, **keys.pop("dataset", {})}
    given = {"name": "supervised", "dataset": dataset, "model": MLP, "epochs": 2, **keys}
    return Supervised.model_validate(given)


def images(name: str, **keys: Any) -> ImageClassification:
    dataset = {"name": name, **SPLIT, **keys.pop("dataset", {})}
    given = {"dataset": dataset, "model": MLP, "epochs": 2, **keys}
    return ImageClassification.model_validate(given)


def told(epochs: list[Epoch]) -> list[Any]:
    """All that must be equal, to the bit."""
    return [(epoch.epoch, epoch.metrics, epoch.audit, epoch.files) for epoch in epochs]


def data(train: Samples, **keys: Any) -> Data:
    return Data(train, train.none(), "classes", **keys)


# -- the same numbers


@pytest.mark.parametrize(
    ("inputs", "keys", "settings"),
    [
        (IMAGES, {}, lambda *given, **keys: images(*given, dataset=ALTERED, **keys)),
        (IDS, {"tokens": Tokens(9, 0)}, functools.partial(task, model="bag-of-embeddings")),
    ],
    ids=["images", "tokens"],
)
def test_the_same_as_arrays(
    inputs: Any, keys: Any, settings: Any, register: Register, tmp_path: Path
) -> None:
    arrays = register(lambda: data(Samples(inputs, LABELS), **keys))
    items = register(lambda: data(streamed(Items(inputs)), **keys))
    measures = ["agn", "agn_online", "gn"]
    found = [
        told(trained(settings(name, measures=measures), tmp_path / name))
        for name in (arrays, items)
    ]
    assert found[0] == found[1]
    assert multiprocessing.active_children() == []


def test_images_are_images(register: Register) -> None:
    name = register(lambda: data(streamed(Items(IMAGES))))
    settings = images(name)
    assert settings.prepare() == 40
    assert load(settings.dataset).images and load(settings.dataset).moments is not None


def test_floats_are_what_the_data_set_gives(register: Register) -> None:
    name = register(lambda: data(streamed(Items(FLOATS, LABELS), Items(FLOATS + 1, LABELS))))
    found = prepare(task(name).dataset, CPU)
    parts = Batches(found.subset, found.normalization, torch.contiguous_format, 16)
    expected = torch.from_numpy(FLOATS[found.rows] + 1)
    assert torch.equal(torch.cat([x for x, _ in parts]), expected)
    with found.subset.ahead([slice(0, 9)], seed=3) as training:
        assert torch.equal(training.inputs[0:9] + 1, expected[:9])
    part = parts.sample(7)
    assert [len(x) for x, _ in part] == [7]


def noisy(register: Register, workers: int) -> Supervised:
    name = register(lambda: data(streamed(Noisy(FLOATS), Items(FLOATS), workers)))
    return task(name, model="dropped", measures=["agn_online"])


def test_neither_workers_nor_what_was_read_before_changes_a_number(
    register: Register, tmp_path: Path
) -> None:
    found = []
    for workers in (0, 1, 3):
        settings = noisy(register, workers)
        inputs: Any = load(settings.dataset).train.inputs
        assert inputs[np.arange(workers)].shape == (workers, 4)
        torch.rand(workers), random.random(), np.random.rand(workers)
        found.append(told(trained(settings, tmp_path / str(workers))))
    assert found[0] == found[1] == found[2]
    other = noisy(register, 0)
    assert told(trained(other, tmp_path / "other", seed=8)) != found[0]


def test_each_epoch_and_each_trial_draws_anew() -> None:
    source = Streamed(Noisy(np.zeros((N, 4), np.float32)), workers=0)
    rows = [np.array([3, 4])]
    (first,), (again,), (other,) = (source.read(rows, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    (plain,) = source.read([np.array([4])])
    assert np.array_equal(source[np.array([9, 4])][1], plain[0])


def test_reading_leaves_the_random_numbers_alone() -> None:
    source = Streamed(Noisy(FLOATS), workers=0)
    torch.set_num_threads(2)

    def draws(read: bool) -> list[float]:
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        if read:
            assert len([*source.read([np.arange(5)], 1)]) == 1
        return [float(torch.rand(1)), random.random(), float(np.random.rand())]

    try:
        assert draws(True) == draws(False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("workers", [0, 2])
def test_interrupted_anywhere_equals_uninterrupted(
    workers: int, register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_state, "TICK", -1.0)
    settings = noisy(register, workers)
    whole = told(trained(settings, tmp_path / "whole"))
    received: dict[int, Epoch] = {}
    for attempt, count in enumerate(itertools.cycle([1, 2, 7])):
        start = max(received, default=0)
        going = steps(settings, tmp_path / "cut", start_epoch=start, attempt=attempt)
        for step in itertools.islice(going, count):
            if step is not None:
                received[step.epoch] = step
        going.close()  # type: ignore[attr-defined]
        assert multiprocessing.active_children() == []
        if 2 in received:
            break
        assert attempt < 40, "no progress: what was done is lost at each interruption"
    assert told([received[epoch] for epoch in sorted(received)]) == whole


def test_no_process_outlives_the_one_that_is_killed() -> None:
    """All of them hold the pipe's end that is written to: it ends when the last one has."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        for _ in Streamed(Items(FLOATS)).read([np.arange(2)] * 20):
            os.write(theirs, str(len(multiprocessing.active_children())).encode())
            signal.pause()
        os._exit(1)
    os.close(theirs)
    with open(ours, "rb", buffering=0) as pipe:
        assert pipe.read(1) == b"2"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        ended, *_ = select.select([pipe], [], [], 4)  # seconds: torch would take 5
        assert ended and pipe.read(1) == b""


# -- targets


def test_where_targets_come_from() -> None:
    class Known(Items):
        targets = LABELS.tolist()

        def __getitem__(self, i: int) -> Any:
            return self.inputs[i]

    given = streamed(Known(FLOATS), targets=1 - LABELS)
    assert np.array_equal(given.targets, 1 - LABELS)
    assert np.array_equal(streamed(Known(FLOATS)).targets, LABELS)
    rows = [4, 1, 7]
    assert np.array_equal(streamed(Subset(Items(FLOATS), rows)).targets, LABELS[rows])
    pairs = TensorDataset(torch.from_numpy(FLOATS), torch.from_numpy(FLOATS[:, :2]).double())
    found = streamed(pairs).targets
    assert found.dtype == np.float32 and np.array_equal(found, FLOATS[:, :2])
    with pytest.raises(UserError, match=r"'Subset': row 0: .*gives a ndarray, .*: give the t"):
        streamed(Subset(Known(FLOATS), rows))


# -- what is refused


@pytest.mark.parametrize(
    ("odd", "text"),
    [
        (lambda: 1 / 0, "row 7: ZeroDivisionError: division by zero"),
        (lambda: Path("/nowhere").read_bytes(), "row 7: FileNotFoundError: "),
        (sys.exit, "row 7: SystemExit"),
        (lambda: torch.ones(3), r"row 7 is float32 \(3,\), expected float32 \(4,\) as row 0"),
        (lambda: torch.ones(4).long(), r"row 7 is int64 \(4,\), expected float32 \(4,\)"),
        (lambda: np.ones(4), "row 7: TypeError: gives float64, expected a tensor of uint8, float"),
        (lambda: {"a": 1}, "row 7: .*gives a dict of 'a', .*named inputs are not streamed"),
        (lambda: (1, 2, 3), "row 7: TypeError: gives a tuple of int, int, int"),
        (lambda: torch.tensor([1, np.nan, 1, 1]), "row 7 has NaN or infinity"),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_an_item_that_cannot_be_had_is_named(
    odd: Callable[[], Any], text: str, workers: int
) -> None:
    source = Streamed(Odd(odd), workers=workers, name="data set 'mine': train")
    with pytest.raises(UserError, match=f"^data set 'mine': train: {text}") as caught:
        list(source.read([np.array([5, 6]), np.array([8, 7, 9])]))
    assert "\n" not in str(caught.value)
    assert "Traceback" in str(caught.value.__cause__)
    del caught
    assert multiprocessing.active_children() == []


def test_it_is_the_trials_error(register: Register, tmp_path: Path) -> None:
    name = register(lambda: data(streamed(Odd(lambda: 1 / 0), targets=LABELS)))
    with pytest.raises(UserError, match=f"^data set {name!r}: train: row 7: ZeroDivisionError"):
        trained(task(name), tmp_path)


def test_a_process_that_dies_is_the_trials_error(register: Register, tmp_path: Path) -> None:
    name = register(lambda: data(streamed(Odd(lambda: os._exit(3)), targets=LABELS)))
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid.*\) exited unexpectedly"):
        trained(task(name), tmp_path)
    assert multiprocessing.active_children() == []


def test_token_ids_are_looked_at_by_the_batch(register: Register, tmp_path: Path) -> None:
    ids = IDS.copy()
    ids[7, 2] = 9
    name = register(lambda: data(streamed(Items(ids)), tokens=Tokens(9, 0)))
    with pytest.raises(UserError, match=r"train: row 7, position 2 is 9, expected .* \[0, 9\)"):
        trained(task(name, model="bag-of-embeddings"), tmp_path)
    name = register(lambda: data(streamed(Items(FLOATS)), tokens=Tokens(9, 0)))
    with pytest.raises(UserError, match=r"inputs are float32 .*, expected token ids"):
        load(task(name).dataset)


def test_what_no_data_set_of_torch_is() -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(FLOATS)

    with pytest.raises(UserError, match="is a Endless, expected a map-style data set"):
        streamed(Endless(), targets=LABELS)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="plain has 40 samples, expected the 80"):
        streamed(Items(FLOATS), Items(FLOATS[:40]))
    with pytest.raises(UserError, match="got workers=-1, expected 0 or more"):
        streamed(Items(FLOATS), workers=-1)
    with pytest.raises(UserError, match="has no samples"):
        _ = Streamed(Items(FLOATS[:0])).shape


@pytest.mark.parametrize(
    ("make", "keys", "text"),
    [
        (lambda: data(streamed(Items(IMAGES))), {"resident": True}, "drop resident"),
        (lambda: data(streamed(Items(FLOATS), targets=LABELS[1:])), {}, "80 inputs and 79 targ"),
        (
            lambda: data(streamed(Items(FLOATS)), table=Table((), {}, True)),
            {},
            "a table is not streamed",
        ),
    ],
)
def test_what_a_data_set_cannot_be(
    make: Callable[[], Data], keys: Any, text: str, register: Register
) -> None:
    name = register(make)
    with pytest.raises(UserError, match=f"^data set {name!r}: .*{text}"):
        load(task(name, dataset=keys).dataset)
