"""The site is whole: every page is in the navigation, every link leads somewhere in it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from documentation.site import read
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]


def broken(site: Path) -> list[str]:
    """The links of all pages that lead to no file, or to no place in it."""
    return [
        f"{path.relative_to(site)}: {link}"
        for path in sorted(site.rglob("*.html"))
        for _, link in read(path).links
        if not leads_somewhere(site, path, link)
    ]


def leads_somewhere(site: Path, page: Path, link: str) -> bool:
    """Whether a link within the site has its file and its anchor; others are not followed."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return parts.scheme in ("https", "mailto")
    beginning = site if parts.path.startswith("/") else page.parent
    target = beginning / unquote(parts.path).lstrip("/") if parts.path else page
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return False
    is_page = target.suffix == ".html" and bool(parts.fragment)
    return not is_page or unquote(parts.fragment) in {*read(target).ids, "__tabbed"}


def test_every_link_leads_somewhere(site: Path) -> None:
    assert broken(site) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<p id="here">')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here"><a href="b.html#there"><a href="c.html"><img src="no.png">'
    )
    assert broken(tmp_path) == ["a.html: b.html#there", "a.html: c.html", "a.html: no.png"]


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    fetched = {
        f"{path.name}: {link}"
        for path in site.rglob("*.html")
        for tag, link in read(path).links
        if tag != "a" and urlsplit(link).netloc
    }
    assert fetched == set()
    styles = [path for path in site.rglob("*.css") if "url(http" in path.read_text()]
    assert styles == []


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    assert YAML(typ="safe").load(text)["nav"]
    pages = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(page for page in pages if f": {page}\n" not in text) == []
