"""`confkeep acl`."""

from __future__ import annotations

import click

from worker import acl
from worker.acl import User
from worker.cli.terminal import Terminal, pass_terminal
from worker.errors import InvalidInput

#: The users of a file when none is named: switched off, until each has a password.
DEFAULT_USERS = tuple(f"{role}:confkeep-{role}" for role in acl.ROLES)


@click.command("acl")
@click.option(
    "--user",
    "users",
    multiple=True,
    metavar="ROLE:NAME[:SHA256]",
    help="A user: admin, sender, producer, worker or monitor; its name; its password's SHA-256.",
)
@click.option(
    "--tenant",
    "tenants",
    multiple=True,
    help="Let producers enqueue for this tenant only, and send no messages.",
)
@pass_terminal
def command(terminal: Terminal, users: tuple[str, ...], tenants: tuple[str, ...]) -> None:
    """Print rules for the server's users, to be loaded as its `aclfile`.

    Producers may enqueue and see what becomes of it; senders too, but by `backups.receive` alone.
    Workers, and who operates them, may do what confkeep needs and nothing to the server. Monitors
    may look. Admins may do all. The server's own user `default`, which needs no password, is
    switched off, and so is a user without a SHA256. --user and --tenant may be repeated.

    \b
        hash=$(printf %s "$PASSWORD" | sha256sum | cut -c1-64)
        confkeep acl --user admin:ops:$hash --user producer:portal:... > users.acl

    Needs Redis 7 or Valkey 7.2 or later. docs/security.md says what the rules keep away.
    """
    terminal.line(acl.DEFAULT_OFF)
    for given in users or DEFAULT_USERS:
        role, _, rest = given.partition(":")
        name, _, digest = rest.partition(":")
        if role not in acl.ROLES:
            raise InvalidInput("role", f"must be one of {', '.join(acl.ROLES)}")
        user = User(name, digest or None)
        if role in ("producer", "sender"):
            rules = acl.producer if role == "producer" else acl.sender
            terminal.line(rules(user, tenants))
        else:
            terminal.line(acl.ROLES[role](user))
