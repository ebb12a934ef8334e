"""`confkeep events`."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from typing import Any, Final

import click
from rich.text import Text

from confkeep.broker.connections import get_client
from confkeep.errors import BrokerUnavailable, InvalidInput, NoReceipt, NotPermitted
from confkeep.event_reader import has_reached
from confkeep.queue import events
from confkeep.queue.cursor import Cursor
from confkeep.queue.event_stream import now_place
from confkeep.queue.events import Event
from confkeep.settings import get_settings
from confkeep.urls import shown
from worker.cli import running
from worker.cli.called import device_name, device_text, tenant_name, tenant_text
from worker.cli.params import TENANT
from worker.cli.terminal import Terminal, count_text, date_text, pass_terminal, printable
from worker.engine.events import cursor_from, read_events
from worker.engine.moments import seconds_of
from worker.engine.resolver import paths_of
from worker.observe import event_roles, states

_AT_ONCE: Final = 200
_WAIT_S: Final = 2.0
#: Seconds between two tries while the server is away.
_PAUSE_S: Final = 1.0


@click.command("events")
@click.option("--follow", "-f", is_flag=True, help="Go on, and print what happens, until Ctrl-C.")
@click.option(
    "--since",
    metavar="CURSOR|AGE",
    help="From this cursor on, or from so long ago: 90m, 2h, 7d, all. Without it: "
    "1h, or with --follow from now on.",
)
@click.option("--tenant", type=TENANT, metavar="TENANT", help="Only what is of this tenant.")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    help="Only events of this type; may be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@pass_terminal
def command(
    terminal: Terminal,
    follow: bool,
    since: str | None,
    tenant: str | None,
    types: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print what happened, or follow it as it happens.

    Commits, dead letters, stalls, erasures and more. Each commit has one event, in its tenant's order. What Redis has no more of
    is read from git, so a commit is never missing. With --follow it waits while Redis is away. docs/events.md lists the types
    and what they say.

    \b
    With --json, each line:
      {"id", "type", "at", "tenant_id", "tenant_name", "device_id",
       "device_name", "data", "cursor": where to go on after this event}

    \b
    Examples:
      confkeep events --since 2h
      confkeep events --follow --tenant acme --type backup.committed
      confkeep events --since all --json > events.jsonl
    """
    running.adopt(terminal)
    unknown = set(types) - events.TYPES.keys()
    if unknown:
        known = ", ".join(events.TYPES)
        raise InvalidInput("--type", "is none of an event", hint=f"The types are: {known}.")
    count = 0
    for event in _read(terminal, _start(since, follow=follow), tenant, types, follow=follow):
        count += 1
        if as_json:
            click.echo(json.dumps(_to_json(event)))
        else:
            terminal.line(_line_of(event, with_tenant=tenant is None))
    if not as_json:
        terminal.note(count_text(count, "event"))


def _start(since: str | None, *, follow: bool) -> str | None:
    """The cursor to begin at; None: the beginning."""
    client = get_client(get_settings())
    if since is None:
        if follow:
            try:
                return cursor_from(client, None)
            except BrokerUnavailable:
                # It is waited for below, and what happens meanwhile is told.
                return cursor_from(client, dt.datetime.now(dt.UTC))
        since = "1h"
    if since == "all":
        return None
    seconds = seconds_of(since)
    if seconds is None:
        try:
            Cursor.decode(since)
        except InvalidInput:
            raise InvalidInput(
                "--since", "must be `all`, a duration such as 2h, or a cursor that --json printed"
            ) from None
        return since
    return cursor_from(client, dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds))


def _read(
    terminal: Terminal,
    cursor: str | None,
    tenant: str | None,
    types: tuple[str, ...],
    *,
    follow: bool,
) -> Iterator[Event]:
    settings = get_settings()
    tenants = None if tenant is None else list(paths_of(settings.git_store_path, tenant))
    # Where much happens there would always be one event more.
    end = None if follow else now_place(get_client(settings))
    away = False
    while True:
        client, store = get_client(settings), settings.git_store_path
        try:
            page = read_events(
                client,
                settings,
                store if store.is_dir() else None,
                cursor,
                tenants=tenants,
                types=types or None,
                limit=_AT_ONCE,
                wait_s=_WAIT_S if follow else 0.0,
            )
        except NotPermitted:
            raise
        except (BrokerUnavailable, NoReceipt) as error:
            if not follow:
                raise
            if not away:
                terminal.note(f"{error}; waiting for it at {shown(settings.redis_url)}")
            away = True
            time.sleep(_PAUSE_S)
            # A `confkeep up` may have been started here.
            get_settings.cache_clear()
            settings = running.settings(terminal)
            continue
        away = False
        yield from page.events
        cursor = page.cursor
        if end is not None and (not page.events or has_reached(cursor, end)):
            return


def _to_json(event: Event) -> dict[str, Any]:
    name = event.data.get("device_name")
    if name is None and event.tenant_id is not None:
        name = device_name(event.tenant_id, event.device_id)
    return {
        **event.model_dump(mode="json"),
        "tenant_name": None if event.tenant_id is None else tenant_name(event.tenant_id),
        "device_name": name,
        "cursor": event.cursor,
    }


def _line_of(event: Event, *, with_tenant: bool) -> Text:
    """The event on one line: when, what, whose, and what tells most of it."""
    line = Text(date_text(event.at), style="dim")
    role = event_roles.ROLES.get(event.type)
    style = "bold" if role is None else states.COLOURS[role].terminal
    line.append(f"  {event.type:<16}", style=style)
    if event.device_id not in (None, event.tenant_id):
        name = event.data.get("device_name")
        text = device_text(
            event.tenant_id, event.device_id, name if isinstance(name, str) else None
        )
        line.append(f"  {text}", style="cyan")
    if with_tenant and event.tenant_id is not None:
        line.append(f"  {tenant_text(event.tenant_id)}")
    line.append(f"  {printable(_told(event))}", style="dim")
    line.rstrip()
    return line


def _told(event: Event) -> str:
    data = event.data
    if event.type == events.COMMITTED:
        if data.get("suspect"):
            return f"{states.SUSPECT.word}: {data['suspect']}"
        if data.get("unchanged"):
            return states.UNCHANGED.word
        return f"+{data.get('lines_added', 0)} -{data.get('lines_removed', 0)}"
    return str(data.get("reason") or data.get("message") or "")
