"""The data set `folder`, in memory and streamed, and what it refuses."""

from __future__ import annotations

import itertools
import logging
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from training.pictures_on_disk import SIDE, picture, write
from training.runs import epochs, task, trial

from hpogen.errors import UserError
from hpogen.training import memory
from hpogen.training.data import give, load, loaded
from hpogen.training.data.image_data import ImageData
from hpogen.training.data.pictures import Pictures, threaded
from hpogen.training.data.prepared import in_place, prepare
from hpogen.training.data.reading import Batches, ByBatch
from hpogen.training.forms.dataset import Dataset

CPU = torch.device("cpu")


def dataset(path: Path, **keys: object) -> Dataset:
    return Dataset.model_validate({"name": "folder", "path": str(path), **keys})


def refusal(path: Path, **keys: object) -> str:
    with pytest.raises(UserError) as caught:
        load(dataset(path, **keys))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pixels(data: ImageData) -> np.ndarray:
    return data.train.inputs[np.arange(len(data.train.targets))]


# -- what is where


def test_classes_in_the_folder_itself(tmp_path: Path) -> None:
    data = load(dataset(write(tmp_path / "x")))
    assert pixels(data).shape == (75, 3, SIDE[1], SIDE[0])
    assert data.train.targets.tolist() == [0] * 30 + [1] * 20 + [2] * 25
    assert data.classes == 3 and len(data.test.targets) == 0
    for i in (0, 29, 30, 74):
        expected = np.asarray(picture(i)).transpose(2, 0, 1)
        assert np.array_equal(pixels(data)[i], expected)


@pytest.mark.parametrize("part", ["test", "val"])
def test_a_folder_with_a_test_set(tmp_path: Path, part: str) -> None:
    write(tmp_path / "train")
    write(tmp_path / part, (4, 3, 2), first=100)
    shutil.rmtree(tmp_path / part / "a")  # a class that the test set happens not to have
    given = dataset(tmp_path, audit="test", validation=10)
    data, prepared = load(given), prepare(given, CPU)
    assert data.test.targets.tolist() == [1, 1, 1, 2, 2]
    assert prepared.audit.targets.tolist() == [1, 1, 1, 2, 2]
    expected = np.asarray(picture(104)).transpose(2, 0, 1)
    assert np.array_equal(prepared.audit.inputs[0:1][0], expected)


def test_a_class_of_the_test_set_alone(tmp_path: Path) -> None:
    write(tmp_path / "train", (5, 5))
    write(tmp_path / "test", (5, 5, 5))
    assert "class 'c' of" in refusal(tmp_path)


def test_without_a_test_set_audit_cannot_be_it(tmp_path: Path) -> None:
    text = refusal(write(tmp_path / "x"), audit="test")
    assert "has no test set" in text and "expected a number of images" in text


@pytest.mark.parametrize(
    ("modes", "channels"),
    [(("L", "L"), 1), (("1", "L"), 1), (("L", "RGB"), 3), (("P", "L"), 3), (("RGBA", "RGBA"), 3)],
)
def test_gray_where_all_are_gray(tmp_path: Path, modes: tuple[str, str], channels: int) -> None:
    for label, mode in zip("ab", modes, strict=True):
        (tmp_path / label).mkdir()
        for i in range(5):
            picture(i, mode).save(tmp_path / label / f"{i}.png")
    found = pixels(load(dataset(tmp_path)))
    assert found.shape[1] == channels
    expected = np.asarray(picture(0, modes[0]).convert("L" if channels == 1 else "RGB"))
    assert np.array_equal(
        found[0], expected[None] if channels == 1 else expected.transpose(2, 0, 1)
    )


def test_a_colour_image_of_the_test_set_is_not_made_gray(tmp_path: Path) -> None:
    for i, (part, label) in enumerate(itertools.product(("train", "test"), "ab")):
        (tmp_path / part / label).mkdir(parents=True)
        picture(i, "L").save(tmp_path / part / label / "0.png")
    coloured = tmp_path / "test" / "b" / "1.png"
    picture(9, "RGB").save(coloured)
    text = refusal(tmp_path)
    assert f"all training images are gray, and {str(coloured)!r} of the test set is in" in text


def test_size_resizes_the_shorter_side_and_cuts_the_centre(tmp_path: Path) -> None:
    for label, side in (("a", (20, 11)), ("b", (9, 14))):
        (tmp_path / label).mkdir()
        for i in range(4):
            picture(i, "RGB", side).save(tmp_path / label / f"{i}.png")
    found = pixels(load(dataset(tmp_path, size=8)))
    assert found.shape == (8, 3, 8, 8)
    theirs = transforms.Compose([transforms.Resize(8), transforms.CenterCrop(8)])
    for i, side in ((0, (20, 11)), (5, (9, 14))):
        expected = np.asarray(theirs(picture(i % 4, "RGB", side))).transpose(2, 0, 1)
        assert np.array_equal(found[i], expected)


def test_mean_and_sd_as_given(tmp_path: Path) -> None:
    path = write(tmp_path / "x", (6, 6))
    given = dataset(path, mean=[0.5, 0.4, 0.3], sd=[0.2, 0.25, 0.5])
    prepared = prepare(given, CPU)
    images = prepared.subset.inputs[0:2]
    x = prepared.normalization(images, torch.contiguous_format)
    theirs = transforms.Normalize([0.5, 0.4, 0.3], [0.2, 0.25, 0.5])
    torch.testing.assert_close(x, theirs(images / 255))
    assert "3 values of mean and 1 of sd, expected 3" in refusal(path, mean=[0, 0, 0], sd=[1.0])
    assert "got None values of mean" in refusal(path, sd=[1.0, 1.0, 1.0])


# -- streamed


def both(path: Path, **keys: object) -> tuple[Dataset, Dataset]:
    return dataset(path, resident=True, **keys), dataset(path, resident=False, **keys)


@pytest.mark.parametrize("keys", [{}, {"size": 5}])
def test_streamed_batches_are_those_of_the_resident_set(
    tmp_path: Path, keys: dict[str, Any]
) -> None:
    write(tmp_path / "train")
    write(tmp_path / "test", (3, 3, 3), first=500)
    given = both(tmp_path, subset=0.5, validation=10, audit="test", **keys)
    resident, streamed = (prepare(one, CPU) for one in given)
    assert isinstance(load(given[1]).train.inputs, Pictures)
    assert isinstance(streamed.subset.inputs.source, Pictures)
    assert isinstance(resident.subset.inputs.source, torch.Tensor)
    for split in ("subset", "validation", "audit"):
        pair = [getattr(one, split) for one in (resident, streamed)]
        assert len(pair[0].inputs) == len(pair[1].inputs) == len(pair[1])
        for chosen in (slice(3, 7), slice(0, 99), torch.tensor([5, 0, 5])):
            assert torch.equal(pair[0].inputs[chosen], pair[1].inputs[chosen])
        batches = [
            Batches(images, one.normalization, torch.channels_last, 4)
            for images, one in zip(pair, (resident, streamed), strict=True)
        ]
        for found in (batches, [one.sample(6) for one in batches]):
            for (x, y), (u, v) in zip(*found, strict=True):
                assert torch.equal(x, u) and torch.equal(y, v)
    sampled = Batches(streamed.subset, streamed.normalization, torch.channels_last, 4).sample(6)
    assert isinstance(sampled.split.inputs, ByBatch)  # not decoded before it is asked for


def test_a_streamed_trial_is_the_resident_one(tmp_path: Path) -> None:
    path = write(tmp_path / "x", side=(8, 8))
    found = []
    for resident in (True, False):
        keys = {"name": "folder", "path": str(path), "resident": resident, "subset": 0.6}
        settings = task({**keys, "augment": "standard", "validation": 15}, epochs=2)
        found.append(epochs(settings, trial(tmp_path / str(resident), budget=2), "val_loss"))
    assert [e.metrics for e in found[0]] == [e.metrics for e in found[1]]
    assert found[0][-1].audit == found[1][-1].audit


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_that_are_copied_to_a_gpu_are_those_that_lie_there(tmp_path: Path) -> None:
    write(tmp_path / "x")
    gpu = torch.device("cuda:0")
    numbers = {"name": "digits", "validation": 103}
    pairs = [both(tmp_path / "x", validation=11)]
    pairs.append((Dataset(**numbers, resident=True), Dataset(**numbers, resident=False)))  # type: ignore[arg-type]
    for given in pairs:
        there, copied = (prepare(one, gpu).subset for one in given)
        assert isinstance(copied.inputs, ByBatch)
        for chosen in (slice(2, 9), torch.tensor([4, 0, 4], device=gpu)):
            found = copied.inputs[chosen]
            assert found.device == gpu and torch.equal(found, there.inputs[chosen])
    everything = torch.cuda.mem_get_info(gpu)[1]
    assert not load.fits(dataset(tmp_path), everything, gpu, "copied by the batch")


def test_streamed_data_travels_as_places(tmp_path: Path) -> None:
    path = write(tmp_path / "x", side=(100, 100), counts=(8, 8))
    given = dataset(path, resident=False, validation=2)
    sent = pickle.dumps(load(given))
    assert len(sent) < 10_000 < 16 * 3 * 100 * 100
    expected = prepare(given, CPU).subset.inputs[0:4]
    other = dataset(path, resident=False, validation=3)
    give(other, pickle.loads(sent))
    assert torch.equal(prepare(other, CPU).subset.inputs[0:4], expected)


def test_moments_come_from_a_sample_wherever_the_pictures_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded, "SAMPLED", 10)
    path = write(tmp_path / "x")
    data = [load(one) for one in both(path)]
    assert data[0].moments == data[1].moments
    sample = pixels(data[0])[[i * 75 // 10 for i in range(10)]]
    assert data[0].moments is not None
    np.testing.assert_allclose(data[0].moments[0], sample.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(1 / np.array(data[0].moments[1]), sample.std(axis=(0, 2, 3)))


def test_what_does_not_fit_is_streamed_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, keys = write(tmp_path / "x"), {"validation": 7, "audit": 5}
    size = 75 * 3 * SIDE[0] * SIDE[1]  # bytes
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {2 * size // 1024} kB\n")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    with caplog.at_level(logging.INFO, "hpogen"):
        assert isinstance(load(dataset(path, **keys)).train.inputs, Pictures)
        load(dataset(path, **keys))
        parts = prepare(dataset(path, **keys), CPU)  # which would fit
    assert isinstance(parts.subset.inputs, ByBatch)
    assert [record.message for record in caplog.records] == [
        "data set 'folder': 0.0 GB of images, 0.0 GB free on cpu: they are decoded by the batch"
    ]
    (tmp_path / "meminfo").write_text(f"MemAvailable: {4 * size // 1024} kB\n")
    assert isinstance(load(dataset(path, seed=1, size=8)).train.inputs, np.ndarray)
    (tmp_path / "memory.max").write_text(f"{3 * size}\n")  # of the container
    (tmp_path / "memory.current").write_text(f"{2 * size}\n")
    assert isinstance(load(dataset(path, size=9)).train.inputs, Pictures)
    (tmp_path / "memory.max").write_text("max\n")
    assert isinstance(load(dataset(path, size=10)).train.inputs, np.ndarray)


def test_arrays_stay_where_they_are_on_a_cpu() -> None:
    given = Dataset.model_validate({"name": "digits", "subset": 0.5, "validation": 101})
    prepared, arrays = prepare(given, CPU), load(given).train.inputs
    for split in (prepared.subset, prepared.validation, prepared.audit):
        assert isinstance(split.inputs, ByBatch) and isinstance(split.inputs.source, torch.Tensor)
        assert split.inputs.source.data_ptr() == arrays.ctypes.data
    assert np.array_equal(prepared.subset.inputs[2:9], arrays[prepared.rows[2:9]])


def test_arrays_that_may_not_be_written_or_run_backwards_are_read(
    recwarn: pytest.WarningsRecorder,
) -> None:
    array = np.arange(24.0, dtype=np.float32).reshape(8, 3)
    frozen = array.copy()
    frozen.flags.writeable = False
    for given in (frozen, array[::-1], array.T.copy().T):
        assert np.array_equal(in_place(given), given)
    assert not recwarn.list  # torch warns of what it may not write


@pytest.mark.parametrize("count", [0, 1, 4095, 4096, 10_000])
def test_threads_keep_the_order(count: int) -> None:
    assert list(threaded(lambda i: 3 * i, count)) == [3 * i for i in range(count)]


# -- refused


def test_mixed_sizes_name_two_files(tmp_path: Path) -> None:
    path = write(tmp_path / "x")
    picture(0, side=(7, 9)).save(path / "b" / "odd.png")
    text = refusal(path)
    assert f"{str(path / 'a' / '000.png')!r} is 10×8 pixels" in text
    assert f"{str(path / 'b' / 'odd.png')!r} is 7×9; set size, such as size: 7" in text
    load(dataset(path, size=7))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("kind", ["text", "empty", "truncated"])
def test_a_corrupt_file_is_named(tmp_path: Path, kind: str, streamed: bool) -> None:
    path = write(tmp_path / "x", side=(40, 40))
    whole = (path / "b" / "003.png").read_bytes()
    content = {"text": b"not a picture", "empty": b"", "truncated": whole[: len(whole) // 2]}
    (path / "b" / "003.png").write_bytes(content[kind])
    with pytest.raises(UserError, match=r"b/003.png' cannot be read as an image: .* delete the"):
        load(dataset(path, resident=not streamed))  # the streamed one: with its moments


def test_a_file_that_breaks_later_is_named_by_the_batch(tmp_path: Path) -> None:
    path = write(tmp_path / "x")
    prepared = prepare(dataset(path, resident=False, subset=1.0), CPU)
    (path / "b" / "003.png").write_bytes(b"gone")
    prepared.subset.inputs[0:33]
    with pytest.raises(UserError, match=r"b/003.png' cannot be read as an image"):
        prepared.subset.inputs[32:35]


def test_more_than_eight_bits_are_not_cut_down(tmp_path: Path) -> None:
    path = write(tmp_path / "x", mode="L")
    Image.fromarray(np.full((8, 10), 40_000, np.uint16)).save(path / "c" / "000.png")
    text = refusal(path)
    assert "c/000.png' has the mode 'I;16', expected 8 bits per channel" in text


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x")
    (path / "bb").mkdir()
    assert "class 'bb' has no images: expected" in refusal(path)


def test_a_folder_without_classes(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "0.png")
    assert f"no folders of classes: expected {tmp_path}/CLASS/IMAGE with .jpg" in refusal(tmp_path)
    assert "is not a folder" in refusal(tmp_path / "nowhere")
    assert "cannot be read: File name too long" in refusal(tmp_path / ("a" * 300))


def test_other_files_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "x")
    for name in ("a/notes.txt", "b/more.TXT", "c/.hidden", "README.md"):
        (path / name).write_text("words")
    assert len(load(dataset(path)).train.targets) == 75
    (message,) = [record.message for record in caplog.records]
    assert f"files in {path} that are no images are left out: 1 .hidden, 2 .txt" in message


def test_the_path_is_required_and_may_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data set 'folder' needs path"):
        Dataset.model_validate({"name": "folder"})
    assert "does not exist" in (dataset(tmp_path / "nowhere").missing() or "")
    assert dataset(tmp_path).missing() is None
