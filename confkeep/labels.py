"""Labels: what people call a device, whose identity is a UUID."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, fields
from typing import Final

#: Most characters of a label: those of a host name (RFC 1035, 2.3.4).
MAX_LABEL_CHARACTERS: Final = 253

#: Unicode's categories that no label may have: control characters, halves of characters, ends of
#: lines and paragraphs.
_FORBIDDEN: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: Characters that change the direction of text: with them, one name can look like another.
_TURNS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class Labels:
    """A device's labels. None leaves a label as it is, an empty text takes it away."""

    name: str | None = None
    address: str | None = None
    model: str | None = None
    group: str | None = None

    def __bool__(self) -> bool:
        return self != NO_LABELS

    def over(self, older: Labels) -> Labels:
        """These labels; where one is None, the older one. A label that is taken away becomes None."""
        pairs = zip(self.values(), older.values(), strict=True)
        return Labels(*((old if new is None else new) or None for new, old in pairs))

    def values(self) -> tuple[str | None, ...]:
        """The four, in their order. (`astuple` deep-copies each.)"""
        return self.name, self.address, self.model, self.group


NO_LABELS: Final = Labels()

#: The names of the four labels, in the order of `Labels`.
LABEL_NAMES: Final = tuple(each.name for each in fields(Labels))


def checked_label(value: str) -> str:
    """A label without the white space around it.

    Raises:
        ValueError: names the limit that the label breaks, and does not quote the label.
    """
    text = value.strip()
    if len(text) > MAX_LABEL_CHARACTERS:
        raise ValueError(f"must be at most {MAX_LABEL_CHARACTERS} characters, is {len(text)}")
    if any(c in _TURNS or unicodedata.category(c) in _FORBIDDEN for c in text):
        raise ValueError("must not contain control characters")
    return text
