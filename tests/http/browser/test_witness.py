"""The witness sees what it is there for: else its silence would prove nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Route

from tests.http.browser import chromium
from tests.http.browser.chromium import Witness

_SITE = "http://pages.test"
_POLICY = {"Content-Security-Policy": "default-src 'none'; script-src 'self'"}


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One of each test's own: two witnesses would both answer a dialog."""
    with browser.new_context() as context:
        yield context


@pytest.mark.parametrize(
    ("body", "policy", "told"),
    [
        ("<script>alert(1)</script>", False, "dialog: 1"),
        ("<img src=x onerror=alert(2)>", False, "dialog: 2"),
        ("<script>console.error('bad')</script>", False, "console: bad"),
        ("<script>throw new Error('thrown')</script>", False, "error: thrown"),
        ("<img src=http://elsewhere.test/x>", False, "request: http://elsewhere.test/x"),
        ("<script>alert(3)</script>", True, "console: Executing inline script violates"),
        ("<svg onload=alert(4)>", True, "console: Executing inline event handler violates"),
        ("<img src=http://elsewhere.test/x>", True, "console: Loading the image"),
        ("<p style='color:red'>", True, "console: Applying inline style violates"),
    ],
    ids=["script", "handler", "console", "error", "image",
         "refused script", "refused handler", "refused image", "refused style"],
)  # fmt: skip
def test_it_sees(context: BrowserContext, body: str, policy: bool, told: str) -> None:
    def answer(route: Route) -> None:
        headers = _POLICY if policy else {}
        page = f"<!doctype html><title>x</title>{body}"
        route.fulfill(body=page, content_type="text/html", headers=headers)

    witness = Witness(_SITE)
    witness.watch(context)
    context.route("**/*", answer)
    with context.new_page() as page:
        page.goto(_SITE)
    context.unroute_all()
    assert any(each.startswith(told) for each in witness.seen), witness.seen


def test_a_context_that_saw_something_fails(browser: Browser) -> None:
    with pytest.raises(AssertionError, match="dialog: here"), chromium.looking(browser, _SITE) as c:
        c.new_page().evaluate("alert('here')")
