"""A digest as one HTML page, which mail programs show too."""

from __future__ import annotations

from importlib import resources
from typing import Final

from confkeep.errors import ExtraMissing
from confkeep.wording import printable
from worker.hooks.digest import Digest
from worker.hooks.digest_text import (
    CUTS,
    Cut,
    changes_text,
    lines_of,
    moment_text,
    sections_of,
    title_of,
)

_TEMPLATE: Final = "digest.html.jinja"


def html_of(digest: Digest, cut: Cut = CUTS[0], public_url: str = "") -> str:
    """The page.

    Args:
        public_url: where people reach `confkeep http`; empty: no links.

    Raises:
        ExtraMissing: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise ExtraMissing("a digest in HTML", "http") from None
    # Names and lines come from devices: each value is escaped, and a missing one is an error.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(resources.files(__package__).joinpath(_TEMPLATE).read_text())
    changed = []
    for one in digest.changed[: cut.devices]:
        shown, left_out = lines_of(one.diff, cut)
        link = f"{public_url}/v1/tenants/{digest.tenant.id}/devices/{one.device.id}"
        changed.append(
            {
                "name": printable(str(one.device)),
                "said": changes_text(one),
                "lines": shown,
                "left_out": left_out,
                "link": link if public_url else None,
            }
        )
    return template.render(
        title=title_of(digest),
        since=moment_text(digest.since),
        until=moment_text(digest.until),
        changed=changed,
        more_changed=len(digest.changed) - cut.devices,
        sections=[
            (heading, rows[: cut.devices], len(rows) - cut.devices)
            for heading, rows in sections_of(digest)
        ],
    )
