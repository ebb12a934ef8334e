"""What is done to a repository beside commits, in a process of its own, and what must hold after.

    python -m tests.crash.upkeep PATH STEP [--kill-at FAILPOINT] [--mutant NAME]

It does the step and writes a line `ACK` to stdout, or ends with the exit code of the store's error.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from confkeep.errors import RemovedByRetention, StoreError
from tests.crash import rewriter
from tests.crash.rewriter import BATCHES, POLICY, given
from tests.crash.writer import DEVICES, NOW_S, batches, leave_out_syncs
from tests.damage import contents_of
from tests.failpoints import die_at
from tests.judge import assert_sound, backup_ids, git
from worker.store.git import durable, refs
from worker.store.repository import id_map
from worker.store.repository.backup import EXPORT_NAME, Backup
from worker.store.repository.reader import read_file
from worker.store.repository.tenant_repository import create_repository, open_repository
from worker.store.rewriting import prune
from worker.store.rewriting.forget import forget_device, traces_of_device
from worker.store.rewriting.retention import apply_retention
from worker.store.rewriting.retention_file import load_rules, save_rules
from worker.store.rewriting.retention_rules import policy_of
from worker.store.rewriting.retention_undo import undo_retention
from worker.store.rewriting.rewrite import before_refs
from worker.store.upkeep.repack import repack
from worker.store.upkeep.verify import verify_repository
from worker.store.upkeep.verify_report import Kind
from worker.store.writing import commit
from worker.store.writing.commit import Writer, open_for_writing

LATER_S = NOW_S + 1_000_000
RULES = {"keep_last": 3}


def later() -> list[Backup]:
    """The backups that come after those of `given`."""
    return batches(BATCHES + 1)[-1]


# The steps


def prune_expired(path: Path) -> None:
    apply_retention(create_repository(path), policy_of({}), now_s=LATER_S, grace_s=0)


def forget(path: Path) -> None:
    forget_device(path, DEVICES[0], now_s=LATER_S)


def undo(path: Path) -> None:
    undo_retention(create_repository(path), now_s=LATER_S)


def commit_later(path: Path) -> None:
    with open_for_writing(path) as writer:
        writer.commit_backups(later(), now_s=LATER_S)


def find(path: Path) -> None:
    with open_for_writing(path) as writer:
        wanted = {backup.backup_id: backup.device_id for backup in later()}
        assert writer.find_committed(wanted).keys() == wanted.keys()


def commit_with_an_unknown_outcome(path: Path) -> None:
    """The sync after the rename of `main` fails, once."""
    with open_for_writing(path) as writer:
        real, failed = os.fsync, False

        def fsync(descriptor: int) -> None:
            nonlocal failed
            if not failed and _name_of(descriptor).endswith("/refs/heads"):
                failed = True
                raise OSError(errno.EIO, "injected")
            real(descriptor)

        os.fsync = fsync  # type: ignore[assignment]
        writer.commit_backups(later(), now_s=LATER_S)
        assert failed


STEPS: dict[str, Callable[[Path], object]] = {
    "retention": lambda path: rewriter.run(path, 86_400),
    "prune": prune_expired,
    "forget": forget,
    "undo": undo,
    "commit": commit_later,
    "find": find,
    "unknown outcome": commit_with_an_unknown_outcome,
    "open": create_repository,
    "rules": lambda path: save_rules(path, RULES),
}


# The mutants: each leaves out one sync


def _name_of(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _within(module: ModuleType, name: str, matches: Callable[[str], bool] = os.path.isdir) -> None:
    """Leave out the syncs of matching files, of folders as a rule, within one function."""
    real: Callable[..., Any] = getattr(module, name)

    def without(*arguments: Any, **named: Any) -> Any:
        fsync = os.fsync
        leave_out_syncs(matches)
        try:
            return real(*arguments, **named)
        finally:
            os.fsync = fsync

    setattr(module, name, without)


def _nothing_done(module: ModuleType, name: str, owner: object, within: str) -> None:
    """Let a module's function do nothing within another one, or within a method."""
    outer: Callable[..., Any] = getattr(owner, within)

    def without(*arguments: Any, **named: Any) -> Any:
        real = getattr(module, name)
        setattr(module, name, lambda *_arguments: None)
        try:
            return outer(*arguments, **named)
        finally:
            setattr(module, name, real)

    setattr(owner, within, without)


def _in_prune(folder: str, *, gone: bool) -> None:
    """Leave out the syncs of a folder before old packs go, or after they went."""
    going = False

    def at_failpoint(name: str) -> None:
        nonlocal going
        going = going or name == "pruned-pack-durable"

    durable.on_failpoint = at_failpoint
    _within(prune, "prune", lambda name: name.endswith(folder) and going is gone)


class Mutant(NamedTuple):
    """A sync that is left out."""

    #: The scenario of `test_upkeep` that tells it.
    scenario: str
    leave_out: Callable[[], None]
    #: The failpoint at which the run is ended.
    kill_at: str = ""


MUTANTS = {
    "main not synced before the map is settled": Mutant(
        "a map that retention left", lambda: _nothing_done(refs, "sync_main", id_map, "settle")
    ),
    "what was found not finished": Mutant(
        "what is found", lambda: _nothing_done(commit, "finish", commit.Writer, "find_committed")
    ),
    "an unknown outcome not finished": Mutant(
        "unknown outcome", lambda: _nothing_done(commit, "finish", commit, "move_main")
    ),
    "the folder of packs not synced before old ones go": Mutant(
        "prune", lambda: _in_prune("/pack", gone=False)
    ),
    "the folder of the commit-graph not synced before packs go": Mutant(
        "prune", lambda: _in_prune("/info", gone=False)
    ),
    "the folder of packs not synced after old ones went": Mutant(
        "erasure", lambda: _in_prune("/pack", gone=True)
    ),
    "deleted refs not synced": Mutant("prune", lambda: _within(refs, "delete_refs")),
    "a created ref not synced": Mutant("retention", lambda: _within(refs, "create_ref")),
    "the folder of the pending map not synced": Mutant(
        "erasure", lambda: _within(id_map, "write_pending"), "rewritten"
    ),
    "the folder of a replaced file not synced": Mutant(
        "a tenant's own rules", lambda: _within(durable, "replace_file")
    ),
}


# What must hold


class Problem(Exception):
    """What is wrong."""


def prepare(path: Path, *, rewritten: bool = False) -> list[str]:
    """Commit `given`, repack, pack the refs; the commits' ids.

    Args:
        rewritten: whether to apply rules and commit `later` too.
    """
    ids = rewriter.prepare(path)
    # So that there are a multi-pack-index, a commit-graph and packed refs.
    Writer(create_repository(path)).commit_backups(batches(BATCHES + 2)[-1], now_s=NOW_S)
    repack(path, full=False)
    git(path, "pack-refs", "--all")
    if rewritten:
        rewriter.run(path, 86_400)
        Writer(create_repository(path)).commit_backups(later(), now_s=LATER_S)
    return ids


def had_effect(step: str, path: Path) -> bool:
    """Whether the repository shows that a step was done."""
    repository, main = open_repository(path), backup_ids(path)
    if step == "prune":
        every = git(path, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
        return not before_refs(repository.git) and len(every) == len(
            prune.reachable_ids(path, None)
        )
    if step == "forget":
        return not traces_of_device(path, DEVICES[0])
    if step == "undo":
        return set(main) >= {backup.backup_id for backup in (*given(), *later())}
    if step == "retention":
        maps = list(path.glob(f"{id_map.BEFORE_PREFIX}*"))
        return len(main) < len(given()) and len(before_refs(repository.git)) == len(maps) == 1
    if step == "rules":
        return load_rules(path) == RULES
    return step == "open" or main[-2:] == [backup.backup_id for backup in later()]


def check(path: Path, old_ids: list[str]) -> list[str]:
    """Every backup is in `main` or was removed, and its first id answers so; the ids in `main`."""
    main, repository = backup_ids(path), open_repository(path)
    if len(main) != len(set(main)):
        raise Problem("a backup is in main twice")
    ids = repository.ids.get(path, repository.git)
    gone = {} if ids is None else ids.removed_backups([b.backup_id for b in given()])
    for backup, sha in zip(given(), old_ids, strict=True):
        there = backup.backup_id in main
        if there == (backup.backup_id in gone):
            raise Problem(f"backup {backup.backup_id} is in main and removed, or neither")
        try:
            data = read_file(repository, sha, backup.device_id, EXPORT_NAME)
        except RemovedByRetention:
            if there:
                raise Problem(f"{sha} is called removed, and its backup is in main") from None
        else:
            if not there or data != backup.export:
                raise Problem(f"{sha} answers with something else")
    repository.ids.close()
    return main


def files_of(path: Path) -> dict[str, bytes]:
    """All that is not derived, by name."""
    found = contents_of(path).items()
    return {name: data for name, data in found if not name.startswith("confkeep.index")}


def problem_of(
    path: Path, old_ids: list[str], step: str, acknowledged: int, *, thorough: bool = True
) -> str | None:
    """What is wrong with what a crash left, or becomes wrong with commits, openings and more upkeep.

    Args:
        thorough: let retention and a prune come after, which costs more than all else.
    """
    try:
        assert_sound(path)
        check(path, old_ids)
        if acknowledged and not had_effect(step, path):
            return "what was acknowledged is not so"
        create_repository(path)
        answers = Writer(create_repository(path)).commit_backups(
            [*later(), *given()], now_s=LATER_S
        )
        if not all(answer.replayed for answer in answers[len(later()) :]):
            return "a backup was committed a second time"
        main = check(path, old_ids)
        if not {backup.backup_id for backup in later()} <= set(main):
            return "the next commit is not there"
        before = files_of(path)
        create_repository(path)
        if files_of(path) != before:
            return "the second opening changed something"
        findings = verify_repository(path).findings
        # Half of a pack that is not needed is removed by the next prune, or by a repair.
        half = {Kind.IDX: "", Kind.PACK: "", Kind.LEFTOVER: "no ref needs it"}
        if any(finding.text.find(half.get(finding.kind, "?")) < 0 for finding in findings):
            return f"verify: {findings}"
        if not thorough:
            return None
        apply_retention(create_repository(path), POLICY, now_s=LATER_S + 1, grace_s=0)
        assert_sound(path)
        check(path, old_ids)
        if not had_effect("prune", path) or prune.is_due(path):
            return "the next prune leaves something"
        findings = verify_repository(path).findings
        if findings:
            return f"verify after a prune: {findings}"
    except (Exception, AssertionError) as error:  # any failure is a finding
        return f"{type(error).__name__}: {error}"
    return None


def main() -> int:
    """Do the step; the arguments are in the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--kill-at")
    parser.add_argument("--mutant", choices=MUTANTS)
    arguments = parser.parse_args()
    if arguments.mutant:
        MUTANTS[arguments.mutant].leave_out()
    if arguments.kill_at:
        die_at(arguments.kill_at)
    try:
        STEPS[arguments.step](arguments.path)
    except StoreError as error:
        # Without a word: the fault that is put in may come to any write.
        return error.exit_code
    with suppress(OSError):
        os.write(1, b"ACK\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
