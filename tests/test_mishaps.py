"""What befalls a study's files: gone folders, full disks, odd lines, locks, names, exceptions."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from toys import ShuffledExecutor, by_trial, study_file

from hpogen.cli.app import CODES
from hpogen.cli.drive import drive
from hpogen.errors import KEPT, CannotGoOn, UserError, quoted, text_of
from hpogen.executors.choice import Where
from hpogen.executors.worker import LazyFile
from hpogen.record import folder, history, ledger
from hpogen.report.html.page import write_report
from hpogen.running.logs import LogFile
from hpogen.running.runner import run, run_all
from hpogen.spec import load_study
from hpogen.study.open import open_study
from hpogen.study.read import read, studies_in
from hpogen.study.status import status
from hpogen.study.study import Study
from hpogen.trial import Failure, Progress


class Does:
    """An observer that does something when so many epochs have been seen."""

    def __init__(self, epochs: int, what: Callable[[], object]) -> None:
        self._left, self._what = epochs, what

    def progressed(self, progress: object) -> None:
        self._left -= 1
        if self._left == 0:
            self._what()

    def started(self, trial: object) -> None: ...

    def finished(self, record: object) -> None: ...

    def tick(self, stopping: bool) -> None: ...


def replaced(directory: Path) -> None:
    directory.rename(directory.with_name("moved"))
    shutil.copytree(directory.with_name("moved"), directory)


GONE: dict[str, Callable[[Path], object]] = {
    "deleted": shutil.rmtree,
    "moved": lambda directory: directory.rename(directory.with_name("moved")),
    "replaced": replaced,
    "its ledger emptied": lambda directory: (directory / ledger.LEDGER).write_bytes(b""),
    "its curves deleted": lambda directory: shutil.rmtree(directory / "trials"),
}


@pytest.mark.parametrize("how", GONE)
@pytest.mark.parametrize("slots", [1, 4])
def test_a_study_whose_folder_goes_ends_at_once(how: str, slots: int, tmp_path: Path) -> None:
    directory, executor = tmp_path / "q", ShuffledExecutor(0, slots)
    with Study(load_study(study_file(tmp_path)), directory) as study:
        result = run(study, executor, observer=Does(5, lambda: GONE[how](directory)))
    assert result.end == "broken" and CODES[result.end] == 1 and result.trials < 6
    assert str(directory) in result.text and "\n" not in result.text
    if how in ("deleted", "moved"):
        assert not directory.exists()  # nothing has been written there again
    if how == "replaced":
        kept = [directory.with_name("moved"), directory]
        assert ledger.read(kept[0]) == ledger.read(kept[1])


def test_one_study_of_a_pool_whose_folder_goes_leaves_the_others(tmp_path: Path) -> None:
    paths = [study_file(tmp_path / str(seed), seed=seed) for seed in (0, 1)]
    with ExitStack() as stack:
        pool = [stack.enter_context(Study(load_study(p), p.parent / "q")) for p in paths]
        watched = Does(3, lambda: shutil.rmtree(paths[0].parent / "q"))
        quiet = Does(0, lambda: None)
        results = run_all(pool, ShuffledExecutor(1), observers=[watched, quiet])
    assert [result.end for result in results] == ["broken", "finished"]
    assert results[1].trials == 12


def test_the_command_says_it_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = Study.progress

    def going(study: Study, step: Progress, part: int | None = None) -> None:
        progress(study, step, part)
        if step.trial == 2:
            shutil.rmtree(study.directory)

    monkeypatch.setattr(Study, "progress", going)
    spec = load_study(study_file(tmp_path))
    assert drive({tmp_path / "q": spec}, tmp_path / "q", Where("cpu"), "") == ["broken"]
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "study stopped itself: " in said.err
    assert "deleted, moved or replaced" in said.err and "finished" not in said.out


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file may become longer than that, as on a full disk: writes come back short, then fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_row_for_which_there_is_no_room_is_not_there_at_all(tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    row = Progress(0, 1, {"val_loss": 1.0})
    folder.append_curve(tmp_path, row)
    path = folder.curve_path(tmp_path, 0)
    before = path.read_bytes()
    with room(len(before) + 20), pytest.raises(CannotGoOn, match=f"^{path}: cannot be written: "):
        folder.append_curve(tmp_path, row)
    assert path.read_bytes() == before
    with room(20), pytest.raises(CannotGoOn, match="cannot be written"):
        folder.keep_files(tmp_path, 0, {"val_losses.npy": b"x" * 100}, "abc")
    assert [p.name for p in (tmp_path / "trials").iterdir()] == [path.name]


@pytest.mark.parametrize("size", [2000, 3500, 6000])
def test_a_study_that_runs_out_of_room_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, size: int
) -> None:
    spec = load_study(study_file(tmp_path))
    with Study(spec, tmp_path / "whole") as study:
        run(study)
    with room(size), Study(spec, tmp_path / "q") as study:
        assert run(study).end == "broken"
    with Study(spec, tmp_path / "q") as study:
        assert run(study).end == "finished"
    ends = [by_trial(ledger.read(tmp_path / d), "told") for d in ("q", "whole")]
    assert ends[0] == ends[1]


def test_logs_that_cannot_be_written_stop_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    for path in (tmp_path / "full", tmp_path / "nowhere" / "x.log"):
        file = LogFile(path)
        for _ in range(2):
            file.emit(logging.makeLogRecord({"msg": "ask trial=0"}))
        file.close()
        assert capsys.readouterr().err.count("cannot be written: No s") == 1
        log = LazyFile(path)
        caplog.clear()
        log.write("x" * 100_000)
        log.flush()
        log.close()
        assert len(caplog.records) == 1 and "written=false: No s" in caplog.text


ODD_ROWS = [
    b"[1, 2]", b"5", b"null", b"{}", b'{"metrics": {}}', b'{"epoch": "3", "metrics": {}}',
    b'{"epoch": true, "metrics": {}}', b'{"epoch": 0, "metrics": {}}',
    b'{"epoch": 99999999999, "metrics": {}}', b'{"epoch": 2, "metrics": {"val_loss": "1"}}',
    b'{"epoch": 2, "metrics": {"val_loss": NaN}}', b'{"epoch": 2, "metrics": {"val_loss": 1e999}}',
    b'{"epoch": 2, "metrics": {"val_loss": {"a": 1}}}', b'{"epoch": 2, "metrics": null}',
    b'{"epoch": 2, "metrics": {"val_loss": 1' + b"0" * 400 + b"}}",
    b'{"epoch": ' + b"9" * 6000 + b', "metrics": {}}', b"[" * 200_000, b"\xff\xfe",
    b'{"epoch": 2, "metrics": {}, "seconds": 5}', b'{"epoch": 2, "metrics": {}, "device": []}',
    b'{"epoch": 2, "metrics": {}, "memory": {"peak": "x"}}',
]  # fmt: skip


@pytest.mark.parametrize("row", ODD_ROWS, ids=range(len(ODD_ROWS)))
def test_what_is_no_row_of_a_curve_is_passed_over(row: bytes, tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    for epoch in (1, 2):
        folder.append_curve(tmp_path, Progress(0, epoch, {"val_loss": 1.0 / epoch}))
    rows = folder.read_curve(tmp_path, 0)
    with open(folder.curve_path(tmp_path, 0), "ab") as file:
        file.write(row + b"\n")
    assert folder.read_curve(tmp_path, 0) == rows and len(rows) == 2


def damaged(directory: Path, line: int, **keys: Any) -> None:
    """Change keys of a line, which then has a right checksum."""
    events = ledger.read(directory)
    events[line - 1] = {k: v for k, v in {**events[line - 1], **keys}.items() if v != "gone"}
    lines = [ledger.encode(event, seq) for seq, event in enumerate(events)]
    (directory / ledger.LEDGER).write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("line", "keys", "said"),
    [
        (2, {"kind": "pruned"}, "kind 'pruned' is unknown"),
        (2, {"kind": "_first"}, "kind '_first' is unknown"),
        (2, {"kind": "gone"}, "kind None is unknown|KeyError|no study"),
        (2, {"budget": "two"}, "budget: got 'two'"),
        (2, {"trial": 7}, "trial 7 is asked as number 0"),
        (2, {"config": [1]}, "config: got"),
        (2, {"parent": 5}, "parent, trial 5"),
        (3, {"trial": 99}, "trial 99 has not been asked"),
        (3, {"metrics": {"val_loss": None}}, "metrics.val_loss: got None"),
        (3, {"score": "x" * 5000}, "score: got 'x*…x*'"),
        (3, {"failure": {"kind": "odd", "text": ""}}, "failure.kind: got 'odd'"),
        (3, {"audit": "gone"}, "its key audit is missing"),
        (1, {"spec": {}}, "spec.stop is missing"),
        (1, {"plugins": 3}, "plugins: got 3"),
        (1, {"format": "2"}, "format '2'"),
        (1, {"spec": 2}, "spec: got 2"),
        (1, {"forked": 5}, "forked: got 5"),
        (1, {"colour": "blue"}, "key colour is unknown"),
        (1, {"forked": {"study": "q", "enqueue": [], "colour": 1}}, "key forked.colour is unknown"),
        (2, {"colour": "blue"}, "key colour is unknown"),
        (3, {"failure": {"kind": "oom", "text": "", "colour": 1}}, "failure.colour is unknown"),
    ],
)
def test_an_odd_line_with_a_right_checksum_is_named(
    line: int, keys: dict[str, Any], said: str, tmp_path: Path
) -> None:
    spec = load_study(study_file(tmp_path))
    with Study(spec, tmp_path / "q") as study:
        run(study)
    damaged(tmp_path / "q", line, **keys)
    before = (tmp_path / "q" / ledger.LEDGER).read_bytes()
    for act in (lambda: history.read(tmp_path / "q"), lambda: Study(spec, tmp_path / "q")):
        with pytest.raises(UserError, match=rf"ledger\.jsonl:{line}: .*({said}).*upgrade") as error:
            act()
        assert "\n" not in str(error.value) and len(str(error.value)) < 800
    assert (tmp_path / "q" / ledger.LEDGER).read_bytes() == before


@pytest.mark.parametrize("keys", [{"spec": 2}, {"forked": 5}])
def test_an_odd_first_line_is_named_before_it_is_used(keys: dict[str, Any], tmp_path: Path) -> None:
    spec = load_study(study_file(tmp_path))
    with Study(spec, tmp_path / "q"):
        pass
    damaged(tmp_path / "q", 1, **keys)
    with pytest.raises(UserError, match=r"ledger\.jsonl:1: .*not understood"):
        open_study(spec, tmp_path / "q")


def test_a_first_line_without_plug_ins_is_read(tmp_path: Path) -> None:
    spec = load_study(study_file(tmp_path))
    with Study(spec, tmp_path / "q"):
        pass
    record = {key: value for key, value in spec.record().items() if key != "plugins"}
    damaged(tmp_path / "q", 1, spec=record, plugins="gone", versions="gone")
    assert read(tmp_path / "q").name == spec.name
    with pytest.raises(UserError, match="begun with"):
        open_study(spec, tmp_path / "q")


def test_keys_of_another_spec_are_not_the_ledgers_business(tmp_path: Path) -> None:
    spec = load_study(study_file(tmp_path))
    with Study(spec, tmp_path / "q") as study:
        run(study)
    past = history.read(tmp_path / "q")
    record = spec.record()
    damaged(
        tmp_path / "q", 1, spec={**record, "colour": "blue", "task": {**record["task"], "hue": 1}}
    )
    assert history.read(tmp_path / "q").records == past.records


def test_locks_that_cannot_be_read(tmp_path: Path) -> None:
    spec = load_study(study_file(tmp_path))
    with Study(spec, tmp_path / "q") as study:
        run(study)
    lock = tmp_path / "q" / "lock"
    lock.write_bytes(b"\xff\x00\x1b[31m\n" * 100)
    assert status(read(tmp_path / "q"))["state"] == "finished"
    lock.unlink()
    lock.mkdir()
    with pytest.raises(UserError, match=f"^{lock}: cannot be read: Is a directory"):
        status(read(tmp_path / "q"))
    with pytest.raises(UserError, match=f"^{lock}: cannot be written: Is a directory"):
        Study(spec, tmp_path / "q")


def test_names_longer_than_the_file_system_takes(tmp_path: Path) -> None:
    spec = load_study(study_file(tmp_path))
    for name in ("n" * 300, "/".join(["n"] * 3000)):
        for act in (studies_in, ledger.read, lambda path: Study(spec, path)):
            with pytest.raises(UserError, match="File name too long") as error:
                act(tmp_path / name)
            assert len(str(error.value)) < 400
    longest = tmp_path / ("n" * 255)
    folder.replace_file(longest, b"x")
    assert longest.read_bytes() == b"x" and len([*tmp_path.glob(".*")]) == 0


def test_a_report_of_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"caf\xe9")
    with Study(load_study(study_file(tmp_path)), place) as study:
        run(study)
    assert b"caf?" in write_report([place], tmp_path / "r.html").read_bytes()


def test_a_device_is_written_to_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    folder.replace_file(pipe, b"report")
    assert os.read(end, 10) == b"report" and not pipe.is_file()
    os.close(end)


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no comment")


def test_the_ledger_keeps_one_printable_line_of_any_exception() -> None:
    assert text_of(Silent()) == "Silent: (its text cannot be had: RuntimeError)"
    odd = text_of(ValueError("a\n\x1b[31mb\udcff\u2028c\x00"))
    assert odd == r"ValueError: a \x1b[31mb\udcff c\x00" and odd.isprintable()
    huge = Failure("error", text_of(ValueError("begin " + "x" * 5_000_000 + " end")))
    assert len(huge.text) == KEPT
    assert huge.text.startswith("ValueError: begin") and huge.text.endswith(" end")
    assert len(Failure("error", "y" * 9999).text) == KEPT  # of an older ledger, too


@pytest.mark.parametrize("value", ["v" * 10_000, ["v"] * 5000, {"a": "\x1b" * 999}])
def test_a_value_in_a_message_is_cut(value: Any) -> None:
    assert len(quoted(value)) == 200 and quoted(value).isprintable()
    assert json.loads(json.dumps(quoted("short"))) == "'short'"


TASK = """
from hpogen.plugins import task

class Silent(Exception):
    def __str__(self):
        raise RuntimeError("no comment")

@task("odd", metrics=("val_loss",))
def odd(trial):
    raise [Silent(), ValueError("x" * 3_000_000), ValueError("a\\x1b[31m\\udcff")][trial.id % 3]
    yield {}
"""


def test_a_trial_that_raises_something_odd_is_a_failed_trial(tmp_path: Path) -> None:
    path = study_file(
        tmp_path, task={"name": "odd", "epochs": 1}, plugins=["odd.py"], stop={"trials": 3}
    )
    (tmp_path / "odd.py").write_text(TASK)
    with Study(load_study(path), tmp_path / "q") as study:
        assert run(study).trials == 3
    texts = [
        event["failure"]["text"] for event in by_trial(ledger.read(tmp_path / "q"), "told").values()
    ]
    assert texts[0].startswith("Silent: ") and texts[2] == r"ValueError: a\x1b[31m\udcff"
    assert len(texts[1]) == KEPT
    assert folder.log_path(tmp_path / "q", 1).stat().st_size > 3_000_000  # the log has all
