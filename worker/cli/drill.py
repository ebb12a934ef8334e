"""`confkeep drill`."""

from __future__ import annotations

import datetime as dt
import random
import secrets
from pathlib import Path

import click

from confkeep.errors import RestoreFailed
from worker.cli import drill_page, running
from worker.cli.called import device_text, tenant_text, tenants_text
from worker.cli.each import Failures
from worker.cli.params import TENANT
from worker.cli.terminal import (
    Terminal,
    count_text,
    date_text,
    first_line,
    pass_terminal,
)
from worker.engine.reports import drill_json
from worker.engine.resolver import paths_of
from worker.observe import states
from worker.store.git.durable import file_system_errors, replace_file
from worker.store.upkeep.drill import SAMPLE, drill_repository
from worker.store.upkeep.drill_report import DrillReport, Restored


@click.command("drill")
@click.argument("tenant", type=TENANT, required=False)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=SAMPLE,
    show_default=True,
    metavar="N",
    help="How many versions of each tenant to restore, of as many devices as possible.",
)
@click.option(
    "--seed",
    type=int,
    metavar="S",
    help="Choose the sample by this number, which the report of an earlier drill names.",
)
@click.option(
    "--tenants",
    "most_tenants",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only this many tenants, chosen at random.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the report as one page with charts.",
)
@click.option(
    "--scratch",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where to clone to, instead of the system's temporary folder. The clones are removed at the end.",
)
@pass_terminal
def command(
    terminal: Terminal,
    tenant: str | None,
    sample: int,
    seed: int | None,
    most_tenants: int | None,
    as_json: bool,
    page: Path | None,
    scratch: Path | None,
) -> None:
    """Restore a random sample from a fresh clone and prove that it is right.

    Without TENANT: all tenants of the store, or --tenants of them. Clones each repository as over a
    network, writes random versions of random devices into an empty folder, reads them back, and
    compares names, sizes, object ids and line counts with the history. Only these decide. The
    report also says how many lines of an export RouterOS would not write, whether it looks like
    RouterOS at all, and whether a binary is plain, encrypted or unknown. A drill changes nothing
    in the store, and workers may go on.

    \b
    Ends with
      0   all that was restored is right
      31  there is no such repository, or none at all
      34  too little space for the clone, or the file system refused
      43  a restore failed

    \b
    With --json:
      {"outcome": "proven" or "failed", "seed",
       "tenants": [{"tenant_id", "tenant_name",
                    "outcome": "proven", "failed" or "empty",
                    "failed": how many, "complete", "seed", "tip", "devices",
                    "problems": [text], "clone_s", "duration_s",
                    "last_seen": {device_id: date},
                    "restored": [{"device_id", "device_name", "commit",
                                  "captured_at", "export_bytes", "binary_bytes",
                                  "lines_added", "lines_removed",
                                  "unrecognised_share": 0 to 1,
                                  "looks_like_routeros", "binary_kind",
                                  "problems": [text]}]}],
       "errors": [{"tenant_id", "tenant_name",
                   "error": why the drill could not begin}]}

    \b
    Examples:
      confkeep drill acme
      confkeep drill acme --sample 50 --seed 7
      confkeep drill --tenants 3 --html drill.html
    """
    paths = paths_of(running.settings(terminal).git_store_path, tenant)
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    if most_tenants is not None and most_tenants < len(paths):
        rng = random.Random(seed)  # noqa: S311 - a sample, and no secret
        paths = {tenant_id: paths[tenant_id] for tenant_id in rng.sample(list(paths), most_tenants)}
    reports: list[DrillReport] = []
    failures = Failures(terminal, paths)
    for tenant_id, path in paths.items():
        with failures.noted(tenant_id), terminal.phases(tenant_text(tenant_id)) as tell:
            report = drill_repository(
                path, sample=sample, seed=seed, scratch=scratch, progress=tell
            )
            reports.append(report)
            if not as_json:
                _print(terminal, report)
    failed = [report for report in reports if report.failed]
    if page is not None:
        with file_system_errors(str(page)):
            text = drill_page.render(reports, dt.datetime.now(dt.UTC))
            replace_file(page, text.encode("utf-8", "backslashreplace"))
    if as_json:
        errors = failures.to_json()
        terminal.json(
            {
                "outcome": "failed" if failed or errors else "proven",
                "seed": seed,
                "tenants": [drill_json(paths[report.tenant_id], report) for report in reports],
                "errors": errors,
            }
        )
    else:
        terminal.note(f"seed {seed}" + (f"; {page} written" if page is not None else ""))
    if failed:
        where = tenants_text([report.tenant_id for report in failed])
        count = sum(report.failed for report in failed)
        raise RestoreFailed(f"{where}: {count_text(count, 'restore')} failed")
    failures.end()


def _print(terminal: Terminal, report: DrillReport) -> None:
    restored = report.restored
    if not restored and not report.failed:
        terminal.line(f"{tenant_text(report.tenant_id)}: nothing to restore", style="yellow")
        return
    devices = len({one.device_id for one in restored})
    terminal.line(
        f"{tenant_text(report.tenant_id)}: {count_text(len(restored), 'version')} of "
        f"{count_text(devices, 'device')} restored, {report.failed} failed "
        f"(of {count_text(report.devices, 'device')}; {report.duration_s:.1f} s)",
        style="red" if report.failed else "green",
    )
    for problem in report.problems:
        terminal.line(f"  {first_line(problem)}", style="red")
    if restored:
        terminal.table(
            ["device", "result", "commit", "captured (UTC)", "export", "binary", "lines"],
            [_row(report.tenant_id, one) for one in restored],
            right="export",
        )
    for one in restored:
        for problem in one.problems:
            device = device_text(report.tenant_id, one.device_id)
            terminal.prose(
                f"  {device}, commit {one.commit[:10]}: {first_line(problem)}", style="red"
            )


def _row(tenant_id: str, one: Restored) -> list[str]:
    return [
        device_text(tenant_id, one.device_id),
        states.FAILED.loud if one.problems else drill_page.result_of(one),
        one.commit[:10],
        date_text(one.captured_at),
        *(text or "-" for text in drill_page.figures_of(one)),
    ]
