"""By keyboard: what has the focus is seen, in the order of the page, and all can be reached and done."""

from __future__ import annotations

import itertools
import re
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

from tests.http.browser.conftest import Enter
from tests.http.browser.site import Site
from tests.servers import wait_for

#: What has the focus: what it is called, where it is, and whether one sees that it has it.
_FOCUSED = """() => {
  const each = document.activeElement, box = each.getBoundingClientRect(), style = getComputedStyle(each);
  const name = each.ariaLabel || each.labels?.[0]?.innerText || each.innerText || each.id;
  const row = Math.round((box.top + scrollY) / 24);
  const ring = parseFloat(style.outlineWidth) + parseFloat(style.outlineOffset);
  let left = 0, right = innerWidth;
  for (let part = each.parentElement; part; part = part.parentElement)
    if (getComputedStyle(part).overflowX !== "visible") {
      left = Math.max(left, part.getBoundingClientRect().left);
      right = Math.min(right, part.getBoundingClientRect().right);
    }
  return [each.tagName, name.trim(), row,
    style.outlineStyle === "solid" && parseFloat(style.outlineWidth) >= 2
      && box.left - ring >= left && box.right + ring <= right];
}"""


def stops(page: Page, most: int = 30) -> list[tuple[str, str, int, bool]]:
    """Where Tab leads, one after the other, until the page ends, or so far."""
    found: list[tuple[str, str, int, bool]] = []
    while len(found) < most:
        page.keyboard.press("Tab")
        tag, name, row, seen = page.evaluate(_FOCUSED)
        if tag == "BODY":
            break
        found.append((tag, name, row, seen))
    return found


@pytest.mark.parametrize(
    ("name", "theme", "width"),
    [
        ("fleet", "dark", 1_280),
        ("tenant", "light", 1_920),
        ("device", "light", 1_280),
        ("diff", "dark", 1_920),
    ],
)
def test_the_focus_is_seen_and_goes_down_the_page(
    page: Page, site: Site, name: str, theme: Literal["light", "dark"], width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 720})
    page.emulate_media(color_scheme=theme)
    page.goto(site.paths[name])
    found = stops(page)
    assert [stop[1] for stop in found[:5]] == [
        *("Skip to the content", "confkeep", "Fleet", "Activity", "Queue"),
    ]
    assert [stop[1] for stop in found if not stop[3]] == []
    rows = [stop[2] for stop in found if stop[0] != "BODY"]
    # A page's parts stand below each other; within a row, links of several heights do too.
    assert all(later >= earlier - 2 for earlier, later in itertools.pairwise(rows[1:]))


def test_the_bar_can_be_skipped(page: Page, site: Site) -> None:
    page.goto(site.paths["device"])
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator(".crumbs a").first).to_be_focused()


def test_enter_signs_in_searches_filters_and_compares(enter: Enter, site: Site) -> None:
    page = enter(None).new_page()
    page.goto("/")
    page.get_by_label("Token").focus()
    page.keyboard.insert_text(site.tokens["full"])
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.address}/")
    page.get_by_label("Search the newest exports").focus()
    page.keyboard.type("10.0.0.119")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("1 device")
    page.goto(site.paths["device"])
    page.locator("input[name=from]").first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowDown")
    page.locator("input[name=to]").first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"against={site.shas[2]}$"))


def test_a_wide_difference_is_scrolled_by_keys(page: Page, site: Site) -> None:
    page.goto(site.paths["hostile diff"])
    wide = page.locator(".text").first
    wide.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    # Not `wait_for_function`: where it has to look twice, the pages' policy refuses its script.
    wait_for(lambda: wide.evaluate("text => text.scrollLeft") > 0, "the difference to be scrolled")
