"""Repacks a tenant's repository beside its writers.

Git only adds: it writes packs and a commit-graph, all synced. We remove what is superfluous, after
the folder's names are durable (git does not sync those), and only packs whose every object is
elsewhere (`pack_set`). So a pack that a writer has just made and that `main` does not reach yet
stays whole. A geometric repack costs what the new commits cost, however long the history is.

The steps; `docs/maintenance.md` says what a crash between them leaves:

1. Take the maintenance lock; every git inherits it. Remove what a killed repack left.
2. Look for free space.
3. Note in `confkeep.repacking` that a repack runs.
4. Write the new pack: a geometric one of the small packs and loose objects, or a full one.
5. Sync `objects/pack`.
6. Remove the multi-pack-index, sync, remove the superfluous packs.
7. Remove loose objects that are in packs.
8. Write the commit-graph, if the history has grown by a quarter.
9. Note what was done, remove the note of step 3.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from confkeep.errors import (
    GitUnavailable,
    MaintenanceFailed,
    RepositoryBusy,
    StoreUnavailable,
)
from worker.store.git import durable, flock, ownership, pack_set, refs
from worker.store.git.git_process import Git, Progress, require_git
from worker.store.repository import recovery
from worker.store.repository.tenant_repository import no_repository
from worker.store.upkeep import binary_deltas, repack_state

#: The full repack's search for deltas. Measured (`docs/maintenance.md`): the result is as small as
#: with `git gc --aggressive` (250 and 50), in a quarter of its time.
_WINDOW: Final = 50
_DEPTH: Final = 100

#: Seconds after which git is killed.
_TIMEOUT_S: Final = 6 * 3600.0

#: Bytes to keep free for backups that arrive meanwhile.
_RESERVE_BYTES: Final = 64 << 20
#: How much larger than the packs it replaces a full pack may be.
_GROWTH: Final = 1.05

#: Commits among which to look for the one where git's walk ends. Where more are packed anew, the
#: walk is the lesser part of the work.
_EDGE_WITHIN: Final = 100_000
#: How much larger the packs must be than when the commit-graph was last written.
_GRAPH_GROWTH: Final = 1.25

_FANOUT_SAMPLE: Final = "17"
_PACKS: Final = Path("objects", "pack")


@dataclass(frozen=True, slots=True)
class Repacked:
    """What a repack did."""

    #: Whether all packs were made into one.
    full: bool
    packs_before: int
    packs_after: int
    #: Bytes of packs and idx files.
    bytes_before: int
    bytes_after: int
    loose_before: int
    duration_s: float
    #: Why the repack was not a full one; None if it was.
    no_full: str | None


def needs_repack(path: Path, *, most_packs: int, most_loose: int) -> bool:
    """Whether a repository has more packs or loose objects than allowed.

    Lists two folders: loose objects are counted in one of their 256 folders and multiplied, as git
    does. Returns False if a folder cannot be listed.
    """
    try:
        names = os.listdir(path / _PACKS)
        if sum(name.endswith(".pack") for name in names) > most_packs:
            return True
        return len(os.listdir(path / "objects" / _FANOUT_SAMPLE)) * 256 > most_loose
    except OSError:
        return False


def repack(
    path: Path,
    *,
    full: bool | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> Repacked:
    """Repack the repository at `path`, beside whoever reads and writes it.

    If the repack does not run, the reason is noted beside the repository too (`read_state`).

    Args:
        full: make one pack of everything, with good deltas; None: only when that pays, at most once
            a week.
        progress: gets told what is being done.
        stop: called while git runs; if it returns True, git is killed.

    Raises:
        NotInStore: there is no repository.
        NotOwner: it is another user's; nothing was changed.
        GitUnavailable: there is no usable git.
        RepositoryBusy: another process repacks, or keeps the packs as they are.
        StoreUnavailable: too little free space, or the file system refused. Nothing was removed.
        MaintenanceFailed: git failed, took too long or was stopped. Nothing was removed.
        RepositoryDamaged: an idx makes no sense. Nothing was removed.
    """
    ownership.require_writer(path)
    if not (path / _PACKS).is_dir():
        raise no_repository(path)
    with durable.file_system_errors(path.name), flock.maintenance(path) as held:
        if held is None:
            raise RepositoryBusy(f"{path.name} is being repacked or verified by another process")
        git = Git(path, held, time.monotonic() + _TIMEOUT_S, progress, stop)
        try:
            require_git()
            return _Repack(path.absolute(), git, full).run()
        except (GitUnavailable, StoreUnavailable, MaintenanceFailed) as error:
            _note_skip(path, str(error))
            raise


def _note_skip(path: Path, reason: str) -> None:
    state = dataclasses.replace(
        repack_state.read_state(path), skipped=reason, skipped_at=time.time()
    )
    with flock.shared(path):
        repack_state.write_state(path, state)


class _Repack:
    """One repack, under the maintenance lock."""

    def __init__(self, path: Path, git: Git, full: bool | None) -> None:
        self._path = path
        self._folder = path / _PACKS
        self._git = git
        self._state = repack_state.read_state(path)
        self._started = time.time()
        self._begun = time.monotonic()
        recovery.remove_repack_leftovers(path)
        self._packs = pack_set.names_of(self._folder)
        self._loose, loose_bytes = _loose_objects(path)
        self._bytes = sum(self._packs.values())
        #: The packs that a full repack wrote.
        self._made: list[str] = []
        size = self._bytes + loose_bytes
        self._no_full = None
        if full is None:
            self._no_full = repack_state.why_no_full(self._state, size, self._started)
        elif not full:
            self._no_full = "a geometric repack was asked for"
        lacks = self._too_little_space(size) if self._no_full is None else None
        if lacks is not None and not full:
            # A geometric repack needs less space, so do that. Report that the full one is due.
            self._state = dataclasses.replace(self._state, skipped=lacks, skipped_at=self._started)
            self._no_full = lacks
        if self._no_full is not None:
            # All but the largest, at most.
            lacks = self._too_little_space(size - max(self._packs.values(), default=0))
        if lacks is not None:
            raise StoreUnavailable(
                f"{path.name}: {lacks}", hint=f"Free space on the disk of {path}."
            )

    def _too_little_space(self, replaced: int) -> str | None:
        """Why packs of so many bytes cannot be replaced; None if there is room."""
        free = repack_state.free_bytes(self._folder)
        needed = int(replaced * _GROWTH) + _RESERVE_BYTES
        if free >= needed:
            return None
        return (
            f"a repack needs {needed >> 20} MiB of free space with what it leaves free, "
            f"and there are {free >> 20} MiB"
        )

    def run(self) -> Repacked:
        """Run steps 3 to 9."""
        self._note([])
        durable.failpoint("repack-noted")
        try:
            if self._no_full is None:
                self._write_full()
            else:
                self._write_geometric()
            durable.failpoint("repack-written")
            # Otherwise a power cut could undo the new names but not the removals.
            durable.sync_directory(self._folder)
            self._remove_superfluous()
            self._git.run("prune-packed", "--quiet")
            durable.failpoint("repack-pruned")
            after = pack_set.names_of(self._folder)
            graphed_bytes = self._write_commit_graph(sum(after.values()))
        except BaseException:
            # Git has ended, so its unfinished files have no owner.
            recovery.remove_repack_leftovers(self._path)
            raise
        state = dataclasses.replace(
            self._state, repacked_at=self._started, graphed_bytes=graphed_bytes
        )
        if self._no_full is None:
            # Packs that writers added meanwhile count as added after this repack.
            size = sum(size for name, size in after.items() if name in self._made)
            state = repack_state.after_full(state, self._bytes, size, self._started)
        elif state.skipped_at != self._started:
            state = state.without_skip()
        with flock.shared(self._path):
            repack_state.write_state(self._path, state)
        durable.failpoint("repack-done")
        recovery.remove_repack_leftovers(self._path)
        return Repacked(
            full=self._no_full is None,
            packs_before=len(self._packs),
            packs_after=len(after),
            bytes_before=self._bytes,
            bytes_after=sum(after.values()),
            loose_before=self._loose,
            duration_s=time.monotonic() - self._begun,
            no_full=self._no_full,
        )

    def _write_geometric(self) -> None:
        """Write one pack of the small ones and of loose objects.

        What `git repack --geometric=2` does, but for the walk: git goes from the small packs' commits
        down to the very first one, to learn the names of files. This one ends below the small packs.
        Which objects are packed does not depend on it.
        """
        small = pack_set.small(self._folder, self._removable())
        if not small and not self._loose:
            return
        others = self._packs.keys() - set(small)
        edge = self._edge_of(small)
        git = self._git
        if edge is not None:
            # Git takes the note for a shallow repository's file: a walk ends at the commits in it.
            self._note([edge])
            shallow = {"GIT_SHALLOW_FILE": str(self._path / recovery.REPACKING_NAME)}
            git = dataclasses.replace(git, environment=shallow)
        git.run(
            *binary_deltas.options(self._path),
            "pack-objects",
            "--stdin-packs",
            "--unpacked",
            "--honor-pack-keep",
            "--keep-true-parents",
            "--delta-base-offset",
            "--non-empty",
            "--quiet",
            str(self._folder / "pack"),
            stdin=(
                *(f"{name}.pack\n".encode() for name in small),
                *(f"^{name}.pack\n".encode() for name in sorted(others)),
            ),
        )

    def _edge_of(self, small: Mapping[str, int]) -> str | None:
        """The newest commit of `main` that is not in the packs `small`; None if it is not near.

        Args:
            small: the packs, with their objects' number.
        """
        if not small or refs.read_main(self._path) is None:
            return None
        most = min(sum(small.values()) + 1, _EDGE_WITHIN)
        said = self._git.run("rev-list", "--first-parent", f"--max-count={most}", refs.MAIN_REF)
        with pack_set.ids_in(self._folder, small) as are_small:
            commits = said.decode("ascii").split()
            return next((id_ for id_ in commits if not are_small(bytes.fromhex(id_))), None)

    def _note(self, lines: Iterable[str]) -> None:
        """Write the note that a repack runs."""
        text = "".join(f"{line}\n" for line in lines)
        with flock.shared(self._path):
            durable.replace_file(self._path / recovery.REPACKING_NAME, text.encode())

    def _write_full(self) -> None:
        """Write one pack of all that refs reach, and one of the old packs' other objects."""
        said = self._git.run(
            *binary_deltas.options(self._path, full=True),
            "pack-objects",
            "--all",
            "--reflog",
            "--keep-true-parents",
            "--delta-base-offset",
            "--no-reuse-delta",
            "--non-empty",
            f"--window={_WINDOW}",
            f"--depth={_DEPTH}",
            "--progress",
            str(self._folder / "pack"),
        )
        self._made = [f"pack-{line}" for line in said.decode("ascii").split()]
        if not self._made:
            return
        durable.failpoint("repack-reachable")
        rest = pack_set.missing_from(self._folder, self._made[0], self._removable())
        said = self._git.run(
            "pack-objects",
            "--delta-base-offset",
            "--non-empty",
            "--quiet",
            str(self._folder / "pack"),
            stdin=(id_.hex().encode() + b"\n" for id_ in rest),
        )
        self._made += [f"pack-{line}" for line in said.decode("ascii").split()]

    def _removable(self) -> list[str]:
        """The old packs that nobody marked to be kept."""
        folder = self._folder
        return [
            name
            for name in self._packs
            if not any((folder / f"{name}.{kind}").exists() for kind in ("keep", "promisor"))
        ]

    def _remove_superfluous(self) -> None:
        names = pack_set.superfluous(self._folder, self._removable())
        # It may name packs that go. Nobody misses it: the packs are few.
        durable.remove(self._folder / "multi-pack-index")
        durable.sync_directory(self._folder)
        durable.failpoint("repack-midx")
        # If we are killed before we remove these packs, recovery removes them by this note.
        self._note(names)
        durable.failpoint("repack-chosen")
        for name in names:
            recovery.remove_pack(self._folder, name)
            durable.failpoint("repack-removed")
        durable.sync_directory(self._folder)

    def _write_commit_graph(self, size: int) -> int:
        """Write the commit-graph, if it lacks many commits; returns what to remember for the next time.

        Git writes it whole, for all commits. What it lacks git reads from the commits themselves.
        """
        info = self._path / "objects" / "info"
        graphed = self._state.graphed_bytes
        there = (info / "commit-graph").exists()
        if self._no_full is not None and there and size < _GRAPH_GROWTH * graphed:
            return graphed
        self._git.run("commit-graph", "write", "--reachable", "--changed-paths", "--no-progress")
        if info.is_dir():
            durable.sync_directory(info)
        return size


def _loose_objects(path: Path) -> tuple[int, int]:
    """The number of loose objects, and their bytes."""
    count = size = 0
    for folder in (path / "objects").glob("[0-9a-f][0-9a-f]"):
        with os.scandir(folder) as files:
            for file in files:
                count += 1
                size += file.stat().st_size
    return count, size
