"""Another tool's git repository as the versions of each file in it.

A file's versions are those that `git log -- FILE` lists: where a merge took the file unchanged from
one parent, only that parent is followed. Renames are not followed: the old file ends, a new one
begins.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import FileMode, SortMode

from confkeep.errors import InvalidInput
from confkeep.models import LATEST_CAPTURE, MAX_MESSAGE_BYTES
from worker.store.git.opening import open_git
from worker.store.repository.backup import decode_text
from worker.store.repository.headers import raw_message

#: The latest date that a capture may have, in seconds since 1970.
_LATEST_S: Final = int(LATEST_CAPTURE.timestamp())
#: Most bytes of the line that names a commit's author.
_MOST_WHO_BYTES: Final = 1024
#: Files of this many bytes or more are never taken for blank.
_BLANK_BYTES: Final = 64
_REGULAR: Final = (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)


@dataclass(frozen=True, slots=True)
class FileVersion:
    """A file as one commit made it."""

    #: The commit's place in the history, oldest first.
    number: int
    commit: str
    #: None if the commit removed the file, or made it something other than a file.
    blob: pygit2.Oid | None
    #: The binary beside it; None if there is none.
    binary: pygit2.Oid | None = None


@dataclass(frozen=True, slots=True)
class CommitText:
    """What a commit says."""

    #: The author's date, in the author's time zone.
    authored_at: dt.datetime
    #: The commit's message, and who it is by.
    message: str


@dataclass(slots=True)
class _Chain:
    """A run of commits without branches or merges.

    Each commit is the only child of the next. Other chains enter it only at its top; a merge can
    only be its bottom.
    """

    top: int
    bottom: int = -1
    #: Path -> the commits that changed it; a merge at the bottom is not counted.
    changed: dict[str, list[int]] = field(default_factory=dict)


#: What a commit changed against one parent: path -> its blob, or None if it is no file now.
_Changes = dict[str, pygit2.Oid | None]


@dataclass
class GitHistory:
    """All commits that the newest one reaches, oldest first."""

    git: pygit2.Repository
    commits: list[str] = field(default_factory=list)
    #: For each commit its parents' numbers, and what it changed against each. A commit without
    #: parents is compared with an empty tree.
    parents: list[list[int]] = field(default_factory=list)
    changes: list[list[_Changes]] = field(default_factory=list)

    @cached_property
    def versions(self) -> dict[str, list[FileVersion]]:
        """Path -> its versions, oldest first."""
        if all(len(parents) < 2 for parents in self.parents):
            found: defaultdict[str, list[FileVersion]] = defaultdict(list)
            for number, (changes,) in enumerate(self.changes):
                for path, blob in changes.items():
                    found[path].append(FileVersion(number, self.commits[number], blob))
        else:
            paths = {path for each in self.changes for changes in each for path in changes}
            found = defaultdict(list, {path: self._log(path) for path in paths})
        return {path: versions for path, versions in sorted(found.items()) if versions}

    def _log(self, path: str) -> list[FileVersion]:
        """As `git log -- PATH`, oldest first. Costs the number of chains, not that of commits."""
        numbers: list[int] = []
        chains, chain_of = self._chains
        reached = {len(self.commits) - 1}
        for chain in chains:
            if chain.top not in reached:
                continue
            numbers += chain.changed.get(path, ())
            parents = self.parents[chain.bottom]
            if len(parents) > 1:
                changes = self.changes[chain.bottom]
                pairs = zip(parents, changes, strict=True)
                same = [parent for parent, each in pairs if path not in each]
                if same:
                    parents = same[:1]
                else:
                    numbers.append(chain.bottom)
            reached.update(chain_of[parent].top for parent in parents)
        return [
            FileVersion(number, self.commits[number], self.changes[number][0][path])
            for number in sorted(numbers)
        ]

    @cached_property
    def _chains(self) -> tuple[list[_Chain], list[_Chain]]:
        """All chains, newest first, and the chain of each commit."""
        children: list[list[int]] = [[] for _ in self.commits]
        for number, parents in enumerate(self.parents):
            for parent in parents:
                children[parent].append(number)
        chains: list[_Chain] = []
        chain_of: dict[int, _Chain] = {}
        for number in range(len(self.commits) - 1, -1, -1):
            above = children[number]
            if len(above) == 1 and len(self.parents[above[0]]) == 1:
                chain = chain_of[above[0]]
            else:
                chain = _Chain(number)
                chains.append(chain)
            chain.bottom = number
            chain_of[number] = chain
            if len(self.parents[number]) < 2:
                for path in self.changes[number][0]:
                    chain.changed.setdefault(path, []).append(number)
        return chains, [chain_of[number] for number in range(len(self.commits))]

    def with_binary(self, path: str, binary: str) -> list[FileVersion]:
        """A file's versions with the binary beside it: the commits that changed one of them."""
        if binary not in self.versions:
            return self.versions[path]
        both = (*self.versions[path], *self.versions[binary])
        return [
            FileVersion(
                number, self.commits[number], self._blob(number, path), self._blob(number, binary)
            )
            for number in sorted({version.number for version in both})
        ]

    def _blob(self, number: int, path: str) -> pygit2.Oid | None:
        try:
            found = _tree(self.git, pygit2.Oid(hex=self.commits[number]))[path]
        except KeyError:
            return None
        return found.id if found.filemode in _REGULAR else None

    def is_file(self, versions: Iterable[FileVersion]) -> bool:
        """Whether a path was ever a file, and not a link or another repository."""
        return any(version.blob is not None for version in versions)

    def is_blank(self, version: FileVersion) -> bool:
        """Whether a version holds only white space, as a poller's first of a device often does."""
        blob = None if version.blob is None else self.git.get(version.blob)
        return isinstance(blob, pygit2.Blob) and blob.size < _BLANK_BYTES and not blob.data.strip()

    def read_head(self, path: str) -> bytes | None:
        """A file's bytes in the newest commit; None if it is not there."""
        try:
            found = self.git[self.commits[-1]].tree[path] if self.commits else None
        except KeyError:
            return None
        return found.data if isinstance(found, pygit2.Blob) else None


def paths_in(git: pygit2.Repository, commit_id: pygit2.Oid) -> list[str]:
    """The paths of all files in a commit."""
    return list(_changes(_tree(git, commit_id).diff_to_tree(swap=True)))


def tip_of(git: pygit2.Repository) -> pygit2.Oid | None:
    """The commit that HEAD names, or else the only branch; None if there are no commits.

    Raises:
        InvalidInput: HEAD names no branch, and there are several.
    """
    if not git.head_is_unborn:
        return git.head.peel(pygit2.Commit).id
    branches = sorted(git.branches.local)
    if not branches:
        return None
    if len(branches) > 1:
        head = git.lookup_reference("HEAD").target
        raise InvalidInput(
            "DIR",
            f"HEAD of {git.path} names {head}, which is not there, and there are several branches "
            f"({', '.join(branches[:5])}): say which one counts with `git symbolic-ref HEAD "
            f"refs/heads/{branches[0]}`",
        )
    return git.branches.local[branches[0]].peel(pygit2.Commit).id


def read_history(path: Path) -> GitHistory:
    """The history that a repository's HEAD, or its only branch, reaches; costs a comparison of trees
    for each commit.

    Raises:
        InvalidInput: git cannot open or read it, or HEAD names no branch and there are several.
    """
    try:
        git = open_git(path)
        history = GitHistory(git)
        tip = tip_of(git)
        if tip is not None:
            _read(history, tip)
    except (pygit2.GitError, KeyError) as error:
        raise InvalidInput("DIR", f"git cannot read {path}: {error}") from error
    return history


def _read(history: GitHistory, tip: pygit2.Oid) -> None:
    git = history.git
    numbers: dict[pygit2.Oid, int] = {}
    order = SortMode.TOPOLOGICAL | SortMode.TIME | SortMode.REVERSE
    for number, commit in enumerate(git.walk(tip, order)):
        # A shallow clone lacks the parents of its oldest commits.
        known = [parent for parent in commit.parent_ids if parent in numbers]
        trees = [_tree(git, parent) for parent in known]
        history.commits.append(str(commit.id))
        history.parents.append([numbers[parent] for parent in known])
        if trees:
            diffs = [tree.diff_to_tree(commit.tree) for tree in trees]
        else:
            diffs = [commit.tree.diff_to_tree(swap=True)]
        history.changes.append([_changes(diff) for diff in diffs])
        numbers[commit.id] = number


def _tree(git: pygit2.Repository, commit_id: pygit2.Oid) -> pygit2.Tree:
    commit = git[commit_id]
    assert isinstance(commit, pygit2.Commit)
    return commit.tree


def _changes(diff: pygit2.Diff) -> _Changes:
    return {
        delta.new_file.raw_path.decode("utf-8", "backslashreplace"): (
            delta.new_file.id if delta.new_file.mode in _REGULAR else None
        )
        for delta in diff.deltas
    }


@cache
def _zone(offset_min: int) -> dt.timezone:
    return dt.timezone(dt.timedelta(minutes=offset_min)) if abs(offset_min) < 1440 else dt.UTC


def text_of(git: pygit2.Repository, commit_id: str) -> CommitText:
    """A commit's date, message and author; dates outside 1970 to 2100 become the nearest inside."""
    commit = git[commit_id]
    assert isinstance(commit, pygit2.Commit)
    author = commit.author
    when_s = min(max(author.time, 0), _LATEST_S)
    who = b"By %s <%s>" % (author.raw_name, author.raw_email)
    message = raw_message(commit.read_raw()).replace(b"\0", b"").strip()
    tail = (b"\n\n" if message else b"") + who[:_MOST_WHO_BYTES]
    most = MAX_MESSAGE_BYTES - len(tail)
    if len(message) > most:
        message = message[:most].decode("utf-8", "ignore").encode()
    return CommitText(
        authored_at=dt.datetime.fromtimestamp(when_s, _zone(author.offset)),
        message=decode_text(message + tail),
    )
