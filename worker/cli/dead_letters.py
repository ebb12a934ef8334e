"""`confkeep dead-letters`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click
import redis

from confkeep.broker.connections import get_client
from confkeep.errors import ConfkeepError, PoisonedBackup, StagedBytesDamaged
from confkeep.queue import staging
from confkeep.queue.entry import Entry
from confkeep.queue.staged_bytes import Contents
from confkeep.settings import Settings
from worker.cli import running
from worker.cli.called import device_name, device_text, tenant_name, tenant_text
from worker.cli.show import print_export
from worker.cli.terminal import (
    Terminal,
    count_text,
    first_line,
    pass_terminal,
    printable,
    size_text,
)
from worker.cli.waking import wake
from worker.engine.resolver import find_one
from worker.queue import dead_letters
from worker.queue.dead_letters import DeadLetter

#: Digits of an id that the list shows on a terminal: the reason matters more.
_SHORT_ID = 8
_UUID_LENGTH = 36

#: What `show --json` has of the inbox entry.
_OF_ENTRY = ("message", "captured_at", "export_bytes", "binary_bytes", "staging")

_yes = click.option("--yes", is_flag=True, help="With --all: do not ask.")


@click.group("dead-letters")
def command() -> None:
    """List, show, retry and discard what cannot be committed.

    A dead letter is a backup that was accepted and cannot be committed, such as one whose bytes are
    gone. It is kept whole, with its reason, until a person decides. BACKUP_ID is the backup's id or
    its first 4 or more digits.

    \b
    Examples:
      confkeep dead-letters list
      confkeep dead-letters show 5d2f0c1a
      confkeep dead-letters retry --all
    """


def _short(letter: DeadLetter) -> str:
    """The first digits of a backup's id; the whole of an id that is no UUID."""
    return (
        letter.backup_id[:_SHORT_ID] if len(letter.backup_id) == _UUID_LENGTH else letter.backup_id
    )


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def list_(terminal: Terminal, as_json: bool) -> None:
    """List all dead letters, oldest first.

    \b
    With --json:
      {"dead_letters": [{"backup_id", "tenant_id", "tenant_name",
                         "device_id", "device_name", "reason",
                         "kind": the error's name, "died_at"}]}

    \b
    Examples:
      confkeep dead-letters list
      confkeep dead-letters list --json
    """
    _, client = _open(terminal)
    letters = dead_letters.list_dead_letters(client)
    if as_json:
        terminal.json({"dead_letters": [_json(letter) for letter in letters]})
        return
    if not letters:
        terminal.line("No dead letters.")
        return
    terminal.table(
        ["backup", "since (UTC)", "device", "reason"],
        [
            [
                printable(_short(letter) if terminal.out.is_terminal else letter.backup_id),
                printable(letter.died_at[:16].replace("T", " ")),
                device_text(letter.tenant_id, letter.device_id, letter.device_name),
                first_line(letter.reason),
            ]
            for letter in letters
        ],
    )
    terminal.note(count_text(len(letters), "dead letter"))


@command.command("show")
@click.argument("backup_id")
@click.option("--export", is_flag=True, help="Write the export's bytes, if they are still there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def show(terminal: Terminal, backup_id: str, export: bool, as_json: bool) -> None:
    """Show a dead letter's reason, sizes and ids, without the backup.

    \b
    With --json:
      {"backup_id", "tenant_id", "tenant_name", "device_id", "device_name",
       "reason", "kind", "died_at", "message", "captured_at", "export_bytes",
       "binary_bytes", "staging", "staged_bytes": how many are still there}
    From "message" on, all are null when the inbox held something else than a
    backup, and the last is null when the bytes are gone.

    \b
    Examples:
      confkeep dead-letters show 5d2f0c1a
      confkeep dead-letters show 5d2f0c1a --export > core1.rsc
    """
    settings, client = _open(terminal)
    letter = _find(_known(client), backup_id)
    entry = dead_letters.entry_of(letter)
    found = None
    if entry is not None:
        (found,) = staging.of_entry(entry, settings, client).read(letter.tenant_id, [entry])
    there = None if found is None else len(found.export) + len(found.binary or b"")
    if export:
        _write_export(terminal, letter, entry, found)
        return
    if as_json:
        more = {name: getattr(entry, name, None) for name in _OF_ENTRY}
        terminal.json({**_json(letter), **more, "staged_bytes": there})
        return
    staged = "gone" if there is None else f"{size_text(there)}, there still"
    rows: list[tuple[str, str | None]] = [
        ("backup", letter.backup_id),
        ("tenant", tenant_text(letter.tenant_id)),
        ("device", letter.device_id),
        ("name", letter.device_name or device_name(letter.tenant_id, letter.device_id)),
        ("reason", f"{letter.kind}: {letter.reason}"),
        ("since", letter.died_at),
    ]
    if entry is not None:
        binary = "none" if entry.binary_bytes is None else size_text(entry.binary_bytes)
        rows += [
            ("message", entry.message),
            ("captured", entry.captured_at),
            ("export", size_text(entry.export_bytes)),
            ("binary", binary),
            ("bytes", f"{staged} ({entry.staging})"),
        ]
    for name, value in rows:
        terminal.line(f"{name:<9} {printable(value or 'unknown')}")


@command.command("retry")
@click.argument("backup_ids", metavar="BACKUP_ID...", nargs=-1)
@click.option("--all", "all_letters", is_flag=True, help="All dead letters.")
@click.option("--sign", "vouch", is_flag=True, help="Sign those that none of the keys has signed.")
@_yes
@pass_terminal
def retry(
    terminal: Terminal, backup_ids: tuple[str, ...], all_letters: bool, vouch: bool, yes: bool
) -> None:
    """Put dead letters back at the end of their tenants' inboxes, under their own ids.

    If the cause is still there, they become dead letters again. Where CONFKEEP_SIGNING_KEY is set,
    one that none of its keys has signed stays a dead letter: somebody may have planted it. With
    --sign you vouch for those that you name; `show --export` prints what they hold.

    \b
    Examples:
      confkeep dead-letters retry 5d2f0c1a
      confkeep dead-letters retry --all --yes
    """
    if vouch and all_letters:
        raise click.UsageError("--sign wants the ids of the backups that you have looked at.")
    settings, client = _open(terminal)
    letters = _chosen(terminal, client, backup_ids, all_letters, yes, "retry")
    done: list[DeadLetter] = []
    first_error: ConfkeepError | None = None
    try:
        for letter in letters:
            try:
                done.append(dead_letters.retry(client, settings, letter.backup_id, vouch=vouch))
            except PoisonedBackup as error:
                # It holds no backup, or is not signed. The others can go back.
                terminal.note(f"{printable(letter.backup_id)}: {printable(str(error))}")
                first_error = first_error or error
    finally:
        for tenant_id in dict.fromkeys(letter.tenant_id for letter in done):
            wake(terminal, settings, tenant_id)
        terminal.line(f"{count_text(len(done), 'backup')} put back.")
    if first_error is not None:
        raise first_error


@command.command("discard")
@click.argument("backup_ids", metavar="BACKUP_ID...", nargs=-1)
@click.option("--all", "all_letters", is_flag=True, help="All dead letters.")
@_yes
@pass_terminal
def discard(terminal: Terminal, backup_ids: tuple[str, ...], all_letters: bool, yes: bool) -> None:
    """Delete dead letters and their bytes for good.

    \b
    Examples:
      confkeep dead-letters discard 5d2f0c1a
      confkeep dead-letters discard --all
    """
    settings, client = _open(terminal)
    letters = _chosen(terminal, client, backup_ids, all_letters, yes, "discard")
    for letter in letters:
        dead_letters.discard(client, settings, letter.backup_id)
    terminal.line(f"{count_text(len(letters), 'dead letter')} discarded.")


def _open(terminal: Terminal) -> tuple[Settings, redis.Redis]:
    settings = running.settings(terminal)
    return settings, get_client(settings)


def _known(client: redis.Redis) -> dict[str, DeadLetter]:
    return {letter.backup_id: letter for letter in dead_letters.list_dead_letters(client)}


def _find(known: dict[str, DeadLetter], given: str) -> DeadLetter:
    return known[find_one("BACKUP_ID", given, known, "confkeep dead-letters list")]


def _chosen(
    terminal: Terminal,
    client: redis.Redis,
    given: Sequence[str],
    all_letters: bool,
    yes: bool,
    what: str,
) -> list[DeadLetter]:
    """The dead letters to act on: those named, or all once the person has confirmed."""
    if bool(given) == all_letters:
        raise click.UsageError("Give either ids of backups or --all.")
    known = _known(client)
    if given:
        found = (_find(known, one) for one in given)
        return list({letter.backup_id: letter for letter in found}.values())
    if known and not yes:
        words = f"{what} {len(known)}"
        terminal.note(f"There are {count_text(len(known), 'dead letter')}.")
        terminal.confirm(f"Type `{words}` to go on", lambda typed: typed == words)
    return list(known.values())


def _write_export(
    terminal: Terminal, letter: DeadLetter, entry: Entry | None, found: Contents | None
) -> None:
    if entry is None:
        raise PoisonedBackup(f"{letter.backup_id}: the inbox held something else than a backup")
    try:
        export = staging.checked(entry, found).export
    except StagedBytesDamaged as error:
        # These bytes may be all that is left of the capture.
        terminal.note(f"{error}; this is what is there")
        export = b"" if found is None else found.export
    print_export(terminal, export)


def _json(letter: DeadLetter) -> dict[str, object]:
    fields = asdict(letter)
    del fields["entry"], fields["signature"]
    fields["tenant_name"] = tenant_name(letter.tenant_id)
    fields["device_name"] = letter.device_name or device_name(letter.tenant_id, letter.device_id)
    return fields
