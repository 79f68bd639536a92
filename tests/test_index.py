"""The index beside a long ledger: a look by it says what a look at every line says.

And it costs less. The ledgers are those of `tests/before`: of every searcher, with failures,
repeats, and reused trials.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys import study_file

from hpogen.analysis.cautions import turned
from hpogen.errors import UserError
from hpogen.record import index, ledger, stored
from hpogen.record.folder import INDEX
from hpogen.record.ledger import LEDGER
from hpogen.report import matrix
from hpogen.spec import load_study
from hpogen.study import index as by_index
from hpogen.study import read as by_reading
from hpogen.study import status
from hpogen.study.read import Folder
from hpogen.study.standing import commonest, standing
from hpogen.study.study import Study
from hpogen.trial import Failure, Outcome

BEFORE = Path(__file__).parent / "before"
CASES = sorted(str(path.parent.relative_to(BEFORE)) for path in BEFORE.glob(f"**/{LEDGER}"))
CASE = "random/study"
LARGE = 2**40


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short a ledger is, it has an index."""
    monkeypatch.setattr(index, "SMALL", 1)


def copied(case: str, directory: Path) -> list[bytes]:
    """A study's folder, with the whole lines of its ledger, which it gives."""
    shutil.copytree(BEFORE / case, directory, ignore=shutil.ignore_patterns("retrain"))
    lines = (directory / LEDGER).read_bytes().splitlines(keepends=True)
    lines = [line for line in lines if line.endswith(b"\n")]
    (directory / LEDGER).write_bytes(b"".join(lines))
    return lines


def first_told(lines: list[bytes]) -> tuple[int, ledger.Event]:
    events = ((number, ledger.decode(line[:-1], number)) for number, line in enumerate(lines))
    return next(pair for pair in events if pair[1]["kind"] == "told")


def answered(question: Callable[..., Any], *of: Any) -> Any:
    try:
        return question(*of)
    except UserError as error:
        return str(error)


def looked(study: Folder) -> list[Any]:
    """What is seen by who looks at it; the trials last, since that reads them."""
    now = standing(study)
    found = [
        answered(status.status, study),
        answered(status.best, study),
        commonest(study.history),
        [now.infeasible, now.held, {name: r.trial.id for name, r in now.baselines.items()}],
        turned(study),
        study.order,
    ]
    trials = range(len(study.history.records))
    return [*found, *(status.trial(study, trial) for trial in trials)]


def check_same(directory: Path) -> index.Read:
    """A look by the index says the same; how much of the ledger it was of."""
    used = index.read(directory)
    seen = looked(by_index.read(directory))
    assert seen == looked(by_reading.read(directory))
    assert [json.dumps(row) for row in seen[:2]]  # plain data
    return used


@pytest.mark.parametrize("case", CASES)
def test_a_look_says_the_same_with_an_index_after_every_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = copied(case, tmp_path / "run")
    path, begun = tmp_path / "run" / LEDGER, len(lines) // 3 + 1
    path.write_bytes(b"".join(lines[:begun]))
    check_same(tmp_path / "run")
    monkeypatch.setattr(index, "SMALL", LARGE)  # it stays what it is
    used = []
    for number in range(begun, len(lines) + 1):
        path.write_bytes(b"".join(lines[:number]))
        used.append(check_same(tmp_path / "run").length)
    follows = [json.loads(line)["kind"] in index.FOLLOWS for line in lines[begun:]]
    length = len(b"".join(lines[:begun]))
    assert used == [length if all(follows[:i]) else 0 for i in range(len(used))]


@pytest.mark.parametrize("case", CASES)
def test_an_index_that_is_brought_up_to_date_is_one_made_anew(case: str, tmp_path: Path) -> None:
    lines = copied(case, tmp_path / "run")
    path, there = tmp_path / "run" / LEDGER, tmp_path / "run" / INDEX
    for number in range(len(lines) // 2, len(lines) + 1):
        path.write_bytes(b"".join(lines[:number]))
        by_index.read(tmp_path / "run")
    grown = there.read_bytes()
    there.unlink()
    by_index.read(tmp_path / "run")
    assert there.read_bytes() == grown
    assert check_same(tmp_path / "run").length == path.stat().st_size


def test_a_matrix_is_looked_at_by_the_indices_of_its_studies(tmp_path: Path) -> None:
    for number, case in enumerate(CASES):
        copied(case, tmp_path / f"{number:02}")
    read_all = by_reading.read_all
    expected = matrix.status("m", read_all([tmp_path]))
    page = matrix.status_page("m", read_all([tmp_path]), 120, "hpogen")
    for _ in range(2):  # the first look makes the indices
        assert matrix.status("m", read_all([tmp_path], by_index.read)) == expected
        assert matrix.status_page("m", read_all([tmp_path], by_index.read), 120, "hpogen") == page
    assert len([*tmp_path.glob(f"*/{INDEX}")]) == len(CASES)


def test_a_damaged_index_is_passed_over_and_replaced(tmp_path: Path) -> None:
    copied("failures/study", tmp_path / "run")
    by_index.read(tmp_path / "run")
    there = tmp_path / "run" / INDEX
    whole = there.read_bytes()
    for at in range(0, len(whole), 97):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            there.write_bytes(damaged)
            assert index.read(tmp_path / "run").length == 0
    check_same(tmp_path / "run")
    assert there.read_bytes() == whole


def test_an_index_of_another_ledger_or_hpogen_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = copied(CASE, tmp_path / "run")
    path = tmp_path / "run" / LEDGER
    by_index.read(tmp_path / "run")
    assert index.read(tmp_path / "run").length == path.stat().st_size
    number, told = first_told(lines)
    other = ledger.encode({**told, "seconds": {"total": 1.0}}, number)
    path.write_bytes(b"".join([*lines[:number], other, *lines[number + 1 :]]))
    assert index.read(tmp_path / "run").length == 0
    path.write_bytes(b"".join(lines[:-1]))
    assert index.read(tmp_path / "run").length == 0
    path.write_bytes(b"".join(lines))
    assert index.read(tmp_path / "run").length == path.stat().st_size
    monkeypatch.setattr(index, "version", lambda _: "0.0.1")
    assert index.read(tmp_path / "run").length == 0


def test_damage_inside_is_told_although_there_is_an_index(tmp_path: Path) -> None:
    copied(CASE, tmp_path / "run")
    by_index.read(tmp_path / "run")
    path = tmp_path / "run" / LEDGER
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"kind":"told"', b'"kind":"tola"', 1))
    with pytest.raises(UserError, match="this line is damaged"):
        by_index.read(tmp_path / "run")


def test_lines_that_hpogen_does_not_write_so_have_no_index(tmp_path: Path) -> None:
    lines = copied(CASE, tmp_path / "run")
    path, there = tmp_path / "run" / LEDGER, tmp_path / "run" / INDEX
    number, told = first_told(lines)
    swapped = ledger.encode({"trial": told.pop("trial"), **told}, number)
    path.write_bytes(b"".join([*lines[:number], swapped, *lines[number + 1 :]]))
    assert looked(by_index.read(tmp_path / "run")) == looked(by_reading.read(tmp_path / "run"))
    assert not there.exists()


def test_where_no_index_can_be_written_the_answer_is_there(tmp_path: Path) -> None:
    copied(CASE, tmp_path / "run")
    (tmp_path / "run" / INDEX).mkdir()
    check_same(tmp_path / "run")
    assert [*tmp_path.glob("run/.*.tmp")] == []


def test_a_torn_line_behind_an_index_is_left_out(tmp_path: Path) -> None:
    lines = copied(CASE, tmp_path / "run")
    path = tmp_path / "run" / LEDGER
    path.write_bytes(b"".join(lines[:4]))
    by_index.read(tmp_path / "run")
    path.write_bytes(b"".join(lines[:5]) + lines[5][:40])
    assert check_same(tmp_path / "run").length == len(b"".join(lines[:4]))
    assert check_same(tmp_path / "run").length == len(b"".join(lines[:5]))


def test_a_short_ledger_has_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    copied(CASE, tmp_path / "run")
    check_same(tmp_path / "run")
    assert not (tmp_path / "run" / INDEX).exists()


def grown(study: Study, trials: int) -> None:
    for _ in range(trials):
        trial = study.next()
        assert trial is not None
        if trial.id % 7 == 3:
            study.record(Outcome(trial.id, {}, failure=Failure("error", f"trial {trial.id}")))
        else:
            loss = abs(trial.config["x"] - 0.3)  # type: ignore[operator]
            study.record(Outcome(trial.id, {"val_loss": loss}, epochs=1))


def test_a_look_decodes_no_more_of_a_longer_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it says the same beside the study that writes, trial by trial."""
    decoded = list[bytes]()
    line, own = ledger.decode, stored._event
    monkeypatch.setattr(ledger, "decode", lambda x, seq: (decoded.append(x), line(x, seq))[1])
    monkeypatch.setattr(stored, "_event", lambda x: (decoded.append(x), own(x))[1])
    spec = load_study(
        study_file(tmp_path, stop={"trials": 5000}, task={"name": "bowl", "epochs": 1})
    )
    costs = []
    with Study(spec, tmp_path / "run") as study:
        for trials in (200, 1800):
            grown(study, trials)
            by_index.read(tmp_path / "run")  # brings the index up to date
            decoded.clear()
            seen = by_index.read(tmp_path / "run")
            status.status(seen), status.best(seen), status.trial(seen, 100)
            costs.append(len(decoded))
            grown(study, 1)
            check_same(tmp_path / "run")
    assert costs[0] == costs[1] < 20


def driven(tmp_path: Path, trials: int) -> Path:
    """A study that was closed behind some of its trials."""
    spec = load_study(
        study_file(tmp_path, stop={"trials": 5000}, task={"name": "bowl", "epochs": 1})
    )
    with Study(spec, tmp_path / "run") as study:
        grown(study, trials)
    return tmp_path / "run"


def test_a_study_that_is_closed_leaves_an_index_of_all_of_it(tmp_path: Path) -> None:
    for trials in (50, 30):  # it is resumed, with the first one's index
        path = driven(tmp_path, trials)
        kept = (path / INDEX).read_bytes()
        assert check_same(path).length == (path / LEDGER).stat().st_size
        (path / INDEX).unlink()
        by_index.read(path)
        assert (path / INDEX).read_bytes() == kept


def test_a_study_in_which_nothing_came_leaves_its_index_as_it_is(tmp_path: Path) -> None:
    path = driven(tmp_path, 20)
    before = (path / INDEX).stat()
    driven(tmp_path, 0)
    assert (path / INDEX).stat() == before
    with Study(load_study(tmp_path / "study.yaml"), path) as study:
        study.add_metrics(0, {"more": 1.0})  # such a line changes what an index tells
    assert check_same(path).length == (path / LEDGER).stat().st_size


def test_what_is_no_longer_the_ledger_of_a_study_gets_no_index_of_it(tmp_path: Path) -> None:
    spec = load_study(study_file(tmp_path))
    for change in ("rename", "replace", "append"):
        path = tmp_path / change
        study = Study(spec, path)
        grown(study, 5)
        if change == "rename":
            path.rename(tmp_path / "moved")
        elif change == "replace":
            with Study(spec, tmp_path / "other") as other:
                grown(other, 5)
            (tmp_path / "other" / INDEX).unlink()
            path.rename(tmp_path / "replaced")
            (tmp_path / "other").rename(path)
        else:
            with open(path / LEDGER, "ab") as file:
                file.write(b"more\n")
        study.close()
        study.close()
        assert not (path / INDEX).exists()


def test_a_forked_process_leaves_no_index(tmp_path: Path) -> None:
    study = Study(load_study(study_file(tmp_path)), tmp_path / "run")
    grown(study, 5)
    if (child := os.fork()) == 0:
        study.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert not (tmp_path / "run" / INDEX).exists()
    study.close()
    assert check_same(tmp_path / "run").length > 0


def test_a_torn_line_is_not_of_the_index_that_a_closed_study_leaves(tmp_path: Path) -> None:
    path = driven(tmp_path, 20)
    whole = (path / LEDGER).stat().st_size
    (path / INDEX).unlink()
    with open(path / LEDGER, "ab") as file:
        file.write(b'{"kind":"asked"')
    with Study(load_study(tmp_path / "study.yaml"), path):
        pass
    assert check_same(path).length == whole
