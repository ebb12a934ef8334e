"""Reads events in order: from the stream, and from git whatever of the commits that does not have.

The stream is quick and bounded; git is the truth. A reader goes on from its place in the stream as long
as that is there. If it is not (the events were trimmed, or Redis was emptied), the reader goes through the
tenants' git once, from the last commit of each that its cursor names, and then through what the stream
has. Beside that, each event of a commit names the commit before it: where that is not the last one that was
told of the tenant, git tells what is missing, or that all of it was told before.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import redis

from confkeep.errors import StoreError, StoreMissing
from confkeep.observe.logs import get_logger
from confkeep.queue import event_stream, events
from confkeep.queue.cursor import Cursor, Place, Seen, key_of, seen_of
from confkeep.queue.events import Event
from confkeep.settings import Settings

log = get_logger("events")

#: Where the last commit that was told is not known any more, those from so many seconds before it are told
#: again: a clock may have been set back meanwhile.
_MARGIN_S: Final = 3_600
#: Least entries read in one step: a filter may leave out most.
_LEAST: Final = 50
#: Seconds after which a repository that could not be read is tried again.
_PAUSES_S: Final = (0.05, 0.2, 0.5)


@dataclass(frozen=True, slots=True)
class Page:
    """Some events, in order."""

    events: list[Event]
    #: Where to go on after all of them, and after what was left out.
    cursor: str


@dataclass(frozen=True, slots=True)
class Commits:
    """A tenant's commits after one of them, oldest first."""

    #: Each one's id, the committer's date in seconds since 1970, and its event; None for a commit that is
    #: not confkeep's.
    found: list[tuple[str, int, Event | None]]
    #: There are no more.
    done: bool


class Git(Protocol):
    """Who can be asked about git."""

    def tenants(self) -> list[str]:
        """The ids of all tenants that have a repository."""

    def after(
        self, tenant_id: str, seen: str | None, since_s: int, upto: str | None, limit: int
    ) -> Commits | None:
        """A tenant's commits after one.

        Args:
            seen: its id, or the first digits.
            since_s: if `seen` is None, or not known any more: from this second on, by the committers' dates.
            upto: the last one wanted; None: the newest.

        Returns:
            None if `upto` is not in the history.

        Raises:
            StoreError: the repository cannot be read.
        """


def read_page(
    client: redis.Redis,
    settings: Settings,
    git: Git,
    cursor: str | None,
    *,
    tenants: Collection[str] | None,
    types: Collection[str] | None,
    limit: int,
    wait_s: float,
) -> Page:
    """As `worker.engine.events.read_events`, with whoever can be asked about git."""
    reading = _Reading(client, git, cursor, tenants, types, limit)
    deadline = time.monotonic() + wait_s
    while True:
        reading.go_on()
        left_s = deadline - time.monotonic()
        if reading.found or left_s <= 0:
            return Page(reading.found, reading.cursor())
        event_stream.wait(client, reading.place, left_s, settings.redis_timeout_s)


class _Reading:
    """One page in the making, and how far it has come."""

    def __init__(
        self,
        client: redis.Redis,
        git: Git,
        cursor: str | None,
        tenants: Collection[str] | None,
        types: Collection[str] | None,
        limit: int,
    ) -> None:
        self._client = client
        self._git = git
        self._tenants = tenants
        self._types = types
        self._of_commits = types is None or not events.OF_COMMITS.isdisjoint(types)
        self._limit = limit
        began = Cursor() if cursor is None else Cursor.decode(cursor)
        self.place = began.place
        self._told_to = began.told_to
        self._passing = began.passing if self._of_commits else None
        self._since_s = began.since_s
        self._seen = dict(began.seen)
        #: What it was at the beginning, and what was seen since, in order.
        self._began = began
        self._steps: list[tuple[bytes, Seen]] = []
        #: The entry that the stream would be compared with is known to be gone.
        self._is_told = False
        self.found: list[Event] = []

    def cursor(self) -> str:
        """Where to go on."""
        return self._here()()

    def _here(self) -> partial[str]:
        now = Cursor(self.place, self._told_to, self._passing, self._since_s)
        return partial(_text_of, now, self._began, self._steps, len(self._steps))

    def _is_full(self) -> bool:
        return len(self.found) >= self._limit

    def _saw(self, key: bytes, sha: str, at_s: int) -> None:
        self._seen[key] = seen_of(sha, at_s)
        self._steps.append((key, self._seen[key]))

    def _give(self, event: Event) -> None:
        if self._types is not None and event.type not in self._types:
            return
        event._cursor = self._here()  # noqa: SLF001 - the reader alone knows it
        self.found.append(event)

    def go_on(self) -> None:
        """Collect events until the page is full or there are no more."""
        while not self._is_full():
            if self._passing is not None:
                self._go_through_git()
                continue
            compared = self._told_to or self.place
            part = event_stream.read(self._client, self.place, compared, max(self._limit, _LEAST))
            # No stream says nothing, unless git was gone through since.
            is_unknown = part.last == Place() and self._told_to is None
            if (is_unknown or not part.whole) and not self._is_told:
                self._lost_place(part.last)
                continue
            if not part.entries:
                return
            for entry in part.entries:
                if self._is_full() or not self._take(entry):
                    break

    def _lost_place(self, last: Place) -> None:
        """The stream does not say any more what came behind the place."""
        lost, compared = self.place, self._told_to or self.place
        # A place behind the last entry is of another stream, and of a clock that was set back since.
        self.place = Place(lost.ms, lost.number) if lost.is_at_or_before(last) else Place()
        if self._of_commits:
            self._told_to, self._passing = last, b""
        else:
            self._is_told = True
        if compared.check:
            self._give(_skipped(compared))

    def _go_through_git(self) -> None:
        """Tell each tenant's commits that were not told, tenant after tenant."""
        if self._told_to is None:
            self._told_to = event_stream.read(self._client, self.place, self.place, 1).last
        names = self._git.tenants() if self._tenants is None else self._tenants
        for key, tenant_id in sorted((key_of(name), name) for name in names):
            if self._passing is not None and key <= self._passing:
                continue
            if self._tell_commits(key, tenant_id, None) is False:
                return
            self._passing = key
        self._passing = None

    def _tell_commits(self, key: bytes, tenant_id: str, upto: str | None) -> bool | None:
        """Tell a tenant's commits after the last one that was told.

        Returns:
            Whether that is all; None if `upto` is not in the history, or git cannot be read.
        """
        while not self._is_full():
            seen = self._seen.get(key)
            try:
                commits = self._ask(tenant_id, seen, upto)
            except StoreMissing:
                raise
            except StoreError as error:
                # One repository must not keep the other tenants' events back. What it has is told with the
                # tenant's next commit, or when git is gone through again.
                log.warning(
                    "a tenant's commits cannot be read for events",
                    action="events.unread",
                    tenant_id=tenant_id,
                    error=str(error),
                )
                return None
            if commits is None:
                return None
            for sha, at_s, event in commits.found:
                self._saw(key, sha, at_s)
                if event is not None:
                    self._give(event)
            if commits.done:
                return True
        return False

    def _ask(self, tenant_id: str, seen: Seen | None, upto: str | None) -> Commits | None:
        """Ask git; a few times, since a repack beside may just remove the pack that is read."""
        for pause_s in (*_PAUSES_S, None):
            try:
                return self._git.after(
                    tenant_id,
                    None if seen is None else seen.sha.hex(),
                    self._since_s if seen is None else max(0, seen.at_s - _MARGIN_S),
                    upto,
                    self._limit - len(self.found),
                )
            except StoreMissing:
                raise
            except StoreError:
                if pause_s is None:
                    raise
                time.sleep(pause_s)
        raise AssertionError("unreachable")

    def _take(self, entry: event_stream.Entry) -> bool:
        """Tell what an entry says. Returns False if something comes before it that the page has no room for."""
        event = events.parse(entry.text)
        if event is None or (self._tenants is not None and event.tenant_id not in self._tenants):
            event = None
        elif event.type in events.OF_COMMITS and self._of_commits:
            return self._take_commit(entry.place, event)
        self._come_to(entry.place)
        if event is not None:
            self._give(event)
        return True

    def _take_commit(self, place: Place, event: Event) -> bool:
        tenant_id = event.tenant_id
        sha, parent = _sha_of(event.data.get("sha")), _sha_of(event.data.get("parent_sha"))
        is_told = self._told_to is not None and place.is_at_or_before(self._told_to)
        if is_told or tenant_id is None or sha is None:
            self._come_to(place)
            return True
        key = key_of(tenant_id)
        seen = self._seen.get(key)
        told: bool | None = None
        is_first = seen is None and (parent is None or self._since_s > 0)
        if is_first or (seen is not None and seen.is_of(parent)):
            self._saw(key, sha, int(event.at.timestamp()))
        elif seen is not None and seen.is_of(sha):
            told = True
        else:
            told = self._tell_commits(key, tenant_id, sha)
        if told is False:
            return False
        self._come_to(place)
        if told is None:
            # It is the next one; or it was removed since, or nobody can say what is missing before it.
            self._give(event)
        return True

    def _come_to(self, place: Place) -> None:
        self.place, self._is_told = place, False
        if self._told_to is not None and self._told_to.is_at_or_before(place):
            self._told_to = None


def _text_of(now: Cursor, began: Cursor, steps: list[tuple[bytes, Seen]], count: int) -> str:
    """The cursor after so many steps, as text; costs as much as it has tenants."""
    seen = {**began.seen, **dict(steps[:count])}
    return Cursor(now.place, now.told_to, now.passing, now.since_s, seen).encode()


def _skipped(lost: Place) -> Event:
    last = dt.datetime.fromtimestamp(lost.ms / 1000, dt.UTC)
    return events.new(
        events.SKIPPED,
        None,
        data={"since": last.isoformat(timespec="milliseconds")},
        about=(lost.id, lost.check.hex()),
    )


def _sha_of(value: object) -> str | None:
    is_one = (
        isinstance(value, str) and len(value) == 40 and not set(value) - set("0123456789abcdef")
    )
    return str(value) if is_one else None


def has_reached(cursor: str, end: Place) -> bool:
    """Whether a reader that has come to a cursor was told all that was there when the stream ended at `end`."""
    now = Cursor.decode(cursor)
    return now.passing is None and end.is_at_or_before(now.place)


def cursor_from(client: redis.Redis, moment: dt.datetime | None) -> str:
    """A cursor for what happens from a moment on; None: from now on.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    if moment is None:
        place = event_stream.now_place(client)
        since_s = int(time.time())
    else:
        since_s = max(0, int(moment.timestamp()))
        place = Place(since_s * 1000)
    return Cursor(place, passing=None, since_s=since_s).encode()
