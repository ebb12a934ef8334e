"""`confkeep hooks`."""

from __future__ import annotations

import uuid
from itertools import count
from urllib.parse import urlsplit

import click
from rich.text import Text

from confkeep.broker.connections import get_client
from confkeep.errors import NotDelivered
from confkeep.queue import events
from confkeep.settings import Settings
from worker.cli import running, service
from worker.cli.hooks_view import (
    delivery_json,
    hook_json,
    moment_of,
    state_text,
    wanted_text,
)
from worker.cli.params import TENANT
from worker.cli.terminal import (
    Terminal,
    date_text,
    pass_terminal,
    printable,
)
from worker.engine.events import cursor_from
from worker.engine.resolver import find_tenant
from worker.hooks.hook import Hook, new_secret
from worker.hooks.hook_store import HookStore


@click.group("hooks")
def command() -> None:
    """Tell other programs what happens: webhooks, signed and in order.

    A hook is an address that events are sent to, as docs/hooks.md says. What a receiver does not take
    is sent again for three days, in the same order and with the same ids. `confkeep hooks run` sends;
    `confkeep up` runs it.

    \b
    Examples:
      confkeep hooks add https://portal.example/hook --tenant acme
      confkeep hooks list
      confkeep hooks log portal.example
    """


@command.command("add")
@click.argument("url")
@click.option("--name", help="What to call it.  [default: the host in URL]")
@click.option(
    "--tenant",
    "tenants",
    type=TENANT,
    multiple=True,
    metavar="TENANT",
    help="Only events of this tenant; may stand several times.",
)
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    help="Only events of this type, such as backup.committed; may stand several times.",
)
@click.option(
    "--changed-only",
    is_flag=True,
    help="Of commits only those that changed a configuration.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def add(
    terminal: Terminal,
    url: str,
    name: str | None,
    tenants: tuple[str, ...],
    types: tuple[str, ...],
    changed_only: bool,
    as_json: bool,
) -> None:
    """Add a hook and print the secret that signs what it sends, once.

    It is told of what happens from now on. A receiver checks the signature with a library of
    Standard Webhooks (https://www.standardwebhooks.com) and this secret; nothing shows it again.

    \b
    With --json:
      {"name", "secret"}

    \b
    Examples:
      confkeep hooks add https://portal.example/hook
      confkeep hooks add https://chat.example/in --tenant acme --changed-only
    """
    settings, store = _open(terminal)
    taken = {kept.hook.name for kept in store.hooks()}
    hook = Hook.checked(
        name=name or _free_name(url, taken),
        url=url,
        secret=new_secret(),
        tenants=tuple(find_tenant(settings.git_store_path, given).id for given in tenants),
        types=types,
        changed_only=changed_only,
        start=cursor_from(get_client(settings), None),
    )
    store.add(hook)
    secret = hook.secret.get_secret_value()
    if as_json:
        terminal.json({"name": hook.name, "secret": secret})
        return
    terminal.line(f"name    {hook.name}")
    terminal.line(f"secret  {secret}")
    terminal.note(f"keep the secret now; `confkeep hooks test {hook.name}` tries the address")
    _tell_if_nobody_sends(terminal, store)
    if hook.url.startswith("http:"):
        terminal.note("anybody on the way can read what is sent: it is not encrypted")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def list_(terminal: Terminal, as_json: bool) -> None:
    """List the hooks and how each fares; their secrets are not shown.

    \b
    With --json:
      {"sending": whether a process sends,
       "hooks": [{"name", "url": without its query, "tenants": [id] or null,
                  "tenant_names", "types": [type] or null, "changed_only",
                  "in_file", "state": "ok", "failing", "off" or "new",
                  "delivered": how many in all, "delivered_at",
                  "failing_since", "tries", "next_try_at", "off_since",
                  "problem"}]}

    \b
    Examples:
      confkeep hooks list
      confkeep hooks list --json
    """
    _, store = _open(terminal)
    hooks = store.hooks()
    if as_json:
        found = [hook_json(kept) for kept in hooks]
        terminal.json({"sending": store.is_sent(), "hooks": found})
        return
    if not hooks:
        terminal.line("No hooks.")
        return
    terminal.table(
        ["hook", "state", "delivered", "told of", "address"],
        [
            [
                kept.hook.name,
                state_text(kept),
                f"{kept.progress.delivered:,}" if kept.progress else "0",
                wanted_text(kept.hook),
                kept.hook.shown_url,
            ]
            for kept in hooks
        ],
        right="delivered",
    )
    for kept in hooks:
        if kept.progress is not None and kept.progress.problem:
            terminal.prose(f"{kept.hook.name}: {printable(kept.progress.problem)}", style="red")
    _tell_if_nobody_sends(terminal, store)


@command.command("test")
@click.argument("name")
@pass_terminal
def test(terminal: Terminal, name: str) -> None:
    """Send a test from here, and say what was answered.

    An event of the type hook.test is sent once, whether the hook is on or off, and changes nothing.

    \b
    Ends with
      0   the receiver took it
      63  it did not, or could not be reached

    \b
    Examples:
      confkeep hooks test portal.example
      confkeep hooks test portal
    """
    from worker.hooks.delivery import Receiver

    settings, store = _open(terminal)
    hook = store.get(name).hook
    with Receiver(hook, settings) as receiver:
        data = {"hook": hook.name}
        outcome = receiver.send(events.new("hook.test", None, data=data, about=(uuid.uuid4(),)))
    if not outcome.delivered:
        raise NotDelivered(f"hook {hook.name}: {outcome.problem}")
    terminal.line(f"{hook.name}: it answered {outcome.status} in {outcome.took_s * 1000:.0f} ms")


@command.command("resume")
@click.argument("name")
@pass_terminal
def resume(terminal: Terminal, name: str) -> None:
    """Switch a hook on again, or let its next try come at once.

    It gets all that it has missed, in order.

    \b
    Examples:
      confkeep hooks resume portal.example
      confkeep hooks resume portal
    """
    _, store = _open(terminal)
    store.resume(name)
    terminal.line(f"{name} is on.")


@command.command("remove")
@click.argument("name")
@pass_terminal
def remove(terminal: Terminal, name: str) -> None:
    """Remove a hook; nothing is sent to it any more.

    \b
    Examples:
      confkeep hooks remove portal.example
      confkeep hooks remove portal
    """
    _, store = _open(terminal)
    store.remove(name)
    terminal.line(f"{name} is removed.")


@command.command("log")
@click.argument("name")
@click.option(
    "--limit",
    type=click.IntRange(1, 1_000),
    default=20,
    show_default=True,
    metavar="N",
    help="How many deliveries to list at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def log(terminal: Terminal, name: str, limit: int, as_json: bool) -> None:
    """List the last deliveries of a hook, newest first.

    Those that failed are listed too.

    \b
    With --json:
      {"deliveries": [{"at", "event_id": the webhook-id, "event_type",
                       "number": which try of this event, "status": 0 if
                       nothing was answered, "problem", "took_ms"}]}

    \b
    Examples:
      confkeep hooks log portal.example
      confkeep hooks log portal --limit 100 --json
    """
    _, store = _open(terminal)
    store.get(name)
    found = store.log(name, limit)
    if as_json:
        terminal.json({"deliveries": [delivery_json(one) for one in found]})
        return
    terminal.table(
        ["at (UTC)", "try", "took", "answer", "event", "id"],
        [
            [
                date_text(moment_of(one.at_ms)),
                str(one.number),
                f"{one.took_ms:,} ms",
                Text(one.problem or str(one.status), style="red" if one.problem else "green"),
                one.event_type,
                one.event_id,
            ]
            for one in found
        ],
        right="try took",
    )


@command.command("run")
@pass_terminal
def run(terminal: Terminal) -> None:
    """Send to all hooks until SIGTERM or Ctrl-C.

    One for a deployment sends; a second one waits, and goes on when the first has ended. It needs the
    store, to read there what the server no longer knows. What was sent but not noted when it is killed
    is sent again with the same id.

    \b
    Examples:
      confkeep hooks run
      confkeep hooks run > hooks.log
    """
    # First, so that a missing extra is told before anything else.
    with service.loading():
        import worker.hooks.delivery  # noqa: F401
        from confkeep.observe import logs
        from worker.hooks.senders import Senders

    settings = service.begin(terminal)
    logs.configure(settings)
    stop = service.until_asked()
    terminal.note("sending webhooks")
    Senders(get_client(settings), settings).run(stop)


def _open(terminal: Terminal) -> tuple[Settings, HookStore]:
    settings = running.settings(terminal)
    return settings, HookStore(get_client(settings), settings)


def _tell_if_nobody_sends(terminal: Terminal, store: HookStore) -> None:
    if not store.is_sent():
        terminal.note("nobody sends now: start `confkeep hooks run`, or `confkeep up`")


def _free_name(url: str, taken: set[str]) -> str:
    try:
        host = urlsplit(url).hostname or "hook"
    except ValueError:
        host = "hook"
    host = host.replace(":", "-")
    names = (host if number == 1 else f"{host}-{number}" for number in count(1))
    return next(name for name in names if name not in taken)
