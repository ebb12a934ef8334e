"""The site: it builds strictly without a network, and its pages load nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from docs import pictures
from docs.generate import ROOT
from docs.site_hooks import PICTURES

#: A proxy that nobody answers at: whoever asks the network fails.
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Strict: each page must be in the nav, and each link and anchor lead somewhere."""
    path = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(path)],
        cwd=ROOT,
        env={**os.environ, **NO_NETWORK, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return path


class Loaded(HTMLParser):
    """What a browser fetches by itself when it shows a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "link"):
            self.urls += [url for url in (given.get("src"), given.get("href")) if url]


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        text = page.read_text("utf-8")
        for url in Loaded(text).urls:
            assert not re.match(r"(?:[a-z]+:)?//", url), (page.name, url)
            assert (page.parent / url.split("?")[0]).exists() or page.name == "404.html", url
        # The theme would load a program that draws these.
        assert 'class="mermaid"' not in text, page.name


def test_no_source_is_published_as_a_page(site: Path) -> None:
    assert not list(site.rglob("*.py"))
    assert (site / "examples" / "mirror_store.sh").exists()


def test_each_picture_is_that_of_a_page_as_it_is_now() -> None:
    drawn = set(PICTURES.glob("*.svg"))
    assert drawn <= set(pictures.sources()), "draw them anew: see docs/pictures.py"
    for path in drawn:
        text = path.read_text("utf-8")
        assert text.startswith("<svg ")
        assert not re.search(r"(?:href|src)=\"(?!#)|url\((?!#)|@import", text), path.name
