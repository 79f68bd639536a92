"""What `hpogen rescore` prints, gives as data and draws."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from analysis.rescored import made_study, made_trials

from hpogen.analysis.choices import Choice
from hpogen.analysis.fewer_labels import AtLabels
from hpogen.analysis.rescoring import AtAlpha, Rescoring, rescore
from hpogen.analysis.statistics import Interval
from hpogen.errors import UserError
from hpogen.report.rescore import pays, ranges, rescore_data, rescore_page
from hpogen.report.rescore_plot import check_plot_path, rescore_svg, write_svg
from hpogen.study.read import read

OWN = Choice("gap_loss", 5, 0.45, 0.2)
ASKED = Choice("agn+val (α 0.05, log)", 12, 0.398, 0.089)
ALONE = Choice("validation loss alone", 4, 0.391, 0.091)
ORACLE = Choice("oracle (least audit error)", 9, 0.41, 0.085)


def labels(images: int, alone: float, asked: float, better: float, worse: float) -> list[AtLabels]:
    def row(rule: str, x: float, better: float | None, worse: float | None) -> AtLabels:
        interval = Interval(x - 0.01, x + 0.02)
        return AtLabels(rule, images, 200, 12, 0.6, x, interval, better, worse)

    return [
        row(OWN.rule, 0.2, 0.0, 1.0),
        row(ALONE.rule, alone, None, None),
        row(ASKED.rule, asked, better, worse),
    ]


FOUND = Rescoring(
    study="fashion",
    searcher="random",
    budget=20,
    data=None,
    trials=64,
    adaptive=False,
    judged_by="audit error",
    audit_key="task.dataset.audit",
    validation_images=5000,
    own=OWN,
    validation=ALONE,
    asked=ASKED,
    oracle=ORACLE,
    weighed=ASKED.rule,
    alphas=(
        AtAlpha(0.0, replace(ALONE, rule="α 0")),
        AtAlpha(1e-4, replace(ALONE, rule="α 0.0001")),
        AtAlpha(0.1, replace(ASKED, rule="α 0.1")),
        AtAlpha(1.0, replace(ASKED, rule="α 1")),
        AtAlpha(10.0, replace(ALONE, rule="α 10")),
    ),
    labels=(*labels(50, 0.12, 0.1, 0.7, 0.1), *labels(5000, 0.091, 0.095, 0.0, 1.0)),
)


def text(found: Rescoring) -> str:
    """The page without its line breaks."""
    return " ".join(" ".join(rescore_page(found, "q", 100, "hpogen")).split())


def test_the_page_from_top_to_bottom() -> None:
    assert rescore_page(FOUND, "runs/fashion", 89, "hpogen") == [
        " fashion: chosen anew among 64 trials of 20 epochs, proposed by random.",
        "",
        " rule                        trial  val loss  audit error",
        " agn+val (α 0.05, log)       12     0.398     8.9 %",
        " gap_loss (the study's own)  5      0.450     20.0 %",
        " validation loss alone       4      0.391     9.1 %",
        " oracle (least audit error)  9      0.410     8.5 %",
        "",
        " agn+val (α 0.05, log), with another α",
        " α              trial  val loss  audit error",
        " 0 to 1.0e-4    4      0.391     9.1 %",
        " 0.100 to 1.00  12     0.398     8.9 %",
        " 10.0           4      0.391     9.1 %",
        "",
        " With fewer labels, over 200 random sub-samples of the 5,000 validation images; better",
        " and worse than validation loss alone",
        " labels  rule                   audit error  middle 95 %     better  worse  mostly trial",
        " 50      gap_loss               20.0 %       19.0 to 22.0 %  0%      100%   12 (60%)",
        " 50      validation loss alone  12.0 %       11.0 to 14.0 %  –       –      12 (60%)",
        " 50      agn+val (α 0.05, log)  10.0 %       9.0 to 12.0 %   70%     10%    12 (60%)",
        " 5,000   gap_loss               20.0 %       19.0 to 22.0 %  0%      100%   12 (60%)",
        " 5,000   validation loss alone  9.1 %        8.1 to 11.1 %   –       –      12 (60%)",
        " 5,000   agn+val (α 0.05, log)  9.5 %        8.5 to 11.5 %   0%      100%   12 (60%)",
        "",
        " The mean audit error of gap_loss, against validation loss alone, is larger with 50 and",
        " 5,000 labels. The mean audit error of agn+val (α 0.05, log), against validation loss",
        " alone, is smaller with 50 labels; larger with 5,000.",
        "",
        " One search does not show which of them is better.",
        " next     hpogen best runs/fashion",
    ]


def test_an_adaptive_searcher_is_said_to_have_chosen_the_trials() -> None:
    said = "Selection only: cmaes proposed these trials for the study's own objective;"
    assert said in text(replace(FOUND, adaptive=True, searcher="cmaes"))
    assert "Selection only" not in text(FOUND)


def test_a_study_that_goes_by_validation_loss_is_listed_once() -> None:
    page = text(replace(FOUND, own=ALONE))
    assert "validation loss alone (the study's own) 4 0.391 9.1 % oracle" in page


def test_what_fewer_labels_cannot_tell_is_said() -> None:
    own = replace(OWN, rule="selection noise_cut")
    said = "Fewer labels cannot be asked of selection noise_cut."
    assert said in text(replace(FOUND, own=own)) and said not in text(FOUND)


@pytest.mark.parametrize(
    ("images", "suggested"),
    [(5000, "--validation 50,250,1000"), (250, "--validation 50"), (50, "best"), (None, "best")],
)
def test_fewer_labels_are_the_next_question(images: int | None, suggested: str) -> None:
    found = replace(FOUND, labels=(), validation_images=images)
    assert suggested in rescore_page(found, "q", 100, "hpogen")[-1]


def test_without_audit_the_choices_stand_and_nothing_is_judged(tmp_path: Path) -> None:
    metrics, losses, _ = made_trials(0, 9, 20)
    home = made_study(tmp_path, metrics, losses)
    found = rescore(read(home), "agn+val", validation=[5])
    page = rescore_page(found, str(home), 100, "hpogen")
    assert any("no choice can be judged" in line for line in page)
    assert not any("oracle" in line or "%" in line.split("(")[0] for line in page[4:6])
    assert pays(found) == []
    with pytest.raises(UserError, match="without audit images there is nothing to draw"):
        rescore_svg(found)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_sentences_keep_to_the_width(width: int) -> None:
    lines = rescore_page(FOUND, "q", width, "hpogen")
    sentences = [line for line in lines if line.endswith((".", "others", "labels"))]
    assert sentences and max(map(len, sentences)) <= width


def test_neighbours_with_one_choice_are_one_row() -> None:
    assert [name for name, _ in ranges(FOUND.alphas)] == ["0 to 1.0e-4", "0.100 to 1.00", "10.0"]


def test_equal_means_are_called_equal() -> None:
    rows = (*labels(50, 0.1, 0.1, 0.2, 0.2), *labels(90, 0.1, 0.1 + 1e-17, 0.0, 0.0))
    assert pays(replace(FOUND, labels=rows))[1].endswith("is equal with 50 and 90 labels.")


def test_the_data_go_through_json() -> None:
    data = json.loads(json.dumps(rescore_data(FOUND), allow_nan=False))
    assert data["alphas"][2]["choice"]["trial"] == 12
    assert data["labels"][2]["interval"] == pytest.approx({"low": 0.09, "high": 0.12})
    assert data["oracle"]["rule"].startswith("oracle")


def texts(svg: bytes) -> str:
    root = ElementTree.fromstring(svg)
    return " | ".join(t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}text"))


def test_the_pictures_have_units_names_and_the_number_of_trials() -> None:
    drawn = texts(rescore_svg(FOUND))
    for word in (
        "fashion: 64 trials, random; shaded: middle 95 % of 200 random sub-samples",
        "α: weight of the measure",
        "validation labels",
        "audit error of the choice (%)",
        "validation loss alone",
        "oracle",
        "agn+val (α 0.05, log)",
        "5,000",
        "y begins where the data do",
    ):
        assert word in drawn
    only = texts(rescore_svg(replace(FOUND, labels=())))
    assert "α: weight" in only and "validation labels" not in only
    assert "selection only" in texts(rescore_svg(replace(FOUND, adaptive=True)))


def test_a_picture_is_the_same_each_time(tmp_path: Path) -> None:
    write_svg(FOUND, tmp_path / "a.svg")
    write_svg(FOUND, tmp_path / "b.svg")
    first = (tmp_path / "a.svg").read_bytes()
    assert first == (tmp_path / "b.svg").read_bytes()
    assert str(tmp_path).encode() not in first
    moved = replace(FOUND, alphas=(*FOUND.alphas[:3], AtAlpha(1.0, OWN)))
    assert rescore_svg(moved) != first


@pytest.mark.parametrize("unit", ["audit error", "audit loss"])
def test_errors_are_drawn_in_percent_losses_are_not(unit: str) -> None:
    found = replace(FOUND, judged_by=unit, labels=())
    assert ("(%)" in texts(rescore_svg(found))) == (unit == "audit error")


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(UserError, match="no α to vary; name another with --objective"):
        rescore_svg(replace(FOUND, alphas=(), labels=()))


def test_where_a_picture_cannot_go(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--plot: .*a\.png', expected a file that ends in \.svg"):
        check_plot_path(tmp_path / "a.png")
    with pytest.raises(UserError, match="nowhere is no folder: make it first"):
        check_plot_path(tmp_path / "nowhere" / "a.svg")
    (tmp_path / f".{os.getpid()}.tmp").mkdir()
    with pytest.raises(UserError, match=r"a\.svg: cannot be written: Is a directory"):
        write_svg(FOUND, tmp_path / "a.svg")
    check_plot_path(tmp_path / "a.svg")
