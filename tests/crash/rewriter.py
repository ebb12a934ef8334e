"""A retention run in a process of its own, for tests that trace or kill it, and what must hold after.

    python -m tests.crash.rewriter PATH [--kill-at FAILPOINT] [--grace SECONDS] [--mutant NAME]

It applies `POLICY` to the repository at PATH and writes a line `ACK` to stdout.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from confkeep.errors import RemovedByRetention
from tests.crash.writer import NOW_S, batches, leave_out_syncs, prepared
from tests.judge import assert_sound, backup_ids
from worker.store.git import refs
from worker.store.repository import id_map
from worker.store.repository.backup import BINARY_NAME, EXPORT_NAME, Backup
from worker.store.repository.reader import read_file
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.rewriting import rewrite
from worker.store.rewriting.retention import apply_retention
from worker.store.rewriting.retention_rules import policy_of
from worker.store.upkeep.verify import verify_repository
from worker.store.writing.commit import Writer

#: Of 3 devices with 8 captures in turn: the last 2 captures of each, the last binary of each.
POLICY = policy_of({"keep_last": 2, "binary_keep_last": 1})
BATCHES = 4

SYNCS = {
    "map not synced": lambda path: "/tmp_confkeep_" in path,
    "pack not synced": lambda path: "/.tmp_pack_" in path,
    "objects/pack not synced": lambda path: path.endswith("/objects/pack"),
}


def given() -> list[Backup]:
    """The backups that are in the history before."""
    return [backup for batch in batches(BATCHES) for backup in batch]


def prepare(path: Path) -> list[str]:
    """Commit them; returns their commits' ids."""
    repository = create_repository(path)
    return [answer.sha for answer in Writer(repository).commit_backups(given(), now_s=NOW_S)]


@dataclass(frozen=True)
class Problem(Exception):
    """What is wrong."""

    text: str


def problem_of(path: Path, old_ids: list[str], least: int = 0) -> str | None:
    """What is wrong with what a crash left, or becomes wrong with a commit and another run.

    Args:
        least: the rewrites that were acknowledged.
    """
    try:
        assert_sound(path)
        if _rewrites(path, old_ids) < least:
            return "an acknowledged rewrite is not there"
        later = batches(BATCHES + 1)[-1]
        Writer(create_repository(path)).commit_backups([*later, *given()], now_s=NOW_S)
        if (path / id_map.PENDING_NAME).exists():
            return "a pending map is left"
        _rewrites(path, old_ids)
        ids = [backup.backup_id for backup in later]
        if backup_ids(path)[-2:] != ids:
            return "the next commit is not at the end of main, or something came after it"
        run(path)
        if _rewrites(path, old_ids) != 2 or backup_ids(path)[-2:] != ids:
            return "the retry did not rewrite, or lost a later commit"
        assert_sound(path)
        findings = verify_repository(path).findings
        if findings:
            return f"verify: {findings}"
    except Exception as error:  # any failure is a finding
        return f"{type(error).__name__}: {error}"
    return None


#: What cannot be read after so many rewrites: the numbers of exports, -1 - n for binaries. The second
#: comes after a fifth batch, of devices 2 and 0.
_REMOVED = (set[int](), {0, 1, -3, -4, -5}, {0, 1, 2, 3, -5, -6, -7})


def _rewrites(path: Path, old_ids: list[str]) -> int:
    """Read every version by its old id; how many rewrites took effect."""
    repository = open_repository(path)
    backups, removed = given(), set[int]()
    for number, (backup, sha) in enumerate(zip(backups, old_ids, strict=True)):
        try:
            data = read_file(repository, sha, backup.device_id, EXPORT_NAME)
        except RemovedByRetention:
            removed.add(number)
            continue
        if data != backup.export:
            raise Problem(f"another export under the old id of backup {number}")
        try:
            binary = read_file(repository, sha, backup.device_id, BINARY_NAME)
        except RemovedByRetention:
            removed.add(-number - 1)
            continue
        if binary != backup.binary:
            raise Problem(f"another binary under the old id of backup {number}")
    if removed not in _REMOVED:
        raise Problem(f"neither the old nor the new history: {sorted(removed)} cannot be read")
    return _REMOVED.index(removed)


def run(path: Path, grace_s: int = 0) -> None:
    """One run of retention; each is an hour later than the one before."""
    now_s = NOW_S + 3600 * (1 + len(rewrite.before_refs(open_repository(path).git)))
    apply_retention(create_repository(path), POLICY, now_s=now_s, grace_s=grace_s)


def install(mutant: str) -> None:
    """Break the run in one way."""
    if mutant in SYNCS:
        leave_out_syncs(SYNCS[mutant])
    elif mutant == "ref moved before the map":
        write, move = id_map.write_pending, refs.move_main
        waiting: list[tuple[Path, id_map.Rewrite]] = []

        def write_later(path: Path, rewrite: id_map.Rewrite, *, before: str | None = None) -> None:
            assert before is None
            waiting.append((path, rewrite))

        id_map.write_pending = write_later

        def move_first(
            path: Path, expected: str | None, target: str, value: refs.Value | None = None
        ) -> None:
            move(path, expected, target, value)
            write(*waiting.pop())

        refs.move_main = move_first
    else:
        raise SystemExit(f"no mutant {mutant!r}")


def main() -> int:
    """Apply; the arguments are in the module's docstring."""
    arguments = prepared("--grace", 86_400, install)
    run(arguments.path, arguments.grace)
    os.write(1, b"ACK\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
