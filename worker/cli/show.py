"""`confkeep show`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from confkeep.errors import NotInStore
from confkeep.settings import get_settings
from worker.cli.params import DEVICE, TENANT
from worker.cli.terminal import Terminal, pass_terminal, printable, size_text
from worker.engine.moments import version_at
from worker.engine.resolver import open_device
from worker.engine.versions import captured_at, pair_at
from worker.masking import mask as masking
from worker.store.git.durable import replace_file
from worker.store.repository.backup import BINARY_NAME, EXPORT_NAME, decode_text


@click.command("show")
@click.argument("tenant", type=TENANT, metavar="[TENANT]")
@click.argument("device", type=DEVICE, required=False, metavar="DEVICE")
@click.option(
    "--at",
    metavar="WHEN",
    default="latest",
    help="As it was then: 2026-10-03, '2 days ago', latest~1, or a commit.",
)
@click.option("--binary", is_flag=True, help="Print the binary backup instead of the export.")
@click.option("--mask", is_flag=True, help="Print *** in the place of each secret.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, which must not exist.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print its dates, sizes and ids as one JSON object."
)
@pass_terminal
def command(
    terminal: Terminal,
    tenant: str,
    device: str | None,
    at: str,
    binary: bool,
    mask: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Print a device's export as it is or was.

    TENANT and DEVICE are names, UUIDs, or the first 4 or more digits of a UUID; TENANT may be left
    out where one device alone is called so. A pipe, and the file
    of -o, get exactly the bytes that were handed over; a terminal gets control characters as
    escapes.

    \b
    With --json:
      {"tenant_id", "tenant_name", "device_id", "device_name", "sha", "message",
       "captured_at", "committed_at", "backup_id", "export_bytes", "binary_bytes"}

    \b
    Examples:
      confkeep show acme core1
      confkeep show acme core1 --at latest~1 --mask
      confkeep show acme core1 --at 2026-10-03 -o core1-october.rsc
    """
    if binary and mask:
        raise click.UsageError("--mask is for exports: nobody can tell what in a binary is secret.")
    found, repository, called = open_device(get_settings().git_store_path, tenant, device)
    version = version_at(repository, called.id, at)
    commit, pair = pair_at(repository, called.id, version.sha)
    if as_json:
        terminal.json(
            {
                "tenant_id": found.id,
                "tenant_name": found.name,
                "device_id": called.id,
                "device_name": called.name,
                "sha": version.sha,
                "message": version.message,
                "captured_at": captured_at(commit),
                "committed_at": version.committed_at,
                "backup_id": version.backup_id,
                "export_bytes": None if pair.export is None else len(pair.export),
                "binary_bytes": None if pair.binary is None else len(pair.binary),
            }
        )
        return
    data = pair.binary if binary else pair.export
    if data is None:
        name = BINARY_NAME if binary else EXPORT_NAME
        raise NotInStore(f"no {name} of device {called} in commit {commit.id}")
    if mask:
        data = masking.mask(data, called.labels.model)
    if output is not None:
        if output.exists():
            raise click.UsageError(f"{output} exists.")
        replace_file(output, data, mode=0o600)
        terminal.note(f"wrote {size_text(len(data))} to {output}")
    elif binary and sys.stdout.isatty():
        raise click.UsageError(
            "A terminal cannot show a binary; name a file with -o or use a pipe."
        )
    elif binary:
        terminal.bytes(data)
    else:
        print_export(terminal, data)


def print_export(terminal: Terminal, data: bytes) -> None:
    """Print an export's exact bytes; on a terminal, control characters as escapes."""
    if not sys.stdout.isatty():
        terminal.bytes(data)
        return
    for line in decode_text(data).splitlines():
        terminal.line(printable(line.expandtabs()))
