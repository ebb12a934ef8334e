"""`confkeep verify`."""

from __future__ import annotations

import random
import time

import click

from worker.cli import running
from worker.cli.called import tenant_text
from worker.cli.findings import error_of, print_report, worst
from worker.cli.params import TENANT
from worker.cli.terminal import Terminal, count_text, pass_terminal
from worker.engine.reports import verify_json
from worker.engine.resolver import paths_of
from worker.store.git.durable import file_system_errors
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_report import Report, parse_subset


@click.command("verify")
@click.argument("tenant", type=TENANT, required=False)
@click.option(
    "--subset",
    metavar="N/T",
    help="Read only the N-th of T parts of the objects; T runs read all of them.",
)
@click.option(
    "--max-duration",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Stop after this many seconds and say what was not read. Each run takes the tenants in "
    "another order, so that many runs read all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(
    terminal: Terminal,
    tenant: str | None,
    subset: str | None,
    max_duration: float | None,
    as_json: bool,
) -> None:
    """Read all that is kept and say whether it is sound.

    Without TENANT: all tenants of the store. It checks the hash of every object, that no object is
    missing, that no commit lost a device, each device's newest two files, the history index against
    git, and files that writers left when they died. It changes nothing, and workers may go on
    meanwhile. Each finding comes with what you can do about it.

    \b
    Ends with
      0   clean: it found nothing wrong in what it read
      31  missing: the tenant has no repository, or the store has none at all
      32  locked: another process was writing all the time
      33  damaged: it found something wrong
      35  unreadable: the files belong to another user, and may not be read
    Of several tenants, the most serious outcome counts.

    \b
    With --json:
      {"outcome": "clean", "missing", "locked", "unreadable" or "damaged":
                  the most serious one,
       "tenants": [{"tenant_id", "tenant_name", "outcome",
                    "complete": whether there was time to read all,
                    "objects", "commits", "devices", "duration_s",
                    "finding_count",
                    "findings": [{"kind", "place", "text", "repairable",
                                  "device_name": if `place` is a device}]}],
       "not_verified": [tenant_id]: those that there was no time for}

    \b
    Examples:
      confkeep verify acme
      confkeep verify --subset 1/7
      confkeep verify --max-duration 600 --json
    """
    chosen = None if subset is None else parse_subset(subset)
    deadline = None if max_duration is None else time.monotonic() + max_duration
    paths = paths_of(running.settings(terminal).git_store_path, tenant)
    order = list(paths)
    if deadline is not None:
        random.shuffle(order)
    reports: dict[str, Report] = {}
    for tenant_id in order:
        path = paths[tenant_id]
        left_s = None if deadline is None else deadline - time.monotonic()
        # Verify at least one, however short the time: a run that reads nothing proves nothing.
        if left_s is not None and left_s <= 0 and reports:
            break
        with file_system_errors(path.name), terminal.phases(tenant_text(tenant_id)) as tell:
            reports[tenant_id] = verify_repository(
                path, subset=chosen, max_duration_s=left_s, progress=tell
            )
        if not as_json:
            print_report(terminal, tenant_id, reports[tenant_id])
    not_verified = [tenant_id for tenant_id in paths if tenant_id not in reports]
    if as_json:
        terminal.json(
            {
                "outcome": worst([report.outcome for report in reports.values()]).value,
                "tenants": [
                    verify_json(paths[tenant_id], report) for tenant_id, report in reports.items()
                ],
                "not_verified": not_verified,
            }
        )
    incomplete = [name for name, report in reports.items() if not report.complete]
    if incomplete or not_verified:
        terminal.note(
            f"The time was over: {count_text(len(incomplete), 'tenant')} looked at in part, "
            f"{len(not_verified)} not at all. With --subset each run can be short."
        )
    error = error_of(reports)
    if error is not None:
        raise error
