"""RouterOS exports: what in them is configuration and what is not; pure.

An export opens with comment lines, the first of which says when and by which version it was made:

    # jan/17/2022 10:00:00 by RouterOS 6.49
    # 2025-09-30 10:00:00 by RouterOS 7.16
    # jan/02/1970 00:00:31 by RouterOS 7.2.1      a device without a clock
    # ____-__-__ __:__:__ by RouterOS 7.16        a masked date; also with '-'

That line differs at every capture, so it says nothing about the configuration.
"""

from __future__ import annotations

import re
from typing import Final

#: Lines of the opening comment that may come before the dated one.
_HEADER_LINES: Final = 8

_VOLATILE = re.compile(
    rb"#[ \t]+(?:[a-z]{3}/\d{2}/\d{4}|\d{4}-\d{2}-\d{2}|[_-]{3,4}[-/][_-]{2}[-/][_-]{2,4})"
    rb"[ \t]+(?:\d{2}:\d{2}:\d{2}|[_-]{2}:[_-]{2}:[_-]{2})[ \t]+by RouterOS\b[^\r\n]*",
    re.IGNORECASE,
)


def without_volatile_header(export: bytes) -> bytes:
    """The export without its dated header line.

    Only comment lines and blank ones at the very top are looked at: the same text further down
    is configuration (a script's source, a note).
    """
    start = 3 if export.startswith(b"\xef\xbb\xbf") else 0
    for _ in range(_HEADER_LINES):
        end = export.find(b"\n", start)
        line = export[start:] if end < 0 else export[start:end]
        stripped = line.strip()
        if stripped and not stripped.startswith(b"#"):
            break
        if _VOLATILE.fullmatch(stripped):
            return export[:start] + (b"" if end < 0 else export[end + 1 :])
        if end < 0:
            break
        start = end + 1
    return export


def same_configuration(old_export: bytes, new_export: bytes) -> bool:
    """Whether two exports describe the same configuration, byte for byte but for the header."""
    return old_export == new_export or without_volatile_header(
        old_export
    ) == without_volatile_header(new_export)
