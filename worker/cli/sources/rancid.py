"""RANCID's folder as captures: `GROUP/configs/DEVICE` as `GROUP/router.db` lists them.

A group under git gives its history, also from RANCID's bare repository of it. Of one under CVS or
Subversion the working copy's files are taken as they are, one version each, by the files' times. A
group is a tenant. RANCID makes file names of the names in router.db by lower-casing them.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from pathlib import Path

from worker.cli.sources import is_bare, is_git, name_of, rancid_groups
from worker.cli.sources.captures import FileCapture, GitCapture
from worker.cli.sources.found import Found
from worker.cli.sources.git_history import GitHistory, read_history
from worker.cli.sources.names import Names, Row
from worker.cli.sources.oxidized import Places, captures_of


def read(folder: Path, *, tenant: str | None, names: Names) -> Found:
    """What RANCID's folder, or that of one group, holds.

    A file that router.db does not list is left out, unless a mapping file says else.

    Args:
        tenant: the tenant of all devices; of several groups, they are then called `GROUP/DEVICE`.

    Raises:
        InvalidInput: no `configs` with a `router.db` beside it, or git cannot read one.
    """
    groups = rancid_groups(folder)
    devices: list[list[FileCapture] | list[GitCapture]] = []
    found, places = Found(), Places()
    for group_folder in groups:
        group = name_of(group_folder)
        prefix, history = _history_of(group_folder)
        listed = listed_in(_router_db(group_folder, history))
        if history is None:
            found.notes.append(f"{group} has no git history: its files are one version each")
            present = _files_of(group_folder / "configs", found)
        else:
            present = _paths_of(history, prefix, found)
        there = {device.lower() for device in present}
        found.notes += [
            f"{group}: {name} has no configuration"
            for name in sorted(listed)
            if name.lower() not in there
        ]
        known = {name.lower() for name in listed}
        rows: dict[str, Row] = {}
        for device in present:
            name = device if tenant is None or len(groups) == 1 else f"{group}/{device}"
            is_listed = device.lower() in known
            row = rows[device] = names.find(tenant or group, name, skip=not is_listed)
            places.note(row, group_folder)
            if row.skip and not is_listed:
                found.left_out.append(f"{group}: {device} is not in router.db and was left out")
            elif not is_listed:
                found.notes.append(f"{group}: {device} is not in router.db: the mapping takes it")
        if history is None:
            devices += _captures(group_folder / "configs", rows)
        else:
            paths = {prefix + device: row for device, row in rows.items()}
            devices += captures_of(history, paths, found)
    problem = f"no configs with a router.db beside it in {folder}"
    found.add(devices, names, problem=problem)
    return found


def _router_db(group: Path, history: GitHistory | None) -> bytes:
    """The list of a group's devices; of a bare repository that of its newest commit."""
    if history is not None and is_bare(group):
        return history.read_head("router.db") or b""
    return (group / "router.db").read_bytes()


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


def _paths_of(history: GitHistory, prefix: str, found: Found) -> list[str]:
    devices = []
    for path, versions in history.versions.items():
        name = path.removeprefix(prefix)
        if not path.startswith(prefix) or name.startswith("."):
            continue
        if "/" in name:
            found.left_out.append(f"{path} was left out: a device's file is looked for in configs/")
        elif not history.is_file(versions):
            found.left_out.append(f"{path} is no file and was left out")
        else:
            devices.append(name)
    return devices


def _files_of(configs: Path, found: Found) -> list[str]:
    devices = []
    for path in sorted(configs.iterdir()):
        # `CVS` is where CVS keeps its own files.
        if path.name.startswith(".") or (path.name == "CVS" and path.is_dir()):
            continue
        if path.is_symlink() or not path.is_file():
            found.left_out.append(f"{path.name} is no file and was left out")
        else:
            devices.append(path.name)
    return devices


def _captures(configs: Path, rows: dict[str, Row]) -> Iterable[list[FileCapture]]:
    for device, row in rows.items():
        if not row.skip:
            path = configs / device
            changed = dt.datetime.fromtimestamp(max(0, int(path.stat().st_mtime)), dt.UTC)
            yield [FileCapture(row, path, None, changed)]
