"""Each page in Chromium: accessible in both themes, from 360 to 1,920 pixels, on paper; nothing runs or complains."""

from __future__ import annotations

import itertools
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


@pytest.mark.parametrize(
    ("name", "width"), [("tenant", 700), ("diff", 360), ("version", 360), ("found", 360)]
)
def test_all_is_read_without_scrolling_sideways(
    page: Page, site: Site, name: str, width: int
) -> None:
    """The longest labels, and on a phone the ends of long lines: a change is often there."""
    page.set_viewport_size({"width": width, "height": 740})
    page.goto(site.paths[name])
    frames = page.locator(".frame, .text")
    assert frames.count()
    assert frames.evaluate_all("all => all.filter(e => e.scrollWidth > e.clientWidth).length") == 0
    numbers = page.locator(".text td.n")
    broken = "all => all.filter(e => getComputedStyle(e).whiteSpace !== 'nowrap').length"
    assert numbers.evaluate_all(broken) == 0, "a line's number is broken into two"


def test_a_changed_line_has_its_colour_from_edge_to_edge(page: Page, site: Site) -> None:
    page.goto(site.paths["diff"])
    for kind in ("old", "new"):
        cells = page.locator(f"tr:has(> td.{kind})").first.locator("> td")
        colours = cells.evaluate_all("all => all.map(e => getComputedStyle(e).backgroundColor)")
        assert len(colours) == 4
        assert len(set(colours)) == 1
        assert colours[0] != "rgba(0, 0, 0, 0)"


def test_lines_of_one_change_stand_together(page: Page, site: Site) -> None:
    """A rule divides lines that came with different versions, and no others."""
    page.goto(site.paths["since when"])
    rows = page.locator(".text tr").evaluate_all(
        """all => all.map(e => [
          e.querySelector("td.since a").getAttribute("href"),
          getComputedStyle(e.cells[1]).borderTopWidth !== "0px",
        ])"""
    )
    shas = [sha for sha, _ in rows]
    assert len(set(shas)) > 1
    assert [ruled for _, ruled in rows[1:]] == [a != b for a, b in itertools.pairwise(shas)]


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
