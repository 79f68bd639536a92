"""TensorBoard's event files, read back record by record without the library that wrote them."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event
from toys import ShuffledExecutor, StopsAfter, study_file

from hpogen.export.event_files import EventFiles
from hpogen.export.following import Following
from hpogen.record import folder
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.spec.tracking import Track
from hpogen.study.study import Study
from hpogen.trial import Outcome, Progress

POLYNOMIAL = 0x82F63B78  # of CRC-32C (Castagnoli), reflected
MOODY = {"name": "bowl", "epochs": 3, "mood": "raises"}


def masked_crc(data: bytes) -> int:
    """TFRecord's checksum of a piece of a record."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (POLYNOMIAL if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events(directory: Path) -> Iterator[Any]:
    """A record is its length, that number's checksum, the data, their checksum.

    A file may end within one: its process was killed.
    """
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while len(data) >= 12 and len(data) >= 16 + (length := struct.unpack("<Q", data[:8])[0]):
            (crc,) = struct.unpack("<I", data[8:12])
            body, (body_crc,) = data[12 : 12 + length], struct.unpack("<I", data[12 + length :][:4])
            assert (crc, body_crc) == (masked_crc(data[:8]), masked_crc(body))
            yield Event.FromString(body)
            data = data[16 + length :]


def scalars(directory: Path) -> dict[tuple[str, int], float]:
    """By tag and step, each of which is there once."""
    values = [(event.step, value) for event in events(directory) for value in event.summary.value]
    counts = Counter((value.tag, step) for step, value in values)
    assert {*counts.values()} <= {1}
    return {(v.tag, step): v.simple_value for step, v in values if not v.tag.startswith("_hp")}


def following(directory: Path) -> Following:
    return Following(directory, Track(tensorboard=True), "tensorboard")


def check_whole(directory: Path, study: Study) -> None:
    """The curve of every trial is there, and the score of those that have one."""
    for record in study.history.told():
        found = scalars(directory / "tensorboard" / f"{record.trial.id:05d}")
        rows = folder.read_curve(directory, record.trial.id)
        expected = {(n, row["epoch"]): x for row in rows for n, x in row["metrics"].items()}
        own = {key: x for key, x in found.items() if "/" not in key[0] and key[0] != "score"}
        assert own == pytest.approx(expected, rel=1e-6)  # TensorBoard's are of single precision
        assert (("score", record.trial.budget) in found) == (record.failure is None)
        assert {n for n, _ in found if "/" in n} <= {"seconds/total"}


def sizes(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in directory.rglob("*")}


def test_every_epoch_of_every_trial_is_there_once(tmp_path: Path) -> None:
    """Also where the process was killed between, within a record, and the study went on."""
    spec = load_study(study_file(tmp_path, task=MOODY))
    for epochs in (5, 4, 5, 1000):
        with Study(spec, tmp_path / "q") as study:
            run(study, ShuffledExecutor(epochs), observer=StopsAfter(epochs))
            (shown := following(tmp_path / "q")).bring()
            shown.close()
        files = [*(tmp_path / "q" / "tensorboard").glob("*/events*")]
        newest = max(files, key=lambda path: path.stat().st_mtime)
        if epochs < 1000:
            newest.write_bytes(newest.read_bytes()[:-7])
    assert len(study.history.told()) == 12
    check_whole(tmp_path / "q", study)
    begun = sizes(tmp_path / "q" / "tensorboard")
    again = following(tmp_path / "q")
    again.bring()
    assert again.left == 0 and sizes(tmp_path / "q" / "tensorboard") == begun


def test_it_grows_with_the_curves(tmp_path: Path) -> None:
    spec = load_study(study_file(tmp_path, task={"name": "bowl", "epochs": 3}))
    with Study(spec, tmp_path / "q") as study:
        shown = following(tmp_path / "q")
        shown.bring()
        assert not (tmp_path / "q" / "tensorboard").exists()
        trial = study.next()
        assert trial is not None
        for epoch in (1, 2):
            study.progress(Progress(trial.id, epoch, {"val_loss": 1.0 / epoch}))
            shown.bring()
            found = scalars(tmp_path / "q" / "tensorboard" / "00000")
            assert found == {("val_loss", step): 1.0 / step for step in range(1, epoch + 1)}
        study.record(Outcome(trial.id, {"val_loss": 0.5}))
        run(study)
        shown.bring()
        assert shown.left == 0
        shown.close()
        check_whole(tmp_path / "q", study)


def test_audit_and_seconds_stand_apart(tmp_path: Path) -> None:
    from hpogen.study.read import read

    with Study(load_study(study_file(tmp_path)), tmp_path / "q") as study:
        assert study.next() is not None
        files = EventFiles(read(tmp_path / "q"))
        row = {"metrics": {"loss": 0.5}, "seconds": {"train": 2.0}, "audit": {"loss": 0.25}}
        files.show(study.history.records[0], [{"epoch": 3, **row}])
    found = scalars(tmp_path / "q" / "tensorboard" / "00000")  # before it is closed
    assert found == {("loss", 3): 0.5, ("audit/loss", 3): 0.25, ("seconds/train", 3): 2.0}
    files.close()


def test_the_configuration_is_among_the_hparams_and_the_answer_a_text(tmp_path: Path) -> None:
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    space = {"x": {"float": [0.0, 1.0]}, "y": 10, "kind": {"choice": ["a", True]}}
    path = study_file(tmp_path, search_space=space, stop={"trials": 1})
    with Study(load_study(path), tmp_path / "q") as study:
        run(study)
        (shown := following(tmp_path / "q")).bring()
        shown.close()
        config = study.history.records[0].trial.config
    found = [v for e in events(tmp_path / "q" / "tensorboard" / "00000") for v in e.summary.value]
    (start,) = (v for v in found if v.tag == "_hparams_/session_start_info")
    data = HParamsPluginData.FromString(start.metadata.plugin_data.content)
    hparams = data.session_start_info.hparams
    assert hparams["x"].number_value == config["x"] and hparams["y"].number_value == 10
    assert hparams["kind"].string_value == "a" and hparams["budget"].number_value == 2
    (answer,) = (e for e in events(tmp_path / "q" / "tensorboard" / "answer") if e.summary.value)
    text = answer.summary.value[0].tensor.string_val[0].decode()
    assert text.startswith("trial 0: ") and ' by val; {"kind":"a","x":' in text
