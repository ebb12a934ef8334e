"""A module that commits in process, and answers as the callers of the one that confkeep replaces know it.

The tests' own construction: one bare repository for each tenant, `DEVICE/export.rsc` and
`DEVICE/backup.bin` in it, a lock of this process alone, and libgit2's own errors.
"""

import difflib
import threading
from pathlib import Path
from typing import Any

import pygit2

from .config import settings

_REF = "refs/heads/main"
_ONE_AT_A_TIME = threading.Lock()


def get_or_create_repo(tenant_id: str) -> pygit2.Repository:
    """The tenant's repository, whoever asks."""
    path = Path(settings().GIT_STORE_PATH, f"{tenant_id}.git")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        pygit2.init_repository(path, bare=True)
    return pygit2.Repository(str(path))


def _tip(repository: pygit2.Repository) -> pygit2.Commit | None:
    if _REF not in repository.references:
        return None
    found = repository.references[_REF].peel(pygit2.Commit)
    assert isinstance(found, pygit2.Commit)
    return found


def commit_backup(
    tenant_id: str, device_id: str, export_text: str, binary_backup: bytes, message: str
) -> str:
    """Both files become one commit on `main`; its id."""
    with _ONE_AT_A_TIME:
        repository = get_or_create_repo(tenant_id)
        files = {"export.rsc": export_text.encode("utf-8"), "backup.bin": binary_backup}
        device = repository.TreeBuilder()
        for name, data in files.items():
            device.insert(name, repository.create_blob(data), pygit2.enums.FileMode.BLOB)
        tip = _tip(repository)
        root = repository.TreeBuilder() if tip is None else repository.TreeBuilder(tip.tree)
        root.insert(device_id, device.write(), pygit2.enums.FileMode.TREE)
        who = pygit2.Signature("The Other Dude", "backup@tod.local")
        parents = [] if tip is None else [tip.id]
        return str(repository.create_commit(_REF, who, who, message, root.write(), parents))


def read_file(tenant_id: str, commit_sha: str, device_id: str, filename: str) -> bytes:
    """A file of a device in a commit; KeyError when something is not there."""
    repository = get_or_create_repo(tenant_id)
    commit = repository.get(commit_sha)
    if commit is None:
        raise KeyError(commit_sha)
    device = repository[commit.tree[device_id].id]
    assert isinstance(device, pygit2.Tree)
    file = repository[device[filename].id]
    assert isinstance(file, pygit2.Blob)
    return file.data


def list_device_commits(tenant_id: str, device_id: str) -> list[dict[str, Any]]:
    """The commits in which the device is, and is not as in the parent; newest first."""
    repository = get_or_create_repo(tenant_id)
    commit, found = _tip(repository), []
    while commit is not None:
        parent = commit.parents[0] if commit.parents else None
        if device_id in commit.tree and (
            parent is None
            or device_id not in parent.tree
            or parent.tree[device_id].id != commit.tree[device_id].id
        ):
            found.append(
                {
                    "sha": str(commit.id),
                    "message": commit.message.strip(),
                    "timestamp": commit.commit_time,
                }
            )
        commit = parent
    return found


def compute_line_delta(old_text: str | None, new_text: str | None) -> tuple[int, int]:
    """Lines added and removed, as `difflib` finds them; no text has no lines."""
    old, new = ((text or "").splitlines() for text in (old_text, new_text))
    added = removed = 0
    for kind, old_at, old_end, new_at, new_end in difflib.SequenceMatcher(
        None, old, new, autojunk=False
    ).get_opcodes():
        if kind != "equal":
            removed += old_end - old_at
            added += new_end - new_at
    return added, removed
