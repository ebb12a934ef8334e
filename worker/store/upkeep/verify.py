"""Verifies every byte of a tenant's repository, with git's own programs.

Checks the following, in this order. An unforeseen error in one part is a finding, and the others go
on:

1. Every pack, idx, multi-pack-index, commit-graph, reverse index and bitmap against the checksum
   that it ends with; every idx against its pack; packs without idx and files of dead writers.
2. The configuration; refs and HEAD, as bytes: a name that git would read leniently is a finding too.
3. Every object: `git fsck` follows all links from each ref, and `git cat-file` inflates each object
   and applies its deltas; what comes out is hashed.
4. From each ref down: every commit, and of its root tree every entry that differs from its first
   parent's. No device may be in a commit's parent and not in the commit.
5. Each device's latest pair, read by git and by libgit2.
6. The maps of rewritten ids: every row against its checksum, and the map that counts against `main`.
7. The history index: every row against git, the line counts of each device's newest version too,
   and SQLite's pages. One that is complete for a commit which `main` does not reach proves that
   `main` was set back.
8. The tenant's own rules of retention against their checksum.

Git runs in separate processes, which damaged files may crash, and reads only objects. libgit2 is
used only on a repository in which nothing was found.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pygit2

from confkeep.errors import ConfkeepError, MaintenanceFailed
from worker.store.git import flock
from worker.store.git.git_objects import BLOB, TREE, BadObject, GitObjects, git_for_objects
from worker.store.git.git_process import Progress, require_git
from worker.store.git.refs import MAIN_REF
from worker.store.history import index_build
from worker.store.history.index import INDEX_NAME
from worker.store.history.index_build import (
    RawCommit,
    compare_trees,
    entries_of,
    folder_of,
    is_device,
    is_uniform,
)
from worker.store.repository import headers, reader
from worker.store.repository.backup import BINARY_NAME, EXPORT_NAME, FILE_NAMES, pack_uuid
from worker.store.repository.headers import BACKUP_ID_HEADER
from worker.store.repository.tenant_repository import TenantRepository, open_repository
from worker.store.upkeep.verify_files import (
    Half,
    check_config,
    check_files,
    check_ids,
    check_leftovers,
    check_rules,
    judge_halves,
    look_into_folders,
)
from worker.store.upkeep.verify_fsck import complaints_of
from worker.store.upkeep.verify_index import Change, GitSide, index_findings, set_back
from worker.store.upkeep.verify_refs import check_refs
from worker.store.upkeep.verify_report import Kind, Outcome, Report

#: How often all is looked at while packs are removed beside it.
_ATTEMPTS: Final = 3


class _TimeIsOver(Exception):
    """The time limit is reached, or the caller asked to stop."""


def verify_repository(
    path: Path,
    *,
    subset: tuple[int, int] | None = None,
    max_duration_s: float | None = None,
    lock_wait_s: float = 10.0,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> Report:
    """Verify the repository at `path`. Reports what it finds, never raises it; changes nothing.

    Args:
        subset: `(n, t)`, as `parse_subset` gives it: inflate and hash only the n-th of t parts of the objects, n from 1;
            everything else is checked in full. t runs, one for each n, cover every object.
        max_duration_s: stop after so many seconds; the report is then not `complete`.
        lock_wait_s: how many seconds to wait for a moment without writers, to tell leftover files
            from those in use (the lock is released at once), and for a repack to end. If the repack
            goes on, the verification runs beside it.
        progress: gets told what is being checked.
        stop: called now and then; if it returns True, the verification ends as at the time limit.

    Raises:
        GitUnavailable: there is no usable git; nothing was looked at.
    """
    require_git()
    start = time.monotonic()
    end = math.inf if max_duration_s is None else start + max_duration_s
    for _ in range(_ATTEMPTS):
        report = Report(path)
        kept_away, packs = True, list[Path]()
        try:
            if not path.is_dir():
                report.outcome = Outcome.MISSING
                break
            look_into_folders(path)
            packs = list((path / "objects" / "pack").glob("*.pack"))
            with flock.no_maintenance(path, wait_s=lock_wait_s) as kept_away:
                deadline = time.monotonic() + lock_wait_s
                if not check_leftovers(report, deadline, maintained=not kept_away):
                    report.outcome = Outcome.LOCKED
                    break
                with (
                    git_for_objects(path, deadline=end, stop=stop) as git,
                    GitObjects(git) as objects,
                ):
                    _Verification(report, objects, subset, end, progress, stop).run()
        except Exception as error:  # noqa: BLE001 - a finding, whatever it is: others are to be looked at
            report.fail(path.name, error)
            report.complete = False
        # A prune removes objects whose refs we have read, a repack packs that git has listed: what seems
        # to be missing beside them may be there.
        undisturbed = kept_away and all(pack.exists() for pack in packs)
        if undisturbed or not report.findings or not report.complete:
            break
    report.duration_s = time.monotonic() - start
    return report


class _Verification:
    """One run. Each method checks one thing, in the order of `run`."""

    def __init__(
        self,
        report: Report,
        objects: GitObjects,
        subset: tuple[int, int] | None,
        end: float,
        progress: Progress | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        self.report = report
        self.path = report.path
        self.objects = objects
        self._subset = subset
        self._end = end
        self._progress = progress
        self._stop = stop
        self._said = 0.0
        #: The commits that refs point to.
        self._tips: dict[str, bytes] = {}
        self._any_commit = False
        self._bad: set[bytes] = set()
        #: A root tree's id, and whether all its entries are devices.
        self._uniform = ("", False)
        #: For each device the commits that changed it, newest first, each with its tree; None if there are merges.
        self._changes: dict[bytes, list[Change]] | None = defaultdict(list)
        self._ids: list[tuple[bytes, bytes]] = []
        #: The commits that `main` reaches.
        self._reached: set[bytes] = set()
        self._halves: list[Half] = []

    def run(self) -> None:
        """Check everything."""
        for part in (
            # First: unreadable files show here, before everything would seem to be missing.
            self.check_packs,
            self.check_names,
            self.check_objects,
            self.check_history,
            lambda: judge_halves(self.report, self._halves),
            self.check_latest,
            # Before the index, which is read through the id map.
            lambda: check_ids(
                self.report, self.objects, self._tips, self._reached, dict(self._ids)
            ),
            self.check_index,
            lambda: check_rules(self.report),
        ):
            try:
                part()
            except _TimeIsOver:
                self.report.complete = False
                return
            except Exception as error:  # noqa: BLE001 - one part's end is no reason to stop
                self.report.fail(self.path.name, error)
                if self.report.outcome == Outcome.UNREADABLE:
                    # Otherwise everything would seem to be missing.
                    self.report.complete = False
                    return

    def check_names(self) -> None:
        """Check the configuration, HEAD and refs."""
        check_config(self.report)
        self._tips = check_refs(self.report)

    def check_packs(self) -> None:
        """Check files that end with a checksum."""
        self._halves = check_files(
            self.report, lambda done, total: self._tick("packs", done, total)
        )

    def _tick(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._end or (self._stop is not None and self._stop()):
            raise _TimeIsOver
        if self._progress is not None and (now - self._said > 0.1 or done == total):
            self._said = now
            self._progress(what, done, total)

    # 3

    def check_objects(self) -> None:
        """Inflate and hash every object, or the chosen ones, and follow all links."""
        ids = self.objects.ids()
        self._any_commit = bool(ids)
        try:
            found = complaints_of(
                self.objects,
                self._tips.values(),
                self.path,
                lambda _what, done, total: self._tick("links", done, total),
            )
        except MaintenanceFailed as error:
            raise _TimeIsOver from error
        for id_, text in found.items():
            if id_:
                self._bad_object(id_, text)
            elif not self.report.findings:
                self.report.add(Kind.PACK, "objects", text)
        chosen = ids
        if self._subset is not None:
            part, parts = self._subset
            chosen = [id_ for id_ in ids if int.from_bytes(id_[-4:], "big") % parts == part - 1]
        self.report.objects = len(chosen)
        for done, (id_, _kind, data) in enumerate(self.objects.each(chosen)):
            self._tick("objects", done + 1, len(chosen))
            if isinstance(data, BadObject):
                self._bad_object(id_, str(data))

    def _bad_object(self, id_: bytes, text: str) -> None:
        if id_ not in self._bad:
            self._bad.add(id_)
            self.report.add(Kind.OBJECT, id_.hex(), text)

    # 4

    def check_history(self) -> None:
        """Follow all commits from the refs, newest first."""
        if not self._tips and self._any_commit:
            self.report.add(Kind.REF, MAIN_REF, "it is missing, although there are commits")
        sound = None if self._halves else self._open_git()
        self.objects.sound = None if sound is None else sound.git
        main = self._tips.get(MAIN_REF)
        order = [main] if main else []
        order += sorted(set(self._tips.values()) - set(order))
        seen: set[bytes] = set()
        for tip in order:
            stack = [] if tip in seen else [tip]
            seen.add(tip)
            while stack:
                id_ = stack.pop()
                self._tick("commits", self.report.commits, self.report.commits + len(stack) + 1)
                commit = self._commit(id_)
                if commit is None:
                    continue
                self.report.commits += 1
                self._check_commit(id_, commit, of_main=tip == main)
                for packed in map(bytes.fromhex, reversed(commit.parents)):
                    if packed not in seen:
                        seen.add(packed)
                        stack.append(packed)
            if tip == main:
                self._reached = set(seen)
                if not self.report.commits and not self._bad:
                    self.report.add(Kind.REF, MAIN_REF, "it names something else than a commit")
        self._tick("commits", self.report.commits, self.report.commits)

    def _commit(self, id_: bytes) -> RawCommit | None:
        if id_ in self._bad:
            return None
        try:
            raw = self.objects.read(id_)
        except BadObject as error:
            self._bad_object(id_, f"a commit or tag that is needed: {error}")
            return None
        if not raw.startswith(b"tree "):
            return None  # an annotated tag of somebody else's
        return index_build.parse_commit(id_.hex(), raw)

    def _tree(self, id_: str) -> bytes | None:
        if bytes.fromhex(id_) in self._bad:
            return None
        try:
            return self.objects.read(bytes.fromhex(id_), TREE)
        except BadObject as error:
            self._bad_object(bytes.fromhex(id_), f"a tree that is needed: {error}")
            return None

    def _check_commit(self, id_: bytes, commit: RawCommit, *, of_main: bool) -> None:
        if of_main and len(commit.parents) > 1:
            self._changes = None
        backup_id = headers.id_in_header(commit.raw, BACKUP_ID_HEADER)
        if of_main and backup_id is not None:
            self._ids.append((pack_uuid(backup_id), id_))
        tree = self._tree(commit.tree)
        old: bytes | None = b""
        parent_tree = ""
        if commit.parents:
            parent = self._commit(bytes.fromhex(commit.parents[0]))
            if parent is None:
                return
            parent_tree = parent.tree
            old = tree if parent.tree == commit.tree else self._tree(parent.tree)
        if tree is None or old is None:
            return
        # This goes from child to parent: what is known of this parent serves the next comparison.
        uniform = self._uniform[1] if self._uniform[0] == commit.tree else is_uniform(tree)
        differences, uniform_parent = compare_trees(tree, old, uniform)
        self._uniform = (parent_tree, uniform_parent)
        for name, entry, _before in differences:
            if entry is None and is_device(name) and backup_id is not None:
                # Other programs may remove a device on purpose; a backup never does.
                text = f"commit {id_.hex()} lost it from its tree"
                self.report.add(Kind.DEVICE, name.decode(), text)
            if of_main and self._changes is not None and is_device(name):
                self._changes[pack_uuid(name.decode())].append((id_, folder_of(entry)))

    # 5

    def check_latest(self) -> None:
        """Check each device's latest pair: readable, and the same read by git and by libgit2."""
        self.objects.sound = None
        main = self._tips.get(MAIN_REF)
        commit = None if main is None else self._commit(main)
        tree = None if commit is None else self._tree(commit.tree)
        if main is None or tree is None:
            return
        git = self._open_git()
        folders: dict[str, str] = {}
        if git is not None:
            # Once: to read a large tenant's root tree takes milliseconds.
            newest = git.git.get(pygit2.Oid(raw=main))
            if not isinstance(newest, pygit2.Commit):
                self.report.add(Kind.REF, MAIN_REF, "libgit2 does not find its commit")
                return
            folders = reader.folders_in(git, newest)
        entries = entries_of(tree).items()
        devices = {name.decode(): self._files(entry) for name, entry in entries if is_device(name)}
        contents = self.objects.each([id_ for files in devices.values() for id_ in files.values()])
        for done, (device, files) in enumerate(devices.items()):
            self._tick("devices", done + 1, len(devices))
            self.report.devices += 1
            found = {name: self._content(device, name, *next(contents)) for name in files}
            if git is None or None in found.values():
                continue
            ours = reader.Pair(found.get(EXPORT_NAME), found.get(BINARY_NAME))
            if reader.pair_in(git, folders.get(device)) != ours:
                self.report.add(Kind.DEVICE, device, "libgit2 reads another latest pair")

    def _open_git(self) -> TenantRepository | None:
        if any(found.kind != Kind.LEFTOVER for found in self.report.findings):
            return None
        try:
            return open_repository(self.path)
        except ConfkeepError as error:
            self.report.fail(self.path.name, error)
            return None

    def _files(self, entry: bytes) -> dict[str, bytes]:
        """The ids of a device's files by their names; empty if its entry is no folder."""
        folder = folder_of(entry)
        found = {} if folder is None else entries_of(self._tree(folder.hex()) or b"")
        return {name: found[name.encode()][-20:] for name in FILE_NAMES if name.encode() in found}

    def _content(
        self, device: str, name: str, id_: bytes, kind: bytes, data: bytes | BadObject
    ) -> bytes | None:
        """The bytes of a device's newest file; None, with a finding, if they cannot be read."""
        if isinstance(data, BadObject):
            self._bad_object(id_, str(data))
        elif kind != BLOB:
            self._bad_object(id_, f"it is a {kind.decode()}")
        else:
            return data
        self.report.add(Kind.DEVICE, device, f"its latest {name} cannot be restored")
        return None

    # 6

    def check_index(self) -> None:
        """Check every row of the history index, if there is one and git is sound."""
        git = self._open_git()
        if git is None or not (self.path / INDEX_NAME).exists():
            return
        self.objects.sound = git.git
        main, holds = self._tips.get(MAIN_REF), self.objects.__contains__
        side = GitSide(git, main, self._changes, self._ids, self._commit, holds)
        for text in index_findings(
            self.path / INDEX_NAME, side, lambda done, total: self._tick("index", done, total)
        ):
            self.report.add(Kind.INDEX, INDEX_NAME, text)
        lost = set_back(side, self._reached)
        if lost is not None:
            self.report.add(Kind.REF, MAIN_REF, lost)
