"""`confkeep digest`."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from confkeep.broker.connections import get_client
from worker.cli import running
from worker.cli.params import TENANT, Age
from worker.cli.terminal import Terminal, pass_terminal
from worker.engine.moments import moment_of
from worker.engine.resolver import paths_of
from worker.hooks import notify
from worker.hooks.digest import digest_of
from worker.hooks.digest_html import html_of
from worker.hooks.digest_text import json_of, text_of
from worker.store.git.durable import file_system_errors, replace_file


@click.command("digest")
@click.argument("tenant", type=TENANT)
@click.option(
    "--since",
    default="24h",
    show_default=True,
    metavar="WHEN",
    help="From when on: a date, or a duration such as 24h or '7 days'.",
)
@click.option(
    "--stale-after",
    "stale_after_s",
    type=Age(),
    metavar="AGE",
    help="The age of its newest backup from which a device is stale.  [default: CONFKEEP_STALE_HOURS]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it as one HTML page instead.",
)
@click.option(
    "--send",
    "urls",
    multiple=True,
    metavar="URL",
    help="Send it to this address of apprise instead; may stand several times.",
)
@click.option("--always", is_flag=True, help="With --send: also when there is nothing to say.")
@pass_terminal
def command(
    terminal: Terminal,
    tenant: str,
    since: str,
    stale_after_s: float | None,
    as_json: bool,
    page: Path | None,
    urls: tuple[str, ...],
    always: bool,
) -> None:
    """Tell what changed in a tenant's last hours, and what needs a look.

    Which devices changed, with their differences, which are stale or suspect, and which backups are
    dead letters. Secrets are masked. --send takes the addresses of apprise
    (https://appriseit.com): mail, Slack, Teams, Telegram and a hundred more; it needs
    the extra `notify`.

    \b
    Ends with
      0   printed, written, sent, or nothing to say
      63  a receiver was not reached, or refused it

    \b
    With --json:
      {"tenant_id", "tenant_name", "since", "until",
       "devices": how many there are,
       "changed": [{"device_id", "device_name", "times", "changed_at",
                    "commit", "new", "diff": masked, null beyond 100}],
       "stale": [{"device_id", "device_name", "last_backup_at"}],
       "suspect": [{"device_id", "device_name", "captured_at", "reason"}],
       "dead": [{"device_id", "device_name", "backup_id", "died_at",
                 "reason"}]}

    \b
    Examples:
      confkeep digest acme
      confkeep digest acme --since '7 days' --html week.html
      confkeep digest acme --send slack://TOKEN_A/TOKEN_B/TOKEN_C/#network
    """
    settings = running.settings(terminal)
    now = dt.datetime.now(dt.UTC)
    moment = moment_of("--since", since, now, end_of_day=False)
    [path] = paths_of(settings.git_store_path, tenant).values()
    if stale_after_s is None:
        stale_after_s = settings.stale_hours * 3_600
    digest = digest_of(get_client(settings), path, moment, stale_after_s=stale_after_s, now=now)
    if page is not None:
        with file_system_errors(str(page)):
            text = html_of(digest, public_url=settings.public_url)
            replace_file(page, text.encode("utf-8", "backslashreplace"))
        terminal.note(f"{page} written")
    if urls and (digest.says_something or always):
        notify.send(digest, list(urls), field="--send", public_url=settings.public_url)
        terminal.note("sent")
    elif urls:
        terminal.note("nothing to say, so nothing was sent")
    if as_json:
        terminal.json(json_of(digest))
    elif page is None and not urls:
        terminal.line(text_of(digest).rstrip("\n"))
