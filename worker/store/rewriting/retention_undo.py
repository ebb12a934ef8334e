"""Undoes the newest rewrite by retention, and keeps what was committed since.

An undo is itself a rewrite, by the same steps: `main` becomes the history before the newest
rewrite, with the commits made since on top, which keep their trees. The history that it replaces is
kept too, so undoing twice redoes the rewrite.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import pygit2

from confkeep.errors import UndoImpossible
from worker.store.git import refs
from worker.store.history import index_build
from worker.store.history.index_build import RawCommit
from worker.store.repository import id_map
from worker.store.repository.id_map import IdMap
from worker.store.repository.tenant_repository import TenantRepository
from worker.store.rewriting import prune
from worker.store.rewriting.rewrite import (
    Made,
    before_refs,
    replace_history,
    rewriting,
    stamp_of,
)


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undo did."""

    #: The new tip, 40 hex digits.
    tip: str
    #: How many commits are in the history again.
    back: int
    #: How many commits were made after the rewrite; they stay.
    since: int


def undo_retention(
    repository: TenantRepository, *, now_s: int, before: Callable[[str], object] = lambda _tip: None
) -> Undone:
    """Set `main` back to before the newest rewrite, with the commits made since on top.

    The caller holds the tenant lock, but not the flock.

    Args:
        before: called with the new tip before `main` moves to it.

    Raises:
        UndoImpossible: there was no rewrite, its old history is pruned, or another program moved
            `main`; nothing was changed.
        RepositoryBusy: another process writes; nothing was changed.
        RepositoryDamaged: an object that is needed is missing; nothing was changed.
        StoreUnavailable: the file system refused; whether it was undone is unknown.
    """
    with rewriting(repository.path):
        return _undo(repository, now_s, before)


def _undo(repository: TenantRepository, now_s: int, announce: Callable[[str], object]) -> Undone:
    path, git = repository.path, repository.git
    main = refs.read_main(path)
    if main is None or not (path / id_map.FILE_NAME).exists():
        raise UndoImpossible(f"{path.name}: retention has not rewritten it")
    with contextlib.closing(IdMap(path / id_map.FILE_NAME)) as ids:
        before, rewritten = ids.old_tip(), ids.new_tip()
        names = [name for name in before_refs(git) if str(git.references[name].target) == before]
        if not names or not (path / f"{id_map.BEFORE_PREFIX}{stamp_of(names[-1])}").exists():
            raise UndoImpossible(f"{path.name}: the history of before is not there any more")
        since = _since(repository, main, rewritten)
        made, back = Made(), 0
        for commit in git.walk(pygit2.Oid(hex=before)):
            # None: the rewrite did not change this commit.
            for fate in ids.fates(str(commit.id)):
                if fate.new is None:
                    back += 1
                else:
                    made.changed_ids.append((fate.new, fate.old))
    with prune.history_writer(repository, main) as writer:
        made.tip = before
        for later in since:
            id_ = writer.add_on(later, made.tip)
            made.changed_ids.append((bytes.fromhex(later.sha), id_))
            made.tip = id_.hex()
        writer.flush()
        announce(made.tip)
        replace_history(
            repository, main, made, now_s=now_s, keep_old=True, undone=stamp_of(names[-1])
        )
    return Undone(made.tip, back, len(since))


def _since(repository: TenantRepository, main: str, rewritten: str | None) -> list[RawCommit]:
    """The commits above the rewritten history, oldest first."""
    found = []
    at: str | None = main
    while at != rewritten:
        commit = index_build.read_commit(repository.git, at) if at is not None else None
        if commit is None or len(commit.parents) > 1:
            raise UndoImpossible(
                f"{repository.path.name}: another program moved main away from what retention made"
            )
        found.append(commit)
        at = commit.parents[0] if commit.parents else None
    return found[::-1]
