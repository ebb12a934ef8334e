"""docs/events.md lists the types that there are, and what each has."""

from __future__ import annotations

import re
from pathlib import Path

from confkeep.queue import events

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text("utf-8")


def test_every_type_is_listed() -> None:
    listed = re.findall(r"^\| `([a-z.]+)` \|", PAGE, re.MULTILINE)
    assert listed == list(events.TYPES)
