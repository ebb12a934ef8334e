"""Verifying a tenant's repository, bit by bit; it changes nothing and needs no git binary.

What is looked at, in this order:

1. Refs and HEAD, as bytes: a name that git would read leniently is a finding too.
2. Every pack, idx, multi-pack-index, commit-graph, reverse index and bitmap against the checksum
   that it ends with; every idx against its pack; packs without idx and files of dead writers.
3. Every object: inflated, its deltas applied, and hashed.
4. From each ref down: every commit, and of its root tree every entry that differs from its first
   parent's. No device may be in a commit's parent and not in the commit.
5. Each device's latest pair, read by our own reader and by libgit2.
6. The history index: every byte against its seal, and every row against git. Bytes that belong to no
   row are not looked at while its writer is at work, or when the last one was killed (`index_seal`).
7. The map of rewritten ids: SQLite's own check, and that every commit that it leads to is there.

Objects are read by `object_reader`, which damaged files cannot harm. libgit2 is asked only about a
repository in which nothing was found.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import pygit2

from worker.errors import ConfkeepError, InvalidInput
from worker.store import flock, id_map, index_build, reader, recovery
from worker.store.backup import BACKUP_ID_HEADER, BINARY_NAME, EXPORT_NAME, MAIN_REF
from worker.store.index import INDEX_NAME, detail_of
from worker.store.index_build import RawCommit, compare_trees, entries_of, is_device, is_uniform
from worker.store.index_file import IndexFile
from worker.store.index_format import NO_MERGE, Damaged, Unusable
from worker.store.object_reader import (
    BLOB,
    TREE,
    BadFile,
    BadObject,
    ObjectReader,
    PackReader,
    check_trailer,
    read_idx,
)
from worker.store.repository import TenantRepository, open_repository

#: What is checked at the moment, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]

_ID_LINE = re.compile(rb"[0-9a-f]{40}\n")
_HEAD_LINE = re.compile(rb"ref: (refs/heads/[!-~]+)\n|[0-9a-f]{40}\n")
_PACKED_LINE = re.compile(rb"([0-9a-f]{40}) (refs/[^\x00-\x20\x7f~^:?*\[\\]+)\n")
_PEELED_LINE = re.compile(rb"\^[0-9a-f]{40}\n")
_PACKED_HEADERS: Final = frozenset(
    {
        b"# pack-refs with: peeled fully-peeled sorted \n",
        b"# pack-refs with: peeled fully-peeled \n",
        b"# pack-refs with: peeled \n",
    }
)
#: Files that only make reading faster: removing a damaged one loses nothing.
_HELPERS: Final = (
    "objects/pack/multi-pack-index*",
    "objects/pack/*.rev",
    "objects/pack/*.bitmap",
    "objects/info/commit-graph",
    "objects/info/commit-graphs/*.graph",
)


class Outcome(StrEnum):
    """How a verification ended."""

    CLEAN = "clean"
    DAMAGED = "damaged"
    #: Another process held the repository's lock for longer than the caller wanted to wait.
    LOCKED = "locked"
    MISSING = "missing"


class Kind(StrEnum):
    """What a finding is about."""

    REF = "ref"
    HEAD = "head"
    PACK = "pack"
    IDX = "idx"
    HELPER = "helper"
    OBJECT = "object"
    DEVICE = "device"
    INDEX = "index"
    LEFTOVER = "leftover"
    #: The map of rewritten ids.
    IDS = "ids"


#: What `repair_repository` can mend, since it is derived from the rest.
REPAIRABLE: Final = frozenset({Kind.HEAD, Kind.IDX, Kind.HELPER, Kind.INDEX, Kind.LEFTOVER})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    kind: Kind
    #: A path inside the repository, an object's id or a device's id.
    place: str
    text: str

    @property
    def repairable(self) -> bool:
        """Whether `repair_repository` tries to mend it."""
        return self.kind in REPAIRABLE

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "kind": self.kind.value,
            "place": self.place,
            "text": self.text,
            "repairable": self.repairable,
        }


@dataclass(slots=True)
class Report:
    """What a verification found."""

    path: Path
    outcome: Outcome = Outcome.CLEAN
    findings: list[Finding] = field(default_factory=list)
    #: Objects that were inflated and hashed.
    objects: int = 0
    #: Commits that were followed from the refs.
    commits: int = 0
    devices: int = 0
    #: Whether all that was asked for was looked at before the time was over.
    complete: bool = True
    duration_s: float = 0.0

    def add(self, kind: Kind, place: str, text: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(kind, place, text))
        self.outcome = Outcome.DAMAGED

    def to_json(self, most_findings: int | None = None) -> dict[str, object]:
        """As JSON values, without the path; of very many findings only the first."""
        return {
            "outcome": self.outcome.value,
            "complete": self.complete,
            "objects": self.objects,
            "commits": self.commits,
            "devices": self.devices,
            "duration_s": round(self.duration_s, 3),
            "finding_count": len(self.findings),
            "findings": [finding.to_json() for finding in self.findings[:most_findings]],
        }


class _TimeIsOver(Exception):
    """The caller's limit is reached."""


def parse_subset(text: str) -> tuple[int, int]:
    """The `subset` that `N/T` names.

    Raises:
        InvalidInput: something else.
    """
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= parts:
        raise InvalidInput("subset", "must be N/T, such as 1/7, with 1 <= N <= T")
    return part, parts


def verify_repository(
    path: Path,
    *,
    subset: tuple[int, int] | None = None,
    max_duration_s: float | None = None,
    lock_wait_s: float = 10.0,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> Report:
    """Verify the repository at `path`. Finds; never raises for damage, and changes nothing.

    Args:
        subset: `(n, t)`: inflate and hash only the n-th of t parts of the objects, n from 1;
            everything else is looked at whole. t runs with all n see every object.
        max_duration_s: stop after so many seconds; the report then is not `complete`.
        lock_wait_s: how long to wait for a moment at which nobody writes, to tell leftover files
            from those in use. The lock is not held any longer.
        progress: is told what is looked at.
        stop: asked now and then; when it says so, it ends as if the time were over.

    Raises:
        ValueError: `subset` is not `1 <= n <= t`.
        OSError: the file system refused to let a file be read.
    """
    if subset is not None and not 1 <= subset[0] <= subset[1]:
        raise ValueError("subset must be (n, t) with 1 <= n <= t")
    start = time.monotonic()
    report = Report(path)
    if not path.is_dir():
        report.outcome = Outcome.MISSING
    elif not _check_leftovers(report, start + lock_wait_s):
        report.outcome = Outcome.LOCKED
    else:
        end = None if max_duration_s is None else start + max_duration_s
        verification = _Verification(report, subset, end, progress, stop)
        try:
            verification.run()
        except _TimeIsOver:
            report.complete = False
        finally:
            verification.objects.close()
    report.duration_s = time.monotonic() - start
    return report


def _check_leftovers(report: Report, deadline: float) -> bool:
    """Note files of dead writers. Returns whether a moment without a living one was found."""
    path = report.path
    if not (path / "objects" / "pack").is_dir():
        report.add(Kind.PACK, "objects/pack", "the folder is missing")
        return True
    while True:
        try:
            with flock.exclusive(path) as alone:
                if alone:
                    _note_leftovers(report)
                    return True
        except PermissionError:
            # Who may not lock may not tell a leftover from a file in use.
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def _note_leftovers(report: Report) -> None:
    for leftover in recovery.leftovers(report.path):
        name = leftover.relative_to(report.path).as_posix()
        report.add(Kind.LEFTOVER, name, "a writer that died left it; the next one removes it")
    if (report.path / id_map.PENDING_NAME).exists():
        text = "a rewrite that died left it; the next writer renames or removes it"
        report.add(Kind.LEFTOVER, id_map.PENDING_NAME, text)


class _Verification:
    """One run; the methods look at one thing each, in the order of `run`."""

    def __init__(
        self,
        report: Report,
        subset: tuple[int, int] | None,
        end: float | None,
        progress: Progress | None,
        stop: Callable[[], bool] | None,
    ) -> None:
        self.report = report
        self.path = report.path
        self.objects = ObjectReader(report.path / "objects")
        self._subset = subset
        self._end = end
        self._progress = progress
        self._stop = stop
        self._said = 0.0
        #: The commits that refs point to.
        self._tips: dict[str, bytes] = {}
        self._entries_seen: set[bytes] = set()
        self._bad: set[bytes] = set()
        #: A root tree's id and whether it holds devices alone.
        self._uniform = ("", False)
        #: For each device the commits that changed it, newest first; None: there are merges.
        self._changes: dict[bytes, list[bytes]] | None = defaultdict(list)
        self._ids: list[tuple[bytes, bytes]] = []

    def run(self) -> None:
        """Look at everything."""
        self.check_refs()
        self.check_files()
        self.check_objects()
        self.check_history()
        self.check_latest()
        self.check_index()
        self.check_ids()

    def _tick(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self._end is not None and now >= self._end:
            raise _TimeIsOver
        if self._stop is not None and self._stop():
            raise _TimeIsOver
        if self._progress is not None and (now - self._said > 0.1 or done == total):
            self._said = now
            self._progress(what, done, total)

    # 1

    def check_refs(self) -> None:
        """HEAD, loose refs and packed refs."""
        loose = self.path / "refs"
        for folder, _folders, names in sorted(os.walk(loose)):
            for name in sorted(names):
                file = Path(folder, name)
                place = file.relative_to(self.path).as_posix()
                if name.endswith(".lock"):
                    continue  # a leftover, or somebody's at this moment
                data = _bytes_of(file)
                if data is not None and _ID_LINE.fullmatch(data):
                    self._tips[place] = bytes.fromhex(data.decode("ascii"))
                elif data is not None and not data.startswith(b"ref: refs/"):
                    self.report.add(Kind.REF, place, "it does not hold an object's id")
        self._check_packed_refs()
        head = _bytes_of(self.path / "HEAD")
        found = None if head is None else _HEAD_LINE.fullmatch(head)
        if head is None or not found:
            self.report.add(Kind.HEAD, "HEAD", "it names neither a branch nor a commit")
        elif found[1] and found[1].decode("ascii") not in self._tips and self._tips:
            self.report.add(Kind.HEAD, "HEAD", "it names a branch without commits")
        elif not found[1]:
            self._tips["HEAD"] = bytes.fromhex(head.decode("ascii"))

    def _check_packed_refs(self) -> None:
        data = _bytes_of(self.path / "packed-refs") or b""
        for number, line in enumerate(data.splitlines(keepends=True)):
            found = _PACKED_LINE.fullmatch(line)
            if found:
                name = found[2].decode("utf-8", "replace")
                # A loose ref goes before a packed one, which then is old, but not wrong.
                place = f"packed {name}" if name in self._tips else name
                self._tips[place] = bytes.fromhex(found[1].decode("ascii"))
            elif not _PEELED_LINE.fullmatch(line) and (number or line not in _PACKED_HEADERS):
                self.report.add(Kind.REF, "packed-refs", f"line {number + 1} is no ref")

    # 2

    def check_files(self) -> None:
        """Everything that ends with a checksum, and that packs and idx files come in pairs."""
        folder = self.path / "objects" / "pack"
        if not folder.is_dir():
            return
        packs = {file.stem: file for file in sorted(folder.glob("pack-*.pack"))}
        idxs = {file.stem: file for file in sorted(folder.glob("pack-*.idx"))}
        total = len(packs.keys() | idxs.keys())
        for done, stem in enumerate(sorted(packs.keys() | idxs.keys())):
            self._tick("packs", done, total)
            place = f"objects/pack/{stem}"
            if stem not in packs:
                self.report.add(Kind.PACK, f"{place}.pack", "it is missing; its idx is there")
                continue
            if stem not in idxs:
                self._check_trailer(packs[stem], Kind.PACK)
                if not self._is_leftover(f"{place}.pack"):
                    self.report.add(Kind.IDX, f"{place}.idx", "it is missing; its pack is there")
                continue
            self._check_pair(packs[stem], idxs[stem])
        helpers = [file for pattern in _HELPERS for file in sorted(self.path.glob(pattern))]
        for file in helpers:
            self._check_trailer(file, Kind.HELPER)

    def _is_leftover(self, place: str) -> bool:
        return any(f.kind == Kind.LEFTOVER and f.place == place for f in self.report.findings)

    def _check_pair(self, pack: Path, idx: Path) -> None:
        sound = self._check_trailer(pack, Kind.PACK)
        try:
            reader_of_pack = PackReader(pack, read_idx(idx))
        except BadFile as error:
            kind = Kind.IDX if sound else Kind.PACK
            place = idx if sound else pack
            self.report.add(kind, place.relative_to(self.path).as_posix(), str(error))
        except FileNotFoundError:
            if pack.exists():
                raise
            # A repack dropped it meanwhile; its objects are in another pack.
        else:
            self.objects.add(reader_of_pack)

    def _check_trailer(self, file: Path, kind: Kind) -> bool:
        try:
            check_trailer(file)
        except BadFile as error:
            self.report.add(kind, file.relative_to(self.path).as_posix(), str(error))
            return False
        except FileNotFoundError:
            return True
        return True

    # 3

    def check_objects(self) -> None:
        """Inflate and hash every object, in the order in which it stands on disk."""
        total = sum(len(pack.idx) for pack in self.objects.packs)
        done = 0
        for number, pack in enumerate(self.objects.packs):
            for at in pack.order:
                done += 1
                self._tick("objects", done, total)
                id_ = pack.idx.id_at(at)
                if self._is_chosen(id_):
                    try:
                        self.objects.check(id_, *self.objects.read_at(number, pack.idx.offsets[at]))
                    except BadObject as error:
                        self._bad_object(id_, f"in {pack.path.name}: {error}")
                    self.report.objects += 1
        for id_ in self.objects.loose_ids():
            self._tick("objects", done, total)
            if self._is_chosen(id_):
                try:
                    self.objects.read_loose(id_)
                except BadObject as error:
                    self._bad_object(id_, f"loose: {error}")
                self.report.objects += 1

    def _is_chosen(self, id_: bytes) -> bool:
        if self._subset is None:
            return True
        part, parts = self._subset
        return int.from_bytes(id_[-4:], "big") % parts == part - 1

    def _bad_object(self, id_: bytes, text: str) -> None:
        if id_ not in self._bad:
            self._bad.add(id_)
            self.report.add(Kind.OBJECT, id_.hex(), text)

    # 4

    def check_history(self) -> None:
        """Follow all commits from the refs; newest first."""
        if not self._tips and self._has_commits():
            self.report.add(Kind.REF, MAIN_REF, "it is missing, although there are commits")
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
                for parent in reversed(commit.parents):
                    packed = bytes.fromhex(parent)
                    if packed not in seen:
                        seen.add(packed)
                        stack.append(packed)
        self._tick("commits", self.report.commits, self.report.commits)

    def _has_commits(self) -> bool:
        return any(len(pack.idx) for pack in self.objects.packs) or any(
            True for _id in self.objects.loose_ids()
        )

    def _commit(self, id_: bytes) -> RawCommit | None:
        try:
            raw = self.objects.read(id_)
        except BadObject as error:
            self._bad_object(id_, f"a commit or tag that is needed: {error}")
            return None
        if not raw.startswith(b"tree "):
            return None  # an annotated tag of somebody else's
        return index_build.parse_commit(id_.hex(), raw)

    def _tree(self, id_: str) -> bytes | None:
        try:
            return self.objects.read(bytes.fromhex(id_), TREE)
        except BadObject as error:
            self._bad_object(bytes.fromhex(id_), f"a tree that is needed: {error}")
            return None

    def _check_commit(self, id_: bytes, commit: RawCommit, *, of_main: bool) -> None:
        if of_main and len(commit.parents) > 1:
            self._changes = None
        backup_id = reader.id_in_header(commit.raw, BACKUP_ID_HEADER)
        if of_main and backup_id is not None:
            self._ids.append((index_build.pack_uuid(backup_id), id_))
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
        # From the child to the parent: what is known of this parent serves the next comparison.
        uniform = self._uniform[1] if self._uniform[0] == commit.tree else is_uniform(tree)
        differences, uniform_parent = compare_trees(tree, old, uniform)
        self._uniform = (parent_tree, uniform_parent)
        for name, entry, _before in differences:
            if entry is not None:
                self._check_entry(entry)
            elif is_device(name) and backup_id is not None:
                # Others may remove a device on purpose; no backup does.
                text = f"commit {id_.hex()} lost it from its tree"
                self.report.add(Kind.DEVICE, name.decode(), text)
            if of_main and self._changes is not None and is_device(name):
                self._changes[index_build.pack_uuid(name.decode())].append(id_)

    def _check_entry(self, entry: bytes) -> None:
        """An entry of a tree, given as mode and id, and all below it."""
        mode, id_ = entry[:-20], entry[-20:]
        if mode == b"160000" or id_ in self._entries_seen:
            return
        self._entries_seen.add(id_)
        if mode in (b"40000", b"040000"):
            data = self._tree(id_.hex())
            for below in entries_of(data or b"").values():
                self._check_entry(below)
        elif id_ not in self.objects:
            self._bad_object(id_, "a file that is needed: it is missing")

    # 5

    def check_latest(self) -> None:
        """Each device's latest pair: restorable, and what libgit2 reads is the same."""
        main = self._tips.get(MAIN_REF)
        commit = None if main is None else self._commit(main)
        tree = None if commit is None else self._tree(commit.tree)
        if main is None or tree is None:
            return
        git = self._open_git()
        entries = entries_of(tree)
        devices = [name for name in entries if is_device(name)]
        for done, name in enumerate(devices):
            self._tick("devices", done + 1, len(devices))
            self.report.devices += 1
            ours = self._pair(name, entries[name])
            if git is None or ours is None:
                continue
            found = git.git.get(pygit2.Oid(raw=main))
            if not isinstance(found, pygit2.Commit):
                self.report.add(Kind.REF, MAIN_REF, "libgit2 does not find its commit")
                return
            if reader.read_pair(git, found, name.decode()) != ours:
                self.report.add(Kind.DEVICE, name.decode(), "libgit2 reads another latest pair")

    def _open_git(self) -> TenantRepository | None:
        if any(found.kind != Kind.LEFTOVER for found in self.report.findings):
            return None
        try:
            repository = open_repository(self.path)
        except ConfkeepError as error:
            self.report.add(Kind.HEAD, self.path.name, str(error))
            return None
        return repository

    def _pair(self, name: bytes, entry: bytes) -> reader.Pair | None:
        if not entry.startswith(b"40000"):
            return None
        files = entries_of(self._tree(entry[-20:].hex()) or b"")
        contents: list[bytes | None] = []
        for file in (EXPORT_NAME, BINARY_NAME):
            found = files.get(file.encode())
            try:
                contents.append(None if found is None else self.objects.read(found[-20:], BLOB))
            except BadObject as error:
                self._bad_object(found[-20:] if found else b"", str(error))
                text = f"its latest {file} cannot be restored"
                self.report.add(Kind.DEVICE, name.decode(), text)
                return None
        return reader.Pair(*contents)

    # 6

    def check_index(self) -> None:
        """Every row of the history index, if it is complete for `main`; else it catches up."""
        git = self._open_git()
        if git is None or not (self.path / INDEX_NAME).exists():
            return
        try:
            file = IndexFile(self.path / INDEX_NAME, write=False)
        except Unusable as error:
            self.report.add(Kind.INDEX, INDEX_NAME, str(error))
            return
        try:
            with file.reading() as root:
                damage = file.check_bytes()
                if damage:
                    self.report.add(Kind.INDEX, INDEX_NAME, damage)
                elif root.tip is not None and root.tip == self._tips.get(MAIN_REF):
                    for text in self._index_findings(file, git):
                        self.report.add(Kind.INDEX, INDEX_NAME, text)
                elif root.tip is not None and root.tip not in self.objects:
                    self.report.add(Kind.INDEX, INDEX_NAME, "it is of a commit that git has not")
        except Damaged as error:
            self.report.add(Kind.INDEX, INDEX_NAME, str(error))
        except Unusable as error:
            # What a writer that was killed left half written, the next one rolls back.
            if not file.has_journal():
                self.report.add(Kind.INDEX, INDEX_NAME, str(error))
        finally:
            file.close()

    def _index_findings(self, file: IndexFile, git: TenantRepository) -> Iterator[str]:
        faults = file.check_structure()
        if faults:
            yield faults
        changes = self._changes
        if changes is None or file.root.base != NO_MERGE:
            merged = index_build.read_merged(git.git, (file.root.tip or b"").hex(), None)
            changes = {
                device: [entry.sha for entry in reversed(listed)]
                for device, listed in merged.versions.items()
            }
        devices = file.devices()
        if devices.keys() != changes.keys():
            yield "it does not list the devices that git has"
        for done, (device, expected) in enumerate(changes.items()):
            self._tick("index", done + 1, len(changes))
            rows = list(file.versions(device))
            if [row.sha for row in rows] != expected:
                yield f"it does not list the versions of {device.hex()} that git has"
                continue
            for row in rows:
                commit = self._commit(row.sha)
                if commit is None or commit.entry(()).as_row() != row.without_detail():
                    yield f"its row of commit {row.sha.hex()} is not what git says"
            newest = rows[0]
            name = index_build.unpack_uuid(device)
            if newest.detail and newest.detail != detail_of(git, newest.sha.hex(), name):
                yield f"its line counts of commit {newest.sha.hex()} are not what git says"
        found = file.numbers_of({backup_id for backup_id, _sha in self._ids})
        for backup_id, sha in self._ids:
            if sha not in {file.sha_of(number) for number in found.get(backup_id, [])}:
                yield f"it does not find the backup id of commit {sha.hex()}"

    # 7

    def check_ids(self) -> None:
        """The map of rewritten ids can be read, and leads to commits that are there."""
        file = self.path / id_map.FILE_NAME
        if not file.exists():
            return
        try:
            with contextlib.closing(id_map.IdMap(file)) as ids:
                damage = ids.damage()
                lost = 0 if damage else sum(id_ not in self.objects for id_ in ids.current_ids())
        except ConfkeepError as error:
            damage, lost = str(error), 0
        if damage:
            self.report.add(Kind.IDS, file.name, damage)
        if lost:
            self.report.add(Kind.IDS, file.name, f"it leads to {lost} commits that git has not")


def _bytes_of(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
