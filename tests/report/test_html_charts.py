"""What the pictures of `hpogen report` draw: figures against independent computations."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from analysis.searches import AGN, Made, search
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from report.reported import LOG, Page, rungs, whole
from scipy import stats

from hpogen.analysis.trajectory import Curve
from hpogen.record import history
from hpogen.report.html import drawing
from hpogen.report.html.anytime import _limits, anytime
from hpogen.report.html.blocks import Figure, Section, light
from hpogen.report.html.drawing import apart, arm_colour, broken, cut, picture, points, thinned
from hpogen.report.html.material import TaskMaterial, read_material
from hpogen.report.html.scores import cloud, ranks, scores
from hpogen.report.html.training import _per_epoch, curves
from hpogen.trial import Rung, canonical


def task(*directories: Path) -> TaskMaterial:
    return next(read_material(directories, None).tasks())


def drawn(material: TaskMaterial) -> tuple[Figure, ...]:
    section = scores(material)
    assert isinstance(section, Section)
    return section.figures


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.02, 0.1)), max_size=9))
def test_labels_do_not_cover_each_other_and_keep_their_order(
    pairs: list[tuple[float, float]],
) -> None:
    places, heights = [p for p, _ in pairs], [h for _, h in pairs]
    found = apart(places, heights)
    assert all(x <= 1 + 1e-9 for x in found)
    order = sorted(range(len(places)), key=lambda i: places[i])
    for i, j in pairwise(order):
        assert found[j] - found[i] >= (heights[i] + heights[j]) / 2 - 1e-9


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("val", ["val"]),
        ("random__agn+val-log", ["random__agn+", "val-log"]),
        ("baseline 'default'", ["baseline ", "'default'"]),
        ("x" * 20, ["x" * 13, "x" * 7]),
        ("", [""]),
    ],
)
def test_labels_are_broken_where_their_parts_meet(text: str, lines: list[str]) -> None:
    assert broken(text) == lines


def test_labels_that_do_not_touch_stay() -> None:
    assert apart([0.9, 0.1, 0.5], [0.1, 0.1, 0.1]) == [0.9, 0.1, 0.5]
    assert apart([0.0, 0.0, 0.0], [0.1, 0.2, 0.1]) == pytest.approx([0.0, 0.15, 0.3])
    assert apart([1.0, 1.0, 0.2], [0.1, 0.1, 0.1]) == pytest.approx([0.9, 1.0, 0.2])


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ([*range(10), 1e9], (-0.06 * 9, 1.5 * 9)),  # nine tenths of them lie up to 9
        ([*range(11)], None),
        ([1.0, 1e9], None),  # too few to tell
        ([2.0] * 9, None),
        ([*range(10), 1e9, np.nan], (-0.06 * 9, 1.5 * 9)),
    ],
)
def test_an_axis_is_cut_only_for_values_far_away(
    values: list[float], ends: tuple[float, float] | None
) -> None:
    found = cut(np.array(values, dtype=np.float64))
    assert found == (None if ends is None else pytest.approx(ends))


def test_many_points_are_thinned_and_said_to_be() -> None:
    n = drawing.POINTS + 1
    x = np.linspace(0, 1, n)
    few = picture(lambda axes: points(axes, x[:99], x[:99], arm_colour(0)), "few")
    many = picture(lambda axes: points(axes, x, x, arm_colour(0)), "many")
    marks = re.compile(r"<use[^>]*/>")
    ticks = len(marks.findall(picture(lambda axes: None, "none")))
    assert abs(len(marks.findall(few)) - 99 - ticks) <= 4  # the ticks differ
    assert abs(len(marks.findall(many)) - drawing.POINTS - ticks) <= 4
    assert thinned(n) == "1,500 of the 1,501 points are drawn, at random"
    assert thinned(drawing.POINTS) == ""


def test_keys_go_to_the_points_that_are_drawn() -> None:
    x = np.array([0.1, np.nan, 5.0, 0.3, 0.2])
    keys = ["a", "nan", "beyond", "c", "b"]

    def draw(axes: Axes) -> None:
        axes.set_xlim(0, 1)
        points(axes, x, x, arm_colour(0), keys)
        points(axes, x, x, arm_colour(0))

    svg = picture(draw, "keyed")
    found = re.findall(r'<use data-p="(\w+)"[^>]* x="([\d.]+)" y="([\d.]+)"', svg)
    assert [key for key, _, _ in found] == ["a", "c", "b"]
    assert [key for key, x, _ in sorted(found, key=lambda f: float(f[1]))] == ["a", "b", "c"]
    assert 'role="group"' in svg and "keys:" not in svg
    assert b"keys:" not in picture(draw, "x").file("svg", light(), "said")
    assert 'role="img"' in picture(lambda axes: None, "none")


def test_a_picture_is_read_out_and_its_text_is_no_formula() -> None:
    def draw(axes: Axes) -> None:
        axes.set_title("$x^2$ <b>")

    svg = picture(draw, 'a "b" <c>')
    assert 'aria-label="a &#34;b&#34; &lt;c&gt;"' in svg
    assert "$x^2$ <b>" in Page(svg).text
    assert Page(svg).count("metadata") == 0


def test_the_cloud_is_every_audited_trial_with_its_own_score(tmp_path: Path) -> None:
    directory = whole(tmp_path / "one", n=20)
    material = task(directory)
    found = cloud(material, material.arms[0])
    expected = [
        (0.05 * np.log(r.outcome.metrics["agn"] / 4) + r.outcome.metrics["val_loss"],
         100 * (1 - r.outcome.audit["accuracy"]))
        for r in history.read(directory).records
        if r.outcome and not r.failure
    ]  # fmt: skip
    assert found.scores == pytest.approx([score for score, _ in expected])
    assert found.truths == pytest.approx([truth for _, truth in expected])
    assert found.chosen == (min(expected),)


def test_the_caption_tells_how_good_the_score_is(tmp_path: Path) -> None:
    directory = whole(tmp_path / "one", n=20)
    material = task(directory)
    found = cloud(material, material.arms[0])
    rho = stats.spearmanr(found.scores, found.truths).statistic
    low, best = np.argsort(found.scores)[:5], np.argsort(found.truths)[:5]
    regret = found.truths[low[0]] - found.truths.min()
    caption = drawn(material)[0].caption
    assert f"Spearman ρ +{rho:.2f}" in caption
    share = 100 * len({*low} & {*best}) / 5
    assert f"of the best 5 its first 5 have {share:.1f} % (chance 26.3 %)" in caption  # 5 of 19
    assert re.search(rf"regret \+?{regret:.1f} points", caption)
    assert caption.startswith("19 trials of 1 search seed;")


def test_smaller_budgets_are_hollow_and_ranks_are_within_a_budget(tmp_path: Path) -> None:
    directory = rungs(tmp_path / "asha")
    material = task(directory)
    study = material.arms[0].first
    found = ranks(study)
    assert len(found) == 8
    for budget in (2, 4):
        rung = Rung(budget)
        values = {config: own[rung] for config, own in found.items() if rung in own}
        scored_ = {
            canonical(r.trial.config): 0.05 * np.log(r.outcome.metrics["agn"] / budget)
            + r.outcome.metrics["val_loss"]
            for r in study.history.records
            if r.outcome and r.trial.budget == budget
        }
        n = len(scored_)
        brute = {
            config: sum(other < x for other in scored_.values()) / (n - 1)
            for config, x in scored_.items()
        }
        assert values == pytest.approx(brute)
    assert {*cloud(material, material.arms[0]).budgets} == {2, 4}
    assert "hollow: of the smaller budgets (2 epochs)" in drawn(material)[0].caption


def test_seconds_per_epoch_count_what_siblings_trained(tmp_path: Path) -> None:
    spent = {"train": 2.0, "validation": 1.0, "measures": 0.5, "total": 4.0}
    first = [Made(0.5, 0.9, seconds=spent), Made(0.4, 0.9, seconds={**spent, "train": 6.0})]
    second = [Made(0.5, 0.9, reused=("a__seed-0", 1)), Made(0.3, 0.9, seconds=spent)]
    search(tmp_path / "m" / "a__seed-0", first, objective=AGN)
    search(tmp_path / "m" / "b__seed-0", second)
    material = task(tmp_path / "m")
    found = {arm.label: _per_epoch(material, arm) for arm in material.arms}
    assert found["a"] == pytest.approx({"train": 1.0, "validation": 0.25, "measures": 0.125})
    assert found["b"] == pytest.approx({"train": 1.0, "validation": 0.25, "measures": 0.125})


def test_an_arm_has_one_colour_in_every_picture(tmp_path: Path) -> None:
    for seed in (0, 1):
        whole(tmp_path / "m" / f"a__seed-{seed}", seed)
        whole(tmp_path / "m" / f"b__seed-{seed}", seed, objective={**LOG, "alpha": 0.5})
    material = task(tmp_path / "m")
    assert [(arm.label, arm.number) for arm in material.arms] == [("a", 0), ("b", 1)]
    for figure, own, other in zip(
        drawn(material),
        ("arm0", "arm1"),
        ("arm1", "arm0"),
        strict=True,
    ):
        svg = figure.panes[0][1]
        assert f"var(--{own})" in svg and f"var(--{other})" not in svg


def test_curves_that_lie_on_one_another_are_said(tmp_path: Path) -> None:
    whole(tmp_path / "m" / "a__seed-0")
    whole(tmp_path / "m" / "b__seed-0", objective={**LOG, "alpha": 0.050001})
    section = anytime(task(tmp_path / "m"))
    assert isinstance(section, Section)
    [figure] = section.figures
    assert "; a and b coincide; the dashed lines of a and b coincide; " in figure.caption
    assert "● a" in Page(figure.panes[0][1]).text and "■ b" in Page(figure.panes[0][1]).text


def test_learning_curves_that_coincide_are_said(tmp_path: Path) -> None:
    """All trials of `whole` learn alike; the worst is chosen, for it is not the baseline."""
    worst = {"terms": [{"metric": "val_loss", "weight": -1}]}
    section = curves(task(whole(tmp_path / "one", objective=worst)))
    assert isinstance(section, Section)
    assert (
        "; thin: the baseline 'default'; solid: training loss, dashed: validation loss; "
        "solid: the chosen one and the baseline coincide; "
        "dashed: the chosen one and the baseline coincide; "
    ) in section.figures[0].caption


def test_the_anytime_axis_holds_what_is_drawn_after_the_first_quarter(tmp_path: Path) -> None:
    material = task(whole(tmp_path / "one"))
    values = (0.9, 0.5, 0.4, 0.3, 0.25, 0.2, 0.2, 0.2)
    oracle = (0.9, 0.4, 0.3, 0.2, 0.2, 0.1, 0.1, 0.1)
    curve = Curve("epochs", 3, tuple(map(float, range(1, 9))), values, values, values, oracle)
    low, high = _limits(material, [(material.arms[0], curve)])
    assert (low, high) == pytest.approx((10 - 0.06 * 40, 50 + 0.06 * 40))  # from epoch 2 of 8 on
