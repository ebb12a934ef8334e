"""Searches the exports of a tenant's devices for lines, in linear time for every pattern."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import re2

from confkeep.errors import InvalidInput
from confkeep.routeros.sections import Sections
from worker.engine.directory import Called, names_of
from worker.engine.versions import versions_of
from worker.masking.mask import mask
from worker.store.repository.backup import EXPORT_NAME, decode_text
from worker.store.repository.many import Place, read_many
from worker.store.repository.reader import find_commit, folders_of, read_pair
from worker.store.repository.tenant_repository import TenantRepository, tells_damage

#: Bytes that re2 may use for one pattern.
_MOST_MEMORY: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for."""

    pattern: str
    #: Whether `pattern` is a regular expression in re2's syntax, matched line by line; else it is plain text.
    regex: bool = False
    ignore_case: bool = False
    #: How many lines before and after each match to return.
    context: int = 0


@dataclass(frozen=True, slots=True)
class MatchEntry:
    """A line that matches, with the lines around it."""

    #: Its number, from 1.
    line: int
    text: str
    #: RouterOS's menu; None outside of any.
    section: str | None = None
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The matches in one device's export."""

    device: Called
    matches: list[MatchEntry]


@dataclass(frozen=True, slots=True)
class Span:
    """When a device had a line that matches."""

    device: Called
    #: When the oldest and the newest version with such a line were captured.
    first: dt.datetime
    last: dt.datetime
    #: Whether the device's newest version still has one.
    still: bool


class Searcher:
    """A compiled query."""

    def __init__(self, query: Query) -> None:
        """Compile the pattern.

        Raises:
            InvalidInput: the pattern is empty, or no regular expression.
        """
        if not query.pattern:
            raise InvalidInput("PATTERN", "must not be empty")
        options = re2.Options()
        options.case_sensitive = not query.ignore_case
        options.literal = not query.regex
        options.never_nl = True
        options.log_errors = False
        options.max_mem = _MOST_MEMORY
        pattern = query.pattern.encode("utf-8", "surrogateescape")
        try:
            self._regex: Any = re2.compile(b"(?m)" + pattern if query.regex else pattern, options)
        except re2.error as error:
            reason = error.args[0] if error.args else ""
            text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
            problem = f"is no regular expression of re2: {text[:200]}"
            raise InvalidInput("PATTERN", problem) from None
        self._context = query.context

    def matches(self, export: bytes) -> list[MatchEntry]:
        """The lines of an export that match."""
        found: list[MatchEntry] = []
        sections: Sections | None = None
        at = number = counted = 0
        while (match := self._regex.search(export, at)) is not None:
            sections = sections or Sections(export)
            start = export.rfind(b"\n", 0, match.start()) + 1
            end = export.find(b"\n", match.start())
            end = len(export) if end < 0 else end
            if start == len(export):
                break  # an empty match behind the last line
            number += export.count(b"\n", counted, start)
            counted = start
            before: list[bytes] = []
            after: list[bytes] = []
            if self._context:
                before = export[:start].split(b"\n")[-1 - self._context : -1]
                after = export[end + 1 :].removesuffix(b"\n").split(b"\n", self._context)
                after = after[: self._context] if end + 1 < len(export) else []
            found.append(
                MatchEntry(
                    number + 1,
                    _text(export[start:end]),
                    sections.at(start),
                    tuple(map(_text, before)),
                    tuple(map(_text, after)),
                )
            )
            at = end + 1
            if at > len(export):
                break
        return found

    def matches_any(self, export: bytes) -> bool:
        """Whether a line of an export matches."""
        return self._regex.search(export) is not None


def _text(line: bytes) -> str:
    return decode_text(line.removesuffix(b"\r"))


def devices_in(repository: TenantRepository, group: str | None = None) -> list[Called]:
    """The devices to search, sorted by name and id; only those of `group` if it is given."""
    found = [
        called
        for called in names_of(repository).values()
        if group is None or called.labels.group == group
    ]
    return sorted(found, key=lambda called: (called.name or "\U0010ffff", called.id))


#: Reads the export of each device, in their order; None for one without.
Exports = Callable[[TenantRepository, Sequence[Called]], Iterator[bytes | None]]


def search(
    repository: TenantRepository,
    searcher: Searcher,
    devices: Sequence[Called],
    exports: Exports | None = None,
    *,
    masked: bool = False,
) -> Iterator[Found]:
    """The devices with a line that matches, in the given order.

    Args:
        exports: reads the exports to search; None means those in the newest commit.
        masked: search the masked texts, so that what is found tells nothing of secrets.

    Raises:
        RepositoryDamaged: git cannot be read.
    """
    for called, export in zip(devices, (exports or _newest)(repository, devices), strict=True):
        if export is not None and masked:
            export = mask(export, called.labels.model)
        matches = [] if export is None else searcher.matches(export)
        if matches:
            yield Found(called, matches)


@tells_damage
def _newest(repository: TenantRepository, devices: Sequence[Called]) -> Iterator[bytes | None]:
    tip = repository.tip()
    if tip is None:
        return iter(())
    # From each folder on: a root tree of 10,000 devices takes long to go through.
    folders = folders_of(repository)
    # A device that was erased meanwhile has none; the root itself holds no export.
    roots = [folders.get(called.id, str(tip)) for called in devices]
    return read_many(repository, [Place(root, EXPORT_NAME) for root in roots])


def as_of(when: dt.datetime) -> Exports:
    """Reads the exports that were valid at a moment: of each newest version captured until then."""

    def read(repository: TenantRepository, devices: Sequence[Called]) -> Iterator[bytes | None]:
        return (one(repository, called) for called in devices)

    def one(repository: TenantRepository, called: Called) -> bytes | None:
        for version in versions_of(repository, called.id):
            if version.captured_at <= when:
                commit = find_commit(repository, version.sha)
                return read_pair(repository, commit, called.id).export
        return None

    return read


def spans(
    repository: TenantRepository,
    searcher: Searcher,
    devices: Iterable[Called],
    *,
    masked: bool = False,
) -> Iterator[Span]:
    """When each device had a line that matches. Reads every export of every version.

    Args:
        masked: search the masked texts.

    Raises:
        RepositoryDamaged: git cannot be read.
    """
    for called in devices:
        dates: list[dt.datetime] = []
        still = False
        for place, version in enumerate(versions_of(repository, called.id)):
            commit = find_commit(repository, version.sha)
            export = read_pair(repository, commit, called.id).export
            if export is not None and masked:
                export = mask(export, called.labels.model)
            if export is not None and searcher.matches_any(export):
                dates.append(version.captured_at)
                still = still or place == 0
        if dates:
            yield Span(called, min(dates), max(dates), still)
