"""Whether bytes look like what RouterOS writes: scripts line by line, binaries by their first bytes.

This is no parser of the language. It tells an export from a login banner, an error message, another
vendor's configuration or half a file, and forgives what it does not know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from confkeep.routeros.export import BOM, quotes_in

#: The first four bytes of a `.backup`, as RouterOS writes it without and with a password.
PLAIN_MAGIC: Final = bytes.fromhex("88aca1b1")
ENCRYPTED_MAGIC: Final = bytes.fromhex("efa89172")

#: Commands that stand at the start of a line below a menu, and blocks of scripts.
_COMMAND: Final = re.compile(
    rb"(?:add|set|remove|unset|enable|disable|move|comment|import|export|print|edit|find|reset"
    rb"|reset-counters|reset-configuration|run|apply|use|activate|downgrade|upgrade|flush|quit|\.\.)"
    rb"(?:\s|$)"
)
#: A menu (`/ip address`), possibly with a command behind it; a script's command (`:if`); a block.
_OTHER: Final = re.compile(rb"/[a-z0-9][a-z0-9 /_-]*(?:\s|$|[a-z\[])|:[a-z]+|[{}\]]|\$\S+")


@dataclass(frozen=True, slots=True)
class Script:
    """How much of a text is lines of a RouterOS script. Blank lines do not count."""

    lines: int
    recognised: int

    @property
    def unrecognised_share(self) -> float:
        """From 0 to 1; of no lines at all 1."""
        return 1 - self.recognised / self.lines if self.lines else 1.0


def parse_script(text: bytes) -> Script:
    """Count an export's lines: comments, menus, commands, and what continues them.

    A line that ends with a backslash goes on in the next one, and so does one within an open quote.
    """
    lines = recognised = 0
    goes_on = quoted = False
    for line in text.removeprefix(BOM).splitlines():
        stripped = line.strip()
        if not stripped:
            goes_on = False
            continue
        lines += 1
        if goes_on or quoted:
            known = True
        elif stripped.startswith(b"#"):
            recognised += 1
            continue
        else:
            known = bool(_COMMAND.match(stripped) or _OTHER.match(stripped))
        recognised += known
        # Only what is known can open a quote: an apostrophe or inch sign in prose does not.
        if known:
            goes_on = stripped.endswith(b"\\") and not stripped.endswith(b"\\\\")
            quoted ^= quotes_in(stripped) % 2 == 1
        else:
            goes_on = False
    return Script(lines, recognised)


def binary_kind(binary: bytes) -> str:
    """What a binary is by its first bytes: `plain`, `encrypted` or `unknown`."""
    if binary.startswith(PLAIN_MAGIC):
        return "plain"
    return "encrypted" if binary.startswith(ENCRYPTED_MAGIC) else "unknown"
