"""States: the pages, `status`, a drill's page and the metrics say them in the words and colours of one table."""

from __future__ import annotations

import datetime as dt
import importlib.util
import io
import re
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from confkeep.broker import keys
from confkeep.enqueue import entry_of
from confkeep.errors import StoreUnavailable
from tests.http.conftest import Stored
from tests.http.serving import accept, in_process, new_token
from worker.cli import drill_page, status_view, watch_state
from worker.cli.terminal import Terminal
from worker.cli.watch_state import Pace
from worker.cli.watch_view import View
from worker.engine import drain
from worker.figures.status_state import read_status
from worker.http.pages.rendering import FOLDER
from worker.http.pages.routing import COOKIE
from worker.observe import metrics, states
from worker.queue import backoff, dead_letters
from worker.queue.inbox import Inbox
from worker.queue.sweep_report import SweepReport
from worker.store.upkeep.drill_report import DrillReport, Restored

#: Looks like what a device prints when it fails, so a version of it is suspect.
_BROKEN = b"Bus error\n"


@pytest.fixture
def words() -> Iterator[None]:
    """Other words in the table than those that anybody could have written elsewhere."""
    before = [state.word for state in states.ALL]
    for state in states.ALL:
        object.__setattr__(state, "word", f"{state.word.replace(' ', 'q')}zz")
    try:
        yield
    finally:
        for state, word in zip(states.ALL, before, strict=True):
            object.__setattr__(state, "word", word)


@pytest.fixture(scope="module")
def eventful(stored: Stored) -> Stored:
    """The store with one of each: what waits, waits after a fault, is stalled, dead, suspect and silent."""
    client, settings = stored.client, stored.settings
    again = str(uuid.uuid4())
    for device, export in ((stored.edge1, _BROKEN), (again, b"/ip dns\n"), (again, b"/ip dns\n")):
        accept(client, settings, stored.acme, device, export)
        drain.drain_inbox(Inbox(client, settings, stored.acme))
    accept(client, settings, str(uuid.uuid4()), str(uuid.uuid4()), b"/ip dns\n")
    for tries in (1, backoff.STALLED_TRIES):
        tenant = str(uuid.uuid4())
        payload = accept(client, settings, tenant, str(uuid.uuid4()), b"/ip dns\n")
        for _ in range(tries):
            backoff.failed(Inbox(client, settings, tenant), StoreUnavailable("no room"))
    dead_letters.bury(
        Inbox(client, settings, tenant), entry_of(payload, "redis"), StoreUnavailable("its bytes")
    )
    now_ms = int(time.time() * 1000)
    for name, ago_ms in (("w0@here", 0), ("w1@there", 30_000)):
        report = SweepReport(name, [*range(16)], now_ms - ago_ms)
        client.hset(keys.WORKERS, name, report.to_json())
    return stored


@pytest.mark.usefixtures("words")
def test_the_pages_say_them(eventful: Stored) -> None:
    token = new_token(eventful.client, f"states {uuid.uuid4()}")
    edge1 = f"/tenants/{eventful.acme}/devices/{eventful.edge1}"
    with in_process(eventful.settings) as client:
        client.cookies.set(COOKIE, token)
        queue, fleet, activity, device = (
            client.get(path).text for path in ("/queue", "/", "/activity", edge1)
        )
        # All of them were backed up today: stale is what no filter finds.
        tenant = client.get(f"/tenants/{eventful.acme}").text
    for state in (
        states.WORKING,
        states.SILENT,
        states.WAITING,
        states.AFTER_FAULT,
        states.STALLED,
    ):
        assert f'class="{state.role}"' in queue
        assert f">{state.word}</span>" in queue, state
    assert f"{states.DEAD.title}s" in queue
    for state in (states.WAITING, states.DEAD, states.FRESH, states.STALE, states.SUSPECT):
        assert f"</b> {state.word}" in fleet, state
    assert states.UNCHANGED.word in activity
    for state in (states.FRESH, states.STALE, states.SUSPECT):
        assert f">{state.title}</th>" in fleet, state
    assert f'class="mark {states.SUSPECT.role}"' in device
    assert f">{states.SUSPECT.word}</span>" in device
    assert f"only {states.STALE.word}" in tenant
    assert f"only {states.SUSPECT.word}" in tenant


def test_the_fleet_counts_each_tenants_devices_by_state(eventful: Stored) -> None:
    """What a count leads to lists as many devices."""
    token = new_token(eventful.client, f"counts {uuid.uuid4()}")
    with in_process(eventful.settings) as client:
        client.cookies.set(COOKIE, token)
        fleet = client.get("/").text
        suspect = client.get(f"/tenants/{eventful.acme}?suspect=1").text
    row = next(row for row in fleet.split("<tr>") if f'href="/tenants/{eventful.acme}"' in row)
    cells = re.findall(r"<td[^>]*>(?:<[^>]*>)*([\d,]+)", row)
    devices, fresh, stale, suspects, *_ = map(int, cells)
    assert (fresh, stale, suspects) == (devices, 0, 1)
    assert f'href="/tenants/{eventful.acme}?suspect=1"' in row
    assert f'devices/{eventful.edge1}"' in suspect
    assert f'devices/{eventful.core1}"' not in suspect
    assert f'class="mark {states.SUSPECT.role}"' in suspect


def test_the_pages_call_stale_what_the_setting_says(eventful: Stored) -> None:
    """As `confkeep stale`, the metrics and the events do."""
    token = new_token(eventful.client, f"stale {uuid.uuid4()}")
    said = []
    for hours in (1e-7, 26, 0):
        settings = eventful.settings.model_copy(update={"stale_hours": hours})
        with in_process(settings, token) as client:
            client.cookies.set(COOKIE, token)
            device = client.get(f"/tenants/{eventful.acme}/devices/{eventful.core1}").text
            listed = client.get(f"/tenants/{eventful.acme}?stale=1").text
            fleet = client.get("/").text
        mark = f">{states.STALE.word}</span>"
        said.append((mark in device, "core1" in listed, f"?{states.STALE.word}=1" in fleet))
    assert said == [(True,) * 3, (False,) * 3, (False,) * 3]


def drawn(eventful: Stored) -> str:
    """What `status --watch` draws, with its colours."""
    console = Console(
        file=io.StringIO(), width=100, height=60, color_system="standard", force_terminal=True
    )
    snapshot = watch_state.look(eventful.client, eventful.settings)
    console.print(View(snapshot, Pace(), eventful.settings, 2.0, None))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.usefixtures("words")
def test_the_watch_says_them(eventful: Stored) -> None:
    said = drawn(eventful)
    for text in (
        *(states.SILENT.loud, states.STALLED.loud, states.WAITING.title, states.AFTER_FAULT.title),
        *(f"{states.DEAD.title}s: 1", states.SUSPECT.word, f"\x1b[2m{states.UNCHANGED.word}"),
    ):
        assert text in said, text


def test_the_watch_has_their_colours(eventful: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    colours = states.COLOURS["bad"]
    monkeypatch.setitem(
        states.COLOURS, "bad", states.Colours("magenta", colours.light, colours.dark)
    )
    said = drawn(eventful)
    assert re.search(rf"\x1b\[35m[^\x1b]*{states.SILENT.loud}", said)
    assert re.search(rf"\x1b\[35m[^\x1b]*{states.STALLED.loud}", said)


@pytest.mark.usefixtures("words")
def test_status_says_them(eventful: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    status = read_status(eventful.client, eventful.settings)
    status_view.print_status(Terminal(), eventful.settings, status)
    said = capsys.readouterr().out
    for text in (
        *(states.SILENT.loud, f"{states.STALLED.word}, ", states.AFTER_FAULT.title),
        *(f"{states.DEAD.title}s: 1", f"tenants {states.WAITING.word}"),
    ):
        assert text in said, text


@pytest.mark.usefixtures("words")
def test_a_drills_page_says_them() -> None:
    now = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
    device = str(uuid.uuid4())
    good = Restored(device, "ab" * 20, now, unrecognised_share=0.0, looks_like_routeros=True)
    bad = Restored(device, "cd" * 20, now, problems=("other bytes",))
    report = DrillReport(str(uuid.uuid4()), 1, restored=[good, bad])
    page = drill_page.render([report], now)
    assert f'class="{states.RIGHT.role}">{states.RIGHT.word}<' in page
    assert f'class="{states.FAILED.role}">{states.FAILED.loud}: other bytes<' in page
    assert f"1 restore {states.FAILED.word}:" in page
    for role in (states.RIGHT.role, states.FAILED.role):
        colours = states.COLOURS[role]
        assert f".{role}{{color:{colours.light}}}" in page
        assert f".{role}{{color:{colours.dark}}}" in page


@pytest.mark.usefixtures("words")
def test_the_metrics_help_says_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # The help is put together when the module is loaded.
    spec = importlib.util.spec_from_file_location("metrics_anew", metrics.__file__)
    assert spec is not None
    assert spec.loader is not None
    anew = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "metrics_anew", anew)
    spec.loader.exec_module(anew)
    for metric, state in (
        (anew.UNCHANGED, states.UNCHANGED),
        (anew.WORKER_SUSPECT, states.SUSPECT),
        (anew.DEAD, states.DEAD),
        (anew.DEAD_LETTERS, states.DEAD),
        (anew.FAILING, states.AFTER_FAULT),
        (anew.STALLED, states.STALLED),
        (anew.STALE, states.STALE),
        (anew.SWEEP_AGE, states.SILENT),
    ):
        assert state.word in metric.help, metric.name


def test_the_style_sheet_has_their_colours() -> None:
    sheet = (Path(FOLDER) / "static" / "site.css").read_text("utf-8")
    light, _, dark = sheet.partition("prefers-color-scheme: dark")
    for role, colours in states.COLOURS.items():
        assert f"--{role}: {colours.light};" in light
        assert f"--{role}: {colours.dark};" in dark
        assert f".{role} {{ color: var(--{role}); }}" in light + dark
