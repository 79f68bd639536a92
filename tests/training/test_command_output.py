"""Where the metrics of a command may be, beside JSON on its standard output: patterns and files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toys import StopsAfter, by_trial, study_file

from hpogen import Study, load_study, run
from hpogen.errors import UserError
from hpogen.executors.inline import InlineExecutor
from hpogen.record import folder, ledger
from hpogen.tasks.command_files import Parse, Rows, Written, csv_rows, json_rows
from hpogen.tasks.command_output import expression
from hpogen.tasks.event_records import EventFiles, records

START = """
import json, os, sys, time
from pathlib import Path
directory, start = Path(sys.argv[1]), int(sys.argv[2])
"""


def script(directory: Path, body: str, read: Any, **keys: Any) -> Path:
    """A study of one trial whose command is a script that has `directory` and `start`."""
    (directory / "train.py").write_text(START + body)
    task = {
        "name": "command",
        "command": f"{sys.executable} {directory}/train.py {{directory}} {{start_epoch}} {{x}}",
        "metrics": ["val_loss"],
        "epochs": 3,
        "read": read,
        **keys,
    }
    space = {"x": {"float": [0, 1]}}
    return study_file(directory, task=task, stop={"trials": 1}, plugins=[], search_space=space)


def told(path: Path, **options: Any) -> dict[str, Any]:
    with Study(load_study(path), path.parent / "q") as study:
        run(study, InlineExecutor("cpu"), **options)
    return by_trial(ledger.read(path.parent / "q"), "told").get(0, {})


def curve(path: Path) -> list[float]:
    """The losses of the trial's epochs."""
    rows = folder.curve_path(path.parent / "q", 0).read_text().splitlines()
    return [json.loads(row)["metrics"]["val_loss"] for row in rows]


@pytest.mark.parametrize(
    ("pattern", "line", "found"),
    [
        ("epoch {epoch} val_loss {val_loss}", "epoch 3   val_loss 0.25", ("3", "0.25")),
        (
            "epoch {epoch} val_loss {val_loss}",
            "[12:00] epoch 3\tval_loss -1e-3, lr 1",
            ("3", "-1e-3"),
        ),
        ("Epoch {epoch:03d}/{}: loss={val_loss:.4f}", "Epoch 003/20: loss=nan", ("003", "nan")),
        ("{{{epoch}}} ({val_loss})", "{7} (.5)", ("7", ".5")),
        ("{epoch}: {val_loss}s", "12: 1E+2s", ("12", "1E+2")),
        ("loss {val_loss}", "train_loss 0.5", None),
        ("epoch {epoch} loss {val_loss}", "epoch three loss 0.5", None),
    ],
)
def test_what_a_pattern_finds(pattern: str, line: str, found: tuple[str, str] | None) -> None:
    match = expression(pattern).search(line)
    assert (match and (match["epoch"], match["val_loss"])) == found


PATTERN = {"pattern": "epoch {epoch} val_loss {val_loss}"}


def test_a_pattern_gives_each_epoch_once_and_leaves_the_log_whole(tmp_path: Path) -> None:
    body = """
for epoch in range(3):
    for step in range(2):  # only the first of an epoch counts
        print(f"INFO epoch {epoch} val_loss {1 / (epoch + 1) + step:.2f}", flush=True)
    print(json.dumps({"val_loss": 99}), flush=True)  # no epoch here
"""
    path = script(tmp_path, body, PATTERN)
    assert told(path)["failure"] is None
    assert curve(path) == [1.0, 0.5, 0.33]
    assert folder.log_path(tmp_path / "q", 0).read_text().count("INFO") == 6


def test_a_pattern_that_never_matches_tells_the_last_lines(tmp_path: Path) -> None:
    body = "for i in range(9): print(f'Epoch {i}: loss 0.{i}', flush=True)\n"
    failure = told(script(tmp_path, body, PATTERN))["failure"]
    assert failure["kind"] == "error"
    assert failure["text"] == (
        "ValueError: the command printed no line with task.read.pattern "
        "'epoch {epoch} val_loss {val_loss}'; its output ended with 'Epoch 4: loss 0.4', "
        "'Epoch 5: loss 0.5', 'Epoch 6: loss 0.6', 'Epoch 7: loss 0.7', 'Epoch 8: loss 0.8'"
    )


def test_a_pattern_of_what_goes_to_standard_error_is_told_so(tmp_path: Path) -> None:
    body = "for i in range(3): print(f'epoch {i} val_loss 0.{i}', file=sys.stderr)\n"
    text = told(script(tmp_path, body, PATTERN))["failure"]["text"]
    assert text.endswith(
        "but on standard error there is one: sh -c 'COMMAND 2>&1' in task.command makes it "
        "standard output"
    )


def test_a_silent_command_with_a_pattern(tmp_path: Path) -> None:
    assert told(script(tmp_path, "", PATTERN))["failure"]["text"].endswith("; its output was empty")


JSON_LINES = """
with open(directory / "m.json", "a") as file:
    for epoch in range(start, 3):
        row = {"epoch": epoch, "val_loss": 3 - epoch, "other": "x"}
        print(json.dumps(row), file=file, flush=True)
"""
FILE = {"json": "{directory}/m.json"}
JSON_LIST = """
file = directory / "m.json"
rows = json.loads(file.read_text()) if start else []
for epoch in range(start, 3):
    rows.append({"epoch": epoch, "val_loss": 3 - epoch})
    new = file.with_suffix(".new")
    new.write_text(json.dumps(rows, indent=2))
    new.replace(file)  # whole at every moment: it may be stopped at any
"""
JSON_COLUMNS = """
(directory / "m.json").write_text(json.dumps({"val_loss": [3, 2, 1], "acc": [0.1, 0.2, 0.3]}))
"""
CSV = """
new = not start
with open(directory / "m.csv", "a" if start else "w") as file:
    if new: print("epoch,step,train_loss,val_loss", file=file)
    for epoch in range(start, 3):  # as Lightning's CSVLogger: a row of each kind
        print(f"{epoch},{epoch * 10},0.5,", file=file)
        print(f"{epoch},{epoch * 10 + 9},,{3 - epoch}", file=file, flush=True)
    print("3,40,,", file=file)
"""


@pytest.mark.parametrize(
    ("kind", "body"),
    [("json", JSON_LINES), ("json", JSON_LIST), ("json", JSON_COLUMNS), ("csv", CSV)],
)
def test_epochs_of_a_file(kind: str, body: str, tmp_path: Path) -> None:
    path = script(tmp_path, body, {kind: f"{{directory}}/m.{kind}"})
    assert told(path)["failure"] is None
    assert curve(path) == [3, 2, 1]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_names_and_other_separators(separator: str, tmp_path: Path) -> None:
    rows = [["Epoch", "loss/val"], *([str(i), str(i / 2)] for i in (1, 2, 3))]
    text = "\n".join(separator.join(row) for row in rows)  # the last line has no end
    body = f"(directory / 'm.csv').write_text({text!r})"
    names = {"val_loss": "loss/val", "epoch": "Epoch"}
    path = script(tmp_path, body, {"csv": "{directory}/m.csv", "names": names})
    assert told(path)["failure"] is None
    assert curve(path) == [0.5, 1.0, 1.5]


def test_a_half_written_line_is_not_read(tmp_path: Path) -> None:
    """The program waits in the middle of a number until the epoch before has been received."""
    received = tmp_path / "q" / "trials"
    body = f"""
file = open(directory / "m.csv", "w", buffering=1)
file.write("val_loss\\n0.5\\n0.2"); file.flush()
while not [*Path({str(received)!r}).glob("*.jsonl")]: time.sleep(0.01)
time.sleep(0.5)
file.write("5\\n1.5\\n")
"""
    path = script(tmp_path, body, {"csv": "{directory}/m.csv"})
    assert told(path)["failure"] is None
    assert curve(path) == [0.5, 0.25, 1.5]


def test_half_of_json_is_nothing_until_the_program_has_ended() -> None:
    assert [*json_rows('[{"a": 1}, {"a": ', False).rows] == []
    assert [*json_rows('{"a": 1}\n{"a": 2', False).rows] == [{"a": 1}]
    assert [*csv_rows("a,b\n1,2\n3", False).rows] == [{"a": "1", "b": "2"}]
    with pytest.raises(ValueError, match="line 2 is not JSON: "):
        json_rows('{"a": 1}\n{"a": 2', True)


@pytest.mark.parametrize(
    ("kind", "body"), [("json", JSON_LINES), ("json", JSON_LIST), ("csv", CSV)]
)
def test_a_resumed_command_goes_on_in_its_file(kind: str, body: str, tmp_path: Path) -> None:
    """It is stopped after an epoch, and what it has written of the others does not count."""
    stop = "if not start: time.sleep(60)\n"
    path = script(tmp_path, body + stop, {kind: f"{{directory}}/m.{kind}"}, resumable=True)
    assert told(path, observer=StopsAfter(1)) == {}
    assert told(path)["failure"] is None
    assert curve(path) == [3, 2, 1]


@pytest.mark.parametrize(
    ("parse", "text", "left"),
    [
        (csv_rows, "epoch,val_loss\n0,3\n1,2\n2,1\n", "epoch,val_loss\n0,3\n1,2\n"),
        (
            json_rows,
            '{"epoch": 0}\n{"epoch": 1}\n{"epoch": 2}\n{"ep',
            '{"epoch": 0}\n{"epoch": 1}\n',
        ),
        (json_rows, '[{"epoch": 0}, {"epoch": 2}, {"epoch": 1}]', '[{"epoch": 0}, {"epoch": 1}]'),
    ],
)
def test_epochs_that_were_not_received_are_cut_off(
    parse: Parse, text: str, left: str, tmp_path: Path
) -> None:
    file = tmp_path / "m"
    file.write_text(text)
    (tmp_path / "old").hardlink_to(file)
    rows = Rows(file, {"val_loss": "val_loss", "epoch": "epoch"}, parse)
    rows.begin({"0", "1"})
    assert file.read_text() == left
    assert (tmp_path / "old").read_text() == text, "replaced, and never there in part"
    assert {path.name for path in tmp_path.iterdir()} == {"m", "old"}
    rows.begin(set())
    assert not file.exists()


def test_a_command_that_has_had_all_its_epochs_needs_give_no_more(tmp_path: Path) -> None:
    """It was stopped after the last one, before it ended."""
    path = script(tmp_path, JSON_LINES + "if not start: time.sleep(60)", FILE, resumable=True)
    assert told(path, observer=StopsAfter(3)) == {}
    assert told(path)["metrics"] == {"val_loss": 1}


def test_a_resumed_command_may_begin_another_file(tmp_path: Path) -> None:
    body = JSON_LINES.replace('"a"', '"w"') + "if not start: time.sleep(60)\n"
    path = script(tmp_path, body, FILE, resumable=True)
    assert told(path, observer=StopsAfter(2)) == {}
    assert told(path)["failure"] is None
    assert curve(path) == [3, 2, 1]


def test_a_command_that_begins_anew_has_no_old_rows(tmp_path: Path) -> None:
    body = JSON_LINES.replace("range(start, 3)", "range(3)") + (
        "if not (directory / 'again').exists():\n"
        "    (directory / 'again').touch()\n    time.sleep(60)\n"
    )
    path = script(tmp_path, body, {"json": "{directory}/m.json"})
    assert told(path, observer=StopsAfter(2)) == {}
    assert told(path)["failure"] is None
    assert len((json_file(path)).read_text().splitlines()) == 3


def json_file(path: Path) -> Path:
    return folder.trial_stem(path.parent / "q", 0) / "m.json"


@pytest.mark.parametrize(
    ("read", "body", "text"),
    [
        (
            {"json": "{directory}/m.json"},
            "print('nothing to do')",
            "the command wrote nothing that task.read.json reads; it said last 'nothing to do'",
        ),
        (
            {"csv": "{directory}/m.csv"},
            "(directory / 'm.csv').write_text('epoch,loss\\n1,0.5\\n')",
            "the command wrote no epoch for task.read.csv: an epoch has val_loss, there are the "
            "columns epoch, loss",
        ),
        (
            {"csv": "{directory}/m.csv"},
            "(directory / 'm.csv').write_text('val_loss\\nlow\\n')",
            "m.csv:2: val_loss is 'low', expected a number",
        ),
        (
            {"json": "{directory}/m.json"},
            "(directory / 'm.json').write_text('[{')",
            "m.json: line 1 is not JSON: ",
        ),
        (
            {"json": "{directory}/m.json"},
            "(directory / 'm.json').write_text('[1, 2]')",
            "m.json: got 1, expected an object such as ",
        ),
        (
            {"json": "{directory}/m.json"},
            "(directory / 'm.json').write_text('{\"val_loss\": [1, 2]}')",
            "the command gave 2 epochs, the budget is 3",
        ),
        (
            {"tensorboard": "{directory}/logs"},
            "",
            "the command wrote nothing that task.read.tensor",
        ),
    ],
)
def test_how_a_file_fails(read: dict[str, str], body: str, text: str, tmp_path: Path) -> None:
    assert text in told(script(tmp_path, body, read))["failure"]["text"]


def test_a_resumable_commands_rows_name_their_epoch(tmp_path: Path) -> None:
    body = "(directory / 'm.json').write_text('[{\"val_loss\": 1}]')"
    path = script(tmp_path, body, {"json": "{directory}/m.json"}, resumable=True)
    assert "with resumable: true each row needs epoch" in told(path)["failure"]["text"]


@pytest.mark.parametrize(
    ("read", "text"),
    [
        ({}, "got none, expected one of pattern, json, csv, tensorboard"),
        ({"json": "{directory}/a", "csv": "{directory}/b"}, "got json and csv, expected one of"),
        ({"pattern": "loss {val_los}"}, "metric 'val_los' is unknown; did you mean 'val_loss'?"),
        ({"pattern": "epoch {epoch}"}, "without a metric, expected one such as epoch {epoch} val"),
        ({"pattern": "loss {val_loss"}, "expected '}' before end of string; a brace itself is {{"),
        ({"pattern": "loss val_loss}"}, "single '}' encountered in format string; a brace itself"),
        ({"pattern": "{val_loss} {val_loss}"}, "with {val_loss} twice"),
        ({"pattern": "{val_loss}", "names": {"val_loss": "a"}}, "names go with a file"),
        ({"json": "metrics.json"}, "got 'metrics.json', expected a place of the trial's own"),
        (
            {"csv": "{directory}/{x}.csv"},
            "expected a place of the trial's own, such as {directory}",
        ),
        ({"csv": "{directory}/m.csv", "names": {"loss": "a"}}, "metric 'loss' is unknown; did you"),
        ({"regex": "x"}, "'regex' is unknown"),
    ],
)
def test_what_is_wrong_is_told_at_check(read: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        load_study(script(tmp_path, "", read))
    assert text in str(error.value) and "study.yaml:1:" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_pattern_has_every_metric(tmp_path: Path) -> None:
    path = script(tmp_path, "", PATTERN, metrics=["val_loss", "val_accuracy"])
    with pytest.raises(UserError, match=r"without {val_accuracy}, which task\.metrics lists"):
        load_study(path)


def test_a_command_is_told_where_its_file_is(tmp_path: Path) -> None:
    path = script(tmp_path, "", {"csv": "{directory}/m.csv"}, command="python train.py {x}")
    with pytest.raises(UserError, match=r"read: the command is not told {directory}"):
        load_study(path)


def test_what_is_read_is_recorded_only_where_it_is_given(tmp_path: Path) -> None:
    spec = load_study(script(tmp_path, JSON_LINES, {"json": "{directory}/m.json"}))
    assert spec.record()["task"]["read"] == {"json": "{directory}/m.json"}
    assert spec.from_record(spec.record()).task == spec.task
    assert "read" not in load_study(script(tmp_path, "", None)).record()["task"]


AUDITED = {
    "pattern": (
        {"pattern": "{val_loss} and {error}"},
        "for i in range(3): print(f'{i} and {i / 4}')",
    ),
    "json": (
        {"json": "{directory}/m.json", "names": {"error": "test"}},
        "columns = {'val_loss': [0, 1, 2], 'test': [0, 0.25, 0.5]}\n"
        "(directory / 'm.json').write_text(json.dumps(columns))",
    ),
    "csv": (
        {"csv": "{directory}/m.csv"},
        "rows = ['epoch,val_loss,error', '0,0,', '0,,0', '1,1,.25', '2,2,.5']\n"
        "(directory / 'm.csv').write_text('\\n'.join(rows))",
    ),
}


@pytest.mark.parametrize("kind", AUDITED)
def test_audit_figures_are_kept_apart(kind: str, tmp_path: Path) -> None:
    read, body = AUDITED[kind]
    path = script(tmp_path, body, read, audit=["error"])
    outcome = told(path)
    assert (outcome["metrics"], outcome["audit"]) == ({"val_loss": 2.0}, {"error": 0.5})
    rows = folder.read_curve(tmp_path / "q", 0)
    assert [row["metrics"] for row in rows] == [{"val_loss": i} for i in range(3)]
    assert [row["audit"] for row in rows] == [{"error": i / 4} for i in range(3)]


def test_audit_figures_of_event_files(tmp_path: Path) -> None:
    """A step is an epoch when it has both, in whatever order they come."""
    event_files(tmp_path, [(1, "error", 0.25), (1, "loss", 1.0), (2, "loss", 2.0)])
    trial: Any = SimpleNamespace(directory=tmp_path / "own", start_epoch=0)
    trial.directory.mkdir()
    files = EventFiles(tmp_path, {"val_loss": "loss", "error": "error"})
    found = Written(files, "task.read", (["val_loss"], ["error"]), trial, False)
    files._read.clear()  # as if they had been written since
    assert [*found.looked(True)] == [({"val_loss": 1.0}, {"error": 0.25})]


@pytest.mark.parametrize(
    ("read", "keys", "text"),
    [
        (PATTERN, {"audit": ["error"]}, "without {error}, which task.audit lists"),
        (PATTERN, {"audit": ["val_loss"]}, "'val_loss' is in task.metrics and in task.audit"),
        (FILE, {"audit": ["a"], "metrics": ["a"]}, "'a' is in task.metrics and in task.audit"),
    ],
)
def test_what_is_wrong_with_an_audit(
    read: dict[str, str], keys: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as refused:
        load_study(script(tmp_path, "", read, **keys))
    assert text in str(refused.value)


def event_files(directory: Path, rows: list[tuple[int, str, float]]) -> None:
    """By TensorBoard's own writer: even steps as TensorFlow 1 does, odd ones as 2."""
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(directory))
    for step, tag, value in rows:
        old = summary_pb2.Summary(value=[{"tag": tag, "simple_value": value}])
        summary = scalar_pb(tag, value) if step % 2 else old
        writer.add_event(event_pb2.Event(step=step, summary=summary))
    writer.close()


LOSSES = [(step, "loss/val", 1 / (step + 1)) for step in range(4)]
NAMES = {"val_loss": "loss/val"}


def test_scalars_are_read_as_tensorboard_writes_them(tmp_path: Path) -> None:
    event_files(tmp_path, [*LOSSES, (5, "loss/train", 7.0)])
    files = EventFiles(tmp_path, NAMES)
    files.begin(set())
    assert files.rows(True) == [], "what was there before the program is another attempt's"
    files = EventFiles(tmp_path, NAMES)
    assert [(row.epoch, row.metrics["val_loss"]) for row in files.rows(False)] == [
        (str(step), np.float32(value)) for step, _, value in LOSSES
    ]
    assert files.holds() == "the tags loss/val (4 times), loss/train (1 times)"
    assert len(files.rows(False)) == 4


def test_half_a_record_is_not_read(tmp_path: Path) -> None:
    """At every byte of the last record."""
    event_files(tmp_path / "whole", LOSSES)
    (whole,) = (tmp_path / "whole").iterdir()
    data = whole.read_bytes()
    *_, (_, before), (_, end) = records(data)
    assert end == len(data)
    (tmp_path / "part").mkdir()
    part = tmp_path / "part" / whole.name
    files = EventFiles(tmp_path / "part", NAMES)
    for size in range(before, end):
        part.write_bytes(data[:size])
        assert len(files.rows(False)) == 3
    part.write_bytes(data)
    assert len(files.rows(False)) == 4


def test_a_tag_of_several_folders_needs_its_folder(tmp_path: Path) -> None:
    """As Keras writes them: `train` and `validation` with one tag."""
    for name in ("train", "validation"):
        event_files(tmp_path / name, [(1, "epoch_loss", 0.5 if name == "train" else 0.25)])
    with pytest.raises(ValueError, match=r"name one in task\.read\.names, such as 'validation/ep"):
        EventFiles(tmp_path, {"val_loss": "epoch_loss"}).rows(True)
    rows = EventFiles(tmp_path, {"val_loss": "validation/epoch_loss"}).rows(True)
    assert [row.metrics for row in rows] == [{"val_loss": 0.25}]


def test_damaged_event_files_are_told(tmp_path: Path) -> None:
    data = b"\x2a\x05\x0a\x7fxyz"  # a summary whose value is longer than it
    head = len(data).to_bytes(8, "little") + bytes(4)
    (tmp_path / "events.out.tfevents.1").write_bytes(head + data + bytes(4))
    with pytest.raises(ValueError, match="an event file is damaged"):
        EventFiles(tmp_path, NAMES).rows(True)


@pytest.mark.slow
def test_event_files_are_read_as_tensorboard_writes_them(tmp_path: Path) -> None:
    """`add_scalar` in both styles, beside another tag, text, and steps without the metric."""
    body = """
from torch.utils.tensorboard import SummaryWriter
with SummaryWriter(directory / "logs") as writer:
    writer.add_text("about", "a run")
    for step in range(30):
        writer.add_scalar("loss/train", 0.5, step)
        if step % 10 == 9:
            writer.add_scalar("loss/val", 1 / (step + 1), step, new_style=step > 9)
"""
    read = {"tensorboard": "{directory}/logs", "names": {"val_loss": "loss/val"}}
    path = script(tmp_path, body, read)
    assert told(path)["failure"] is None
    assert curve(path) == pytest.approx([0.1, 0.05, 1 / 30], rel=1e-7)
