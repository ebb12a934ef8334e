"""What must be true of a repository after a crash, whatever the crash left."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from tests.crash.writer import NOW_S, batches
from tests.judge import assert_readable, assert_sound, contents, git
from worker.store.repository.backup import EXPORT_NAME
from worker.store.repository.tenant_repository import create_repository
from worker.store.writing.commit import Writer

_ID = re.compile(rb"^backup-id (\S+)$", re.MULTILINE)
#: What `contents` says of repositories that git found sound, and the ids in their `main`.
_SOUND: dict[bytes, list[str]] = {}
#: What it says of those that were right after a retry of so many batches.
_RIGHT: set[tuple[bytes, int]] = set()


def committed_ids(path: Path) -> list[str]:
    """The backup ids in `main`, oldest first, as plain git tells; `[]` when there is no `main`."""
    # The pattern names one branch, which may be missing.
    raw = git(path, "rev-list", "--reverse", "--header", "--glob=refs/heads/mai[n]")
    return [found.decode() for found in _ID.findall(raw)]


def sound_ids(path: Path) -> list[str]:
    """The backup ids in `main` of a repository that git finds sound; fails the test where it does not."""
    held = contents(path)
    if held not in _SOUND:
        ids = committed_ids(path)
        assert_sound(path)
        _SOUND[held] = ids
    return _SOUND[held]


def problem_of(path: Path, acknowledged: Collection[str], batch_count: int = 2) -> str | None:
    """What is wrong with the repository that a crash left, or becomes wrong with the retry.

    Every acknowledged backup is in main; git finds the repository sound; a retry of all batches
    works and leaves each backup in main exactly once, in order, with its bytes, for all judges.
    """
    try:
        before = sound_ids(path) if (path / "HEAD").exists() else []
        lost = set(acknowledged) - set(before)
        if lost:
            return f"{len(lost)} acknowledged backups are not in main"
        given = batches(batch_count)
        repository = create_repository(path)
        for batch in given:
            Writer(repository).commit_backups(batch, now_s=NOW_S)
        right = contents(path), batch_count
        if right in _RIGHT:
            return None
        after = committed_ids(path)
        if after != [backup.backup_id for batch in given for backup in batch]:
            return f"after the retry main holds {len(after)} backups, not each once and in order"
        if list(path.rglob("*.keep")):
            return "after the retry a keep is left"
        assert_readable(path)
        newest = [backup for batch in given for backup in batch][-3:]
        names = "".join(f"main:{backup.device_id}/{EXPORT_NAME}\n" for backup in newest)
        held = git(path, "cat-file", "--batch=%(objecttype) %(objectsize)", stdin=names.encode())
        if held != b"".join(b"blob %d\n%b\n" % (len(b.export), b.export) for b in newest):
            return "the bytes of a device's newest export changed"
        _RIGHT.add(right)
    except Exception as error:  # any failure is a finding
        return f"{type(error).__name__}: {error}"
    return None
