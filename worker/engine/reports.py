"""Reports of verify and drill with names, as `--json` and the tasks give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from worker.engine.directory import Called, names_at
from worker.store.repository.description import read_name
from worker.store.upkeep.drill_report import DrillReport
from worker.store.upkeep.verify_report import Finding, Kind, Report


def verify_json(path: Path, report: Report, most_findings: int | None = None) -> dict[str, object]:
    """What a verification of the repository at `path` found, with at most so many findings."""
    return {
        "tenant_id": path.stem,
        "tenant_name": read_name(path),
        **report.to_json(most_findings),
        "findings": findings_json(path, report.findings[:most_findings]),
    }


def findings_json(path: Path, findings: Sequence[Finding]) -> list[dict[str, object]]:
    """Findings as JSON values; one of a device has the device's name too."""
    of_devices = any(finding.kind is Kind.DEVICE for finding in findings)
    names = names_at(path) if of_devices else {}
    return [
        {**finding.to_json(), "device_name": _name(names, finding.place)}
        if finding.kind is Kind.DEVICE
        else finding.to_json()
        for finding in findings
    ]


def drill_json(
    path: Path, report: DrillReport, most_devices: int | None = None
) -> dict[str, object]:
    """What a drill in the repository at `path` did, with at most so many entries of `last_seen`."""
    names = names_at(path)
    restored = [
        {**one.to_json(), "device_name": _name(names, one.device_id)} for one in report.restored
    ]
    name = read_name(path)
    return {**report.to_json(most_devices), "tenant_name": name, "restored": restored}


def _name(names: dict[str, Called], device_id: str) -> str | None:
    return names.get(device_id, Called(device_id)).name
