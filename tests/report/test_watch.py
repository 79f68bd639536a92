"""The live page's server: a study that runs while it is followed, what becomes of its folder, and
whom it answers. `test_watch_browser.py` has the page itself."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from analysis.searches import Made, matrix, search
from report.reported import whole
from toys import study_file

from hpogen.errors import UserError
from hpogen.record import folder, ledger
from hpogen.record.events import asked, told
from hpogen.record.ledger import LEDGER
from hpogen.record.tail import CurveTail, LedgerTail
from hpogen.report import live
from hpogen.report.watch import followed, server, view
from hpogen.report.watch.followed import Followed
from hpogen.report.watch.server import ADDRESS, Server, Site
from hpogen.study import status
from hpogen.study.read import read, read_all
from hpogen.trial import Outcome, Progress, Trial


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the pauses between two looks."""
    monkeypatch.setattr(followed, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(followed, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(server, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(live, "PACE_SECONDS", 0.2)


@contextmanager
def serving(directory: Path) -> Iterator[int]:
    """The port at which a folder is shown."""
    with Server((ADDRESS, 0), Site(directory)) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield running.server_address[1]
        finally:
            running.shutdown()
            thread.join()


def ask(
    port: int, path: str, method: str = "GET", **headers: str
) -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(), answer.headers
    connection.close()
    return found


def append(directory: Path, *events: dict[str, Any]) -> None:
    """Add lines to a ledger, as its driver does."""
    path = directory / LEDGER
    seq = path.read_bytes().count(b"\n")
    with open(path, "ab") as file:
        for number, event in enumerate(events, seq):
            file.write(ledger.encode(event, number))


def one_more(number: int, loss: float) -> list[dict[str, Any]]:
    """A trial that is asked and told."""
    trial = Trial({"lr": 0.02, "momentum": 0.5}, 4, id=number, seed=0)
    return [asked(trial), told(Outcome(number, {"val_loss": loss}, epochs=4), loss)]


def listing(directory: Path) -> list[tuple[str, int, int]]:
    stats = ((path, path.stat()) for path in sorted(directory.rglob("*")))
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


def messages(port: int, path: str = "/events") -> Iterator[dict[str, Any]]:
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    try:
        for line in answer:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))
    finally:
        connection.close()


def test_a_study_that_runs_is_followed_to_its_end(tmp_path: Path) -> None:
    path = study_file(tmp_path, task={"name": "bowl", "epochs": 3, "pause": 0.05, "mood": "nan"})
    home = tmp_path / "q"
    words = [sys.executable, "-m", "hpogen", "run", str(path), "--dir", str(home)]
    run = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while not (home / LEDGER).exists() or not (home / LEDGER).stat().st_size:
        assert run.poll() is None
    trials, states, curves = [], [], set()
    with serving(home) as port:
        for message in messages(port):
            assert ("head" in message) == (not states)
            trials += message.get("told", {}).get("trial", [])
            if state := message.get("state"):
                states.append(state)
                curves |= {(one["trial"], len(one["points"])) for one in state["running"]}
            if states[-1]["state"] == "finished" and len(trials) == 12:
                break
    assert run.wait() == 0
    study = read(home)
    assert trials == study.order
    assert states[0]["state"] == "running" and str(run.pid) in states[0]["process"]
    assert len({trial for trial, points in curves if points}) > 5  # were seen while they ran
    assert states[-1]["best"]["trial"] == status.best(study)["trial"]
    failed = states[-1]["failures"][0]
    assert failed["title"] == f"{status.status(study)['failed']['diverged']} trials diverged"
    assert any(state["left"].endswith(" s left") for state in states)
    assert states[-1]["left"] == ""


def test_the_page_says_what_status_says(tmp_path: Path) -> None:
    home = whole(tmp_path / "m")
    study, said = Followed(home), status.status(read(home))
    shown = view.state(study)
    assert shown["state"] == said["state"] == "finished"
    assert shown["trials"] == f"{said['told']} of {said['stop']['trials']}"
    assert shown["epochs"] == str(said["epochs_charged"])
    assert shown["best"]["trial"] == said["best"]["trial"]
    assert shown["best"]["points"] == [(e, 2.1 / e) for e in range(1, 5)]
    assert [row["trial"] for row in shown["latest"]] == [*range(15, -1, -1)]
    columns = view.Told().since(study, 0)
    assert columns["score"][2] is None and columns["whole"][2] == 0
    lr = study.spec.space.parameters["lr"]
    logarithmic = [round(1000 * lr.encode(r.trial.config["lr"])[0]) for r in study.history.records]
    assert columns["heights"][0] == logarithmic


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    home = search(tmp_path / "s", [Made()] * 5, ended=False)
    tail = LedgerTail(home)
    before, events = tail.read_on()
    assert (before, len(events)) == (0, 11)
    data = bytearray((home / LEDGER).read_bytes())
    data[len(data) // 2] ^= 1  # whoever read it again would complain
    (home / LEDGER).write_bytes(data)
    append(home, *one_more(5, 0.1))
    before, events = tail.read_on()
    assert before == 11 and [event["kind"] for event in events] == ["asked", "told"]
    assert tail.read_on() == (13, [])


def test_a_torn_line_waits_until_it_is_whole(tmp_path: Path) -> None:
    home = search(tmp_path / "s", [Made()] * 3, ended=False)
    study = Followed(home)
    line = ledger.encode(one_more(3, 0.1)[0], 7)
    with open(home / LEDGER, "ab") as file:
        file.write(line[:20])
        file.flush()
        study.look()
        assert (len(study.history.records), study.problem) == (3, "")
        file.write(line[20:])
    study.look()
    assert (len(study.history.records), study.problem, study.starts) == (4, "", 1)


def test_damage_is_one_line_and_what_was_read_stays(tmp_path: Path) -> None:
    home = search(tmp_path / "s", [Made()] * 3, ended=False)
    study = Followed(home)
    with open(home / LEDGER, "ab") as file:
        file.write(b"{}\n{}\n")
    study.look()
    assert f"{LEDGER}:8: this line is damaged" in study.problem
    assert view.state(study)["trials"].startswith("3 of")


def test_a_study_begun_anew_in_the_folder_is_shown_from_its_first_line(tmp_path: Path) -> None:
    home = search(tmp_path / "s", [Made(), Made(0.1)])
    site = Site(home)
    events = site.events(site.find(None) or "matrix")
    first = next(events)
    assert first and first["told"]["trial"] == [0, 1]
    search(home, [Made(0.3)] * 7, seed=1)
    anew = next(events)
    assert anew and anew["head"]["name"] == "s" and anew["told"]["trial"] == [*range(7)]
    assert next(events) is None


def test_a_folder_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    home = search(tmp_path / "s", [Made()] * 3, ended=False)
    study = Followed(home)
    home.rename(tmp_path / "away")
    study.look()
    assert study.problem == f"{home}: there is no study here (no {LEDGER})"
    assert view.state(study)["trials"].startswith("3 of")
    (tmp_path / "away").rename(home)
    append(home, *one_more(3, 0.1))
    study.look()
    assert (study.problem, len(study.order)) == ("", 4)


def test_a_curve_is_read_on_as_a_reader_has_it(tmp_path: Path) -> None:
    home = whole(tmp_path / "m", n=4)
    tail = CurveTail(home, 1, "")
    assert tail.rows() == folder.read_curve(home, 1)
    path = folder.curve_path(home, 1)
    with open(path, "ab") as file:
        file.write(b'{"epoch": 5, "met')
    assert len(tail.rows()) == 4
    folder.append_curve(home, Progress(1, 4, {"val_loss": 9.0}))  # once more, on a line of its own
    assert tail.rows() == folder.read_curve(home, 1)
    assert tail.rows()[-1]["metrics"] == {"val_loss": 9.0}
    path.unlink()
    assert tail.rows() == []


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8700", "127.0.0.1.evil.example", ""]
)
@pytest.mark.parametrize("path", ["/", "/events", "/watch.js", "/log/0"])
def test_a_foreign_name_is_refused(home: Path, host: str, path: str) -> None:
    with serving(home) as port:
        assert ask(port, path, Host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8700"])
def test_the_names_of_this_machine_are_not(home: Path, host: str) -> None:
    with serving(home) as port:
        assert ask(port, "/", Host=host)[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_nothing_but_get_is_answered(home: Path, method: str) -> None:
    with serving(home) as port:
        assert ask(port, "/", method)[0] == 405


@pytest.mark.parametrize(
    "path",
    [
        "/../ledger.jsonl",
        "/ledger.jsonl",
        "/%2e%2e/ledger.jsonl",
        "/..%2fledger.jsonl",
        "//etc/passwd",
        "/server.py",
        "/study/../",
        "/study/%2e%2e/",
        "/study/m/",
        "/log/../ledger.jsonl",
        "/log/-1",
        "/log/16",
        "/log/0/",
        "/watch.html/..",
    ],
)
def test_no_file_is_had_by_its_name(home: Path, path: str) -> None:
    with serving(home) as port:
        assert ask(port, path)[0] == 404


def test_no_other_page_may_read_it_and_it_asks_for_nothing_elsewhere(home: Path) -> None:
    with serving(home) as port:
        for path in ("/", "/watch.css", "/watch.js", "/watch.svg", "/log/0", "/none"):
            _, text, headers = ask(port, path, Origin="http://evil.example")
            assert headers["Content-Security-Policy"].startswith("default-src 'self';")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert not [name for name in headers if name.lower().startswith("access-control")]
            assert "https://" not in text


def test_the_end_of_a_log(home: Path) -> None:
    folder.log_path(home, 2).write_bytes(b"first\n" + b"x" * 70_000 + b"\xff\nlast\n")
    with serving(home) as port:
        status, text, headers = ask(port, "/log/2")
        assert (status, headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
        assert text.endswith("x\N{REPLACEMENT CHARACTER}\nlast\n") and "first" not in text
        assert len(text) == 64 * 1024
        assert ask(port, "/log/3")[:2] == (200, "this trial has printed nothing\n")


def test_nothing_is_written(home: Path) -> None:
    before = listing(home)
    with serving(home) as port:
        stream = messages(port)
        next(stream)
        ask(port, "/")
        ask(port, "/log/1")
        stream.close()  # type: ignore[attr-defined]
    assert listing(home) == before


def test_a_matrix_has_a_page_for_each_of_its_studies(tmp_path: Path) -> None:
    home = matrix(tmp_path / "all", seeds=2)
    with serving(home) as port:
        shown = next(messages(port))["matrix"]
        names = [row["name"] for row in shown["studies"]]
        assert names == sorted(study.directory.name for study in read_all([home]))
        assert shown["title"] == "4 of 4 studies finished"
        for name in names:
            assert ask(port, f"/study/{name}/")[0] == 200
            head = next(messages(port, f"/study/{name}/events"))["head"]
            assert (head["name"], head["matrix"]) == (name, True)
            assert ask(port, f"/study/{name}/log/0")[0] == 200
        assert [ask(port, path)[0] for path in ("/log/0", "/study/none/")] == [404, 404]


def test_a_study_that_a_matrix_begins_later_is_shown(tmp_path: Path) -> None:
    home = matrix(tmp_path / "all", seeds=1)
    site = Site(home)
    events = site.events("matrix")
    assert len((next(events) or {})["matrix"]["studies"]) == 2
    search(home / "late", [Made()] * 2)
    assert len((next(events) or {})["matrix"]["studies"]) == 3
    assert next(events) is None
    shutil.rmtree(home / "late")
    gone = (next(events) or {})["matrix"]["studies"][-1]
    assert "there is no study here" in gone["problem"]


def command(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hpogen", "watch", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def test_control_c_ends_it_as_it_ends_every_command(home: Path) -> None:
    with command(home, "--port", 0) as running:
        assert running.stdout and running.stderr
        url = running.stdout.readline().split()[0]
        port = int(url.removesuffix("/").rpartition(":")[2])
        stream = messages(port)
        next(stream)  # a browser that looks on does not hold it
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130
        assert running.stderr.read() == "interrupted\n"


def test_a_port_that_is_taken(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((ADDRESS, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"--port: {port} cannot be used .*: name another"):
            server.watch(home, port, print)
        with pytest.raises(UserError, match="--port: 70000 cannot be used"):
            server.watch(home, 70000, print)
        monkeypatch.setattr(server, "PORT", port)
        with server._server(None, Site(home)) as free:
            assert free.server_address[1] != port


def test_where_there_is_no_study(tmp_path: Path) -> None:
    with command(tmp_path) as running:
        assert running.stderr
        assert running.wait(60) == 2
        assert running.stderr.read() == f"{tmp_path}: there is no study here (no {LEDGER})\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A study of sixteen trials, one of which failed."""
    return whole(tmp_path / "m")
