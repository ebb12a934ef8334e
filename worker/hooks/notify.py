"""Sends a digest to people, by apprise: mail, Slack, Teams, Telegram and a hundred more."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from confkeep.errors import ExtraMissing, InvalidInput, NotDelivered
from worker.hooks.digest import Digest
from worker.hooks.digest_html import html_of
from worker.hooks.digest_text import fitting, text_of, title_of

#: Characters of a message that are left free for what a service puts around it.
_SPARE: Final = 200


def send(digest: Digest, urls: list[str], *, field: str, public_url: str = "") -> None:
    """Send one message to each address: HTML where a mail program shows it, else text.

    Args:
        urls: of apprise. They hold passwords, so no error and no log repeats them.
        field: the option or variable that has the addresses, which errors name.

    Raises:
        ExtraMissing: apprise is not installed, or jinja2 for mail.
        InvalidInput: an address is none that apprise knows; nothing was sent.
        NotDelivered: at least one was not reached, or refused the message; the others have it.
    """
    try:
        import apprise
    except ImportError:
        raise ExtraMissing("sending a digest", "notify") from None
    # Nothing is read from the disk or written to it.
    asset = apprise.AppriseAsset(plugin_paths=[], storage_path=None, app_id="confkeep")
    with _silent():
        found = [apprise.Apprise.instantiate(url, asset=asset) for url in urls]
        targets = [target for target in found if target is not None]
        if len(targets) < len(urls):
            which = f"address number {found.index(None) + 1}" if len(urls) > 1 else "the address"
            raise InvalidInput(field, f"{which} is none that apprise knows")
        failed = []
        for target in targets:
            formats: Any = target.notify_format
            # Some services have several, the one that they show best first.
            best = formats[0] if isinstance(formats, tuple) else formats
            is_html = best == apprise.NotifyFormat.HTML
            render = partial(html_of, public_url=public_url) if is_html else text_of
            room = max(0, target.body_maxlen - min(target.title_maxlen, _SPARE))
            try:
                sent = target.notify(
                    title=title_of(digest),
                    body=fitting(digest, render, room),
                    body_format=apprise.NotifyFormat.HTML if is_html else apprise.NotifyFormat.TEXT,
                )
            except (OSError, ValueError, TypeError):
                sent = False
            if not sent:
                failed.append(str(target.service_name))
    if failed:
        raise NotDelivered(f"the digest was not taken by {', '.join(failed)}")


@contextmanager
def _silent() -> Iterator[None]:
    """Keep apprise's lines from the log: they name addresses, which hold passwords."""
    logger = logging.getLogger("apprise")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
