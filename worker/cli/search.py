"""`confkeep search`."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterable
from dataclasses import asdict

import click
from rich.text import Text

from confkeep.settings import get_settings
from worker.cli.called import tenant_json
from worker.cli.each import Failures
from worker.cli.params import TENANT
from worker.cli.terminal import Terminal, count_text, date_text, pass_terminal, printable
from worker.engine import search
from worker.engine.moments import moment_of
from worker.engine.resolver import paths_of
from worker.engine.search import Found, MatchEntry, Query, Searcher, Span
from worker.store.repository.tenant_repository import open_repository

#: The exit status when nothing matches, the same as that of grep.
_NOTHING = 1


@click.command("search")
@click.argument("pattern")
@click.argument("tenant", type=TENANT, required=False)
@click.option("-e", "--regex", is_flag=True, help="PATTERN is a regular expression (re2's).")
@click.option(
    "-i", "--ignore-case", is_flag=True, help="Ignore the difference of upper and lower case."
)
@click.option(
    "-C", "--context", type=click.IntRange(0, 100), default=0, metavar="LINES",
    help="Show this many lines around each match.",
)  # fmt: skip
@click.option("--group", metavar="GROUP", help="Only the devices of this group.")
@click.option(
    "--at", metavar="WHEN", help="Search the exports as they were then: 2026-10-03, '2 days ago'."
)
@click.option(
    "--history", is_flag=True, help="Search all versions: when each device had such a line."
)
@click.option("--mask", is_flag=True, help="Search and show the exports without their secrets.")
@click.option("-l", "--names-only", is_flag=True, help="Only the devices' names.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(
    terminal: Terminal,
    pattern: str,
    tenant: str | None,
    regex: bool,
    ignore_case: bool,
    context: int,
    group: str | None,
    at: str | None,
    history: bool,
    mask: bool,
    names_only: bool,
    as_json: bool,
) -> None:
    """Search the newest exports for lines.

    Searches one tenant or all. Each line comes with its number and its RouterOS section. The time
    grows with the exports, whatever the pattern.

    \b
    Ends with
      0   a line matches
      1   none does

    \b
    With --json:
      {"tenants": [{"tenant_id", "tenant_name", "devices": [{"device_id", "name",
       "matches": [{"line", "section", "text", "before", "after"}]}]}],
       "errors": [{"tenant_id", "tenant_name", "error": why it cannot be read}]}
    and with --history "first", "last" and "still" instead of "matches"

    \b
    Examples:
      confkeep search 10.0.0.1 acme
      confkeep search -e 'dst-port=(22|23)\\b' acme --group core -C 2
      confkeep search chain=input --history
    """
    if history and at is not None:
        raise click.UsageError("--history looks at all versions; --at at one.")
    searcher = Searcher(Query(pattern, regex, ignore_case, context))
    exports = None
    if at is not None:
        now = dt.datetime.now(dt.UTC)
        exports = search.as_of(moment_of("--at", at, now, end_of_day=True))
    paths = paths_of(get_settings().git_store_path, tenant)
    failures = Failures(terminal, paths)
    found: dict[str, list[Found | Span]] = {}
    for tenant_id, path in paths.items():
        with failures.noted(tenant_id):
            repository = open_repository(path)
            devices = search.devices_in(repository, group)
            results: Iterable[Found | Span] = (
                search.spans(repository, searcher, devices, masked=mask)
                if history
                else search.search(repository, searcher, devices, exports, masked=mask)
            )
            for one in results:
                found.setdefault(tenant_id, []).append(one)
                if not as_json:
                    _print(terminal, one, names_only=names_only)
    many = sum(map(len, found.values()))
    if as_json:
        terminal.json(
            {
                "tenants": [
                    {**tenant_json(tenant_id), "devices": [_json_of(one) for one in devices]}
                    for tenant_id, devices in found.items()
                ],
                "errors": failures.to_json(),
            }
        )
    else:
        terminal.note(f"{count_text(many, 'device')} found")
    failures.end()
    if not many:
        click.get_current_context().exit(_NOTHING)


def _print(terminal: Terminal, one: Found | Span, *, names_only: bool) -> None:
    name = printable(str(one.device))
    if names_only:
        terminal.line(name)
    elif isinstance(one, Span):
        until = "now" if one.still else date_text(one.last)
        terminal.line(
            Text.assemble((name, "cyan"), f"  first {date_text(one.first)} UTC, last {until}")
        )
    elif sys.stdout.isatty():
        terminal.line(Text(name, style="bold cyan"))
        section = None
        for match in one.matches:
            if match.section != section:
                section = match.section
                terminal.line(Text(f"  {section or '(in no section)'}", style="magenta"))
            _print_match(terminal, match)
    else:
        for match in one.matches:
            section = match.section or ""
            terminal.line(f"{name}:{match.line}:{section}: {printable(match.text.strip())}")


def _print_match(terminal: Terminal, match: MatchEntry) -> None:
    numbered = [
        *enumerate(match.before, match.line - len(match.before)),
        (match.line, match.text),
        *enumerate(match.after, match.line + 1),
    ]
    for number, text in numbered:
        style = "" if number == match.line else "dim"
        terminal.line(
            Text.assemble((f"{number:6}  ", "green"), (printable(text.expandtabs()), style))
        )


def _json_of(one: Found | Span) -> dict[str, object]:
    said: dict[str, object] = {"device_id": one.device.id, "name": one.device.name}
    if isinstance(one, Span):
        return {**said, "first": one.first, "last": one.last, "still": one.still}
    return {**said, "matches": [asdict(match) for match in one.matches]}
