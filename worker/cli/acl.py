"""`confkeep acl`."""

from __future__ import annotations

from pathlib import Path

import click

from confkeep.errors import InvalidInput
from worker.broker import acl
from worker.broker.acl import User
from worker.cli.terminal import Terminal, count_text, pass_terminal
from worker.store.git import durable

#: The users when none is named. Each is switched off, since it has no password.
DEFAULT_USERS = tuple(f"{role}:confkeep-{role}" for role in acl.ROLES)


@click.command("acl")
@click.option(
    "--user",
    "users",
    multiple=True,
    metavar="ROLE:NAME[:SHA256]",
    help="A user: admin, worker or monitor; its name; its password's SHA-256.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, whole or not at all. With '>' a typo would leave it empty, and a server "
    "that loads an empty file lets everybody in.",
)
@pass_terminal
def command(terminal: Terminal, users: tuple[str, ...], output: Path | None) -> None:
    """Print rules for the server's users, to be loaded as its `aclfile`.

    Workers, producers that you trust, and the people who operate confkeep may do what it needs,
    and nothing else to the server. Monitors may look. Admins may do everything. The server's own
    user `default`, which needs no password, is switched off, and so is each user without a
    SHA256. Without --user: one user of each role, switched off.

    SHA256 is that of the password, as `printf %s "$PASSWORD" | sha256sum` prints it. --user may
    be repeated. Needs Redis 7, or Valkey 7.2, or later. docs/security.md says what the rules
    prevent.

    \b
    Examples:
      confkeep acl --user admin:ops:$SHA256 -o users.acl
      confkeep acl --user worker:celery:$SHA256 --user monitor:grafana:$SHA256
    """
    lines = [acl.DEFAULT_OFF, *(_rules(given) for given in users or DEFAULT_USERS)]
    if output is None:
        for line in lines:
            terminal.line(line)
        return
    if output.exists() and not output.is_file():
        # Such as /dev/stdout, which would be replaced by a file.
        raise InvalidInput("--output", "must be a file")
    try:
        # Replace the file that a link points to, not the link: the server reads that file.
        durable.replace_file(output.resolve(), "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise InvalidInput("--output", f"cannot be written: {error.strerror}") from error
    terminal.note(f"wrote {count_text(len(lines) - 1, 'user')} to {output}")


def _rules(given: str) -> str:
    """The rule for a user given as ROLE:NAME[:SHA256]."""
    role, _, rest = given.partition(":")
    name, _, digest = rest.partition(":")
    if role not in acl.ROLES:
        raise InvalidInput("role", f"must be one of {', '.join(acl.ROLES)}")
    return acl.ROLES[role](User(name, digest or None))
