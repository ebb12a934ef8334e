"""What an export calls its device: RouterOS's identity, or another maker's host name."""

from __future__ import annotations

import re
from typing import Final

_MENU: Final = b"/system identity"
#: RouterOS, on one line or below its menu: `/system identity set name="core 1"`. Between the two there
#: may be a line's end, comments, and the white space of a line that goes on.
_IDENTITY: Final = re.compile(
    rb"""/system[ ]identity (?:\s|\#[^\n]*\n|\\\r?\n)+
    set \b (?:[^\n]*?\s)?? name= (?: "((?:[^"\\]|\\.)*)" | ([^\s"]+) )""",
    re.MULTILINE | re.VERBOSE | re.DOTALL,
)
#: `hostname core1` of IOS and its like, FortiOS's `set hostname "core1"`, Junos's `host-name core1;`, VyOS's
#: `set system host-name 'core1'`, Comware's `sysname core1`, and `<hostname>core1</hostname>` of OPNsense and PAN-OS.
_HOST_NAME: Final = re.compile(
    rb"""^[ \t]*(?: (?:set[ \t]+)? (?:(?:deviceconfig[ \t]+)?system[ \t]+)? (?:host-?name|sysname)
    [ \t]+["']? ([^\s"';]+) ["']?;? | <hostname>([^<\s]+)</hostname> ) [ \t\r]*$""",
    re.MULTILINE | re.VERBOSE,
)
#: RouterOS says within so many bytes whose export it is; none of its menus is a host name's.
_HEADER_BYTES: Final = 1_000
#: No device takes a longer name: RouterOS's identity has at most 64 characters, a host name 253.
_MOST_CHARACTERS: Final = 253
#: RouterOS's escapes within quotes, and two hexadecimal digits for any byte (manual, "Scripting").
_ESCAPE: Final = re.compile(rb"\\(?:\r?\n[ ]*|([0-9A-F]{2})|(.))", re.DOTALL)
_ESCAPED: Final = {b"_": b" ", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def own_name(export: bytes | None) -> str | None:
    """The name in an export; None if it has none, or one that is no printable UTF-8."""
    if export is None:
        return None
    found = None
    # `rfind` is many times faster than a regular expression, and comes to the line early: menus stand
    # in order.
    at = len(export)
    while found is None and (at := export.rfind(_MENU, 0, at)) >= 0:
        if at == 0 or export[at - 1 : at] == b"\n":
            found = _IDENTITY.match(export, at)
    if found is not None:
        raw = found[2] if found[1] is None else _ESCAPE.sub(_unescaped, found[1])
    elif b"by RouterOS" in export[:_HEADER_BYTES]:
        return None
    else:
        if not any(word in export for word in (b"hostname", b"host-name", b"sysname")):
            return None
        found = _HOST_NAME.search(export)
        if found is None:
            return None
        raw = found[1] or found[2]
    try:
        name = raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None
    return name if name.isprintable() and 0 < len(name) <= _MOST_CHARACTERS else None


def _unescaped(found: re.Match[bytes]) -> bytes:
    if found[1] is not None:
        return bytes.fromhex(found[1].decode())
    return b"" if found[2] is None else _ESCAPED.get(found[2], found[2])
