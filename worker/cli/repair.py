"""`confkeep repair`."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Final

import click

from confkeep.errors import RepositoryBusy, StoreError
from worker.cli import running
from worker.cli.called import tenant_json, tenant_text
from worker.cli.each import Failures
from worker.cli.findings import error_of, place_text, print_findings
from worker.cli.params import TENANT
from worker.cli.terminal import Terminal, first_line, pass_terminal
from worker.engine.reports import findings_json
from worker.engine.resolver import paths_of
from worker.store.git.durable import file_system_errors
from worker.store.history.index_build import Progress
from worker.store.upkeep.repair import Repaired, repair_repository
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_report import Finding, Outcome, Report

#: How often to look and mend: after an idx is mended, more can be looked at.
_ROUNDS: Final = 4
#: Seconds to wait for a moment when nobody writes.
_WAIT_S: Final = 10.0


@click.command("repair")
@click.argument("tenant", type=TENANT, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@pass_terminal
def command(terminal: Terminal, tenant: str | None, as_json: bool) -> None:
    """Rebuild damaged files that can be derived from git.

    Without TENANT: all tenants of the store. It verifies; rebuilds the history index, HEAD, and an
    idx whose pack is sound; removes damaged files that only make git faster, and files that writers
    left when they died; renames loose objects that are cut short; repacks in full where a pack is
    damaged and all its objects are sound elsewhere; and verifies again. It never touches other
    packs, objects and branches: it lists what is wrong with them and what you can do.

    Workers may go on meanwhile: they and this command take turns with the repository's lock. Ends
    with 32 when it does not get the lock within 10 seconds, otherwise as `confkeep verify`: with 0
    when all is sound now.

    \b
    With --json:
      {"tenants": [{"tenant_id", "tenant_name", "outcome": as it is now,
                    "mended": [{"kind", "place", "text", "repairable"}],
                    "left": [{"kind", "place", "text", "repairable",
                              "device_name": if `place` is a device}]}],
       "errors": [{"tenant_id", "tenant_name",
                   "error": why nothing could be done}]}

    \b
    Examples:
      confkeep repair acme
      confkeep repair --json
    """
    reports: dict[str, Report] = {}
    done = []
    paths = paths_of(running.settings(terminal).git_store_path, tenant)
    failures = Failures(terminal, paths)
    for tenant_id, (report, mended) in failures.each(partial(_repair, terminal)):
        path, reports[tenant_id] = paths[tenant_id], report
        done.append(
            {
                **tenant_json(tenant_id),
                "outcome": report.outcome.value,
                "mended": findings_json(path, mended),
                "left": findings_json(path, report.findings),
            }
        )
        if not as_json:
            _print(terminal, tenant_id, report, mended)
    if as_json:
        terminal.json({"tenants": done, "errors": failures.to_json()})
    error = error_of(reports)
    if error is not None:
        raise error
    failures.end()


def _repair(terminal: Terminal, tenant_id: str, path: Path) -> tuple[Report, list[Finding]]:
    """How the repository is afterwards, and what was mended.

    An error ends it, once what was mended before is printed.
    """
    mended: list[Finding] = []
    try:
        with file_system_errors(path.name), terminal.phases(tenant_text(tenant_id)) as tell:
            for _ in range(_ROUNDS):
                report = verify_repository(path, progress=tell)
                if report.outcome != Outcome.DAMAGED:
                    break
                before = len(mended)
                _mend(report, lambda count, total: tell("history index", count, total), mended)
                if len(mended) == before:
                    break
    except StoreError:
        if mended:
            terminal.note(f"{tenant_text(tenant_id)}: mended in part")
            for finding in mended:
                terminal.note(_mended_text(tenant_id, finding))
        raise
    return report, mended


def _mend(report: Report, progress: Progress, mended: list[Finding]) -> None:
    """`repair_repository` at a moment when nobody writes; `mended` gets what it mends, also before an error."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        done = Repaired()
        try:
            repair_repository(report, progress, done)
        except RepositoryBusy:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.02)
        else:
            return
        finally:
            mended += done.mended


def _mended_text(tenant_id: str, finding: Finding) -> str:
    return f"  rebuilt: {place_text(tenant_id, finding)} ({first_line(finding.text)})"


def _print(terminal: Terminal, tenant_id: str, report: Report, mended: list[Finding]) -> None:
    if report.outcome == Outcome.CLEAN:
        text = "mended, and sound now" if mended else "sound; nothing to do"
        terminal.line(f"{tenant_text(tenant_id)}: {text}", style="green")
    else:
        terminal.line(f"{tenant_text(tenant_id)}: {report.outcome.value}", style="red")
    for finding in mended:
        terminal.line(_mended_text(tenant_id, finding))
    if report.findings:
        terminal.line("  not touched:")
        print_findings(terminal, tenant_id, report.findings)
