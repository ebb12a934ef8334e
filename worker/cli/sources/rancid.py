"""RANCID's folder as captures: `GROUP/configs/DEVICE` as `GROUP/router.db` lists them; it only reads.

A group under git gives its history. Of one under CVS or Subversion the working copy's files are
taken as they are, one version each, by the files' times. A group is a tenant.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from worker.cli.exports_folder import Capture
from worker.cli.sources import is_git, name_of, rancid_groups
from worker.cli.sources.found import Found, GitCapture, found_in
from worker.cli.sources.git_history import GitHistory, read_history
from worker.cli.sources.names import Names, Row
from worker.cli.sources.oxidized import captures_of

#: How git tells a binary file: a NUL among so many first bytes.
_SNIFFED_BYTES: Final = 8000


def read(folder: Path, *, tenant: str | None, names: Names) -> Found:
    """What RANCID's folder, or that of one group, holds.

    A file that router.db does not list is skipped, unless a mapping file says else.

    Args:
        tenant: whose all devices are; a device then is called `GROUP/DEVICE` if there are groups.

    Raises:
        InvalidInput: no `configs` with a `router.db` beside it, or git cannot read one.
    """
    groups = rancid_groups(folder)
    devices: list[list[Capture] | list[GitCapture]] = []
    notes: list[str] = []
    for group_folder in groups:
        group = name_of(group_folder)
        listed = listed_in((group_folder / "router.db").read_bytes())
        prefix, history = _history_of(group_folder)
        if history is None:
            notes.append(f"{group} has no git history: its files are taken as one version each")
            present = _files_of(group_folder / "configs", notes)
        else:
            present = _paths_of(history, prefix, notes)
        notes += [f"{group}: {name} has no configuration" for name in sorted(listed - set(present))]
        rows: dict[str, Row] = {}
        for device in present:
            name = device if tenant is None or len(groups) == 1 else f"{group}/{device}"
            rows[device] = names.find(tenant or group, name, skip=device not in listed)
            if device not in listed:
                taken = "left out" if rows[device].skip else "taken, as the mapping says"
                notes.append(f"{group}: {device} is not in router.db and was {taken}")
        if history is None:
            devices += _captures(group_folder / "configs", rows)
        else:
            paths = {prefix + device: row for device, row in rows.items()}
            devices += captures_of(history, paths, notes)
    problem = f"no configs with a router.db beside it in {folder}"
    return found_in(devices, names, notes, problem=problem)


def listed_in(router_db: bytes) -> set[str]:
    """The devices in a `router.db`: the first field of its lines, divided by `;`, or `:` of old."""
    lines = (line.strip() for line in router_db.decode("utf-8", "backslashreplace").splitlines())
    return {
        re.split("[;:]" if ";" not in line else ";", line)[0].strip()
        for line in lines
        if line and not line.startswith("#")
    }


def _history_of(group: Path) -> tuple[str, GitHistory | None]:
    """The git history that holds a group's configurations, and their folder in it."""
    resolved = group.resolve()
    for path, prefix in ((resolved, "configs/"), (resolved.parent, f"{resolved.name}/configs/")):
        if is_git(path):
            history = read_history(path)
            if any(file.startswith(prefix) for file in history.versions):
                return prefix, history
    return "", None


def _paths_of(history: GitHistory, prefix: str, notes: list[str]) -> list[str]:
    found = []
    for path, versions in history.versions.items():
        name = path.removeprefix(prefix)
        if path.startswith(prefix) and "/" not in name and not name.startswith("."):
            problem = history.why_not(versions)
            if problem is None:
                found.append(name)
            else:
                notes.append(f"{path} {problem} and was left out")
    return found


def _files_of(configs: Path, notes: list[str]) -> list[str]:
    found = []
    for path in sorted(configs.iterdir()):
        if path.name.startswith(".") or path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as file:
            binary = b"\0" in file.read(_SNIFFED_BYTES)
        if binary:
            notes.append(f"{path.name} is binary and was left out")
        else:
            found.append(path.name)
    return found


def _captures(configs: Path, rows: dict[str, Row]) -> Iterable[list[Capture]]:
    for device, row in rows.items():
        if not row.skip:
            path = configs / device
            changed = dt.datetime.fromtimestamp(max(0, int(path.stat().st_mtime)), dt.UTC)
            yield [Capture(row.tenant_id, row.device_id, path, None, changed)]
