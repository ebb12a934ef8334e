"""Prints the findings of a verification, with advice, and turns them into an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from confkeep.errors import ConfkeepError, NotInStore, NotOwner, RepositoryBusy, RepositoryDamaged
from worker.cli.called import device_text, tenant_text, tenants_text
from worker.cli.terminal import Terminal, count_text, first_line
from worker.store.upkeep.verify_report import Finding, Kind, Outcome, Report

#: How many findings of a tenant to print; --json prints all.
_LISTED: Final = 20

#: What a person can do about what `confkeep repair` cannot rebuild.
_ADVICE: Final = {
    Kind.REF: "Restore the file from a copy, or write the newest commit's id into it; a clone, "
    "receipts and `git fsck --lost-found` name it.",
    Kind.PACK: "If nothing else is damaged, `confkeep repair TENANT` writes anew what it holds; else restore "
    "the file, and its idx, from a copy of the repository.",
    Kind.OBJECT: "Restore the pack that holds it from a copy, or fetch it from a clone.",
    Kind.DEVICE: "Its earlier versions are in git: `confkeep history`, then `confkeep show --at`; "
    "the device's next backup holds it again.",
    Kind.IDS: "Put the file back from a copy that is not older than the last retention; "
    "docs/operate.md says what to do without one.",
    Kind.RULES: "Put the file back from a copy, or move it away and set the rules anew.",
    Kind.UNREADABLE: "If the text tells of permissions, run it as the owner of the files; else restore from a "
    "copy what it names.",
}
#: What a damaged idx alone may bring about.
_OF_AN_IDX: Final = (Kind.OBJECT, Kind.DEVICE, Kind.UNREADABLE)

#: From the least to the most serious; the exit code is that of the most serious one.
_GRAVITY: Final = (
    Outcome.CLEAN,
    Outcome.MISSING,
    Outcome.LOCKED,
    Outcome.UNREADABLE,
    Outcome.DAMAGED,
)


def print_report(terminal: Terminal, tenant_id: str, report: Report) -> None:
    """Print a line about a tenant, and its findings with what to do."""
    style = {Outcome.CLEAN: "green", Outcome.DAMAGED: "red"}.get(report.outcome, "yellow")
    text = f"{tenant_text(tenant_id)}: {report.outcome.value}"
    if report.outcome in (Outcome.CLEAN, Outcome.DAMAGED):
        looked_at = (
            f"{count_text(report.objects, 'object')} read, "
            f"{count_text(report.commits, 'commit')} and {count_text(report.devices, 'device')} "
            f"followed in {report.duration_s:.1f} s"
        )
        text += (
            f" ({looked_at})" if report.complete else f" as far as it was looked at ({looked_at})"
        )
    terminal.prose(text, style=style)
    print_findings(terminal, tenant_id, report.findings)


def print_findings(terminal: Terminal, tenant_id: str, findings: Sequence[Finding]) -> None:
    """Print the findings, and below those of one kind what to do about them."""
    listed = findings[:_LISTED]
    for number, finding in enumerate(listed):
        terminal.line(
            f"  {finding.kind.value} {place_text(tenant_id, finding)}: {first_line(finding.text)}"
        )
        following = listed[number + 1 :][:1]
        if not following or following[0].kind != finding.kind:
            terminal.line(f"    {_advice(tenant_id, finding, findings)}", style="dim")
    terminal.and_more(len(findings), _LISTED)


def place_text(tenant_id: str, finding: Finding) -> str:
    """Where it was found, for a person; a device by name."""
    if finding.kind is Kind.DEVICE:
        return device_text(tenant_id, finding.place)
    return first_line(finding.place)


def _advice(tenant_id: str, finding: Finding, beside: Sequence[Finding]) -> str:
    """What a person can do about a finding, one of those `beside`."""
    if finding.repairable:
        return f"`confkeep repair {tenant_id}` rebuilds it from the rest."
    if finding.kind in _OF_AN_IDX and any(found.kind is Kind.IDX for found in beside):
        return f"The damaged idx may be why: `confkeep repair {tenant_id}` first, and see what it leaves."
    return _ADVICE[finding.kind]


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The most serious of several outcomes."""
    return max(outcomes, key=_GRAVITY.index, default=Outcome.CLEAN)


def error_of(reports: dict[str, Report]) -> ConfkeepError | None:
    """The error that the command line ends with; None if all are clean."""
    outcome = worst([report.outcome for report in reports.values()])
    tenants = [name for name, report in reports.items() if report.outcome == outcome]
    which = tenants_text(tenants)
    match outcome:
        case Outcome.CLEAN:
            return None
        case Outcome.DAMAGED:
            count = sum(len(reports[name].findings) for name in tenants)
            return RepositoryDamaged(f"{which}: {count_text(count, 'finding')}")
        case Outcome.UNREADABLE:
            return NotOwner(
                next(found.text for name in tenants for found in reports[name].findings)
            )
        case Outcome.LOCKED:
            return RepositoryBusy(f"{which}: another process is writing all the time")
        case Outcome.MISSING:
            return NotInStore(
                f"{which}: no repository", hint="`confkeep history` alone lists the tenants."
            )
