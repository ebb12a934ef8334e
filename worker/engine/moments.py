"""Reads moments as people type them (`2026-10-03`, `2 days ago`, `latest~1`), and finds the version valid then."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from confkeep.errors import InvalidInput, NotInStore
from confkeep.wording import count_text
from worker.engine.versions import no_versions, versions_of
from worker.store.repository.backup import Version
from worker.store.repository.reader import find_commit, version_of
from worker.store.repository.tenant_repository import TenantRepository

#: Seconds of a unit; a month is 30 days and a year 365.
_UNITS_S: Final = {
    "s": 1,
    "m": 60,
    "h": 3_600,
    "d": 86_400,
    "w": 7 * 86_400,
    "month": 30 * 86_400,
    "year": 365 * 86_400,
}
_WORDS: Final = {"second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "day": "d",
                 "week": "w"}  # fmt: skip
_DURATION: Final = re.compile(r"(\d{1,6}(?:\.\d+)?)\s*([a-z]+?)(?:(?<=[a-z]{2})s)?")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_COMMIT: Final = re.compile(r"[0-9a-f]{4,40}", re.IGNORECASE)
_LATEST: Final = re.compile(r"latest(?:~(\d{1,9}))?")
#: Moments, and what else names a version, as errors say them.
_MOMENTS: Final = "2026-10-03, 2026-10-03T12:00 or `2 days ago`"
_VERSIONS: Final = f"{_MOMENTS}, latest, latest~1, or a commit id"


def seconds_of(text: str) -> float | None:
    """The seconds of a duration such as `26h`, `2 days` or `1 week`; None if the text is no duration."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        return None
    unit = _UNITS_S.get(_WORDS.get(found[2], found[2]))
    return None if unit is None else float(found[1]) * unit


def moment_of(
    field: str, text: str, now: dt.datetime, *, end_of_day: bool, such_as: str = _MOMENTS
) -> dt.datetime:
    """The moment that a text names: a date, or a duration before `now`. A date without a time zone is in UTC.

    Args:
        field: the argument or option that the error names.
        end_of_day: whether a date without a time means the day's last moment, not its first.

    Raises:
        InvalidInput: the text is neither, or names a year that no date has.
    """
    said = text.strip().lower()
    try:
        if said in ("today", "yesterday"):
            day = now - dt.timedelta(days=said == "yesterday")
            said = day.date().isoformat()
        seconds = seconds_of(said.removesuffix("ago"))
        if seconds is not None:
            return now - dt.timedelta(seconds=seconds)
        found = dt.datetime.fromisoformat(said.upper())
        if end_of_day and _DAY.fullmatch(said):
            found += dt.timedelta(days=1) - dt.timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise InvalidInput(field, f"must be such as {such_as}") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)


def version_at(
    repository: TenantRepository, device_id: str, text: str, *, field: str = "--at"
) -> Version:
    """The version that a text names: a commit's id or its first digits, `latest`, `latest~N` (N versions
    before the latest), or a moment, which means the newest version captured until then.

    A date without a time means its last moment: how the device was at the end of that day.

    Raises:
        InvalidInput: the text is none of these.
        NotInStore: there is no such commit or version.
        RemovedByRetention: retention or an erasure removed the commit.
    """
    said = text.strip()
    latest = _LATEST.fullmatch(said.lower())
    if latest is None and _COMMIT.fullmatch(said):
        return version_of(find_commit(repository, said))
    if latest is not None:
        back = int(latest[1] or 0)
        versions = versions_of(repository, device_id, back + 1)
        if versions and len(versions) <= back:
            raise NotInStore(
                f"device {device_id} has {count_text(len(versions), 'version')}: there is no {said.lower()}"
            )
        if versions:
            return versions[back]
        raise no_versions(repository, device_id)
    now = dt.datetime.now(dt.UTC)
    when = moment_of(field, said, now, end_of_day=True, such_as=_VERSIONS)
    first = None
    for version in versions_of(repository, device_id):
        first = version.captured_at
        if first <= when:
            return version
    if first is None:
        raise no_versions(repository, device_id)
    raise NotInStore(
        f"device {device_id} has no version as old as {when:%Y-%m-%d %H:%M} UTC: its first was "
        f"captured {first:%Y-%m-%d %H:%M} UTC"
    )
