"""What the portal's pages show of a device."""

from typing import Any

from . import git_store, restores


def history(tenant: str, device: str) -> list[dict[str, Any]]:
    """All versions, newest first, with both files."""
    return [
        {
            "sha": version["sha"],
            "message": version["message"],
            "export": restores.export_of(tenant, device, str(version["sha"])),
            "binary": git_store.read_file(tenant, str(version["sha"]), device, "backup.bin").hex(),
        }
        for version in git_store.list_device_commits(tenant, device)
    ]
