"""Backs up one device, and tells the row that the portal's database gets."""

from typing import Any

from . import git_store


def run_backup(capture: dict[str, Any]) -> dict[str, Any]:
    """Commit a capture, with the lines that it added and removed."""
    tenant, device, export = capture["tenant"], capture["device"], capture["export"]
    prior = git_store.list_device_commits(tenant, device)
    old = None
    if prior:
        old = git_store.read_file(tenant, prior[0]["sha"], device, "export.rsc").decode()
    added, removed = git_store.compute_line_delta(old, export)
    binary, message = bytes.fromhex(capture["binary"]), f"scheduled: {capture['name']}\n"
    sha = git_store.commit_backup(tenant, device, export, binary, message)
    return {"sha": sha, "lines_added": added, "lines_removed": removed}
