"""Pages: what a browser waits for in a fleet with a tenant of 10,000 devices, from a process just started and later on."""

from __future__ import annotations

import http.client
import random
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final
from urllib.parse import quote

import redis

from confkeep.labels import Labels
from tests.bench.finding import LITERAL, REGEX, confkeep
from tests.bench.fleet import Fleet, folder
from tests.bench.http import start
from tests.bench.table import Row, alternate, at_most, median_costs, timed
from tests.http.serving import new_token
from tests.servers import free_port
from worker.http import paging
from worker.http.pages.routing import COOKIE
from worker.http.tokens import RIGHTS
from worker.process.local import EmbeddedServer
from worker.store.repository.backup import Backup
from worker.store.writing.commit import open_for_writing

DEVICES: Final = 10_000
#: Tenants that share as many devices once more.
TENANTS: Final = 50
#: Versions of the device with a long history; lines of the large export, and its versions.
HISTORY, LINES, VERSIONS = 7_700, 5_000, 200
#: Processes that are started for each cold figure; requests of each warm one.
STARTS, REQUESTS = 3, 30
#: Commits of a batch.
_AT_ONCE: Final = 1_000
#: Bytes of a version in the long history.
_SMALL: Final = 1_000


@dataclass(frozen=True, slots=True)
class Place:
    """What was written."""

    tenant: str
    #: The device with the long history, and the one with the large export.
    long: str
    large: str
    #: The commits of the long history, newest first.
    shas: list[str]


@dataclass(frozen=True, slots=True)
class Kind:
    """A page, and the seconds that it may take."""

    name: str
    bar_s: float
    path: Callable[[], str]
    bar_bytes: int | None = None


def rows() -> Iterator[Row]:
    """The rows about pages."""
    with folder() as place:
        written = write(place / "store")
        with EmbeddedServer(place / "server") as server:
            with redis.Redis(unix_socket_path=str(server.socket)) as client:
                tokens = [
                    new_token(client, "reveals", may=RIGHTS),
                    new_token(client, "masked", may=["read"]),
                ]
            yield from measure(place, server, tokens, written)


def write(store: Path) -> Place:
    """The devices with a version each, and the two that have many; and the fleet's other tenants."""
    fleet = Fleet(DEVICES)
    tenant, long, large = fleet.uuid(), fleet.device_ids[0], fleet.device_ids[1]
    number = count()

    def backup(device: str, export: bytes) -> Backup:
        at = next(number)
        labels = Labels(f"r{at % DEVICES:04}", f"10.9.{at % 250}.{at // 250 % 250}", "RB5009", "x")
        return Backup(fleet.uuid(), device, export, None, "nightly poll", labels=labels)

    with open_for_writing(store / f"{tenant}.git") as writer:

        def commit(backups: list[Backup]) -> list[str]:
            return [
                made.sha
                for first in range(0, len(backups), _AT_ONCE)
                for made in writer.commit_backups(backups[first : first + _AT_ONCE])
            ]

        for first in range(0, DEVICES, _AT_ONCE):
            commit(
                [
                    backup(device, fleet.export())
                    for device in fleet.device_ids[first : first + _AT_ONCE]
                ]
            )
        exports = [fleet.export(_SMALL)]
        while len(exports) < HISTORY:
            exports.append(fleet.next_export(exports[-1]))
        shas = commit([backup(long, export) for export in exports])
        text = b"\n".join(fleet.line().encode() for _ in range(LINES)) + b"\n"
        # The last but one changes every other line.
        texts = [text]
        while len(texts) < VERSIONS - 2:
            texts.append(fleet.next_export(texts[-1]))
        every_other = [
            fleet.line().encode() if at % 2 else line
            for at, line in enumerate(texts[-1].splitlines())
        ]
        texts.append(b"\n".join(every_other) + b"\n")
        texts.append(fleet.next_export(texts[-1]))
        commit([backup(large, each) for each in texts])
    for _ in range(TENANTS):
        with open_for_writing(store / f"{fleet.uuid()}.git") as writer:
            some = DEVICES // TENANTS
            writer.commit_backups([backup(fleet.uuid(), exports[0]) for _ in range(some)])
    return Place(tenant, long, large, shas[::-1])


def kinds(place: Place) -> tuple[Kind, ...]:
    """The pages."""
    rng = random.Random(1)
    devices = f"/tenants/{place.tenant}/devices"
    versions = f"{devices}/{place.large}/versions"
    sorts = ("name", "-changed", "seen", "-versions", "address")

    def history() -> str:
        # As its "Older versions" leads from page to page.
        at = rng.randrange(1, HISTORY // 100) * 100 - 1
        return f"{devices}/{place.long}?cursor={paging.encode([place.shas[at]])}"

    return (
        Kind(
            f"a directory of {DEVICES:,} devices",
            0.3,
            lambda: f"/tenants/{place.tenant}?sort={rng.choice(sorts)}&page={rng.randrange(1, 40)}",
            300_000,
        ),
        Kind(f"the fleet of {TENANTS + 1} tenants, {DEVICES * 2:,} devices", 0.3, lambda: "/", 300_000),
        Kind(f"100 of {HISTORY:,} versions", 0.1, history),
        Kind(f"a difference, all {LINES:,} lines", 0.3, lambda: f"{versions}/latest/diff?context=all"),
        Kind(
            f"a difference, every other of {LINES:,} lines changed",
            0.3,
            lambda: f"{versions}/latest~1/diff",
        ),
        Kind(
            f"since when {LINES:,} lines stand, {VERSIONS} versions",
            0.3,
            lambda: f"{versions}/latest?since=1",
        ),
    )  # fmt: skip


def measure(
    place: Path, server: EmbeddedServer, tokens: list[str], written: Place
) -> Iterator[Row]:
    """Ask for each page, by who may see secrets and by who may not."""
    cold = {
        kind.name: [first_s(place, server, tokens[1], kind) for _ in range(STARTS)]
        for kind in kinds(written)
    }
    port = free_port()
    process = start(place, server, port)
    try:
        for kind in kinds(written):
            yield from page_rows(port, tokens, kind, cold[kind.name])
        yield from search_rows(place / "store", port, tokens)
    finally:
        process.stop()


def first_s(place: Path, server: EmbeddedServer, token: str, kind: Kind) -> float:
    """Seconds of the first page that a process is asked for."""
    port = free_port()
    process = start(place, server, port)
    try:
        return timed(partial(get, port, token, kind.path()))
    finally:
        process.stop()


def page_rows(port: int, tokens: list[str], kind: Kind, cold: list[float]) -> Iterator[Row]:
    """How long a page takes whose process has seen others, and how large it is."""

    def ask(token: str) -> int:
        return get(port, token, kind.path())

    size = max(map(ask, tokens))
    rounds = alternate([partial(timed, partial(ask, token)) for token in tokens], REQUESTS)
    shown, masked = (sorted(each) for each in zip(*rounds, strict=True))
    p95 = masked[int(len(masked) * 0.95)]
    all_s = (statistics.median(masked), p95, statistics.median(shown), statistics.median(cold))
    figures = (
        "p50 {:.0f} and p95 {:.0f} ms, with secrets p50 {:.0f} ms, the first of a process {:.0f} ms"
    ).format(*(each * 1e3 for each in all_s))
    name = f"page, {kind.name}"
    bar = f"part of {kind.bar_s * 1e3:.0f} ms"
    yield at_most(f"{name}, masked, p95, {bar}", p95 / kind.bar_s, detail=figures)
    if kind.bar_bytes is not None:
        bar = f"part of {kind.bar_bytes // 1000} kB"
        figures = f"{size / 1000:.0f} kB, as they are sent"
        yield at_most(f"{name}, bytes, {bar}", size / kind.bar_bytes, detail=figures)


def search_rows(store: Path, port: int, tokens: list[str]) -> Iterator[Row]:
    """The page of a search in all tenants beside the same search on the command line, from its start to its end."""
    for what, pattern, in_page, typed in (
        ("a literal", LITERAL, "", []),
        ("a regular expression", REGEX, "&regex=1", ["--regex"]),
    ):
        for masked, token in zip(([], ["--mask"]), tokens, strict=True):
            path = f"/search?q={quote(pattern)}{in_page}"
            command = ["search", *typed, *masked, "--", pattern]
            calls: list[Callable[[], object]] = [
                partial(get, port, token, path),
                partial(confkeep, store, *command),
            ]
            page_s, typed_s = median_costs(alternate([partial(timed, call) for call in calls], 3))
            name = f"page, search for {what}{', masked' if masked else ''}, over the command"
            figures = f"{page_s:.2f} s, the command {typed_s:.2f} s"
            yield at_most(name, page_s / typed_s, detail=figures)


def get(port: int, token: str, path: str) -> int:
    """Ask for a page as a browser does; the bytes that are sent as its body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Cookie": f"{COOKIE}={token}", "Accept-Encoding": "gzip"}
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, path, body[:500])
        return len(body)
    finally:
        connection.close()
