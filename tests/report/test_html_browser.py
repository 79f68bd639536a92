"""The page in a real Chromium: no error in the console, nothing wider than a phone, a table that
sorts and filters, both colour schemes."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report.reported import whole

from hpogen.report.html.page import write_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium: apt-get install chromium"),
]

PROBE = """<script>
addEventListener("load", () => {
  const table = document.querySelector("#all-trials");
  const heads = [...table.tHead.rows[0].cells];
  const at = heads.findIndex((head) => head.textContent === "val loss");
  const column = () => [...table.tBodies[0].rows].map((row) => row.cells[at].dataset.v ?? "");
  heads[at].click();
  const up = column();
  heads[at].click();
  const down = column();
  const input = document.querySelector("[data-filters]");
  input.value = "diverged";
  input.dispatchEvent(new Event("input"));
  const panes = () => [...document.querySelectorAll(".pane")].map((p) => p.offsetHeight > 0);
  const before = panes();
  document.querySelectorAll(".switch input")[1].click();
  const found = {
    up, down, before, after: panes(),
    shown: [...table.tBodies[0].rows].filter((row) => row.offsetHeight > 0).length,
    counted: document.querySelector("[data-counts]").textContent,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    width: document.documentElement.clientWidth,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    paper: getComputedStyle(document.body).backgroundColor,
    arm: getComputedStyle(document.querySelector("svg.chart path[style*='--arm0']")).stroke,
  };
  document.body.dataset.found = JSON.stringify(found);
});
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("browser")
    for seed in (0, 1):
        whole(home / "m" / f"agn__seed-{seed}", seed)
    return write_report([home / "m"], home / "report.html")


def browse(page: Path, home: Path, width: int, dark: bool, *what: str) -> tuple[str, str]:
    """What Chromium prints for a page, and its log."""
    scheme = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={home / 'profile'}", f"--window-size={width},3000", *scheme, *what,
         page.as_uri()],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    return done.stdout, done.stderr


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [375, 1200])
def test_in_chromium(page: Path, tmp_path: Path, width: int, dark: bool) -> None:
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))
    text, log = browse(probed, tmp_path, width, dark, "--dump-dom")
    assert "CONSOLE" not in log
    data = re.search(r'data-found="([^"]*)"', text)
    assert data
    found = json.loads(data.group(1).replace("&quot;", '"'))

    values = [float(x) for x in found["up"] if x]
    assert len(values) == 30 and values == sorted(values)
    assert [float(x) for x in found["down"] if x] == values[::-1]
    assert found["up"][30:] == found["down"][30:] == ["", ""]  # the failed ones stay last
    assert (found["shown"], found["counted"]) == (2, "2 of 32 trials")
    assert (found["before"], found["after"]) == ([True, False], [False, True])
    assert found["overflow"] <= 0
    assert found["dark"] is dark
    assert found["paper"] == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
    assert found["arm"] == ("rgb(81, 130, 208)" if dark else "rgb(18, 101, 184)")


POINTS = """<script>
addEventListener("load", () => {
  const chart = document.querySelector("#t1-scores svg.chart");
  const points = [...chart.querySelectorAll("[data-p]")];
  const first = points.filter((point) => point.getAttribute("tabindex") === "0");
  const tip = document.querySelector("#tip");
  const press = (key) => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  const say = () => (tip.hidden ? "" : tip.textContent);
  const place = (point) => Number(point.getAttribute("x"));
  const steps = [say()];
  first[0].focus();
  const walked = [document.activeElement];
  const overs = [];
  const look = () => {
    const box = tip.getBoundingClientRect();
    overs.push(box.left >= 0 && box.right <= document.documentElement.clientWidth);
  };
  steps.push(say()); look();
  for (const key of ["ArrowRight", "ArrowDown", "ArrowLeft", "End", "ArrowRight", "Home"]) {
    press(key); walked.push(document.activeElement); steps.push(say()); look();
  }
  press("Escape"); steps.push(say());
  document.activeElement.blur();
  points[3].dispatchEvent(new PointerEvent("pointerenter"));
  const hovered = say();
  points[3].dispatchEvent(new PointerEvent("pointerleave"));
  const xs = points.map(place).sort((a, b) => a - b);
  document.body.dataset.found = JSON.stringify({
    steps, hovered, left: say(), count: points.length, tabs: first.length,
    walked: walked.map((point) => xs.indexOf(place(point))),
    named: points.every((point) => point.getAttribute("aria-label").startsWith("trial ")),
    overs, key: points[3].dataset.p,
    texts: JSON.parse(document.querySelector("#points").dataset.points),
  });
});
</script>"""


@pytest.mark.parametrize("width", [375, 1200])
def test_points_say_their_trial_under_pointer_and_keys(
    page: Path, tmp_path: Path, width: int
) -> None:
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text().replace("</body>", f"{POINTS}</body>"))
    text, log = browse(probed, tmp_path, width, False, "--dump-dom")
    assert "CONSOLE" not in log
    data = re.search(r'data-found="([^"]*)"', text)
    assert data
    found = json.loads(html.unescape(data.group(1)))
    assert (found["count"], found["tabs"]) == (30, 1)  # one stop of Tab for a picture
    assert found["walked"] == [0, 1, 2, 1, 29, 29, 0]
    assert found["steps"][0] == found["steps"][-1] == found["left"] == ""
    assert all(re.fullmatch(SAID, said) for said in found["steps"][1:-1])
    assert len(set(found["steps"][1:-1])) == 4
    assert found["hovered"] == found["texts"][found["key"]]
    assert re.fullmatch(SAID, found["hovered"]) and found["named"]
    assert all(found["overs"])


SAID = r"trial \d+ of agn\S*, search seed [01]\nlr \S+, momentum \S+\nscore \S+"


def test_a_screenshot_of_the_page_is_no_blank(page: Path, tmp_path: Path) -> None:
    from matplotlib.image import imread

    for width, dark in ((375, False), (1200, True)):
        shot = tmp_path / f"{width}.png"
        _, log = browse(page, tmp_path, width, dark, f"--screenshot={shot}")
        assert "CONSOLE" not in log
        pixels = imread(shot)
        assert pixels.shape[:2] == (3000, width)
        assert 0.02 < (abs(pixels[..., :3] - pixels[5, 1, :3]).sum(-1) > 0.1).mean() < 0.9


def test_an_error_in_the_console_would_be_seen(page: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text().replace("</body>", "<script>nothing()</script></body>"))
    _, log = browse(broken, tmp_path, 1200, False, "--dump-dom")
    assert "CONSOLE" in log
