"""status --watch: what it shows at 80 columns without colour, and what it says into a pipe."""

from __future__ import annotations

import dataclasses
import datetime as dt
import io
import json
import os
import re
import signal
from pathlib import Path

import pytest
import redis
from rich.console import Console

from confkeep.broker import keys
from confkeep.errors import BrokerUnavailable
from confkeep.models import Receipt
from confkeep.settings import load_settings
from tests.terminals import OnTerminal
from tests.unit.cli.conftest import Confkeep, Store
from worker.cli import watch_state
from worker.cli.watch_state import Pace, Snapshot
from worker.cli.watch_view import View
from worker.process.local import EmbeddedServer
from worker.process.workers import WorkerStatus
from worker.queue import inboxes, totals
from worker.queue.backoff import Backoff
from worker.queue.dead_letters import DeadLetter
from worker.queue.inboxes import InboxStatus, Load

TENANT = "aaaa1111-0000-4000-8000-{:012d}"
DEVICE = "beef0001-0000-4000-8000-000000000001"
NOW_MS = 1_795_500_000_000


def counted(committed: int = 0, latency_ms: int = 0, bucket: str = "250") -> totals.Totals:
    return totals.parse(
        {
            b"enqueued": str(committed + 3).encode(),
            b"committed": str(committed).encode(),
            b"unchanged": b"1",
            b"dead": b"1",
            b"latency_ms": str(latency_ms).encode(),
            f"latency_ms:{bucket}".encode(): str(committed).encode(),
        }
    )


def commit(number: int, suspect: str | None = None, unchanged: bool = False) -> Receipt:
    return Receipt(
        tenant_id=TENANT.format(number),
        device_id=DEVICE,
        backup_id=TENANT.format(900 + number),
        sha=f"{number:040x}",
        committed_at=dt.datetime.fromtimestamp(NOW_MS / 1000 - number, dt.UTC),
        lines_added=number,
        lines_removed=2,
        unchanged=unchanged,
        export_changed=not unchanged,
        suspect=suspect,
    )


CALM = Snapshot(
    server_ms=NOW_MS,
    totals=counted(),
    workers=[WorkerStatus("worker-0@host", list(range(16)), 0.4, 15.0)],
    inboxes=[],
    inbox_count=0,
    waits={},
    load=Load(0, 0, {}),
    wakeups=0,
    recent=[],
    dead_count=0,
    dead=[],
)
BUSY = dataclasses.replace(
    CALM,
    server_ms=NOW_MS + 5_000,
    totals=counted(500, 60_000),
    workers=[
        WorkerStatus("worker-0@a-host-with-a-rather-long-name.example.net", [0, 2, 4], 0.4, 15.0),
        WorkerStatus("worker-1@host", [1, 3], 95.0, 15.0),
    ],
    inboxes=[InboxStatus(TENANT.format(n), 1_000 + n, 4_000.0 - n) for n in range(30)],
    inbox_count=12_345,
    waits={
        TENANT.format(0): Backoff(2, NOW_MS - 9_000, NOW_MS + 9_000, "QueueError: \x1b[31mred"),
        TENANT.format(1): Backoff(
            7, NOW_MS - 400_000, NOW_MS + 40_000, "StoreUnavailable: " + "no space left, " * 9
        ),
    },
    load=Load(900_000, 3 << 30, {TENANT.format(n): 5 << 20 for n in range(30)}),
    wakeups=17,
    recent=[commit(1), commit(2, suspect="the export holds an error: " + "x" * 90), commit(3)],
    dead_count=3,
    dead=[
        DeadLetter(
            tenant_id=TENANT.format(n),
            backup_id=TENANT.format(700 + n),
            device_id=DEVICE,
            reason="its bytes are gone",
            kind="StagedBytesMissing",
            died_at=f"2026-11-24T06:00:0{n}+00:00",
            entry="",
        )
        for n in range(3)
    ],
)


def drawn(
    snapshot: Snapshot | None,
    *,
    pace: Pace | None = None,
    width: int = 80,
    height: int = 40,
    outage: tuple[str, float] | None = None,
) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, no_color=True, color_system=None)
    console.print(View(snapshot, pace or Pace(), load_settings(), 2.0, outage))
    return out.getvalue()


def paced(*snapshots: Snapshot) -> Pace:
    pace = Pace()
    for snapshot in snapshots:
        pace.add(snapshot)
    return pace


def test_an_idle_deployment() -> None:
    said = drawn(CALM)
    assert "Committed  -" in said
    assert "Waiting    0 backups of 0 tenants, 0 bytes, 0 wake-ups queued" in said
    assert "worker-0@host  0-15    0.4 s ago" in said
    assert "No worker serves" not in said
    assert "Dead letters: 0" in said
    assert "Waiting after a fault" not in said


def test_a_busy_deployment_says_what_asks_for_a_person() -> None:
    said = drawn(BUSY, pace=paced(CALM, BUSY), height=60)
    for text in (
        "Committed  100.0/s",
        "Latency    120 ms on average, half within 250 ms, 95 % within 250 ms (last 5 s)",
        "Waiting    90% of the limit, 900,000 backups of 12,345 tenants, 3.0 GiB, 17",
        "2 min ago  SILENT",
        "No worker serves shards 1,3,5-15.",
        "Inboxes, oldest first: 12345",
        f"{TENANT.format(0)}    1,000  5.0 MiB  1 h",
        "Waiting after a fault: 2, 1 stalled",
        f"{TENANT.format(1)}  STALLED 7 tries in 7 min, next in 35 s",
        "StoreUnavailable: no space left, no space left",
        "aaaa1111  beef0001  0000000000  +1 -2",
        "0000000000  suspect: the export holds an error:…",
        "Dead letters: 3",
        f"06:00:02  {DEVICE[:8]}  {TENANT.format(702)[:8]}  its bytes are gone",
    ):
        assert text in said, text
    # The stalled one first.
    assert said.index(f"{TENANT.format(1)}  STALLED") < said.index(f"{TENANT.format(0)}  2 tries")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (60, 24), (120, 60), (80, 8)])
def test_every_line_fits_and_the_view_is_no_longer_than_the_terminal(
    width: int, height: int
) -> None:
    said = drawn(BUSY, pace=paced(CALM, BUSY), width=width, height=height)
    lines = said.splitlines()
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width
    assert "\x1b" not in said, "neither colour nor what a reason may hold"
    assert lines[0].startswith("confkeep status")
    if height >= 24:
        assert "Dead letters: 3" in said, "each list has a place"
        assert "STALLED" in said


def test_a_broker_that_is_away_is_said_above_what_was_last_seen() -> None:
    said = drawn(BUSY, outage=("Redis did not answer (TimeoutError)", 75.0))
    assert said.splitlines()[1] == "Redis did not answer (TimeoutError), for 1 min; asking again"
    assert "Inboxes, oldest first" in said
    assert len(drawn(None, outage=("Redis did not answer", 1.0)).splitlines()) == 2


def test_speed_and_latency_are_those_of_the_last_seconds() -> None:
    looks = [
        dataclasses.replace(CALM, server_ms=NOW_MS + n * 2_000, totals=counted(n * 10, n * 500))
        for n in range(20)
    ]
    pace = paced(*looks)
    rates = pace.rates()
    assert rates is not None
    assert 10 <= rates.seconds <= 12
    assert rates.committed_per_s == rates.enqueued_per_s == 5.0
    assert rates.latency_mean_s == pytest.approx(0.05)
    assert (rates.latency_half_s, rates.latency_95_s) == (0.25, 0.25)
    # A server that lost its data: nothing negative, and no speed before the next look.
    pace.add(dataclasses.replace(CALM, server_ms=NOW_MS + 99_000))
    assert pace.rates() is None
    assert min(pace.speeds) >= 0


def test_latency_beyond_all_bounds_and_of_nothing() -> None:
    late = dataclasses.replace(BUSY, totals=counted(4, 40_000_000, "inf"))
    rates = paced(CALM, late).rates()
    assert rates is not None
    assert rates.latency_95_s == float("inf")
    assert "95 %" not in drawn(late, pace=paced(CALM, late))
    quiet = paced(CALM, dataclasses.replace(CALM, server_ms=NOW_MS + 2_000)).rates()
    assert quiet is not None
    assert (quiet.committed_per_s, quiet.latency_mean_s) == (0.0, None)


def test_a_pipe_gets_a_line_for_each_look(
    store: Store, confkeep: Confkeep, client: redis.Redis
) -> None:
    client.hset(keys.TOTALS, "committed", 7)
    done = confkeep("status", "--watch", "--interval", "0.2", "--count", "2")
    first, second = done.stdout.splitlines()
    assert " committed=7 waiting=0 " in first
    assert " committed=7 committed_per_s=0.0 enqueued_per_s=0.0 waiting=0 " in second
    done = confkeep("status", "--watch", "--json", "--interval", "0.2", "--count", "2")
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert [look["committed_per_s"] for look in looks] == [None, 0.0]


def test_a_pipe_is_told_of_an_outage_and_of_its_end(
    store: Store, confkeep: Confkeep, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []

    def away_once(client: redis.Redis) -> Load:
        calls.append(None)
        if len(calls) == 1:
            raise BrokerUnavailable("Redis did not answer (TimeoutError)")
        return inboxes.read_load(client)

    monkeypatch.setattr(watch_state, "read_load", away_once)
    done = confkeep("status", "--watch", "--interval", "0.2", "--count", "2")
    first, second = done.stdout.splitlines()
    assert first.endswith('problem="Redis did not answer (TimeoutError)"')
    assert "committed=0" in second


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_on_a_terminal_it_goes_on_through_an_outage_and_restores_the_screen(
    tmp_path: Path, number: int
) -> None:
    with EmbeddedServer(tmp_path) as server:
        shown = OnTerminal(
            *("status", "--watch", "--interval", "0.3"), CONFKEEP_REDIS_URL=server.url
        )
        try:
            began = shown.until(lambda text: "Dead letters: 0" in text, "the view")
            assert "\x1b[?1049h" in began, "the alternate screen"
            if number == signal.SIGINT:
                server.kill()
                shown.until(lambda text: "Redis did not answer" in text, "the outage")
                server.start()
                # The last look that is drawn; those before it may tell of the outage still.
                shown.until(
                    lambda text: (
                        "Dead letters" in text.rpartition("\x1b[H")[2]
                        and "Redis did not" not in text.rpartition("\x1b[H")[2]
                    ),
                    "its end",
                )
            os.kill(shown.process.pid, number)
            ended = shown.until(lambda text: "\x1b[?1049l" in text, "the old screen")
            assert "\x1b[?25h" in ended, "the cursor"
            assert shown.process.wait(30) == 0
            assert "Traceback" not in ended
        finally:
            shown.close()


def test_on_a_terminal_it_follows_a_resize_and_heeds_no_color(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        shown = OnTerminal(
            *("status", "--watch", "--interval", "0.2"),
            CONFKEEP_REDIS_URL=server.url,
            NO_COLOR="1",
        )

        def last_picture(text: str) -> str:
            """The last one that was written to its end."""
            return "".join(text.split("confkeep status")[1:][-2:-1])

        try:
            said = shown.until(lambda text: "Dead letters: 0" in last_picture(text), "the view")
            shown.resize(6)
            said += shown.until(
                lambda text: "Waiting" in last_picture(text) and "Dead" not in last_picture(text),
                "six lines",
            )
            shown.resize(30)
            said += shown.until(lambda text: "Dead letters: 0" in last_picture(text), "all of it")
            assert not re.search(r"\x1b\[[0-9;]*m", said), "no colour"
        finally:
            shown.close()
