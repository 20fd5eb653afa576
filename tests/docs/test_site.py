"""The site builds without a warning, links reach every page, and it loads nothing from elsewhere."""

import os
import posixpath
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
PASSIVE = {"canonical", "next", "prev", "edit", "alternate"}  # relations that load nothing


class Links(HTMLParser):
    """The files that a page loads, and the targets of its links."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in LOADING and given.get("rel") not in PASSIVE and given.get(LOADING[tag]):
            self.loads.append(given[LOADING[tag]])
        if tag == "a" and given.get("href"):
            self.leads.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return place


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Links]:
    found = {}
    for path in sorted(site.rglob("*.html")):
        found[path.relative_to(site).as_posix()] = links = Links()
        links.feed(path.read_text(encoding="utf-8"))
    return found


def test_every_page_has_its_place(pages: dict[str, Links]) -> None:
    assert {"index.html", "guide.html", "choose.html", "threat-model.html", "api/mechanism.html"} <= set(pages)
    reached, waiting = set[str](), ["index.html"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            here = posixpath.dirname(page)
            targets = (posixpath.normpath(posixpath.join(here, urlsplit(link).path)) for link in pages[page].leads)
            waiting += [target for target in targets if target in pages]
    assert set(pages) - reached == {"404.html"}


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[str, Links]) -> None:
    assert sum(len(links.loads) for links in pages.values()) > len(pages)
    for page, links in pages.items():
        for target in links.loads:
            parts = urlsplit(target)
            assert not parts.scheme and not parts.netloc, f"{page} loads {target}"
            if page != "404.html":  # written for the root of a server
                assert (site / posixpath.dirname(page) / unquote(parts.path)).exists(), f"{page} loads {target}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet.name


def test_links_within_lead_somewhere(site: Path, pages: dict[str, Links]) -> None:
    for page, links in pages.items():
        for target in links.leads:
            parts = urlsplit(target)
            if not parts.scheme and parts.path and page != "404.html":
                assert (site / posixpath.dirname(page) / unquote(parts.path)).exists(), f"{page} leads to {target}"


def test_the_public_names_are_on_the_api_pages(site: Path) -> None:
    import paczero
    import paczero.audit
    import paczero.data
    import paczero.inference
    import paczero.mechanism

    text = "".join(path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html"))
    assert "<blockquote" not in text, "an example that is not shown as code"
    headed = set(re.findall(r'id="paczero\.[\w.]*?(\w+)"', text))
    for module in (paczero, paczero.mechanism, paczero.audit, paczero.data, paczero.inference):
        assert not set(module.__all__) - headed, module.__name__
