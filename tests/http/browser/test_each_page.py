"""Each page in Chromium: accessible in both themes, from 360 to 1,920 pixels, on paper; nothing runs or complains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, ViewportSize

from tests.http.browser.conftest import DESK
from tests.http.browser.site import Site

_AXE = Path(__file__).with_name("axe.min.js").read_text("utf-8")
#: Only what is wrong: to say where each right thing stands takes as long as to find out.
_WRONG = {"resultTypes": ["violations"]}
#: What the two themes differ in.
_COLOURS = {**_WRONG, "runOnly": ["color-contrast", "link-in-text-block"]}
_PHONE: ViewportSize = {"width": 360, "height": 740}
_PAPER: ViewportSize = {"width": 720, "height": 1_000}
#: One page of each kind, which axe-core judges.
_KINDS = (
    "fleet", "large tenant", "no device", "device", "version", "since when", "diff", "diff, split",
    "compare", "found", "wrong pattern", "activity", "queue", "sign in",
)  # fmt: skip
#: The same kinds with other content, which may be too wide.
_OTHERS = (
    "tenant", "two devices", "hostile device", "hostile version", "hostile since",
    "hostile diff", "hostile split", "search", "found nothing",
)  # fmt: skip


def violations(page: Page, options: dict[str, Any]) -> list[str]:
    """What axe-core finds wrong, with its places."""
    found = page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{each['id']}: {node['html'][:160]} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"][:3]
    ]


def test_all_pages_are_here(site: Site) -> None:
    assert {*_KINDS, *_OTHERS} == set(site.paths)


@pytest.mark.parametrize("name", [*_KINDS, *_OTHERS])
def test_a_page(page: Page, site: Site, name: str) -> None:
    answer = page.goto(site.paths[name])
    assert answer is not None
    assert answer.status == 200
    if name in _KINDS:
        page.evaluate(_AXE)
        assert violations(page, _WRONG) == []
        page.emulate_media(color_scheme="dark")
        assert violations(page, _COLOURS) == []
    for size in (DESK, _PHONE):
        page.set_viewport_size(size)
        assert overhang(page) == [], size
    page.emulate_media(media="print", color_scheme="light")
    assert page.locator("header.bar").is_hidden()
    assert page.locator("main").is_visible()
    page.set_viewport_size(_PAPER)
    assert overhang(page) == []


def overhang(page: Page) -> list[str]:
    """That the page scrolls sideways, and what is beyond its edge."""
    found: list[str] = page.evaluate(
        """() => {
          const wide = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= wide) return [];
          const found = [...document.querySelectorAll("body *")]
            .filter((each) => each.getBoundingClientRect().right > wide + 0.5)
            .map((each) => each.outerHTML.slice(0, 100)).slice(0, 5);
          return ["the page", ...found];
        }"""
    )
    return found
