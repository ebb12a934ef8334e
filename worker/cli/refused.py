"""`confkeep refused`."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click
import redis

from confkeep.broker.connections import get_client
from worker.cli import running
from worker.cli.terminal import (
    Terminal,
    count_text,
    first_line,
    pass_terminal,
    printable,
    size_text,
)
from worker.engine.resolver import find_one
from worker.queue import refused
from worker.queue.refused import Refused


@click.group("refused")
def command() -> None:
    """List, show and discard messages that no worker acts on.

    Workers act only on Celery messages that confkeep and plain clients send. They set others aside,
    such as one with callbacks, of a task that does not exist, or without JSON. Such a message was
    never accepted, and its sender gets a FAILURE where that is possible. The newest 1,000, at most
    32 MiB together, are kept until you discard them. REFUSED_ID is what `list` prints, or its first
    4 or more characters.

    \b
    Examples:
      confkeep refused list
      confkeep refused show 1764194400000-0
      confkeep refused discard --all
    """


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def list_(terminal: Terminal, as_json: bool) -> None:
    """List refused messages, oldest first.

    \b
    With --json:
      {"refused": [{"refused_id", "queue", "reason", "refused_at", "size_bytes",
                    "sha256", "task": one of confkeep's, or "",
                    "task_id": the sender's, or "",
                    "whole": whether all of it is kept}]}

    \b
    Examples:
      confkeep refused list
      confkeep refused list --json
    """
    found = list(refused.list_refused(_open(terminal)))
    if as_json:
        terminal.json({"refused": [_json(one) for one in found]})
        return
    if not found:
        terminal.line("No refused messages.")
        return
    terminal.table(
        ["message", "since (UTC)", "reason", "queue", "size"],
        [
            [
                printable(one.refused_id),
                first_line(one.refused_at[:16].replace("T", " ")),
                first_line(one.reason),
                first_line(one.queue),
                size_text(one.size_bytes),
            ]
            for one in found
        ],
        right="size",
    )
    terminal.note(count_text(len(found), "refused message"))


@command.command("show")
@click.argument("refused_id")
@click.option("--message", is_flag=True, help="Write the message's bytes; they may hold a backup.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def show(terminal: Terminal, refused_id: str, message: bool, as_json: bool) -> None:
    """Show why a message was refused, but not the message itself.

    \b
    With --json: an object as in `list --json`.

    \b
    Examples:
      confkeep refused show 1764194400000-0
      confkeep refused show 1764194400000-0 --message > message.json
    """
    one = _find(_open(terminal), refused_id)
    if message:
        if not one.is_whole:
            terminal.note(f"Only its first {size_text(len(one.message))} are kept.")
        if sys.stdout.isatty():
            terminal.line(printable(one.message.decode("utf-8", "replace")))
        else:
            terminal.bytes(one.message)
        return
    if as_json:
        terminal.json(_json(one))
        return
    size = size_text(one.size_bytes) + (
        "" if one.is_whole else ", of which only the first are kept"
    )
    for name, value in (
        ("message", one.refused_id),
        ("queue", one.queue),
        ("reason", one.reason),
        ("since", one.refused_at),
        ("size", size),
        ("sha256", one.sha256),
        ("task", one.task),
        ("task id", one.task_id),
    ):
        terminal.line(f"{name:<9} {printable(value or 'unknown')}")


@command.command("discard")
@click.argument("refused_ids", metavar="REFUSED_ID...", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All refused messages.")
@pass_terminal
def discard(terminal: Terminal, refused_ids: tuple[str, ...], all_: bool) -> None:
    """Delete refused messages for good.

    \b
    Examples:
      confkeep refused discard 1764194400000-0
      confkeep refused discard --all
    """
    if bool(refused_ids) == all_:
        raise click.UsageError("Give either ids of messages or --all.")
    client = _open(terminal)
    if all_:
        chosen = [one.refused_id for one in refused.list_refused(client)]
    else:
        chosen = [_find(client, given).refused_id for given in refused_ids]
    done = refused.discard(client, list(dict.fromkeys(chosen)))
    terminal.line(f"{count_text(done, 'refused message')} discarded.")


def _open(terminal: Terminal) -> redis.Redis:
    return get_client(running.settings(terminal))


def _find(client: redis.Redis, given: str) -> Refused:
    known = {one.refused_id: one for one in refused.list_refused(client)}
    return known[find_one("REFUSED_ID", given, known, "confkeep refused list")]


def _json(one: Refused) -> dict[str, object]:
    fields = asdict(one)
    del fields["message"]
    return {**fields, "whole": one.is_whole}
