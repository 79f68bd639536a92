"""The live page in a real Chromium: ten thousand trials, both schemes, a phone's width, and what a
study says that looks like markup."""

from __future__ import annotations

import math
import statistics
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from analysis.searches import Made, matrix, search
from report.devtools import CHROMIUM, Tab, chromium

from hpogen.record import folder, ledger
from hpogen.record.events import asked, told
from hpogen.record.ledger import LEDGER
from hpogen.report.watch.server import ADDRESS, Server, Site
from hpogen.trial import Config, Failure, Outcome, Progress, Trial

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium: apt-get install chromium"),
]

MANY = 10_000
FIRST_PAINT, UPDATE = 1000, 200  # ms
LOADS, UPDATES = 3, 5  # the machine may be busy with something else
SPACE = {
    "lr": {"float": [1e-5, 1.0], "log": True, "default": 0.01},
    "momentum": {"float": [0.0, 0.99], "default": 0.6},
    "weight_decay": {"float": [1e-6, 0.1], "log": True, "default": 1e-4},
    "batch_size": {"int": [16, 512], "log": True, "default": 64},
    "augment": {"choice": ["none", "standard"], "default": "none"},
}
MARKUP = "<img src=x onerror='document.title=1'><b>loss</b> & co"


def config(generator: np.random.Generator) -> Config:
    return {
        "lr": float(10 ** generator.uniform(-5, 0)),
        "momentum": float(generator.uniform(0, 0.99)),
        "weight_decay": float(10 ** generator.uniform(-6, -1)),
        "batch_size": int(2 ** generator.uniform(4, 9)),
        "augment": str(generator.choice(["none", "standard"])),
    }


def made(generator: np.random.Generator, number: int) -> Made:
    own = config(generator)
    if number % 97 == 5:
        return Made(failure=Failure("diverged", MARKUP), config=own)
    loss = 0.3 + 0.2 * (math.log10(float(own["lr"])) + 2) ** 2 + 0.1 * generator.normal() ** 2
    return Made(loss, config=own, metrics={"val_accuracy": 1 - loss / 6})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten thousand trials that have been told, and three that are under way."""
    directory = tmp_path_factory.mktemp("live") / "many"
    generator = np.random.default_rng(0)
    trials = [made(generator, number) for number in range(MANY)]
    stop = {"trials": MANY + 1000}
    search(directory, trials, search_space=SPACE, stop=stop, ended=False)
    (directory / folder.TRIALS).mkdir()
    for number in range(MANY, MANY + 3):
        append(directory, asked(Trial(config(generator), 4, id=number, seed=0)))
        for epoch in range(1, 4):
            metrics = {"train_loss": 1 / epoch, "val_loss": 1.1 / epoch}
            folder.append_curve(directory, Progress(number, epoch, metrics))
    folder.log_path(directory, 9996).write_text(f"epoch 1\n{MARKUP}\n")
    return directory


def append(directory: Path, event: dict[str, object]) -> None:
    path = directory / LEDGER
    with open(path, "ab") as file:
        file.write(ledger.encode(event, path.read_bytes().count(b"\n")))


@pytest.fixture(scope="module")
def url(home: Path) -> Iterator[str]:
    yield from served(home)


def served(directory: Path) -> Iterator[str]:
    with Server((ADDRESS, 0), Site(directory)) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://{ADDRESS}:{running.server_address[1]}/"
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with chromium(tmp_path) as found:
        yield found


def entry(tab: Tab, name: str, key: str = "startTime") -> list[float]:
    """Of the page's own clock, in ms."""
    found = tab.ask(f"performance.getEntriesByName('{name}').map((entry) => entry.{key})")
    return [float(x) for x in found]


def load(tab: Tab, url: str) -> tuple[float, float]:
    """When the page showed something, and when all was drawn: ms from its being asked for."""
    tab.go("about:blank")
    tab.go(url)
    tab.wait("performance.getEntriesByName('drawn').length")
    return entry(tab, "first-contentful-paint")[0], entry(tab, "drawn")[0]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_ten_thousand_trials(home: Path, url: str, tab: Tab, width: int, dark: bool) -> None:
    tab.size(width, 900, dark)
    painted, drawn = zip(*(load(tab, url) for _ in range(LOADS)), strict=True)
    print(painted, drawn)
    assert min(painted) < FIRST_PAINT
    assert min(drawn) < FIRST_PAINT  # all lines of the search space, too

    before = int(tab.ask("document.querySelector('#latest a').textContent"))
    number = (home / LEDGER).read_bytes().count(b'{"kind":"asked"')
    for i in range(number, number + UPDATES):
        generator = np.random.default_rng(i)
        append(home, asked(Trial(config(generator), 4, id=i, seed=0)))
        append(home, told(Outcome(i, {"val_loss": 0.7}, epochs=4), 0.7))
        tab.wait(f"document.querySelector('#latest a').textContent === '{i}'")
        tab.wait("document.body.dataset.lines === String(Number(document.querySelector('#trials')"
                 ".textContent.split(' of ')[0].replace(/,/g, '')))")  # fmt: skip
    assert before != number + UPDATES - 1
    measured = entry(tab, "update", "duration")[1:]
    assert len(measured) >= UPDATES
    print(measured)
    assert statistics.median(measured) < UPDATE

    page = "document.documentElement"
    assert tab.ask(f"{page}.scrollWidth - {page}.clientWidth") <= 0
    assert tab.ask("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)"
    )
    assert tab.complaints() == []
    assert {address.removeprefix(url) for address in tab.requests()} <= {
        *("", "events", "watch.css", "watch.js", "watch.svg")
    }


def test_what_a_study_says_is_never_markup(url: str, tab: Tab) -> None:
    tab.size(1280, 900, False)
    tab.go(url)
    tab.wait("document.querySelectorAll('#failures pre').length")
    assert tab.ask("document.querySelector('#failures pre').textContent") == f"epoch 1\n{MARKUP}"
    assert MARKUP in tab.ask("document.querySelector('#failures p').textContent")
    assert tab.ask("document.querySelectorAll('img, #failures b').length") == 0
    assert tab.ask("document.title") == "many · hpogen watch"


def test_the_pictures_are_drawn(url: str, tab: Tab) -> None:
    tab.size(1280, 900, False)
    tab.go(url)
    tab.wait("performance.getEntriesByName('drawn').length")
    inked = """(id) => {
      const sheet = document.getElementById(id);
      const data = sheet.getContext("2d").getImageData(0, 0, sheet.width, sheet.height).data;
      return data.filter((x, i) => i % 4 === 3 && x > 0).length / (sheet.width * sheet.height);
    }"""
    shares = {name: tab.ask(f"({inked})('{name}')") for name in ("curves", "scores", "space")}
    assert 0.01 < shares["curves"] < 0.3
    assert 0.03 < shares["scores"] < 0.5
    assert 0.3 < shares["space"] < 0.98
    assert "10,0" in tab.ask("document.querySelector('#scores-caption').textContent")


def test_the_page_is_reached_by_the_keyboard_and_read_aloud(url: str, tab: Tab) -> None:
    tab.size(390, 900, False)
    tab.go(url)
    tab.wait("performance.getEntriesByName('drawn').length")
    reached = []
    for _ in range(6):
        for kind in ("rawKeyDown", "keyUp"):
            tab.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab",
                     windowsVirtualKeyCode=9)  # fmt: skip
        reached.append(tab.ask("document.activeElement.outerHTML.slice(0, 120)"))
    assert any('aria-label="running trials"' in place for place in reached)
    assert any(place.startswith('<a href="log/') for place in reached)
    unnamed = "[...document.querySelectorAll('canvas:not([aria-hidden]), progress, [role=region]')]"
    assert tab.ask(f"{unnamed}.filter((node) => !node.ariaLabel).length") == 0
    assert tab.ask("document.querySelectorAll('h1').length") == 1


def test_a_folder_that_has_gone_is_told(home: Path, tab: Tab) -> None:
    tab.size(1280, 900, False)
    shown = served(home)
    tab.go(next(shown))
    tab.wait("performance.getEntriesByName('drawn').length")
    away = home.with_name("away")
    home.rename(away)
    try:
        text = tab.wait("document.querySelector('#problem').textContent")
        assert (
            text == f"{home}: there is no study here (no {LEDGER}); below is what was read before"
        )
    finally:
        away.rename(home)
    tab.wait("document.querySelector('#problem').hidden")


@pytest.mark.parametrize("width", [390, 1280])
def test_a_matrix_leads_to_its_studies(tmp_path: Path, tab: Tab, width: int) -> None:
    home = matrix(tmp_path / "all", seeds=2)
    shown = served(home)
    tab.size(width, 900, False)
    tab.go(next(shown))
    tab.wait("document.querySelectorAll('#studies a').length === 4")
    page = "document.documentElement"
    assert tab.ask(f"{page}.scrollWidth - {page}.clientWidth") <= 0
    tab.ask("document.querySelector('#studies a').click()")
    tab.wait("performance.getEntriesByName('drawn').length")
    assert tab.ask("document.querySelector('h1').textContent") == "agn__seed-0"
    tab.ask("document.querySelector('#back a').click()")
    tab.wait("document.querySelector('h1').textContent === 'all'")
    assert tab.complaints() == []
    next(shown, None)
