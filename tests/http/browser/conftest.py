"""One browser and one site for all tests of this folder; a context of the browser for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize

from tests.http.browser import chromium
from tests.http.browser.chromium import PATIENCE_MS, Witness
from tests.http.browser.site import Site, serving
from worker.http.pages.routing import COOKIE

Enter = Callable[..., BrowserContext]

DESK: Final[ViewportSize] = {"width": 1_920, "height": 1_080}


# Not of the session: while Playwright is there, this thread runs no other event loop, and other tests want one.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium.started() as started:
        yield started


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("site")) as served:
        yield served


@pytest.fixture(scope="package")
def watched(browser: Browser, site: Site) -> Iterator[tuple[Page, Witness]]:
    with browser.new_context(base_url=site.address) as context:
        context.set_default_timeout(PATIENCE_MS)
        context.add_cookies([{"name": COOKIE, "value": site.tokens["full"], "url": site.address}])
        witness = Witness(site.address)
        witness.watch(context)
        yield context.new_page(), witness


@pytest.fixture
def page(watched: tuple[Page, Witness]) -> Iterator[Page]:
    """A page that is signed in, the same one for all tests: a new context takes as long as five pages."""
    page, witness = watched
    page.set_viewport_size(DESK)
    page.emulate_media(media="screen", color_scheme="light")
    yield page
    seen = [*witness.seen]
    witness.seen.clear()
    assert not seen


@pytest.fixture
def enter(browser: Browser, site: Site) -> Iterator[Enter]:
    """Opens contexts that are signed in, or not, and in which nothing may happen that the witness notes."""
    with ExitStack() as stack:

        def opened(token: str | None = "full", **options: Any) -> BrowserContext:
            context = stack.enter_context(chromium.looking(browser, site.address, **options))
            if token is not None:
                value = site.tokens[token]
                context.add_cookies([{"name": COOKIE, "value": value, "url": site.address}])
            return context

        yield opened
