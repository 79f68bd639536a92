"""What the data set `folder` finds: links, hidden names, copies, files of more than 8 bits."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder
from training.pictures_on_disk import picture, write

from hpogen.errors import UserError
from hpogen.training.data import load
from hpogen.training.data.copies import copies, separated
from hpogen.training.data.listing import listed
from hpogen.training.data.parts import splits_of
from hpogen.training.data.splits import splits
from hpogen.training.forms.dataset import Dataset


def dataset(path: Path, **keys: object) -> Dataset:
    return Dataset.model_validate({"name": "folder", "path": str(path), **keys})


def found(base: Path) -> list[tuple[str, int]]:
    """Files relative to the folder, with their classes."""
    return [(os.path.relpath(file, base), label) for file, label in listed(base, "x").samples]


def test_the_order_is_torchvisions(tmp_path: Path) -> None:
    base = write(tmp_path / "x", (4, 3))
    for inner in ("a/n", "a/n-1", "a/n/m", "a/00", "b/2.png.d", "a/n-1/z"):
        shutil.copytree(base / "b", base / inner, ignore=lambda folder, names: names[3:])
    shutil.copy(base / "a" / "000.png", base / "a" / "UPPER.PNG")
    theirs = ImageFolder(str(base))
    ours = listed(base, "x")
    assert ours.samples == theirs.samples and ours.classes == theirs.classes
    assert len(ours) == 4 + 3 + 1 + 6 * 3


def test_no_folder_is_read_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = write(tmp_path / "x", (3, 2))
    plain = found(base)
    circles = {"a/up": "..", "a/again": ".", "a/far": "../..", "b/side": "../a", "b/all": "/"}
    for name, target in circles.items():
        (base / name).symlink_to(target)
    assert found(base) == plain
    (message,) = [record.message for record in caplog.records]
    assert message.startswith(f"data set 'x': links in {base} to folders that are read elsewhere")
    assert message.endswith("are left out: a/again, a/far, a/up, b/all, b/side")


def test_a_link_to_another_place_is_followed_once(tmp_path: Path) -> None:
    base = write(tmp_path / "x", (1, 1))
    away = write(tmp_path / "away", (2, 1))
    (away / "a" / "back").symlink_to(base)  # a circle through both
    (base / "a" / "more").symlink_to(away / "a")
    (base / "c").symlink_to(away / "b")  # a class may be a link
    (base / "b" / "more").symlink_to(away / "a")  # the second one
    expected = [("a/000.png", 0), ("a/more/000.png", 0), ("a/more/001.png", 0)]
    assert found(base) == [*expected, ("b/000.png", 1), ("c/000.png", 2)]
    (tmp_path / "linked").symlink_to(base)
    assert len(found(tmp_path / "linked")) == 5


def test_a_class_that_is_a_link_to_another_has_no_images(tmp_path: Path) -> None:
    base = write(tmp_path / "x", (2, 2))
    (base / "aa").symlink_to("b")
    with pytest.raises(UserError, match="class 'aa' has no images"):
        listed(base, "x")


def test_names_that_begin_with_a_dot_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = write(tmp_path / "x", (3, 2))
    plain = found(base)
    for hidden in (".ipynb_checkpoints", "a/.ipynb_checkpoints", "b/.Trash"):
        shutil.copytree(base / "b", base / hidden, ignore=lambda folder, names: names[2:])
    (base / "a" / "._000.png").write_bytes(b"what macOS leaves on foreign disks")
    assert found(base) == plain
    assert caplog.records[-1].message.endswith("that are no images are left out: 1 .*.png")


def test_pipes_are_not_opened_and_broken_links_are_named(tmp_path: Path) -> None:
    base = write(tmp_path / "x", (3, 2))
    os.mkfifo(base / "a" / "pipe.png")
    assert len(load(dataset(base)).train.targets) == 5
    (base / "b" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"b/gone.png' cannot be read as an image: FileNotFound"):
        load(dataset(base, seed=1, size=4))


# -- files with the same content


def test_copies_are_found_by_their_content(tmp_path: Path) -> None:
    contents = [b"x" * 20_000, b"x" * 19_999 + b"y", b"y" + b"x" * 19_999, b"short", b"x" * 20_000]
    contents += [b"short", b"short", b"", b"longer"]
    files = [str(tmp_path / str(i)) for i in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        Path(file).write_bytes(content)
    files.append(str(tmp_path / "nowhere"))
    expected = [{0, 4}, {3, 5, 6}]
    assert [set(group) for group in copies(files)] == expected
    assert all(group[row] == files[row] for group in copies(files) for row in group)
    assert separated(copies(files), {"subset": [0, 3, 1], "audit": [4, 5]}) == [
        (f"{files[0]!r} (subset)", f"{files[4]!r} (audit)"),
        (f"{files[3]!r} (subset)", f"{files[5]!r} (audit)"),
    ]
    assert separated(copies(files), {"subset": [0, 4, 3], "audit": [1, 2]}) == []


def test_copies_on_both_sides_of_a_split_are_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = write(tmp_path / "train", (20, 20)).parent
    write(tmp_path / "test", (3, 3), first=1000)
    assert load(dataset(base)).copies == () and not caplog.records
    os.link(base / "train" / "b" / "007.png", base / "test" / "a" / "999.png")
    given = dataset(base, subset=0.5, validation=10, audit="test", size=8)
    for _ in range(2):
        load(given)
    (message,) = [record.message for record in caplog.records]
    assert "1 images stand on more than one side of a split, in identical files" in message
    assert f"{str(base / 'test/a/999.png')!r} (test)" in message
    assert f"{str(base / 'train/b/007.png')!r} (" in message


def test_copies_are_said_where_the_split_parts_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = write(tmp_path / "x", (20, 20))
    shutil.copy(base / "a" / "000.png", base / "a" / "copy.png")  # rows 0 and 20
    apart = set()
    for seed in range(8):
        keys = {"validation": {"size": 5, "redraw": True}, "audit": 8, "seed": seed}
        given = dataset(base, subset=0.5, **keys)
        data = load(given)
        split = splits(given, data.train.targets)
        sides = [split.subset, split.outside, split.audit]
        parted = not any({0, 20} <= set(rows.tolist()) for rows in sides)
        assert len(caplog.records) == parted
        apart.add(parted)
        caplog.clear()
    assert apart == {False, True}


def test_copies_in_two_folds_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = write(tmp_path / "x", (20, 20))
    shutil.copy(base / "a" / "000.png", base / "a" / "copy.png")  # rows 0 and 20
    apart = set()
    for seed in range(8):
        given = dataset(base, subset=1.0, validation={"folds": 2}, audit=0, seed=seed)
        data = load(given)
        fold = splits_of(given, data.strata, None, 0).validation
        parted = len({0, 20} & set(fold.tolist())) == 1
        assert [r.message for r in caplog.records if "(fold 0)" in r.message] == [
            r.message for r in caplog.records
        ]
        assert len(caplog.records) == parted
        apart.add(parted)
        caplog.clear()
    assert apart == {False, True}


# -- more than 8 bits


def png(path: Path, kind: int, channels: int) -> None:
    """A PNG of 16 bits per channel, which Pillow cannot write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", 10, 8, 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + bytes(2 * channels * 10) for _ in range(8))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def ppm(path: Path, largest: int = 65535) -> None:
    width = 2 if largest > 255 else 1
    path.write_bytes(b"P6 10 8 %d\n" % largest + bytes(width * 3 * 80))


def tiff(path: Path) -> None:
    """RGB of 16 bits: a little-endian TIFF of one strip."""
    fields = [(256, 10), (257, 8), (259, 1), (262, 2), (273, 200), (277, 3), (278, 8), (279, 480)]
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields]
    entries.insert(2, struct.pack("<HHII", 258, 3, 3, 190))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4)
    path.write_bytes(head.ljust(190, b"\0") + struct.pack("<HHH", 16, 16, 16) + bytes(4 + 480))


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("rgb.png", lambda path: png(path, 2, 3)),
        ("rgba.png", lambda path: png(path, 6, 4)),
        ("gray-alpha.png", lambda path: png(path, 4, 2)),
        ("gray.png", lambda path: png(path, 0, 1)),
        ("rgb.ppm", ppm),
        ("rgb.tif", tiff),
    ],
)
def test_colours_of_16_bits_are_not_cut_down(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    base = write(tmp_path / "x", (3, 2))
    make(base / "b" / name)
    Image.open(base / "b" / name).load()  # a whole image, to Pillow
    with pytest.raises(UserError, match=rf"b/{name}' has the mode '.*16.*', expected 8 bits"):
        load(dataset(base))


def test_files_of_8_bits_of_the_same_kinds_are_read(tmp_path: Path) -> None:
    base = write(tmp_path / "x", (3, 2))
    ppm(base / "b" / "a.ppm", 255)
    ppm(base / "b" / "b.ppm", 15)
    for name, options in (("c.tif", {}), ("d.tif", {"compression": "tiff_lzw"}), ("e.jpg", {})):
        picture(1).save(base / "b" / name, **options)
    assert len(load(dataset(base)).train.targets) == 10


def test_an_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    base = write(tmp_path / "x", (2, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture(5).save(base / "a" / "turned.jpg", exif=exif, quality=100)
    stored = np.asarray(Image.open(base / "a" / "turned.jpg")).transpose(2, 0, 1)
    data = load(dataset(base))
    assert np.array_equal(data.train.inputs[np.array([2])][0], stored)
