"""Whether the colours of a page can be told apart: by the colour-blind, in grey, light and dark.

What the colour-blind see is by the matrices of Machado, Oliveira and Fernandes 2009, "A
Physiologically-based Model for Simulation of Color Vision Deficiency" (IEEE TVCG 15(6)), table 1,
severity 1.0, in linear RGB. Distances are CIE 1976 (L*, a*, b*), D65; 2.3 is just noticeable.
"""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from hpogen.report.html.blocks import asset, light
from hpogen.report.html.drawing import ARMS, MARKS, NAMES, arm_colour, arm_mark
from hpogen.report.rescore_plot import COLOURS

Colours = npt.NDArray[np.float64]  # (n, 3)

APART, APART_IN_GREY = 15.0, 7.0  # between any two
CONTRAST = 3.0  # with the paper: WCAG 2.1, 1.4.11

SEEN: dict[str, Colours] = {
    "all colours": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
    "grey": np.tile([0.2126, 0.7152, 0.0722], (3, 1)),
}  # fmt: skip
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]]
)  # fmt: skip


def linear(*colours: str) -> Colours:
    """Of sRGB `#rrggbb`."""
    x = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours])
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def lab(rgb: Colours) -> Colours:
    xyz = np.clip(rgb, 0, 1) @ XYZ.T / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def least(colours: list[str], seen: str) -> float:
    """The smallest distance between any two."""
    found = lab(linear(*colours) @ SEEN[seen].T)
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(found, 2))


def contrast(colour: str, paper: str) -> float:
    high, low = sorted((linear(c) @ XYZ[1]).item() for c in (colour, paper))[::-1]
    return float((high + 0.05) / (low + 0.05))


def themes() -> dict[str, dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", asset("page.css"), re.DOTALL)
    found = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)) for block in blocks]
    return dict(zip(("light", "dark", "print"), found, strict=True))


def arms(theme: str) -> list[str]:
    return [themes()[theme][f"arm{i}"] for i in range(ARMS)]


def test_distances_are_those_of_the_books() -> None:
    assert lab(linear("#ffffff", "#ff0000")) == pytest.approx(
        np.array([[100, 0, 0], [53.24, 80.09, 67.20]]), abs=0.02
    )
    assert least(["#000000", "#ffffff"], "grey") == pytest.approx(100, abs=0.02)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert least(["#d55e00", "#a87400"], "protanopia") < 8 < least(["#d55e00", "#a87400"],
                                                                   "all colours")  # fmt: skip


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_any_two_arms_are_told_apart(theme: str, seen: str) -> None:
    enough = APART_IN_GREY if seen == "grey" else APART
    assert least(arms(theme), seen) >= enough
    phases = [themes()[theme][name] for name in ("training", "validation", "measures")]
    assert least(phases, seen) >= enough


@pytest.mark.parametrize("seen", SEEN)
def test_so_are_the_lines_of_rescore(seen: str) -> None:
    assert least([*COLOURS], seen) >= (APART_IN_GREY if seen == "grey" else APART)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_arms_stand_out_from_the_paper(theme: str) -> None:
    paper = themes()[theme]["paper"]
    assert min(contrast(colour, paper) for colour in arms(theme)) >= CONTRAST


def test_arms_of_one_colour_have_other_marks() -> None:
    looks = {(arm_colour(i), arm_mark(i)) for i in range(30)}
    assert len(looks) == 30 and len(MARKS) >= 8 > ARMS


def test_files_have_the_colours_of_white_paper() -> None:
    assert dict(zip(NAMES, light(), strict=True)).items() <= themes()["light"].items()
