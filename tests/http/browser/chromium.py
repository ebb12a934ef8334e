"""Debian's Chromium as tests drive it, and a witness of what should never happen in a page."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Request,
    sync_playwright,
)

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
#: Nothing but what the tests ask for: Chromium would look for updates and accounts. Root has no sandbox.
_FLAGS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
#: Milliseconds for each step in a page, on a busy machine too.
PATIENCE_MS: Final = 20_000
_MISSING: Final = (
    "no Chromium is on PATH: `make browser` installs Debian's as root; elsewhere install one"
)


@contextmanager
def started() -> Iterator[Browser]:
    """A Chromium with a new profile. Without one, the test is skipped; in CI, it fails."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(_MISSING)
        pytest.skip(_MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=[*_FLAGS])
        try:
            yield browser
        finally:
            browser.close()


# Playwright keeps something in the objects whose methods it calls, so it has no slots.
@dataclass
class Witness:
    """Notes what no page may do: run a script of somebody else, complain, or ask another site."""

    address: str
    #: Chromium complains of each answer that is an error; a test that asks for one says so, by a pattern.
    excused: str | None = None
    seen: list[str] = field(default_factory=list)

    def watch(self, context: BrowserContext) -> None:
        """Note what each page of the context does from now on."""
        context.on("dialog", self._dialog)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.seen.append(f"error: {error.error}"))
        context.on("request", self._request)

    def _dialog(self, dialog: Dialog) -> None:
        self.seen.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        # What the policy refuses, and what cannot be loaded, is told here too.
        if self.excused is None or re.search(self.excused, message.text) is None:
            self.seen.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if f"{url.scheme}://{url.netloc}" != self.address:
            self.seen.append(f"request: {request.url[:200]}")


@contextmanager
def looking(
    browser: Browser, address: str, *, excused: str | None = None, **options: object
) -> Iterator[BrowserContext]:
    """A browser's context of its own, in which nothing may happen that a witness notes."""
    context = browser.new_context(base_url=address, **options)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    witness = Witness(address, excused)
    witness.watch(context)
    try:
        yield context
        assert not witness.seen, witness.seen
    finally:
        context.close()
