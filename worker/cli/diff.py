"""`confkeep diff`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Final

import click
import pygit2

from confkeep.errors import NotInStore
from confkeep.routeros.export import configuration_of
from confkeep.settings import get_settings
from worker.cli.params import DEVICE, TENANT
from worker.cli.terminal import Terminal, count_text, date_text, pass_terminal, printable, size_text
from worker.engine.diff import hunks, masked_hunks
from worker.engine.moments import version_at
from worker.engine.resolver import find_device, open_device
from worker.engine.versions import captured_at, last_versions
from worker.masking import mask as masking
from worker.store.repository.backup import BINARY_NAME, EXPORT_NAME, decode_text
from worker.store.repository.reader import Pair, find_commit, read_pair
from worker.store.repository.tenant_repository import TenantRepository

_STYLES: Final = {"+": "green", "-": "red", "@": "cyan"}
_NOTHING: Final = Pair(None, None)


@click.command("diff")
@click.argument("tenant", type=TENANT, metavar="[TENANT]")
@click.argument("device", type=DEVICE, required=False, metavar="DEVICE")
@click.argument("old", required=False)
@click.argument("new", required=False)
@click.option(
    "-U",
    "--unified",
    "context",
    type=click.IntRange(0, 1000),
    default=3,
    show_default=True,
    metavar="LINES",
    help="Lines of context.",
)
@click.option(
    "--ignore-header",
    is_flag=True,
    help="Leave out what RouterOS changes by itself: the line with the date, and comments on states.",
)
@click.option(
    "--mask", is_flag=True, help="Show *** in the place of each secret, and which of them changed."
)
@click.option(
    "--with", "other", metavar="DEVICE", help="Compare the newest export with another device's."
)
@pass_terminal
def command(
    terminal: Terminal,
    tenant: str,
    device: str | None,
    old: str | None,
    new: str | None,
    context: int,
    ignore_header: bool,
    mask: bool,
    other: str | None,
) -> None:
    """Show what changed between two versions of a device.

    TENANT may be left out with OLD and NEW, where one device alone is called so. Without OLD and NEW: the last change. With OLD: everything since that version. With both: what
    changed between the two. Each is a commit, `latest~1`, or a date or a duration such as
    '2 days ago', which stands for the version that was valid then. Each hunk names its RouterOS
    section. A pipe gets the exact lines, so that `patch` takes them; a terminal gets control
    characters as escapes.

    \b
    Examples:
      confkeep diff core1
      confkeep diff acme core1 '2 days ago' --ignore-header
      confkeep diff acme core1 --with core2 --mask
    """
    _tenant, repository, called = open_device(get_settings().git_store_path, tenant, device)
    device_id = called.id
    how = How(context, ignore_header=ignore_header, mask=mask, model=called.labels.model)
    if other is not None:
        if old is not None:
            raise click.UsageError("--with compares the newest exports: give no versions.")
        sides = [
            _side(repository, each.id, last_versions(repository, each.id, 1)[0].sha)
            for each in (called, find_device(repository, other))
        ]
        # Whether two devices have the same password is told by no masked text.
        how = replace(how, two_devices=True)
        _print_sides(terminal, sides[0], sides[1], how)
        return
    old_sha, new_sha = (
        None if text is None else version_at(repository, device_id, text, field=field).sha
        for field, text in (("OLD", old), ("NEW", new))
    )
    print_diff(terminal, repository, device_id, old_sha, new_sha, how)


@dataclass(frozen=True, slots=True)
class How:
    """How to show a difference."""

    #: Unchanged lines around each change.
    context: int = 3
    #: Leave out what RouterOS changes by itself.
    ignore_header: bool = False
    #: Show no secret.
    mask: bool = False
    #: The model label of the device.
    model: str | None = None
    #: Compare two devices, and not two versions of one.
    two_devices: bool = False
    #: Show at most this many lines, and how many more there are; None: all.
    max_lines: int | None = None

    def of(self, export: bytes | None) -> bytes:
        """The part of an export to compare."""
        if export is None:
            return b""
        text = configuration_of(export) if self.ignore_header else export
        return masking.mask(text, self.model) if self.mask and self.two_devices else text

    def hunks(self, old: bytes, new: bytes) -> bytes:
        """The hunks of the difference of two such parts."""
        if self.mask and not self.two_devices:
            return masked_hunks(old, new, self.context, self.model)
        return hunks(old, new, self.context)


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two versions to compare; without a commit: before the first version."""

    commit: pygit2.Commit | None
    pair: Pair

    def label(self, prefix: str) -> str:
        """The text behind `---` or `+++`: git's name of the file, the date and the commit."""
        if self.commit is None or self.pair.export is None:
            return "/dev/null"
        when = date_text(captured_at(self.commit))
        return f"{prefix}/{EXPORT_NAME}\t{when} UTC  {str(self.commit.id)[:10]}"


def _side(repository: TenantRepository, device_id: str, sha: str | None) -> _Side:
    if sha is None:
        return _Side(None, _NOTHING)
    commit = find_commit(repository, sha)
    return _Side(commit, read_pair(repository, commit, device_id))


def print_diff(
    terminal: Terminal,
    repository: TenantRepository,
    device_id: str,
    old_sha: str | None = None,
    new_sha: str | None = None,
    how: How | None = None,
) -> None:
    """Print the unified diff of the exports, and a line about the binaries.

    Raises:
        NotInStore: the device or a commit is not there.
    """
    last = last_versions(repository, device_id, 2)
    if old_sha is None and len(last) > 1:
        old_sha = last[1].sha
    old = _side(repository, device_id, old_sha)
    new = _side(repository, device_id, new_sha or last[0].sha)
    if old.pair == new.pair == _NOTHING:
        raise NotInStore(f"device {device_id} is in neither of the two commits")
    _print_sides(terminal, old, new, how or How())


def _print_sides(terminal: Terminal, old: _Side, new: _Side, how: How) -> None:
    if how.of(old.pair.export) == how.of(new.pair.export):
        terminal.line(f"{EXPORT_NAME}: no difference", style="bold")
    else:
        _print_patch(terminal, old, new, how)
    terminal.line(f"{BINARY_NAME}: {_binaries(old.pair.binary, new.pair.binary)}", style="bold")


def _print_patch(terminal: Terminal, old: _Side, new: _Side, how: How) -> None:
    names = [
        f"--- {old.label('a')}",
        f"+++ {new.label('b')}",
    ]
    body = how.hunks(how.of(old.pair.export), how.of(new.pair.export))
    if how.max_lines is not None and body.count(b"\n") > how.max_lines:
        lines = body.split(b"\n")
        left_out = len(lines) - 1 - how.max_lines
        body = b"\n".join([*lines[: how.max_lines], b"... and %d more lines" % left_out, b""])
    if not sys.stdout.isatty():
        terminal.bytes("\n".join(names).encode() + b"\n" + body)
        return
    for name in names:
        terminal.line(name.expandtabs(2), style="bold")
    crlf = _has_crlf(old.pair.export) and _has_crlf(new.pair.export)
    for raw in body.split(b"\n")[:-1]:
        # Where both have such line ends, hide them; otherwise they are the difference.
        line = decode_text(raw[:-1] if crlf and raw.endswith(b"\r") else raw)
        terminal.line(printable(line.expandtabs()), style=_STYLES.get(line[:1]))


def _has_crlf(export: bytes | None) -> bool:
    return export is None or b"\r\n" in export


def _binaries(old: bytes | None, new: bytes | None) -> str:
    if old == new:
        return "none" if new is None else f"the same {size_text(len(new))}"
    if old is None or new is None:
        what, data = ("added", new) if old is None else ("removed", old)
        return f"{what}, {size_text(len(data or b''))}"
    if len(old) != len(new):
        return f"differs, {size_text(len(old))} before, {size_text(len(new))} now"
    count = sum(a != b for a, b in zip(old, new, strict=True))
    return f"differs in {count:,} of {count_text(len(new), 'byte')}"
