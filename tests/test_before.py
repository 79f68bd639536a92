"""Studies that an earlier hpogen left, interrupted, are read and gone on with as they were then.

`tests/before/make.py` made them, and says what stands in their folders. Of hpogen, only what is
documented is used here: the commands, and what a ledger's lines look like.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from toys import essence

from hpogen.cli import main

BEFORE = Path(__file__).parent / "before"
CASES = sorted(path.parent.name for path in BEFORE.glob("*/said.json"))
ENDS = ("state", "trials", "told", "failed", "duplicates", "epochs_charged")
Event = dict[str, Any]


def call(*arguments: str) -> tuple[int, str, str]:
    """A command in this process: its exit code, what it printed, and its errors."""
    sys.argv = ["hpogen", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), out.getvalue(), err.getvalue()
    raise AssertionError("it does not end")


def called(*arguments: str) -> str:
    """What a command printed that went well."""
    code, out, err = call(*arguments)
    assert code == 0, err
    return out


def first(directory: str) -> str:
    """The study, or the first one of a matrix."""
    return str(min(Path(directory).glob("**/ledger.jsonl"), key=lambda p: (len(p.parts), p)).parent)


def said(directory: str) -> dict[str, Any]:
    """What the commands say of a study or a matrix, as data; of one study, `compare` has little."""
    one = first(directory)
    compared = answer("compare", directory, "--json")
    return {
        "status": answer("status", directory, "--json"),
        "compare": compared["verdict"] if one == directory else compared,
        "best": answer("best", one, "--json"),
        "show": answer("show", one, "2", "--json"),
    }


def answer(*arguments: str) -> Any:
    """The JSON that a command printed, or what it said was wrong."""
    code, out, err = call(*arguments)
    return json.loads(out) if code == 0 else [code, err]


def end(directory: str) -> dict[str, Any]:
    """How a finished study ended."""
    studies = answer("status", directory, "--json")
    counts = [{k: s[k] for k in ENDS} for s in studies.get("studies", [studies])]
    return {"counts": counts, "best": answer("best", first(directory), "--json")}


def within(case: str) -> float:
    """How far numbers may be from the recorded ones: other processors train networks otherwise."""
    return 1e-3 if case in ("digits", "matrix") else 1e-9


def key(event: Event) -> tuple[str, int]:
    """What a line is about: there is one of that kind for each trial, or each budget."""
    return event["kind"], event.get("trial", event.get("budget", 0))


def same(found: Any, expected: Any, near: float = 1e-9) -> bool:
    """Whether what was said is said again, but for the last digits; keys may have been added."""
    if isinstance(expected, dict):
        return found.keys() >= expected.keys() and all(
            same(found[name], value, near) for name, value in expected.items()
        )
    if isinstance(expected, list):
        pairs = zip(found, expected, strict=True)
        return len(found) == len(expected) and all(same(a, b, near) for a, b in pairs)
    if isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=near, abs_tol=near)
    return bool(found == expected)


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)  # `call` sets it


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of a case, whose folder is the one that the test is in."""
    return copied(request.param)


def copied(name: str) -> str:
    """Copy a case's folder to the one that the test is in; its name."""
    shutil.copytree(BEFORE / name, ".", dirs_exist_ok=True)
    if '"toy.py"' in ledger("study"):
        Path("study/plugins").mkdir()
        shutil.copy(BEFORE / "toy.py", "study/plugins")
    return name


def ledger(directory: str) -> str:
    """The first ledger there."""
    return Path(first(directory), "ledger.jsonl").read_text()


def stored(case: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path("said.json").read_text())
    return found


def added(path: Path, before: bytes) -> list[Event]:
    """The events that have been appended to a ledger, whose whole lines are as they were."""
    whole = before[: before.rindex(b"\n") + 1]
    now = path.read_bytes()
    assert now.startswith(whole)
    return essence([json.loads(line) for line in now[len(whole) :].splitlines()])


def expected(study: str) -> dict[tuple[str, int], Event]:
    """What the undisturbed study went on with."""
    lines = map(json.loads, Path("rest.jsonl").read_text().splitlines())
    return {key(event): event for event in lines if event.pop("study") == study}


def comparable(event: Event, other: Event, trained: bool) -> Event:
    """Without what may differ: the code; a seed where the last digits of its configuration do.

    In a matrix, what is trained by other code is not shared.
    """
    left_out = {"code"} | ({"epochs"} if trained else set())
    if event.get("config") != other.get("config"):
        left_out.add("seed")
    return {name: value for name, value in event.items() if name not in left_out}


def check_added(case: str, before: dict[Path, bytes]) -> None:
    for path, content in before.items():
        study = str(path.parent.relative_to("study"))
        new = {key(e): e for e in added(path, content) if e["kind"] != "reused"}
        right = expected(study)
        assert new.keys() == right.keys()
        for name, event in right.items():
            mine, its = (comparable(e, new[name], case == "matrix") for e in (new[name], event))
            assert same(mine, its, within(case)), name


@pytest.mark.parametrize("how", [("resume", "study"), ("run", "study.yaml", "--dir", "study")])
def test_it_ends_as_if_it_had_not_been_interrupted(case: str, how: tuple[str, ...]) -> None:
    paths = [p for p in Path("study").rglob("ledger.jsonl") if "retrain" not in p.parts]
    before = {path: path.read_bytes() for path in paths}
    called(*how)
    check_added(case, before)
    ended, right = end("study"), stored(case)["end"]
    ended["best"]["metrics"].pop("param_norm", None)  # was measured in the interrupted study alone
    assert same(ended, right, within(case))
    assert not [*Path().rglob("earlier-*")]


def test_the_commands_say_what_they_said(case: str) -> None:
    """Nothing is written by that."""
    before = contents("study")
    found, right = said("study"), stored(case)
    for command, answered in found.items():
        assert same(answered, right[command]), command
    assert contents("study") == before


def contents(directory: str) -> dict[str, bytes]:
    files = (path for path in Path(directory).rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files if "__pycache__" not in path.parts}


def test_the_pages_are_printed(case: str) -> None:
    right = stored(case)
    assert ("study" if case == "matrix" else case) in called("status", "study")
    assert called("show", first("study"), "0").startswith("trial 0: ")
    if isinstance(right["best"], dict):  # there is an answer
        assert f"trial: {right['best']['trial']}\n" in called("best", first("study"))
    verdict = right["compare"] if isinstance(right["compare"], str) else right["compare"]["verdict"]
    assert " ".join(verdict.split()) in " ".join(called("compare", "study").split())


@pytest.mark.parametrize("name", ["random", "hyperband", "digits", "matrix"])
def test_a_report_is_written(name: str) -> None:
    copied(name)
    called("report", "study", "--out", "report.html")
    assert "What was chosen" in Path("report.html").read_text()


@pytest.mark.parametrize("name", ["fork", "matrix"])
def test_all_trials_are_exported(name: str) -> None:
    copied(name)
    called("export", "study", "--to", "trials.csv")
    lines = [path.read_text().count('"asked"') for path in Path("study").rglob("ledger.jsonl")]
    with open("trials.csv", newline="") as file:
        assert len([*csv.reader(file)]) == sum(lines) + 1


@pytest.mark.parametrize(("name", "reused"), [("failures", 1), ("repeats", 5), ("random", 1)])
def test_it_is_forked(name: str, reused: int) -> None:
    """Outcomes are taken over as they are, and the fork goes on to its own end."""
    copied(name)
    assert f" {reused} outcome" in called("fork", "study", "study.yaml", "--dir", "new")
    called("resume", "new")
    assert end("new")["counts"][0]["state"] == "finished"
    old, new = outcomes("study"), outcomes("new")
    taken = {e["trial"]: e["of"] for e in events_of("new") if e["kind"] == "reused"}
    assert len(taken) == reused
    assert [new[trial] for trial in taken] == [old[of] for of in taken.values()]


def outcomes(directory: str) -> dict[int, tuple[Any, Any]]:
    """The metrics of each trial that has ended, and how it failed."""
    ended = (event for event in events_of(directory) if event["kind"] in ("held", "told"))
    return {event["trial"]: (event["metrics"], event["failure"]) for event in ended}


def test_a_torn_tail_is_cut_off_and_kept() -> None:
    copied("random")
    tail = Path("study/ledger.jsonl").read_bytes().rpartition(b"\n")[2]
    assert tail
    called("resume", "study")
    assert Path("study/ledger.torn").read_bytes() == tail + b"\n"


def test_retraining_goes_on() -> None:
    copied("digits")
    path = Path("study/retrain/baseline-default/ledger.jsonl")
    before = path.read_bytes()
    called("retrain", "study", "--seeds", "2")
    events = added(path, before)
    assert [key(event) for event in events] == [("asked", 1), ("told", 1)]
    assert events[1]["failure"] is None and events[1]["audit"].keys() == {"loss", "accuracy"}


def test_more_is_measured_on_weights_that_were_kept() -> None:
    copied("digits")
    before = Path("study/ledger.jsonl").read_bytes()
    assert called("measure", "study", "--add", "param_norm") == ""  # it has been
    called("measure", "study", "--add", "osgr_head")
    (event,) = added(Path("study/ledger.jsonl"), before)
    assert key(event) == ("measured", 0) and [*event["metrics"]] == ["osgr_head"]


def signed(events: list[Event]) -> bytes:
    """A ledger of these events, as `docs/ledger.md` describes it."""
    lines = []
    for seq, event in enumerate(events):
        body = json.dumps({**event, "seq": seq}, separators=(",", ":"))[:-1]
        lines.append(f'{body},"crc":"{zlib.crc32(body.encode()):08x}"}}\n')
    return "".join(lines).encode()


ODD = [
    {"kind": "pruned", "trial": 0},
    {"kind": "lost", "trial": "0", "text": "gone"},
    {"kind": "lost", "trial": 99, "text": "gone"},
    {"kind": "measured", "trial": 0, "metrics": {"zeta": "large"}},
]


def test_the_lines_are_as_they_are_documented() -> None:
    copied("grid")
    assert signed(events_of("study")) == Path("study/ledger.jsonl").read_bytes()


def events_of(directory: str) -> list[Event]:
    lines = ledger(directory).splitlines(keepends=True)
    events = [json.loads(line) for line in lines if line.endswith("\n")]
    return [{k: x for k, x in event.items() if k not in ("seq", "crc")} for event in events]


@pytest.mark.parametrize("odd", ODD, ids=lambda event: str(event["trial"]))
@pytest.mark.parametrize("command", ["status", "resume", "compare"])
def test_an_odd_line_is_named(odd: Event, command: str) -> None:
    copied("grid")
    events = events_of("study")
    Path("study/ledger.jsonl").write_bytes(signed([*events[:3], odd, *events[3:]]))
    before = contents("study")
    code, _, err = call(command, "study")
    assert code == 2 and err.count("\n") == 1
    assert err.startswith("study/ledger.jsonl:4: ")
    assert {name: x for name, x in contents("study").items() if name in before} == before


def test_a_study_of_optuna_4_says_which_version_it_was_begun_with(tmp_path: Path) -> None:
    """Optuna 5 has other defaults of TPE; 4.9 itself wrote this ledger, and 5 can be forked to."""
    shutil.copytree(BEFORE / "optuna4" / "study", tmp_path / "q")
    assert "trials 8 / 8" in called("status", str(tmp_path / "q"))
    code, out, err = call("resume", str(tmp_path / "q"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.search(r"the searcher proposes x = .* for trial 3, the ledger has ", err)
    assert re.search(r": it was begun with optuna 4\.9\.0.*, here is 5\.", err)
    assert re.search(r": pip install optuna==4\.9\.0.*, or begin another .* hpogen fork$", err)
