"""The page of `hpogen report`: what stands in it, that it is safe and whole, and when it is not."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import tempfile
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from analysis.searches import Made, search
from markupsafe import escape
from report.reported import LOG, Page, made, rungs, whole
from toys import study_file, typed

from hpogen.errors import UserError
from hpogen.record import history, ledger
from hpogen.record.events import asked
from hpogen.report.html import trials as rows
from hpogen.report.html.blocks import light
from hpogen.report.html.drawing import NAMES, picture
from hpogen.report.html.files import slug, write_figures
from hpogen.report.html.page import write_report
from hpogen.report.text import configuration
from hpogen.report.text import number as number_
from hpogen.running.runner import run
from hpogen.spec import load_study
from hpogen.study.open import open_study
from hpogen.trial import Failure, Trial

EVERYTHING = {
    "sureness",
    *("cards", "anytime", "scores", "measures", "gap", "alpha", "labels", "curves", "time"),
    *("space", "parallel", "rungs", "trials", "again"),
}


def report(directories: list[Path], primary: str | None = None) -> str:
    """What the page holds."""
    with tempfile.TemporaryDirectory() as folder:
        return write_report(directories, Path(folder, "r.html"), primary).read_text()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms with two search seeds each."""
    home = tmp_path_factory.mktemp("matrix") / "m"
    for seed in (0, 1):
        whole(home / f"agn__seed-{seed}", seed)
        whole(home / f"val__seed-{seed}", seed, objective="val")
    return home


@pytest.fixture(scope="module")
def text(home: Path) -> str:
    return report([home])


def sections(page: Page) -> set[str]:
    ids = (attributes.get("id") or "" for tag, attributes in page.tags if tag == "section")
    return {re.sub(r"^t\d+-", "", name) for name in ids} - {"missing"}


def test_every_picture_is_there_or_said_to_be_missing(text: str) -> None:
    page = Page(text)
    assert sections(page) == EVERYTHING - {"rungs"}
    assert "Who was promoted: one budget, no rungs" in " ".join(page.text.split())


def test_a_table_of_objectives_by_searchers(tmp_path: Path) -> None:
    for searcher in ("random", "cmaes"):
        for objective in ("val", "train"):
            name = f"{searcher}__{objective}__seed-0"
            whole(tmp_path / name, n=4, searcher={"name": searcher}, objective=objective)
    page = Page(report([tmp_path]))
    assert "crossed" in sections(page)
    rows = [row for row in page.rows if row[0] in ("objective", "val", "train")]
    assert sorted(rows[0][1:]) == ["cmaes", "random"]
    assert all(cell.endswith(" % (n 1)") for row in rows[1:] for cell in row[1:])
    assert len(rows) == 3


def test_every_point_says_its_trial(home: Path, text: str) -> None:
    page = Page(text)
    keys = [*page.attributes("data-p")]
    texts = json.loads(next(page.attributes("data-points")))
    assert set(keys) == set(texts) and len(texts) == 60  # all that did not fail
    for path in home.iterdir():
        arm, _, seed = path.name.partition("__seed-")
        number = ["agn", "val"].index(arm)
        for record in history.read(path).records:
            if record.failure is None:
                assert texts[f"0.{number}.{seed}.{record.trial.id}"] == (
                    f"trial {record.trial.id} of {arm}, search seed {seed}\n"
                    f"{configuration(record.trial.config)}\nscore {number_(record.score)}"
                )
    # the scores of two arms, two slices of each, and the gap of one measure and the loss
    assert len(keys) >= 60 + 2 * 60 + 2 * 28


def test_a_point_is_where_its_trial_is(tmp_path: Path) -> None:
    study = whole(tmp_path / "one")
    svg = next(
        s for s in re.findall(r"<svg.*?</svg>", report([study]), re.DOTALL) if "score ag" in s
    )
    marks = dict(re.findall(r'<use data-p="0\.0\.0\.(\d+)"[^>]* x="([\d.]+)"', svg))
    scores = {r.trial.id: r.score for r in history.read(study).records if r.failure is None}
    told = [float(marks[str(i)]) for i in sorted(scores, key=lambda i: val_score(study, i))]
    assert len(told) == len(scores) == 15 and told == sorted(told)


def val_score(study: Path, trial: int) -> float:
    """By the objective of `LOG`, whose epochs are four."""
    outcome = history.read(study).records[trial].outcome
    assert outcome is not None
    return outcome.metrics["val_loss"] + 0.05 * math.log(outcome.metrics["agn"] / 4)


def test_rungs_are_drawn_where_there_are_several_budgets(tmp_path: Path) -> None:
    page = Page(report([rungs(tmp_path / "asha")]))
    assert "rungs" in sections(page)
    assert "8 configurations, 4 of them promoted" in page.text


def test_the_page_needs_no_other_file_and_no_network(text: str) -> None:
    page = Page(text)
    for link in page.attributes("href", "src", "xlink:href", "action", "srcset"):
        assert link.startswith(("#", "data:,"))
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert page.count("link") == 1  # the empty icon, for which a browser would ask


def test_no_two_elements_share_a_name_and_every_link_has_its_end(text: str) -> None:
    page = Page(text)
    names = [*page.attributes("id")]
    assert len(names) == len(set(names))
    ends = {link[1:] for link in page.attributes("href", "xlink:href") if link.startswith("#")}
    assert ends <= set(names)
    assert {*re.findall(r"url\(#([^)]*)\)", text)} <= set(names)


def test_colours_are_those_of_the_style_sheet(text: str) -> None:
    drawn = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawn) > 10
    for svg in drawn:
        assert not re.search(r"#(0[1-7]){2}[01][0-9a-f]\b", svg)
        assert not re.search(r"(?:fill|stroke): #(?!ffffff|000000)", svg)
    assert "var(--arm0)" in text and "var(--arm1)" in text


def test_what_studies_contain_is_shown_and_never_run(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    name = "<img src=x onerror=alert(2)> $x^2$ & co"
    baselines = {"</svg><b>$y$": {"lr": 0.01, "momentum": 0.6}}
    trials = [
        Made(
            0.5 - i / 10,
            0.9 - i / 100,
            config={"lr": 0.01 * (i + 1), "momentum": 0.6},
            failure=Failure("error", evil) if i == 1 else None,
        )
        for i in range(6)
    ]
    text = report([search(tmp_path / name, trials, baselines=baselines)])
    page = Page(text)
    assert page.count("script") == 1
    assert page.count("img") == 0
    assert not [*page.attributes("onerror")]
    assert page.count("b") == text.count("</b>")  # none but ours, which are closed
    assert evil in page.text and name in page.text and "</svg><b>$y$" in page.text


def test_the_table_has_every_trial(home: Path, text: str) -> None:
    head, *rows = Page(text).rows
    found = {
        (row[head.index("study")], int(row[head.index("trial")].strip(" ★"))): row for row in rows
    }
    assert len(found) == len(rows) == 64
    for path in sorted(home.iterdir()):
        for record in history.read(path).records:
            row = dict(zip(head, found[path.name, record.trial.id], strict=True))
            score = "" if math.isinf(record.score) else number_(record.score)
            assert row["score"] == score
            assert row["failure"] == ("diverged: loss is nan" if record.failure else "")
            assert (row["audit acc"] == "") == (record.failure is not None)
    assert sum("★" in row[head.index("trial")] for row in rows) == 4  # one of each study


def test_a_long_table_has_the_first_trials_and_says_how_many_there_are(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MOST", 20)
    text = report([home])
    head, *shown = Page(text).rows
    names = [row[head.index("study")] for row in shown]
    assert names == [sorted(path.name for path in home.iterdir())[0]] * 16 + names[16:]
    assert [row[head.index("trial")].strip(" ★") for row in shown[-4:]] == ["0", "1", "2", "3"]
    assert len(shown) == 20 and "These are the first 20 of 64 trials" in text


def test_the_page_gives_the_verdict_and_the_next_command(home: Path, text: str) -> None:
    page = " ".join(Page(text).text.split())
    assert "Over 2 search seeds" in page
    assert f"hpogen retrain {home}" in page
    assert re.search(r"agn audit error ?\d+\.\d % ± \d\.\d n = 2", page)


def test_of_one_study_the_page_says_what_it_chose(tmp_path: Path) -> None:
    page = Page(report([whole(tmp_path / "one")]))
    assert "agn+val (α 0.05, log) chose trial" in page.text
    assert "One search does not show" in page.text or "chosen the same" in page.text


def test_the_spec_in_the_page_makes_the_study_again(tmp_path: Path) -> None:
    directory = whole(tmp_path / "one")
    page = report([directory])
    spec = re.search(r'<pre class="spec">(.*?)</pre>', page, re.DOTALL)
    assert spec
    path = tmp_path / "study.yaml"
    path.write_text(Page(f"<p>{spec.group(1)}</p>").text)
    assert load_study(path).record() == history.read(directory).header["spec"]


def test_the_page_names_the_machine(tmp_path: Path) -> None:
    home = tmp_path / "run"
    with open_study(study_file(tmp_path), home) as study:
        run(study)
    found = history.read(home).header["machine"]
    assert found["cores"] == os.cpu_count() and found["system"] == platform.platform()
    page = report([home])
    assert str(escape(f"processor {found['processor']}, cores {found['cores']}")) in page


def test_without_audit_the_page_is_written_and_says_what_is_missing(tmp_path: Path) -> None:
    trials = [Made(0.5 + i / 10, None) for i in range(4)]
    out = write_report([search(tmp_path / "blind", trials)], tmp_path / "r.html")
    page = Page(out.read_text())
    assert "There are no audit figures" in page.text
    assert f"hpogen retrain {tmp_path / 'blind'}" in page.text
    assert page.text.count("needs a finished trial with audit figures (task.dataset.audit)") == 3
    assert {"cards", "space", "trials", "again"} <= sections(page)


@pytest.mark.parametrize("told", [0, 2, 11])
def test_a_study_that_goes_on_has_a_page(tmp_path: Path, told: int) -> None:
    """Cut within the last line, as a reader may find it while the driver writes."""
    directory = whole(tmp_path / "running", ended=False)
    lines = (directory / ledger.LEDGER).read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if b'"kind":"told"' not in line]
    after = [line for line in lines if b'"kind":"told"' in line][:told]
    events = [json.loads(line) for line in [*kept, *after]]
    events.append(asked(Trial({"lr": 0.1, "momentum": 0.1}, 4, id=16, seed=0)))
    for event in events:
        event.pop("seq", None), event.pop("crc", None)
    torn = [ledger.encode(event, seq) for seq, event in enumerate(events)]
    (directory / ledger.LEDGER).write_bytes(b"".join(torn)[:-9])
    page = Page(report([directory]))
    assert "Not finished: 1 of 1 study." in page.text
    assert f"hpogen resume {directory}" in page.text
    assert len(page.rows) == 17
    assert sum("running" in row for row in page.rows) == 16 - told


def test_a_study_without_a_trial_has_a_page(tmp_path: Path) -> None:
    page = Page(report([search(tmp_path / "new", [], ended=False)]))
    assert "There is no answer yet" in page.text
    assert "0 of 0 trials" in page.text


def test_bad_input_is_one_line(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no study here"):
        report([tmp_path])
    with pytest.raises(UserError, match="arm 'a' is unknown"):
        report([home], "a - val")
    with pytest.raises(UserError, match=r"--out: .*cannot be written"):
        write_report([home / "val__seed-0"], tmp_path / "no" / "r.html")


def test_the_command(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.html"
    assert typed("report", home / "val__seed-0", home / "val__seed-1", "--out", out) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text().startswith("<!doctype html>")


def test_the_pictures_as_files(tmp_path: Path) -> None:
    study, folder = whole(tmp_path / "one"), tmp_path / "new" / "figures"
    out = write_report([study], tmp_path / "r.html", figures=folder)
    names = {path.stem for path in folder.iterdir()}
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("svg", "pdf")
    }
    assert len(names) == out.read_text().count('<svg class="chart"')
    assert {"anytime-epochs", "anytime-seconds", "gap-agn", "time"} <= names
    for path in folder.glob("*.svg"):
        svg = path.read_text()
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(--" not in svg and not re.search(r"#(0[1-7]){2}[01][0-9a-f]\b", svg)
        assert "<text" in svg and "'DejaVu Sans'" in svg and "sans-serif" in svg
    assert light()[NAMES.index("arm0")] in (folder / "anytime-epochs.svg").read_text()
    assert "median audit error of the answer so far" in (folder / "anytime-epochs.svg").read_text()
    for path in folder.glob("*.pdf"):
        data = path.read_bytes()
        assert data.startswith(b"%PDF") and b"%%EOF" in data[-8:] and b"/FontFile2" in data


def test_figures_go_into_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^--figures: .*file: cannot be written: .*: give a"):
        write_figures({}, tmp_path / "file")


def test_a_picture_is_the_same_file_each_time() -> None:
    drawn = picture(lambda axes: axes.set_title("α"), "about")
    for kind in ("svg", "pdf"):
        assert drawn.file(kind, light(), "said") == drawn.file(kind, light(), "said")


def test_names_of_files_are_such_that_every_system_and_tex_takes() -> None:
    assert slug(["alpha", "agn+val (α 0.05), LOG/é", ""]) == "alpha-agn+val-alpha-0-05-log"


@pytest.mark.slow
def test_five_thousand_trials_take_less_than_20_seconds_and_15_mb(tmp_path: Path) -> None:
    import numpy as np

    keys: dict[str, Any] = {"objective": LOG}
    directory = whole(tmp_path / "large", n=5000, **keys)
    began = time.monotonic()
    out = write_report([directory], tmp_path / "r.html")
    assert time.monotonic() - began < 20
    assert out.stat().st_size < 15e6
    assert len(Page(out.read_text()).rows) == 5001
    assert made({"lr": 0.01}, np.random.default_rng(0)).audit  # the helper is what was reported
