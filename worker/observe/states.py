"""The states that confkeep tells of: the word, the meaning and the colour of each, for all that show them.

The pages, `confkeep status`, a drill's page and the help of the metrics go by this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["good", "warn", "bad", "dim"]


@dataclass(frozen=True, slots=True)
class Colours:
    """How a role looks: on a terminal, and in a browser's light and dark theme."""

    terminal: str
    light: str
    dark: str


#: The style sheet of the pages has the same under the names of the roles; a test compares them.
COLOURS: Final[dict[Role, Colours]] = {
    "good": Colours("green", "#1d6b36", "#74cf8e"),
    "warn": Colours("yellow", "#7f4f00", "#e5b560"),
    "bad": Colours("red", "#a8201a", "#f28b84"),
    "dim": Colours("dim", "#565b62", "#a3abb4"),
}


@dataclass(frozen=True, slots=True)
class State:
    """One state of a thing."""

    thing: str
    word: str
    #: As the end of "the thing ...".
    meaning: str
    role: Role

    @property
    def loud(self) -> str:
        """The word where it has to stand out without a colour."""
        return self.word.upper()

    @property
    def title(self) -> str:
        """The word as a heading begins with it."""
        return self.word.capitalize()

    @property
    def style(self) -> str:
        """Its colour on a terminal."""
        return COLOURS[self.role].terminal


WORKING: Final = State(
    "worker",
    "working",
    "made a sweep in the last 15 seconds, or in three of its intervals if they are longer",
    "good",
)
SILENT: Final = State(
    "worker",
    "silent",
    "made no sweep for 15 seconds, or for three of its intervals if they are longer",
    "bad",
)
WAITING: Final = State("tenant", "waiting", "has backups that are not committed yet", "dim")
AFTER_FAULT: Final = State(
    "tenant",
    "waiting after a fault",
    "has backups whose turn ended with a fault of the system; it is tried again by itself",
    "warn",
)
STALLED: Final = State(
    "tenant",
    "stalled",
    "has backups whose turn failed five times or more: a person should look",
    "bad",
)
DEAD: Final = State(
    "backup", "dead letter", "cannot be committed, and is kept whole with its reason", "bad"
)
UNCHANGED: Final = State("backup", "unchanged", "changed nothing of its device", "dim")
SUSPECT: Final = State(
    "version",
    "suspect",
    "looks cut off, empty or like an error, or lost much against the last good one",
    "warn",
)
FRESH: Final = State("device", "fresh", "had a backup lately", "good")
STALE: Final = State("device", "stale", "had no backup for too long", "warn")
RIGHT: Final = State("restore", "ok", "gave the bytes that the history says", "good")
FAILED: Final = State("restore", "failed", "gave other bytes, or none", "bad")

ALL: Final = (
    *(WORKING, SILENT, WAITING, AFTER_FAULT, STALLED),
    *(DEAD, UNCHANGED, SUSPECT, FRESH, STALE, RIGHT, FAILED),
)
