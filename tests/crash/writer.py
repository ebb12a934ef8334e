"""A writer in a process of its own, for tests that trace, kill or starve it.

    python -m tests.crash.writer PATH [--kill-at FAILPOINT] [--mutant NAME] [--batches N]

It commits the batches of `batches()` to the repository at PATH and writes a line `ACK id id ...` to
stdout after each. The same batches, with the same dates, each time: a second run is a retry.
"""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.failpoints import die_at
from worker.errors import StoreError
from worker.store import commit, pack, refs, repository
from worker.store.backup import Backup

NOW_S = 1_760_000_000
DEVICES = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"device {n}")) for n in range(3)]

#: Which sync each mutant leaves out, by what the file's path holds or ends with.
SYNCS = {
    "pack not synced": lambda path: "/tmp_pack_" in path,
    "idx not synced": lambda path: "/tmp_idx_" in path,
    "objects/pack not synced": lambda path: path.endswith("/objects/pack"),
    "ref not synced": lambda path: path.endswith("/main.lock"),
    "refs/heads not synced": lambda path: path.endswith("/refs/heads"),
    "nothing of a new repository synced": lambda path: "/." in path,
    "the store's folder not synced": lambda path: path.endswith("/store"),
}


def batches(count: int = 2) -> list[list[Backup]]:
    """Two backups a batch, of three devices in turn."""
    made = []
    for number in range(2 * count):
        made.append(
            Backup(
                backup_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"backup {number}")),
                device_id=DEVICES[number % 3],
                export=b"# export %d\n/system identity set name=r%d\n" % (number, number),
                binary=bytes([number]) * 40,
                message=f"backup {number}\n",
            )
        )
    return [made[start : start + 2] for start in range(0, 2 * count, 2)]


def leave_out_syncs(matches: Callable[[str], bool]) -> None:
    """Let `os.fsync` do nothing for files whose path matches."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if not matches(os.readlink(f"/proc/self/fd/{descriptor}")):
            real(descriptor)

    os.fsync = fsync  # type: ignore[assignment]


def install(mutant: str) -> None:
    """Break the writer in one way."""
    if mutant in SYNCS:
        leave_out_syncs(SYNCS[mutant])
    elif mutant == "a replay not finished":
        commit.finish = lambda path, shas: None
    elif mutant == "ref moved before the pack":
        written: list[tuple[Path, pack.PackEncoder]] = []
        write, move = commit.write_pack, refs.move_main

        def move_first(path: Path, expected: str | None, target: str) -> None:
            move(path, expected, target)
            write(*written.pop())

        commit.write_pack = lambda folder, encoder: written.append((folder, encoder))
        refs.move_main = move_first
    else:
        raise SystemExit(f"no mutant {mutant!r}")


def main() -> int:
    """Commit; end with the exit code of the store's error when there is one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--kill-at")
    parser.add_argument("--mutant")
    parser.add_argument("--batches", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.mutant:
        install(arguments.mutant)
    if arguments.kill_at:
        die_at(arguments.kill_at)
    try:
        with repository.open_for_writing(arguments.path) as opened:
            for batch in batches(arguments.batches):
                answers = commit.commit_backups(opened, batch, now_s=NOW_S)
                line = "ACK " + " ".join(answer.backup_id for answer in answers) + "\n"
                os.write(1, line.encode())
    except StoreError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
