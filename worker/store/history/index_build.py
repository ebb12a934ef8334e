"""Reads from git what the history index holds: the commits, and which devices each changed.

Compares two root trees as bytes: skips what they begin and end with alike, and parses only the
entries between. So a commit costs little more than reading its root tree.
"""

from __future__ import annotations

import heapq
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import pygit2
from pygit2.enums import SortMode

from confkeep.errors import RepositoryDamaged
from confkeep.routeros.own_name import own_name
from worker.store.git.pack import FOLDER_MODE
from worker.store.history.index_rows import NOTHING, Changed, Entry, MergedHistory, labels_of
from worker.store.repository import headers
from worker.store.repository.backup import EXPORT_NAME, Version, pack_uuid, unpack_uuid
from worker.store.repository.headers import BACKUP_ID_HEADER, DEVICE_ID_HEADER

#: A callback that gets how many commits are done, and how many there are.
Progress = Callable[[int, int], None]

_DEVICE = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: The entry of one device in a root tree: mode, name, NUL, id.
_DEVICE_ENTRY: Final = re.compile(rb"40000 (" + _DEVICE.pattern + rb")\0.{20}", re.DOTALL)
_UNIFORM_TREE: Final = re.compile(rb"(?:" + _DEVICE_ENTRY.pattern + rb")*+", re.DOTALL)
ENTRY_BYTES: Final = 63
_FILE_MODE: Final = b"100644"
_HEXADECIMAL: Final = 40
#: Commits read before libgit2's caches are dropped.
_LET_GO_COMMITS: Final = 2_048


@dataclass(frozen=True, slots=True)
class RawCommit:
    """A commit, parsed from its bytes."""

    sha: str
    tree: str
    parents: list[str]
    committed_s: int
    captured_s: int
    raw: bytes

    def entry(self, changed: Changed = NOTHING) -> Entry:
        """What the index keeps of it."""
        backup_id = headers.id_in_header(self.raw, BACKUP_ID_HEADER)
        device_id = headers.id_in_header(self.raw, DEVICE_ID_HEADER)
        labels = headers.labels_in(self.raw)
        return Entry(
            version=Version(
                bytes.fromhex(self.sha),
                self.committed_s,
                self.captured_s,
                None if backup_id is None else pack_uuid(backup_id),
                headers.raw_message(self.raw),
            ),
            changed=changed,
            device=None if device_id is None else pack_uuid(device_id),
            captured=labels is None or not headers.is_naming(self.raw),
            labels=labels,
        )


def read_commit(git: pygit2.Repository, sha: str) -> RawCommit:
    """A commit, read by its id and parsed.

    Raises:
        RepositoryDamaged: it is not there, or is not a commit.
    """
    kind, raw = _read(git, "commit", sha)
    if kind != pygit2.enums.ObjectType.COMMIT or not raw.startswith(b"tree "):
        raise RepositoryDamaged(f"{sha} is not a commit")
    return parse_commit(sha, raw)


def parse_commit(sha: str, raw: bytes) -> RawCommit:
    """Parse the bytes of a commit."""
    parents, at = [], 46
    while raw.startswith(b"parent ", at):
        parents.append(raw[at + 7 : at + 7 + _HEXADECIMAL].decode("ascii"))
        at += 48
    captured_s = _seconds_in(raw, at)
    committed_s = _seconds_in(raw, raw.find(b"\ncommitter ", at) + 1)
    return RawCommit(sha, raw[5:45].decode("ascii"), parents, committed_s, captured_s, raw)


def _seconds_in(raw: bytes, at: int) -> int:
    """The date in the header line that begins there; 0 for one that has none."""
    line = raw[at : raw.find(b"\n", at)]
    try:
        return int(line[line.rindex(b">") + 1 :].split()[0])
    except (ValueError, IndexError):
        return 0


def let_go(git: pygit2.Repository, number: int) -> None:
    """Drop libgit2's caches now and then, by the number of commits that were read.

    libgit2 caches up to 16 MB of the trees of each pack while the repository is open; with a
    hundred packs that is more than a worker may use. It reopens what it needs by itself.
    """
    if number and number % _LET_GO_COMMITS == 0:
        git.free()


def read_tree(git: pygit2.Repository, tree: str) -> bytes:
    """A tree's bytes.

    Raises:
        RepositoryDamaged: it is not there.
    """
    return _read(git, "tree", tree)[1]


def _read(git: pygit2.Repository, what: str, id_: str) -> tuple[int, bytes]:
    try:
        return git.odb.read(pygit2.Oid(hex=id_))
    except (KeyError, ValueError, pygit2.GitError) as error:
        raise RepositoryDamaged(f"{what} {id_} cannot be read") from error


#: An entry that differs between two trees: its name, and its mode and id in each (None if missing).
Difference = tuple[bytes, bytes | None, bytes | None]


def is_uniform(tree: bytes) -> bool:
    """Whether all entries of a root tree are devices, so that all have the same length."""
    return _UNIFORM_TREE.fullmatch(tree) is not None


def compare_trees(one: bytes, other: bytes, uniform: bool) -> tuple[list[Difference], bool]:
    """The entries in which two root trees differ.

    Args:
        uniform: whether `one` is uniform. If so, one entry that was changed, added or removed is found
            by comparing bytes.

    Returns:
        The differences, and whether `other` is uniform.
    """
    if one == other:
        return [], uniform
    if uniform:
        at = _common_prefix(one, other) // ENTRY_BYTES * ENTRY_BYTES
        end = at + ENTRY_BYTES
        if one[end:] == other[at:]:
            return [(one[at + 6 : at + 42], b"40000" + one[end - 20 : end], None)], True
        found = _DEVICE_ENTRY.fullmatch(other[at:end])
        if found is not None:
            name, value = found[1], b"40000" + other[end - 20 : end]
            if one[at + 6 : at + 42] == name and one[end:] == other[end:]:
                return [(name, b"40000" + one[end - 20 : end], value)], True
            if one[at:] == other[end:]:
                return [(name, None, value)], True
    before, after = entries_of(one), entries_of(other)
    names = sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )
    return [(name, before.get(name), after.get(name)) for name in names], is_uniform(other)


def _changed_devices(old: bytes, new: bytes) -> frozenset[bytes]:
    differences, _uniform = compare_trees(old, new, uniform=False)
    return frozenset(_pack_name(name) for name, _old, _new in differences if is_device(name))


def is_device(name: bytes) -> bool:
    """Whether the root tree's entry of that name is a device."""
    return _DEVICE.fullmatch(name) is not None


def folder_of(entry: bytes | None) -> bytes | None:
    """The id of the tree that a difference's mode and id name; None if they name none."""
    return entry[-20:] if entry is not None and entry[:-20] == FOLDER_MODE else None


def _pack_name(name: bytes) -> bytes:
    return pack_uuid(name.decode("ascii"))


def entries_of(tree: bytes) -> dict[bytes, bytes]:
    """A tree's entries by name; each value is the mode and id."""
    entries, at = {}, 0
    while at < len(tree):
        space = tree.index(b" ", at)
        nul = tree.index(b"\0", space)
        entries[tree[space + 1 : nul]] = tree[at:space] + tree[nul + 1 : nul + 21]
        at = nul + 21
    return entries


def _common_prefix(a: bytes, b: bytes) -> int:
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def oldest_first(shas: bytes) -> Iterator[str]:
    """The ids of a chain in hexadecimal.

    Args:
        shas: 20 bytes each, newest first.
    """
    return (shas[at : at + 20].hex() for at in range(len(shas) - 20, -1, -20))


def linear_entries(git: pygit2.Repository, parent: bytes | None, shas: bytes) -> Iterator[Entry]:
    """What the commits of a chain changed.

    Args:
        parent: the commit before the first; None if there is none.
        shas: as `oldest_first` takes them.
    """
    if not shas:
        return
    tree_id = "" if parent is None else read_commit(git, parent.hex()).tree
    tree = read_tree(git, tree_id) if tree_id else b""
    uniform = is_uniform(tree)
    for number, sha in enumerate(oldest_first(shas)):
        let_go(git, number)
        commit = read_commit(git, sha)
        changed: Changed = NOTHING
        if commit.tree != tree_id:
            tree_id = commit.tree
            old, tree = tree, read_tree(git, tree_id)
            differences, uniform = compare_trees(old, tree, uniform)
            changed = {
                _pack_name(name): folder_of(new)
                for name, _old, new in differences
                if is_device(name)
            }
        yield commit.entry(changed)


def read_merged(
    git: pygit2.Repository, tip: str, progress: Progress | None = None
) -> MergedHistory:
    """Read the whole history of `tip`; its commits may have any number of parents."""
    ids = [
        str(commit.id)
        for commit in git.walk(pygit2.Oid(hex=tip), SortMode.TOPOLOGICAL | SortMode.REVERSE)
    ]
    number_of = {sha: number for number, sha in enumerate(ids)}
    graph = _Graph()
    entries: list[Entry] = []
    seen: dict[bytes, int] = {}
    every: set[bytes] = set()
    for number, sha in enumerate(ids):
        let_go(git, number)
        commit = read_commit(git, sha)
        tree = read_tree(git, commit.tree)
        trees = [read_tree(git, read_commit(git, parent).tree) for parent in commit.parents]
        changed = [_changed_devices(old, tree) for old in trees or [b""]]
        graph.add([number_of[parent] for parent in commit.parents], commit.committed_s, changed)
        every.update(*changed)
        entry = commit.entry()
        entries.append(entry)
        if entry.device is not None and entry.captured:
            seen[entry.device] = commit.committed_s
        if progress is not None:
            progress(number + 1, len(ids))
    versions = {}
    for device in every:
        listed = [entries[number].version for number in graph.log_of(device)]
        listed.reverse()
        if listed:
            versions[device] = listed
            seen.setdefault(device, listed[-1].committed_s)
    return MergedHistory(entries, versions, seen, labels_of(entries))


def own_names(
    git: pygit2.Repository, tip: bytes, devices: Iterable[bytes] | None = None
) -> dict[bytes, str | None]:
    """The names in the exports of a commit's devices; None for an export without one.

    Args:
        devices: None means all of the commit.

    Raises:
        RepositoryDamaged: an object that is needed is not there.
    """
    tree = entries_of(read_tree(git, read_commit(git, tip.hex()).tree))
    if devices is None:
        devices = [_pack_name(name) for name in tree if is_device(name)]
    found: dict[bytes, str | None] = {}
    for number, device in enumerate(devices):
        let_go(git, number)
        found[device] = None
        folder = folder_of(tree.get(unpack_uuid(device).encode()))
        if folder is not None:
            files = entries_of(read_tree(git, folder.hex()))
            export = files.get(EXPORT_NAME.encode(), b"")
            if export[:-20] == _FILE_MODE:
                found[device] = own_name(read_tree(git, export[-20:].hex()))
    return found


class _Graph:
    """Commits by number, parents first; the devices that each changed against each parent.

    Commits with one parent form chains, which lead down to a root or a merge.
    """

    def __init__(self) -> None:
        self._parents: list[list[int]] = []
        self._committed_s: list[int] = []
        self._changed: list[list[frozenset[bytes]]] = []
        #: The chain of each commit, by the number of its oldest one; and the commit below the chain, -1: none.
        self._chain: list[int] = []
        self._below: list[int] = []
        #: The newest commit of each chain.
        self._newest: dict[int, int] = {}
        #: Where a device changes on a chain.
        self._changes: dict[tuple[bytes, int], list[int]] = defaultdict(list)

    def add(self, parents: list[int], committed_s: int, changed: list[frozenset[bytes]]) -> None:
        """Add the next commit.

        Args:
            changed: the devices that it changed against each parent; of a root commit: its own, once.
        """
        number = len(self._parents)
        chain, below = number, -1
        if len(parents) == 1:
            [parent] = parents
            below = parent
            if self._newest[self._chain[parent]] == parent:
                chain, below = self._chain[parent], self._below[parent]
            for device in changed[0]:
                self._changes[device, chain].append(number)
        self._parents.append(parents)
        self._committed_s.append(committed_s)
        self._changed.append(changed)
        self._chain.append(chain)
        self._below.append(below)
        self._newest[chain] = number

    def log_of(self, device: bytes) -> Iterator[int]:
        """Like `reader.walk_versions`, but jumps along chains instead of visiting each commit."""
        tip = len(self._parents) - 1
        seen, lowest_seen, found = {tip}, tip, 0
        heap = [(-self._committed_s[tip], 0, tip)]
        while heap:
            _time, _order, number = heapq.heappop(heap)
            if not heap and lowest_seen >= number:
                # No visited commit lies below, so the way down is one chain until the next merge.
                number = self._leap(device, number)
            parents, changed = self._parents[number], self._changed[number]
            same = [p for p, names in zip(parents, changed, strict=False) if device not in names]
            if same:
                parents = same[:1]
            elif parents or device in changed[0]:
                yield number
            for parent in parents:
                if parent not in seen:
                    seen.add(parent)
                    lowest_seen = min(lowest_seen, parent)
                    found += 1
                    heapq.heappush(heap, (-self._committed_s[parent], found, parent))

    def _leap(self, device: bytes, number: int) -> int:
        """The first commit from `number` down that changed the device, is a merge or is a root."""
        while True:
            chain = self._chain[number]
            listed = self._changes.get((device, chain), [])
            at = bisect_left(listed, number + 1) - 1
            if at >= 0:
                return listed[at]
            if self._below[number] < 0:
                return chain
            number = self._below[number]
