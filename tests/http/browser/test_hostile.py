"""Hostile exports, names and messages stand in the pages as the text that they are, each character of them."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page

from tests.http.browser import hostile
from tests.http.browser.conftest import Enter
from tests.http.browser.site import Site

#: What turns, hides or controls text, but for tabs and ends of lines.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\u00ad]"
)


def words(text: str) -> str:
    """A text as a page lays it out: white space is one space."""
    return " ".join(text.split())


def main_text(page: Page) -> str:
    """What a person reads below the bar."""
    return words(page.locator("main").inner_text())


@pytest.mark.parametrize(
    "name", ["tenant", "hostile version", "hostile diff", "hostile split", "activity", "found"]
)
def test_each_text_is_there_as_text(page: Page, site: Site, name: str) -> None:
    page.goto(site.paths[name])
    found = main_text(page)
    wanted = [text for text in hostile.TEXTS if name != "found" or "alert(1" in text]
    assert [text for text in wanted if words(text) not in found] == []


@pytest.mark.parametrize("name", ["fleet", "queue", "hostile device"])
def test_names_reasons_and_messages_are_text(page: Page, site: Site, name: str) -> None:
    page.goto(site.paths[name])
    found = main_text(page)
    assert sum(words(text) in found for text in hostile.TEXTS) >= 7


def test_what_hides_or_turns_text_is_seen(page: Page, site: Site) -> None:
    for name in ("hostile version", "hostile diff", "hostile split", "hostile device", "queue"):
        page.goto(site.paths[name])
        text = page.locator("body").inner_text()
        assert _UNSEEN.findall(text) == [], name
        assert _UNSEEN.findall(page.title()) == [], name
    page.goto(site.paths["hostile version"])
    text = main_text(page)
    for each in (r"\u202e gnihtyreve \u2066", r"zero\u200bwidth", r"\x1b[31mred", r"set nul=\x00"):
        assert each in text
    assert hostile.LONG in text


def test_what_is_typed_comes_back_as_text(page: Page, site: Site) -> None:
    text = "".join(hostile.TEXTS[4:6])
    page.goto(site.paths["search"])
    box = page.locator("#sq")
    box.fill(text)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?**")
    assert page.locator("#sq").input_value() == text
    assert words(text) in page.title()
    page.goto(f"/tenants/{site.large}")
    page.get_by_label("Device", exact=True).fill(text)
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**q=**")
    assert page.get_by_label("Device", exact=True).input_value() == text


def test_addresses_that_lead_nowhere_come_back_as_text(enter: Enter, site: Site) -> None:
    page = enter("full", excused="status of 4").new_page()
    for text in ("<script>alert(1)</script>", "%3Cimg%20src=x%20onerror=alert(2)%3E"):
        for path in (f"/tenants/{text}", f"{site.device()}/at?at={text}", f"/sign-in?next={text}"):
            page.goto(path)
            assert page.locator("h1").inner_text()
