"""`confkeep restore`."""

from __future__ import annotations

from pathlib import Path

import click

from confkeep.errors import StoreUnavailable
from confkeep.settings import get_settings
from worker.cli.params import DEVICE, TENANT, at_option
from worker.cli.terminal import Terminal, date_text, pass_terminal, printable, size_text
from worker.engine.moments import version_at
from worker.engine.resolver import open_device
from worker.engine.versions import captured_at, pair_at
from worker.store.git.durable import file_system_errors, replace_file
from worker.store.repository.backup import BINARY_NAME, EXPORT_NAME


@click.command("restore")
@click.argument("tenant", type=TENANT, metavar="[TENANT]")
@click.argument("device", type=DEVICE, required=False, metavar="DEVICE")
@at_option
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder; created if it is missing.",
)
@click.option("--force", is_flag=True, help="Replace files that are there.")
@pass_terminal
def command(
    terminal: Terminal, tenant: str, device: str | None, at: str, output: Path, force: bool
) -> None:
    """Write a device's two files into a folder.

    Writes `export.rsc` and, if the version has one, `backup.bin`, byte for byte as they were handed
    over: of the newest version, or that of --at. Only you may read them. No half-written file is
    ever visible. On the router, /import reads the first and /system backup load the second.

    \b
    Examples:
      confkeep restore acme core1 -o restored
      confkeep restore acme core1 --at 2026-10-03 -o restored --force
    """
    _tenant, repository, called = open_device(get_settings().git_store_path, tenant, device)
    version = version_at(repository, called.id, at)
    commit, pair = pair_at(repository, called.id, version.sha)
    files = {
        output / name: data
        for name, data in ((EXPORT_NAME, pair.export), (BINARY_NAME, pair.binary))
        if data is not None
    }
    # Beside this export, a binary of another version would look like its own.
    there = [output / name for name in (EXPORT_NAME, BINARY_NAME) if (output / name).exists()]
    if there and not force:
        names = " and ".join(str(path) for path in there)
        raise click.UsageError(f"{names} exists already; --force replaces it.")
    try:
        with file_system_errors(str(output)):
            output.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path, data in files.items():
                replace_file(path, data, mode=0o600)
            for path in there:
                if path not in files:
                    path.unlink()
    except StoreUnavailable as error:
        if error.hint == type(error).hint:
            # That is of the store, which was read well.
            error.hint = "Name another folder with -o."
        raise
    terminal.line(
        f"Device {printable(str(called))} as captured {date_text(captured_at(commit))} UTC "
        f"(commit {str(commit.id)[:10]}):"
    )
    for path, data in files.items():
        terminal.line(f"  {path}  {size_text(len(data))}")
    if pair.binary is None:
        terminal.note("This version has no binary backup.")
