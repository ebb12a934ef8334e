"""A digest as text, as JSON, and cut so that it fits a message."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final

from confkeep.wording import count_text, printable
from worker.engine.directory import Called
from worker.hooks.digest import Changed, Dead, Digest, Stale, Suspect
from worker.observe import states

#: Most characters of a line of a difference.
_MOST_LINE: Final = 160


@dataclass(frozen=True, slots=True)
class Cut:
    """How much of a digest is shown."""

    #: Lines of each device's difference.
    lines: int
    #: Members of each list.
    devices: int


#: What is tried in turn until a message fits.
CUTS: Final = (Cut(60, 500), Cut(30, 100), Cut(8, 50), Cut(0, 50), Cut(0, 10), Cut(0, 0))


def fitting(digest: Digest, render: Callable[[Digest, Cut], str], most: int | None = None) -> str:
    """The longest form of a digest that has at most so many characters; None: the first."""
    text = ""
    for cut in CUTS:
        text = render(digest, cut)
        if most is None or len(text) <= most:
            return text
    return text[:most]


def title_of(digest: Digest) -> str:
    """One line that says all in numbers."""
    counts = [
        f"{len(digest.changed)} of {count_text(digest.devices, 'device')} changed",
        f"{len(digest.stale)} {states.STALE.word}" if digest.stale else "",
        f"{len(digest.suspect)} {states.SUSPECT.word}" if digest.suspect else "",
        count_text(len(digest.dead), states.DEAD.word) if digest.dead else "",
    ]
    return f"{printable(str(digest.tenant))}: " + ", ".join(one for one in counts if one)


def text_of(digest: Digest, cut: Cut = CUTS[0]) -> str:
    """The digest as plain text."""
    lines = [
        title_of(digest),
        f"from {moment_text(digest.since)} to {moment_text(digest.until)} UTC",
    ]
    for changed in digest.changed[: cut.devices]:
        lines += ["", f"{printable(str(changed.device))}: {changes_text(changed)}"]
        shown, left_out = lines_of(changed.diff, cut)
        lines += [f"  {line}" for line in shown]
        if left_out:
            lines.append(f"  ... and {count_text(left_out, 'more line')}")
    lines += _more(len(digest.changed), cut, "changed")
    for heading, rows in sections_of(digest):
        lines += ["", f"{heading}:"]
        lines += [f"  {name}: {said}" for name, said in rows[: cut.devices]]
        lines += _more(len(rows), cut, heading.lower())
    return "\n".join(lines) + "\n"


def sections_of(digest: Digest) -> list[tuple[str, list[tuple[str, str]]]]:
    """The lists of what needs a look, each with its heading: a device and what is said of it."""
    found = [
        (
            states.STALE.title,
            [
                (
                    printable(str(one.device)),
                    "no backup known"
                    if one.last_backup_at is None
                    else f"last backup {moment_text(one.last_backup_at)}",
                )
                for one in digest.stale
            ],
        ),
        (
            states.SUSPECT.title,
            [
                (
                    printable(str(one.device)),
                    f"{moment_text(one.captured_at)}: {printable(one.reason)}",
                )
                for one in digest.suspect
            ],
        ),
        (
            f"{states.DEAD.title}s",
            [
                (_name(one.device), f"{printable(one.backup_id)}: {printable(one.reason)}")
                for one in digest.dead
            ],
        ),
    ]
    return [(heading, rows) for heading, rows in found if rows]


def lines_of(hunks: str | None, cut: Cut) -> tuple[list[str], int]:
    """The lines of a difference that are shown, printable, and how many are not."""
    lines = (hunks or "").splitlines()
    shown = [
        printable(line.expandtabs(4))[:_MOST_LINE] + ("..." if len(line) > _MOST_LINE else "")
        for line in lines[: cut.lines]
    ]
    return shown, len(lines) - len(shown)


def json_of(digest: Digest) -> dict[str, Any]:
    """The digest for `--json`."""
    return {
        "tenant_id": digest.tenant.id,
        "tenant_name": digest.tenant.name,
        "since": digest.since,
        "until": digest.until,
        "devices": digest.devices,
        "changed": [_entry(one) for one in digest.changed],
        "stale": [_entry(one) for one in digest.stale],
        "suspect": [_entry(one) for one in digest.suspect],
        "dead": [_entry(one) for one in digest.dead],
    }


def changes_text(changed: Changed) -> str:
    """How often a device changed, and when the last time."""
    times = "new" if changed.new else f"changed {count_text(changed.times, 'time')}"
    return f"{times}, last {moment_text(changed.changed_at)}"


def moment_text(when: dt.datetime) -> str:
    """A date in UTC, to the minute."""
    return when.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M")


def _name(device: Called | None) -> str:
    return "unknown device" if device is None else printable(str(device))


def _entry(one: Changed | Stale | Suspect | Dead) -> dict[str, Any]:
    """A member of a list with its fields by their names, the device by its id and name."""
    values = {field.name: getattr(one, field.name) for field in fields(one)}
    device: Called | None = values.pop("device")
    return {"device_id": device and device.id, "device_name": device and device.name, **values}


def _more(number: int, cut: Cut, what: str) -> list[str]:
    return [f"... and {number - cut.devices:,} more {what}"] if number > cut.devices else []
