"""`confkeep import`."""

from __future__ import annotations

import datetime as dt
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import click

from confkeep.errors import InvalidBackup, InvalidInput, PoisonedBackup
from confkeep.labels import Labels
from confkeep.naming import name_tenant
from confkeep.settings import get_settings
from worker.cli import capture_order, exports_folder, import_kept, running, sources
from worker.cli.import_kept import Kept, Older
from worker.cli.sending import Sender, Sent
from worker.cli.sources import adopt, git_exports, layouts, oxidized, rancid
from worker.cli.sources.asking import Asker, Nobody, Person
from worker.cli.sources.captures import Capture
from worker.cli.sources.found import Found
from worker.cli.sources.layouts import Layout
from worker.cli.sources.names import Names
from worker.cli.terminal import Terminal, count_text, date_text, pass_terminal, printable
from worker.cli.waiting import SILENCE_S
from worker.engine.directory import Called
from worker.engine.made_ids import naming_id
from worker.engine.resolver import tenants

#: Most refused files that are listed.
_LISTED: Final = 20
#: Most ids made from names that are listed.
_IDS_LISTED: Final = 50


@click.command("import")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "source",
    type=click.Choice(["auto", *sorted(sources.SOURCES)]),
    default="auto",
    show_default=True,
    help="What DIR is.",
)
@click.option(
    "--mapping",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Which device becomes whose: read when it is there, and written with what it lacks. JSON, "
    "or CSV when so named.",
)
@click.option("--pack", is_flag=True, help="Of a store: put loose objects into packs, with git.")
@click.option(
    "--order",
    type=click.Choice(["auto", *capture_order.ORDERS]),
    default="auto",
    show_default=True,
    help="Of exports: what tells a device's older one from the newer.",
)
@click.option("--tenant", help="All devices are this tenant's: a UUID or a name.")
@click.option(
    "--layout",
    metavar="PATH",
    help="Of exports, also in git: how paths are read, such as '{device}_{date}.rsc' or '{date}/{device}'.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be imported.")
@click.option(
    "--strict", is_flag=True, help="End with status 1 when anything was refused or left out."
)
@click.option(
    "--allow-older",
    is_flag=True,
    help="Also import captures older than what a device has: they become its newest versions.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=SILENCE_S,
    show_default=True,
    metavar="SECONDS",
    help="Give up when no worker answers for so long.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@pass_terminal
@click.pass_context
def command(
    ctx: click.Context,
    terminal: Terminal,
    folder: Path,
    source: str,
    mapping: Path | None,
    pack: bool,
    order: str,
    tenant: str | None,
    layout: str | None,
    dry_run: bool,
    strict: bool,
    allow_older: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Hand over a folder of exports, oldest first, or another tool's history.

    \b
    What DIR may be, as --from says or as it looks:
      exports   files such as HOST.rsc, HOST_DATE.rsc, DATE/HOST.rsc,
                HOST/DATE.rsc, TENANT/HOST/DATE.rsc; or .cfg, .conf, .txt or no
                ending. A file of the same name with .backup is its binary.
                With --tenant: HOST/*.rsc
      git       a git repository of exports, bare or not, a folder of one, or a
                folder of several: HOST.rsc, TENANT/HOST.rsc,
                TENANT/GROUP/HOST.rsc or, with --tenant, GROUP/HOST.rsc; a group
                may be several folders. Each commit that changed a file is a
                version. A working copy with dates or numbers for names is taken
                as exports
      oxidized  Oxidized's git repository, or a folder of them, one for each
                group. A group, or else the repository's name, is the tenant
      rancid    RANCID's folder, or one group's, with configs/ and router.db, or
                its bare repositories. A group is a tenant. Without git history
                each file is one version. What router.db does not list is left
                out, unless the mapping says else
      store     bare repositories named by tenants' UUIDs. They are adopted where
                they are: HEAD is made to name main, the history index is built,
                all is verified, and no commit is rewritten. Nothing is sent, and
                no worker is needed

    How the paths of exports are read is said before anything is sent. Where two readings remain, or
    names that look like dates, a terminal is asked; elsewhere the import stops and says which
    --layout chooses each. A layout is a path with {tenant}, {group}, {device}, {date} and, for what
    says nothing, {any}; a _ beside {date} stands for any sign. Without {device} all files are one
    device's, called as DIR.

    Names that are UUIDs stand for themselves; of any others ids are made, the same ones each time,
    and printed. --mapping FILE lets you change them: with --dry-run it is written, with a row for
    each device; edit names or ids (leave an id blank to have it made from the names), or set skip,
    and import.

    From git come all versions, as `git log -- FILE` lists them, with their authors' dates and
    messages, to which a line says who they are by. A renamed file is two devices, unless the mapping
    gives both the same id. Versions before a file first held anything are passed over.

    A device's exports are taken in the order of the dates in their names when all have one, else
    of their numbers when all names are numbers, else of the dates in their headers when all have
    one, else of the files' times. Where day and month may be either, the headers tell, or the names
    of other devices; where two orders remain, the import stops and says how --order decides. The
    commit's author date is the date in the name, else in the export's header, else the file's time,
    but not later than that of the next.

    Importing again, also after an import that was cut off, imports what is new: the backup_id is
    made from device, file name and bytes, or from device, commit and path. Blank and too large files
    are refused and listed; the others are imported. Captures that are older than what the store on
    this machine has of their device would become its newest versions: the import says so and stops.

    \b
    With --json: {"found", "imported", "already_there", "unchanged", "refused":
      [{"path", "reason"}], "dead_letters": [{"path", "reason"}], "ids": {name:
      id}, "tenants": {id: devices}, "source", "left_out": [what was not
      imported], "notes": [what else to know], "older": [{"device_id", "captures",
      "place", "captured_at", "newest_kept"}]}; of a store {"adopted", "tenants":
      {id: {"head", "tip", "commits", "devices", "loose_objects", "packs",
      "indexed", "outcome"}}, "failed": {id: reason}, "left_out": [names]}

    \b
    Examples:
      confkeep import exports --tenant acme --dry-run
      confkeep import exports --layout '{tenant}/{device}_{date}.rsc'
      confkeep import oxidized.git --mapping devices.csv
    """
    running.adopt(terminal)
    if tenant is not None and not tenant.strip():
        raise InvalidInput("--tenant", "must not be blank; any name will do")
    asker: Asker = Person() if sys.stdin.isatty() and not as_json else Nobody()
    given = None if layout is None else layouts.parse(layout)
    source = _source(folder, source, given)
    if pack and source != sources.STORE:
        raise click.UsageError("--pack is for a store: what is imported is packed anyway.")
    if source == sources.STORE:
        if mapping is not None or tenant is not None:
            raise click.UsageError("A store is adopted as it is, without --mapping and --tenant.")
        store = get_settings().git_store_path
        adopt.run(terminal, folder, store=store, pack=pack, dry_run=dry_run, as_json=as_json)
        return
    names = Names(mapping)
    if source == sources.GIT:
        found = git_exports.read(folder, tenant=tenant, names=names, layout=given, asker=asker)
    elif source == sources.OXIDIZED:
        found = oxidized.read(folder, tenant=tenant, names=names)
    elif source == sources.RANCID:
        found = rancid.read(folder, tenant=tenant, names=names)
    else:
        found = exports_folder.scan(
            folder,
            order=None if order == "auto" else order,
            tenant=tenant,
            names=names,
            layout=given,
            asker=asker,
        )
    _refuse_namesakes(names)
    if mapping is not None and names.write():
        terminal.note(f"wrote {mapping}")
    kept = import_kept.look(get_settings().git_store_path, found.captures)
    if kept.other_ids:
        found.notes.append(
            f"{count_text(kept.other_ids, 'version')} of the same date and text came before under "
            "other ids: the source's history was rewritten, or its files renamed"
        )
    if dry_run:
        _print_plan(terminal, source, found, kept, as_json)
        ctx.exit(1 if strict and found.left_out else 0)
    if kept.older and not allow_older:
        raise _on_top(kept.older)
    if not as_json:
        _print_notes(terminal, found)
    try:
        with terminal.progress("importing", len(found.captures)) as advance:
            sender = Sender(kept.ids, advance, silence_s=timeout)
            sent = sender.send(found.captures)
    except KeyboardInterrupt:
        terminal.note(
            "ended before all was imported; run the same command again and it goes on. Workers commit what "
            "was handed over, and nothing is imported twice"
        )
        raise
    _name_tenants(names, sent, timeout)
    if as_json:
        terminal.json(_summary_json(source, found, kept, sent))
    else:
        _print_summary(terminal, found, sent)
    if sent.dead:
        ctx.exit(PoisonedBackup.exit_code)
    if strict and (sent.refused or found.left_out):
        ctx.exit(1)


def _source(folder: Path, source: str, layout: Layout | None) -> str:
    """What DIR is taken for."""
    if not folder.is_dir():
        raise InvalidInput("DIR", _no_folder(folder))
    if source != "auto":
        sources.check(folder, source)
    else:
        source = sources.detect(folder)
        if source == sources.OXIDIZED and layout is not None:
            return sources.GIT
    if layout is not None and source not in (sources.EXPORTS, sources.GIT):
        raise click.UsageError(
            f"--layout is for exports, and DIR is taken as {source}: --from exports, or --from git, says "
            "that it is not."
        )
    return source


def _no_folder(path: Path) -> str:
    """What stands where DIR should, and what comes nearest."""
    if path.exists():
        return (
            f"{path} is a file; name its folder, {path.parent}, or hand over this one with "
            f"`confkeep enqueue TENANT DEVICE --export {path}`"
        )
    above = path.parent
    while not above.is_dir():
        above = above.parent
    try:
        folders = sorted(found.name for found in above.iterdir() if found.is_dir())
    except OSError:
        folders = []
    near = get_close_matches(path.relative_to(above).parts[0], folders, 1)
    held = f"{near[0]}: did you mean that?" if near else ", ".join(folders[:5]) or "no folder"
    return f"{path} is not there; {above.resolve()} holds {held}"


def _refuse_namesakes(names: Names) -> None:
    """Make no second tenant of a name: from then on nobody could type it."""
    there = tenants(get_settings().git_store_path)
    known = {tenant.id for tenant in there}
    called = {tenant.name: tenant for tenant in there}
    for tenant_id, name in names.tenants.items():
        other = called.get(name)
        if other is not None and tenant_id not in known:
            raise InvalidInput(
                "--tenant",
                f"tenant {printable(str(other))} is called so already, under an id that was not made from "
                "this name",
                hint=f"--tenant {other.id} imports into that one; any other name makes a tenant of its own.",
            )


def _name_tenants(names: Names, sent: Sent, timeout: float) -> None:
    """Give the tenants the source's names, once: a name that a person gave meanwhile stays."""
    if not sent.imported:
        return
    results = []
    for tenant_id, name in names.tenants.items():
        with suppress(InvalidBackup):  # a folder's name that is no label
            results.append(name_tenant(tenant_id, name, backup_id=naming_id(tenant_id, name)))
    for result in results:
        result.receipt(timeout)


def _on_top(older: Sequence[Older]) -> InvalidInput:
    """What says that old captures would become the newest versions."""
    first = older[0]
    count = sum(device.captures for device in older)
    return InvalidInput(
        "DIR",
        f"{count_text(count, 'capture')} of {count_text(len(older), 'device')} would be put on top of "
        f"newer ones: {first.place} is of {date_text(first.captured_at)}, and its device has one of "
        f"{date_text(first.newest_kept)}. Nothing was imported",
        hint="Give them a tenant of their own with --tenant NAME, or say --allow-older if they shall be "
        "the newest versions.",
    )


def _print_plan(terminal: Terminal, source: str, found: Found, kept: Kept, as_json: bool) -> None:
    if as_json:
        terminal.json(_summary_json(source, found, kept, Sent()))
        return
    # An id stands for itself, a device's name stands as TENANT/DEVICE.
    called = {made: name.partition("/")[2] or None for name, made in found.named_ids.items()}
    dates: dict[str, list[Capture]] = {}
    for capture in found.captures:
        dates.setdefault(capture.row.device_id, []).append(capture)
    terminal.table(
        ["device", "versions", "binaries", "first (UTC)", "last (UTC)"],
        [
            [
                printable(str(Called(device_id, Labels(called.get(device_id))))),
                str(len(captures)),
                str(sum(capture.has_binary for capture in captures)),
                date_text(captures[0].captured_at)[:10],
                date_text(captures[-1].captured_at)[:10],
            ]
            for device_id, captures in dates.items()
        ],
        right="versions binaries",
    )
    _print_ids(terminal, found)
    _print_notes(terminal, found)
    terminal.line(
        f"Would import from {source} {count_text(len(found.captures), 'backup')} of "
        f"{count_text(len(dates), 'device')} of "
        f"{count_text(len({capture.row.tenant_id for capture in found.captures}), 'tenant')}."
    )
    if kept.older:
        terminal.line(f"  {_on_top(kept.older).problem}", style="yellow")


def _print_summary(terminal: Terminal, found: Found, sent: Sent) -> None:
    _print_ids(terminal, found)
    terminal.line(
        f"{count_text(sent.imported, 'backup')} imported, {sent.already_there:,} already there, "
        f"{len(sent.refused):,} refused"
        + (f", {len(found.left_out):,} left out" if found.left_out else "")
        + (f", {count_text(len(sent.dead), 'dead letter')}" if sent.dead else "")
        + "."
    )
    for what, files in (("refused", sent.refused), ("dead letter", sent.dead)):
        lines = [f"  {what}: {printable(path)}: {printable(reason)}" for path, reason in files]
        terminal.some(lines, _LISTED, "yellow")


def _print_notes(terminal: Terminal, found: Found) -> None:
    for lines in (found.notes, found.left_out):
        terminal.some([f"  {printable(line)}" for line in lines], _LISTED, "yellow")


def _print_ids(terminal: Terminal, found: Found) -> None:
    if not found.named_ids:
        return
    terminal.line("Ids made from names:", style="bold")
    lines = [
        f"{'    ' if '/' in name else '  '}{made}  {printable(name)}"
        for name, made in found.named_ids.items()
    ]
    terminal.some(lines, _IDS_LISTED)


def _summary_json(source: str, found: Found, kept: Kept, sent: Sent) -> dict[str, object]:
    devices = dict.fromkeys(
        (capture.row.tenant_id, capture.row.device_id) for capture in found.captures
    )
    return {
        "found": len(found.captures),
        "imported": sent.imported,
        "already_there": sent.already_there,
        "unchanged": sent.unchanged,
        "refused": [{"path": path, "reason": reason} for path, reason in sent.refused],
        "dead_letters": [{"path": path, "reason": reason} for path, reason in sent.dead],
        "source": source,
        "left_out": found.left_out,
        "older": [
            {
                "device_id": device.device_id,
                "captures": device.captures,
                "place": device.place,
                "captured_at": device.captured_at.astimezone(dt.UTC).isoformat(),
                "newest_kept": device.newest_kept.isoformat(),
            }
            for device in kept.older
        ],
        "notes": found.notes,
        "ids": found.named_ids,
        "tenants": Counter(tenant_id for tenant_id, _device_id in devices),
    }
