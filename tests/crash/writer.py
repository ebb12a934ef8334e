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
from contextlib import ExitStack
from pathlib import Path

from confkeep.errors import StoreError
from tests.failpoints import die_at
from worker.store.git import durable, keep, pack, refs
from worker.store.repository.backup import Backup
from worker.store.writing import commit

NOW_S = 1_760_000_000
DEVICES = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"device {n}")) for n in range(3)]

#: The failpoints at which a pack is made, in their order.
PACK_MADE = (
    "pack-written",
    "idx-written",
    "pack-kept",
    "pack-renamed",
    "idx-renamed",
    "pack-durable",
)

#: Which sync each mutant leaves out, by what the file's path holds or ends with.
SYNCS = {
    "pack not synced": lambda path: "/.tmp_pack_" in path,
    "idx not synced": lambda path: "/.tmp_idx_" in path,
    "objects/pack not synced": lambda path: path.endswith("/objects/pack"),
    "ref not synced": lambda path: "/tmp_confkeep_" in path,
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


def _no_keep() -> None:
    _replace_symlink(lambda target, link: None)


def _replace_symlink(symlink: Callable[[str, Path], None]) -> None:
    os.symlink = symlink  # type: ignore[assignment]


def _keep_after_the_pack() -> None:
    made: list[tuple[str, Path]] = []
    symlink, sync = os.symlink, durable.sync_directory

    def sync_and_keep(path: Path) -> None:
        while made:
            symlink(*made.pop())
        sync(path)

    _replace_symlink(lambda target, link: made.append((target, link)))
    durable.sync_directory = sync_and_keep


def _keep_gone_before_the_ref_moves() -> None:
    real = keep.name_pack

    def name_pack(folder: Path, name: str, pack: Path, idx: Path, keeps: ExitStack) -> None:
        with ExitStack() as at_once:
            real(folder, name, pack, idx, at_once)

    keep.name_pack = name_pack


#: What is wrong with the keep of each of these mutants. Git must be run beside them to see it.
KEEPS: dict[str, Callable[[], None]] = {
    "no keep": _no_keep,
    "keep after the pack": _keep_after_the_pack,
    "keep gone before the ref moves": _keep_gone_before_the_ref_moves,
}


def install(mutant: str) -> None:
    """Break the writer in one way."""
    if mutant in SYNCS:
        leave_out_syncs(SYNCS[mutant])
    elif mutant == "a replay not finished":
        commit.finish = lambda path, shas: None
    elif mutant == "ref moved before the pack":
        written: list[tuple[Path, str, pack.PackEncoder, ExitStack]] = []
        write, move = commit.write_pack, refs.move_main

        def move_first(
            path: Path, expected: str | None, target: str, value: refs.Value | None = None
        ) -> None:
            move(path, expected, target, value)
            write(*written.pop())

        def write_later(
            folder: Path, name: str, encoder: pack.PackEncoder, keeps: ExitStack
        ) -> None:
            written.append((folder, name, encoder, keeps))

        commit.write_pack = write_later
        refs.move_main = move_first
    elif mutant in KEEPS:
        KEEPS[mutant]()
    else:
        raise SystemExit(f"no mutant {mutant!r}")


def prepared(option: str, default: int, install: Callable[[str], None]) -> argparse.Namespace:
    """The arguments of a program, broken by its mutant, and killed at its failpoint, if they name them.

    Args:
        option: a number of its own, beside the path.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--kill-at")
    parser.add_argument("--mutant")
    parser.add_argument(option, type=int, default=default)
    arguments = parser.parse_args()
    if arguments.mutant:
        install(arguments.mutant)
    if arguments.kill_at:
        die_at(arguments.kill_at)
    return arguments


def main() -> int:
    """Commit; end with the exit code of the store's error when there is one."""
    arguments = prepared("--batches", 2, install)
    try:
        with commit.open_for_writing(arguments.path) as writer:
            for batch in batches(arguments.batches):
                answers = writer.commit_backups(batch, now_s=NOW_S)
                line = "ACK " + " ".join(answer.backup_id for answer in answers) + "\n"
                os.write(1, line.encode())
    except StoreError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
