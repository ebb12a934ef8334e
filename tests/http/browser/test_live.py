"""With JavaScript: the directory filters as one types, and Activity and Queue keep themselves up to date."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.http.browser.conftest import Enter
from tests.http.browser.site import Site
from worker.http.pages.routing import COOKIE

#: Milliseconds until a page shows what happened, on a busy machine too.
_SOON = 20_000


def mark(page: Page) -> None:
    """Mark the page: one that was loaded anew has no mark."""
    page.evaluate("window.marked = true")


def is_marked(page: Page) -> bool:
    """Whether it is still the page that was marked."""
    return bool(page.evaluate("window.marked === true"))


def open_later(
    enter: Enter, path: str, later_s: int, **options: Any
) -> tuple[Page, Callable[[], None]]:
    """A page, and what lets so much time pass on it at once."""
    page = enter("full", **options).new_page()
    page.clock.install()
    page.goto(path)
    return page, lambda: page.clock.fast_forward(later_s * 1000)


def test_the_directory_filters_as_one_types(page: Page, site: Site) -> None:
    page.goto("/")
    page.goto(f"/tenants/{site.large}")
    mark(page)
    rows = page.locator("#devices tbody tr")
    expect(rows).to_have_count(250)
    page.get_by_label("Device", exact=True).press_sequentially("r25")
    expect(rows).to_have_count(10, timeout=_SOON)
    page.get_by_label("Group").select_option("site1")
    expect(rows).to_have_count(1, timeout=_SOON)
    expect(page.get_by_role("status")).to_have_text("1 device")
    assert is_marked(page)
    # The address is that of what is shown: it can be passed on.
    page.reload()
    expect(rows).to_have_count(1)
    expect(page.get_by_label("Device", exact=True)).to_have_value("r25")
    # Back leads to where one came from, not letter by letter.
    page.go_back()
    expect(page).to_have_url(f"{site.address}/")


def test_typing_goes_on_while_the_answer_comes(page: Page, site: Site) -> None:
    page.goto(f"/tenants/{site.large}")
    typed = page.get_by_label("Device", exact=True)
    typed.press_sequentially("r1", delay=10)
    expect(page.locator("#devices tbody tr")).to_have_count(100, timeout=_SOON)
    expect(typed).to_be_focused()
    page.keyboard.type("23")
    expect(page.locator("#devices tbody tr")).to_have_count(1, timeout=_SOON)
    expect(typed).to_have_value("r123")


def test_activity_shows_what_happens_meanwhile(enter: Enter, site: Site) -> None:
    page, wait = open_later(enter, "/activity", 2)
    mark(page)
    held = page.locator("#activity tbody a").nth(3)
    held.focus()
    name = f"new-{uuid.uuid4().hex[:8]}"
    site.keep(str(uuid.uuid4()), b"/ip dns\nset servers=10.7.7.7\n", name)
    wait()
    first = page.locator("#activity tbody tr").first
    expect(first).to_contain_text(name, timeout=_SOON)
    expect(first).to_contain_text("2 lines added")
    assert is_marked(page)
    # Who is on the way through the list by keyboard stays there.
    assert page.evaluate("document.activeElement.tagName") == "A"


def test_activity_asks_for_nothing_that_it_shows_already(enter: Enter, site: Site) -> None:
    page, wait = open_later(enter, "/activity", 2)
    with page.expect_response(re.compile(r"/activity\?seen="), timeout=_SOON) as answer:
        wait()
    assert answer.value.status == 204
    expect(page.locator("#activity tbody tr").first).to_be_visible()


def test_the_queue_shows_what_comes_to_wait(enter: Enter, site: Site) -> None:
    page, wait = open_later(enter, "/queue", 5)
    mark(page)
    tenant = str(uuid.uuid4())
    row = page.locator("#queue tr").filter(has_text=tenant)
    expect(row).to_have_count(0)
    site.accept(tenant, str(uuid.uuid4()), b"/ip dns\n", "waits", "poll")
    wait()
    expect(row).to_have_count(1, timeout=_SOON)
    expect(row).to_contain_text("waiting")
    assert is_marked(page)


def test_what_is_shown_stays_when_the_session_ends(enter: Enter, site: Site) -> None:
    page, wait = open_later(enter, "/queue", 5, excused="status of 401")
    page.context.clear_cookies(name=COOKIE)
    with page.expect_response(re.compile("/queue"), timeout=_SOON) as answer:
        wait()
    assert answer.value.status == 401
    expect(page.locator("#queue")).to_contain_text("Dead letters")
    expect(page.locator("#refreshing")).to_contain_text("you are no longer signed in")
    page.get_by_role("link", name="Fleet").click()
    expect(page).to_have_url(re.compile(r"/sign-in\?next=/$"))


@pytest.mark.parametrize("name", ["activity", "queue"])
def test_a_page_says_when_it_is_no_longer_refreshed_and_when_it_is_again(
    enter: Enter, name: str
) -> None:
    context = enter("full", excused="ERR_INTERNET_DISCONNECTED|Failed to fetch")
    page = context.new_page()
    # The page's own clock: it stands still, and asks for what is new when the test lets it go on.
    page.clock.install()
    page.goto(f"/{name}")
    page.clock.pause_at(dt.datetime.now(dt.UTC) + dt.timedelta(hours=1))
    note = page.locator("#refreshing")
    expect(note).to_be_hidden()
    context.set_offline(True)
    page.clock.run_for(6_000)
    expect(note).to_have_text(
        re.compile(r"^Not refreshed since \d\d:\d\d:\d\d UTC: the server does not answer"),
        timeout=_SOON,
    )
    expect(page.locator("main table").first).to_be_visible()
    context.set_offline(False)
    page.clock.run_for(6_000)
    expect(note).to_have_text(re.compile(r"^Refreshed again at \d\d:\d\d:\d\d UTC"), timeout=_SOON)
    page.clock.run_for(12_000)
    expect(note).to_be_hidden(timeout=_SOON)
