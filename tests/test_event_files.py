"""TensorBoard's event files, read back record by record without the library that wrote them."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event
from toys import ShuffledExecutor, study_file

from hpogen.export.event_files import EventFiles, Together
from hpogen.record import folder
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study.study import Study
from hpogen.trial import Progress

POLYNOMIAL = 0x82F63B78  # of CRC-32C (Castagnoli), reflected


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
    """A record is its length, that number's checksum, the data, their checksum."""
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while data:
            (length, crc) = struct.unpack("<QI", data[:12])
            body, (body_crc,) = data[12 : 12 + length], struct.unpack("<I", data[12 + length :][:4])
            assert (crc, body_crc) == (masked_crc(data[:8]), masked_crc(body))
            yield Event.FromString(body)
            data = data[16 + length :]


def scalars(directory: Path) -> dict[tuple[str, int], float]:
    values = [(event.step, value) for event in events(directory) for value in event.summary.value]
    return {(v.tag, step): v.simple_value for step, v in values if not v.tag.startswith("_hp")}


def test_every_epoch_of_every_trial_is_there(tmp_path: Path) -> None:
    path = study_file(tmp_path, task={"name": "bowl", "epochs": 3, "mood": "raises"})
    with Study(load_study(path), tmp_path / "q") as study:
        files = EventFiles(study.directory)
        run(study, ShuffledExecutor(0), observer=Together(files, EventFiles(tmp_path / "second")))
        files.close()
        records = study.history.told()
    for record in records:
        found = scalars(tmp_path / "q" / "tensorboard" / f"{record.trial.id:05d}")
        rows = folder.read_curve(tmp_path / "q", record.trial.id)
        expected = {(n, row["epoch"]): x for row in rows for n, x in row["metrics"].items()}
        own = {key: x for key, x in found.items() if "/" not in key[0] and key[0] != "score"}
        assert own == pytest.approx(expected, rel=1e-6)  # TensorBoard's are of single precision
        assert (("score", 3) in found) == (record.failure is None)
        assert {n for n, _ in found if "/" in n} <= {"seconds/total"}
    assert len([*(tmp_path / "second" / "tensorboard").iterdir()]) == len(records) == 12


def test_audit_and_seconds_stand_apart(tmp_path: Path) -> None:
    files = EventFiles(tmp_path)
    files.progressed(Progress(7, 3, {"loss": 0.5}, {"train": 2.0}, audit={"loss": 0.25}))
    found = scalars(tmp_path / "tensorboard" / "00007")  # before it is closed
    assert found == {("loss", 3): 0.5, ("audit/loss", 3): 0.25, ("seconds/train", 3): 2.0}
    files.close()


def test_the_configuration_is_among_the_hparams(tmp_path: Path) -> None:
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    space = {"x": {"float": [0.0, 1.0]}, "y": 10, "kind": {"choice": ["a", True]}}
    path = study_file(tmp_path, search_space=space, stop={"trials": 1})
    with Study(load_study(path), tmp_path / "q") as study:
        files = EventFiles(study.directory)
        run(study, observer=files)
        files.close()
        config = study.history.records[0].trial.config
    found = [v for e in events(tmp_path / "q" / "tensorboard" / "00000") for v in e.summary.value]
    (start,) = (v for v in found if v.tag == "_hparams_/session_start_info")
    data = HParamsPluginData.FromString(start.metadata.plugin_data.content)
    hparams = data.session_start_info.hparams
    assert hparams["x"].number_value == config["x"] and hparams["y"].number_value == 10
    assert hparams["kind"].string_value == "a" and hparams["budget"].number_value == 2


def test_a_folder_that_cannot_be_written_stops_no_study(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Study(load_study(study_file(tmp_path)), tmp_path / "q") as study,
        caplog.at_level(logging.WARNING),
    ):
        (tmp_path / "q" / "tensorboard").write_text("a file")
        assert run(study, observer=EventFiles(study.directory)).end == "finished"
    (said,) = (r.message for r in caplog.records if "event_files" in r.message)
    assert said.startswith(f"event_files={tmp_path}/q/tensorboard written=false: ")
